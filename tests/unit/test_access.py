"""When keys are asked for, what a permit says, and the page that tells of it."""

import json

import pytest

from service import access_page
from service.access import LOCAL, LOWEST_ROLE, Action, Actor, Permit, Role
from service.http.problem import Problem
from service.settings import Settings


@pytest.mark.parametrize(
    ("host", "auth", "needed"),
    [
        ("127.0.0.1", None, False),
        ("127.8.8.8", None, False),
        ("::1", None, False),
        ("localhost", None, False),
        ("127.0.0.1", "required", True),
        ("0.0.0.0", None, True),
        ("::", None, True),
        ("10.0.0.5", None, True),
        ("dayrun.example", None, True),
        ("0.0.0.0", "none", True),  # `serve` refuses it; a process started otherwise stays closed
        ("localhost.evil.example", None, True),
    ],
)
def test_nobody_is_asked_only_where_nobody_else_can_come_in(host: str, auth: str | None, needed: bool):
    assert Settings(host=host, auth=auth).needs_credentials is needed  # pyright: ignore[reportArgumentType]


def test_settings_reach_children_whole(monkeypatch: pytest.MonkeyPatch):
    groups = {"ml-team": "vision:writer", "platform": "operator"}
    settings = Settings(oidc_groups=groups, auth="required", oidc_issuer="https://idp.example", oidc_audience="x")
    for name, value in settings.for_children().items():
        monkeypatch.setenv(name, value)
    child = Settings()
    assert (child.oidc_groups, child.auth, child.oidc_issuer) == (groups, "required", "https://idp.example")
    assert json.loads(settings.for_children()["DAYRUN_OIDC_GROUPS"]) == groups


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("role", list(Role))
def test_a_permit_follows_the_table(role: Role, action: Action):
    actor = Actor("key:x", "x", {"own": role}) if role < Role.OPERATOR else LOCAL
    permit = Permit(actor, action)
    may = role >= LOWEST_ROLE[action]
    assert permit.projects == (None if actor.operator else ["own"] if may else [])
    assert refusal(lambda: permit.on("own")) == (None if may else 403)
    assert refusal(permit.somewhere) == (None if may else 403)
    assert refusal(lambda: permit.on("other")) == (None if actor.operator else 404)
    assert refusal(permit.on_service) == (None if actor.operator else 403)


def test_a_role_in_one_project_is_none_in_another():
    permit = Permit(Actor("oidc:x", "x", {"a": Role.ADMIN, "b": Role.VIEWER}), Action.MANAGE_KEYS)
    assert permit.projects == ["a"]
    assert [refusal(lambda project=project: permit.on(project)) for project in "abc"] == [None, 403, 404]


def refusal(ask) -> int | None:
    try:
        ask()
    except Problem as problem:
        return problem.status
    return None


def test_the_page_shows_the_roles_as_they_are():
    text = access_page.PAGE.read_text(encoding="utf-8")
    assert text == access_page.wanted(text), "run `python -m service.access_page --write`"
