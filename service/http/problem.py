"""Errors as RFC 9457 problem details, every one of them: ours, FastAPI's, and those nobody thought of."""

import logging
from http import HTTPStatus
from itertools import islice
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from obstore.exceptions import BaseError
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoFreeConnection
from starlette.exceptions import HTTPException

from dayrun.recipe_errors import pointer, shown
from service.database import first_line
from service.http.methods import allowed
from service.http.request_id import present_request_id

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {"Retry-After": "2"}
MOST_ERRORS = 50
"""A body can be wrong in as many places as it has values; nobody reads more than this."""
log = logging.getLogger("dayrun")


class ErrorDetail(BaseModel):
    """One thing that is wrong with the request."""

    pointer: str = Field(description="JSON pointer into the body, or the name of the parameter or header.")
    value: Any = Field(default=None, description="What was there.")
    because: str
    nearest: list[Any] = Field(default=[], description="Valid values close to it.")


class ProblemDetail(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str = Field(description="Names the request in the service's log; also in X-Request-Id.")
    errors: list[ErrorDetail] = []


class Problem(Exception):
    """Raise it anywhere below an endpoint; the client gets it as problem details."""

    def __init__(
        self, status: int, detail: str, *, kind: str = "", errors: list[ErrorDetail] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.kind = status, detail, kind or HTTPStatus(status).phrase.lower().replace(" ", "-")
        self.errors, self.headers = errors or [], headers or {}

    def response(self, path: str) -> JSONResponse:
        body = ProblemDetail(
            type=f"urn:dayrun:problem:{self.kind}",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            instance=path,
            request_id=present_request_id(),
            errors=self.errors,
        )
        return JSONResponse(body.model_dump(), self.status, self.headers, MEDIA_TYPE)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=`: these statuses answer with problem details."""
    schema = {"$ref": "#/components/schemas/ProblemDetail"}
    return {
        status: {"model": ProblemDetail, "description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Let `app` answer every error as a problem."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return error.response(request.url.path)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = [detail_of(dict(one)) for one in islice(error.errors(), MOST_ERRORS)]
        said = "; ".join(f"{one.pointer}: {one.because}" for one in found[:3])
        return Problem(422, said, kind="invalid-request", errors=found).response(request.url.path)

    async def routing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(allowed(request))
            if request.method == "OPTIONS":
                return Response(status_code=204, headers=headers)
        detail = f"{request.method} {request.url.path}: {error.detail}"
        if error.status_code == 404:
            detail = f"nothing is at {request.url.path}; every path is listed in /openapi.json"
        return Problem(error.status_code, detail, headers=headers).response(request.url.path)

    async def unfit(request: Request, error: Exception) -> JSONResponse:
        log.warning("%s %s: request %s: %s", request.method, request.url.path, present_request_id(), error)
        detail = "a value is longer or larger than what the database can hold"
        return Problem(422, detail, kind="invalid-request").response(request.url.path)

    async def database_away(request: Request, error: Exception) -> JSONResponse:
        log.warning("%s %s: the database is away: %s", request.method, request.url.path, first_line(error))
        busy = isinstance(error, NoFreeConnection)
        detail = "every connection to the database is in use" if busy else "the database cannot be used at the moment"
        told = f"{detail}; nothing was changed that was not answered for, and the same request with its Idempotency-Key can be sent again"
        return Problem(503, told, kind="database-away", headers=RETRY_AFTER).response(request.url.path)

    async def store_away(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, FileNotFoundError):  # an absence that nobody thought of: the store itself is there
            return await unforeseen(request, error)
        log.warning("%s %s: run folders are away: %s", request.method, request.url.path, first_line(error))
        detail = "the store of run folders cannot be read at the moment; runs train on, and states and metrics can still be read"
        return Problem(503, detail, kind="store-away", headers=RETRY_AFTER).response(request.url.path)

    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        name = present_request_id()
        log.error("%s %s: request %s failed", request.method, request.url.path, name, exc_info=error)
        detail = f"the service made a mistake; its log has the details under request {name}"
        return Problem(500, detail, headers={"X-Request-Id": name}).response(request.url.path)

    app.add_exception_handler(Problem, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, routing)
    for away in (OperationalError, InterfaceError, NoFreeConnection):
        app.add_exception_handler(away, database_away)
    for away in (OSError, BaseError):
        app.add_exception_handler(away, store_away)
    app.add_exception_handler(DataError, unfit)
    app.add_exception_handler(OverflowError, unfit)
    app.add_exception_handler(Exception, unforeseen)


def detail_of(error: dict[str, Any]) -> ErrorDetail:
    """One of FastAPI's validation errors: the place as a pointer for bodies, as a plain name otherwise."""
    place, *rest = error["loc"]
    if error["type"] == "json_invalid":
        return ErrorDetail(pointer="", because=f"not JSON: {error.get('ctx', {}).get('error', error['msg'])} at byte {rest[0]}")
    at = pointer(*rest) if place == "body" else f"{place} {'.'.join(map(str, rest))}"
    value = error.get("input")
    return ErrorDetail(pointer=at, value=shown(value) if isinstance(value, str | int | float | bool) else None, because=error["msg"])
