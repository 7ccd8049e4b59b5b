"""The page: its files, the policy that it runs under, and what it must know before anybody has signed in. Knows no run.

Everything here is open (`http/door.py`): it is the same for everybody, and nothing of anybody's.
"""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, FastAPI, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from dayrun.recipe import Recipe
from service.context import Ctx
from service.http.problem import Problem

WEB = Path(__file__).parent / "web"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""blob: is for pictures that the page fetched with a key: an `img` cannot send one."""
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}

router = APIRouter(include_in_schema=False)


class Exchange(BaseModel):
    """What an OpenID provider sent the browser back with, and the secret that only the page knows (PKCE)."""

    code: str = Field(min_length=1, max_length=4000)
    verifier: str = Field(min_length=43, max_length=128)
    redirect_uri: str = Field(min_length=1, max_length=1000)


def install(app: FastAPI) -> None:
    app.include_router(router)
    app.mount("/web", StaticFiles(directory=WEB), name="web")


@router.get("/")
async def page() -> FileResponse:
    return FileResponse(WEB / "index.html", headers=HEADERS)


@cache
def recipe_schema() -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


@router.get("/web/recipe.schema.json")
async def show_recipe_schema() -> JSONResponse:
    """JSON Schema 2020-12 of a recipe, as docs/recipe.schema.json has it: the form for a new run is made of it."""
    return JSONResponse(recipe_schema(), headers={"Cache-Control": "no-cache"})


@router.get("/web/sign-in.json")
async def show_ways_in(context: Ctx) -> JSONResponse:
    """Whether requests need a key or token, and where people sign in; `provider` is null where that is not set up or does not answer."""
    provider = await context.sign_in.provider()
    return JSONResponse({"needs_key": context.settings.needs_credentials, "provider": provider}, headers={"Cache-Control": "no-store"})


@router.post("/web/token")
async def exchange_code(context: Ctx, given: Annotated[Exchange, Body()]) -> Response:
    """The token for a provider's code. The service asks, so that the page needs no other address and the secret stays here."""
    way = context.sign_in
    if not way.is_set_up:
        raise Problem(404, "no sign-in is set up here (DAYRUN_OIDC_CLIENT); a key works", kind="no-sign-in")
    token = await way.token(given.code, given.verifier, given.redirect_uri)
    return Response(json.dumps({"token": token}), media_type="application/json", headers={"Cache-Control": "no-store"})
