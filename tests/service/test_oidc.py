"""Tokens of an OpenID provider, against a real one on the loopback address: what opens the door, what does not, and when it is away."""

import base64
import hmac
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from service.http.oidc import FRESH_SECONDS, LOOK_AGAIN_SECONDS, Issuer, Refused
from service.http.problem import Problem
from service.runs.tables import RunRow
from service.settings import Settings
from tests.service.inside import Inside, inside, kind
from tests.service.issuer import AUDIENCE, Provider


@pytest.fixture
def provider():
    with Provider() as provider:
        yield provider


@pytest_asyncio.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Inside, Provider]]:
    with Provider() as provider:
        groups = {"ml-team": "default:writer", "leads": "default:admin", "platform": "operator"}
        settings: dict[str, Any] = {**provider.settings, "oidc_groups": groups, "oidc_skew_seconds": 30}
        async with inside(tmp_path_factory.mktemp("oidc"), wrong_keys_per_minute=10_000, **settings) as api:
            yield api, provider


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.at = time.time()

    def __call__(self) -> float:
        return self.at


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_token_speaks_for_its_subject(provider: Provider, algorithm: str):
    provider.add("mine", algorithm)
    issuer = Issuer(Settings(**provider.settings))
    person = await issuer.person(provider.token("ada", "mine", email="ada@example.org", groups=["a", 7, "b"]))
    assert (person.subject, person.name, person.groups) == (provider.subject("ada"), "ada@example.org", ("a", "b"))
    await issuer.close()


@pytest.mark.parametrize(
    ("claims", "problem", "says"),
    [
        ({"aud": "another-service"}, "unknown-credentials", f"another audience than '{AUDIENCE}'"),
        ({"iss": "https://evil.example"}, "unknown-credentials", "was not issued by"),
        ({"exp": time.time() - 60}, "expired-credentials", "has expired"),
        ({"nbf": time.time() + 1e6}, "unknown-credentials", "not valid yet"),
        ({"iat": time.time() + 1e6}, "unknown-credentials", "not valid yet"),
        ({"without": "exp"}, "unknown-credentials", "no claim 'exp'"),
        ({"without": "sub"}, "unknown-credentials", "no claim 'sub'"),
        ({"without": "aud"}, "unknown-credentials", "no claim 'aud'"),
        ({"exp": "soon"}, "unknown-credentials", "claims are not"),
        ({"subject": "s" * 400}, "unknown-credentials", "more than 300 characters"),
        ({"subject": "line\nbreak"}, "unknown-credentials", "cannot be printed"),
        ({"private": ec.generate_private_key(ec.SECP256R1())}, "unknown-credentials", "signature does not match"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else "+".join(value),  # no times: names must be the same in every process
)
async def test_a_token_that_is_no_good_is_told_why(house: tuple[Inside, Provider], claims: dict[str, Any], problem: str, says: str):
    api, provider = house
    answer = await api.ask("GET", "/runs", provider.token(**claims))
    assert (answer.status_code, kind(answer)) == (401, problem)
    assert says in answer.json()["detail"]


async def test_a_token_that_anybody_could_sign_is_refused(house: tuple[Inside, Provider]):
    api, provider = house
    claims = jwt.decode(provider.token(), options={"verify_signature": False})
    public = provider.keys["first"][1].public_key()
    known_to_all = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head, body, _ = jwt.encode(claims, "x" * 32, "HS256", headers={"kid": "first"}).split(".")
    signature = hmac.digest(known_to_all, f"{head}.{body}".encode(), "sha256")
    for token in (
        jwt.encode(claims, None, "none", headers={"kid": "first"}),
        f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}",
    ):
        answer = await api.ask("GET", "/runs", token)
        assert answer.status_code == 401
        assert "only RS256, ES256, EdDSA" in answer.json()["detail"]


async def test_clocks_may_differ_by_the_skew(house: tuple[Inside, Provider]):
    api, provider = house
    assert (await api.ask("GET", "/recipes", provider.token(exp=time.time() - 5, groups=["ml-team"]))).status_code == 200
    assert (await api.ask("GET", "/recipes", provider.token(nbf=time.time() + 5, groups=["ml-team"]))).status_code == 200


async def test_groups_give_roles(house: tuple[Inside, Provider]):
    api, provider = house

    async def may(method: str, path: str, *groups: str, **arguments: Any) -> int:
        return (await api.ask(method, path, provider.token("grouped", groups=list(groups)), **arguments)).status_code

    run = {"json": {"recipe": "demo"}}
    assert await may("POST", "/runs", "nobody-knows-it", **run) == 403
    assert await may("POST", "/runs", "ml-team", **run) == 201
    assert await may("GET", "/keys", "ml-team") == 403
    assert await may("GET", "/keys", "ml-team", "leads") == 200
    assert await may("POST", "/projects", "leads", json={"id": "by-leads"}) == 403
    assert await may("POST", "/projects", "platform", json={"id": "by-platform"}) == 201


async def test_what_a_token_did_is_remembered_as_its_subjects(house: tuple[Inside, Provider]):
    api, provider = house
    run = await api.ask("POST", "/runs", provider.token("doer", groups=["ml-team"]), json={"recipe": "demo"})
    async with api.context.database.read() as session:
        row = await session.get(RunRow, run.json()["id"])
    assert row is not None
    assert row.created_by == provider.subject("doer")


async def test_a_new_signing_key_is_found_and_unknown_ones_do_not_bother_the_provider(provider: Provider):
    clock = Clock()
    issuer = Issuer(Settings(**provider.settings), clock)
    await issuer.person(provider.token())
    provider.add("second", "EdDSA")
    with pytest.raises(Refused, match="does not publish"):  # it was asked a moment ago
        await issuer.person(provider.token(kid="second"))
    clock.at += LOOK_AGAIN_SECONDS
    await issuer.person(provider.token(kid="second"))
    asked = len(provider.asked)
    provider.add("made-up", "ES256")
    stranger = provider.token(kid="made-up")
    del provider.keys["made-up"]
    for _ in range(20):
        with pytest.raises(Refused, match="does not publish"):
            await issuer.person(stranger)
    assert len(provider.asked) == asked
    await issuer.close()


async def test_a_withdrawn_signing_key_stops_working(provider: Provider):
    clock = Clock()
    issuer = Issuer(Settings(**provider.settings), clock)
    token = provider.token(exp=time.time() + 10 * FRESH_SECONDS)
    await issuer.person(token)
    provider.add("second", "ES256")
    del provider.keys["first"]
    await issuer.person(token)
    clock.at += FRESH_SECONDS + 1
    with pytest.raises(Refused, match="does not publish"):
        await issuer.person(token)
    await issuer.close()


async def test_while_the_provider_is_away_known_keys_work_up_to_an_age(provider: Provider):
    clock = Clock()
    issuer = Issuer(Settings(**provider.settings, oidc_max_age_hours=3), clock)
    token = provider.token(exp=time.time() + 20 * FRESH_SECONDS)
    await issuer.person(token)
    provider.add("second", "ES256")
    provider.leave()
    clock.at += 2 * 3600
    await issuer.person(token)
    with pytest.raises(Problem) as unknown:  # it may be good: nobody can say
        await issuer.person(provider.token(kid="second"))
    assert (unknown.value.status, unknown.value.headers) == (503, {"Retry-After": "10"})
    clock.at += 2 * 3600
    with pytest.raises(Problem) as old:
        await issuer.person(token)
    assert old.value.status == 503
    await issuer.close()


async def test_a_provider_that_never_answered_is_a_503_and_keys_work_all_the_same(tmp_path: Path, provider: Provider):
    token = provider.token()
    provider.leave()
    async with inside(tmp_path, **provider.settings) as api:
        answer = await api.ask("GET", "/runs", token)
        assert (answer.status_code, kind(answer)) == (503, "issuer-unreachable")
        assert answer.headers["Retry-After"] == "10"
        assert (await api.ask("GET", "/runs", api.operator)).status_code == 200


async def test_a_provider_that_speaks_for_another_issuer_is_not_believed(provider: Provider):
    issuer = Issuer(Settings(oidc_issuer=f"{provider.url}/", oidc_audience=AUDIENCE))
    with pytest.raises(Problem, match="does not answer"):
        await issuer.person(provider.token(iss=f"{provider.url}/"))
    await issuer.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"oidc_issuer": "http://idp.example", "oidc_audience": "x"},
        {"oidc_issuer": "https://idp.example"},
        {"oidc_groups": {"a": "team:king"}},
        {"oidc_groups": {"a": "team:operator"}},
    ],
)
def test_settings_that_would_let_strangers_in_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        Settings(**wrong)
