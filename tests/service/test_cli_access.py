"""`dayrun keys`, `dayrun projects` and the client's methods behind them, against a service that asks for keys."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from dayrun.cli import main
from dayrun.client import Client, ServiceError
from service.keys.secret import FORM
from tests.service.inside import listening


class Place(NamedTuple):
    url: str
    key: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with listening(tmp_path_factory.mktemp("home"), requests_per_second=0) as (url, key):
        yield Place(url, key)


def dayrun(place: Place, *words: str, key: str | None = "") -> Result:
    return CliRunner().invoke(main, list(words), env={"DAYRUN_URL": place.url, "DAYRUN_KEY": place.key if key == "" else key})


def test_a_key_is_made_listed_used_and_revoked(place: Place):
    assert dayrun(place, "projects", "create", "vision", "--name", "Vision [1]").output == "vision\n"
    made = dayrun(place, "keys", "create", "CI", "--project", "vision", "--role", "viewer", "--days", "0")
    key = made.stdout.strip()
    assert FORM.fullmatch(key), made.output
    assert "is shown this once" in made.stderr
    key_id = made.stderr.split()[0]
    listed = dayrun(place, "keys", "list").stdout
    assert key_id in listed
    assert "until revoked" in listed
    assert key not in listed + dayrun(place, "keys", "list", "--json").stdout
    assert "Vision [1]" in dayrun(place, "projects", "list", key=key).stdout
    assert dayrun(place, "keys", "list", key=key).stderr.startswith("dayrun: manage keys takes the role admin")
    assert dayrun(place, "keys", "revoke", key_id).output == f"{key_id}  revoked\n"
    refused = dayrun(place, "projects", "list", key=key)
    assert (refused.exit_code, "was revoked" in refused.stderr) == (1, True)


def test_without_a_key_the_command_says_where_it_belongs(place: Place):
    refused = dayrun(place, "list", key=None)
    assert refused.exit_code == 1
    assert "`dayrun` reads it from DAYRUN_KEY" in refused.stderr


def test_a_project_is_limited_and_has_members(place: Place):
    somebody = "oidc:https://idp.example/realms/acme|8f3"
    dayrun(place, "projects", "create", "limits")
    assert dayrun(place, "projects", "set", "limits", "--accelerators", "8", "--dollars-per-day", "99.5").output == "limits  version 2\n"
    assert "99.5" in dayrun(place, "projects", "list").stdout
    assert dayrun(place, "projects", "set", "limits", "--accelerators", "none").output == "limits  version 3\n"
    assert dayrun(place, "projects", "add", "limits", somebody, "admin").output == f"{somebody}  admin\n"
    assert somebody in dayrun(place, "projects", "members", "limits").stdout
    assert dayrun(place, "projects", "remove", "limits", somebody).output == f"{somebody}  removed\n"
    assert somebody not in dayrun(place, "projects", "members", "limits").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("keys", "create"), "NAME is missing"),
        (("keys", "create", "x"), "every other key takes one"),
        (("keys", "create", "x", "--role", "operator", "--project", "p"), "takes no --project"),
        (("keys", "create", "--bootstrap", "--project", "p"), "takes neither --project nor --url"),
        (("projects", "set", "default"), "nothing to change"),
        (("projects", "set", "default", "--dollars-per-day", "lots"), "--dollars-per-day 'lots': a number, or `none`"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_asked(place: Place, words: tuple[str, ...], says: str):
    refused = dayrun(place, *words)
    assert refused.exit_code == 2
    assert says in refused.stderr


def test_the_client_never_shows_its_key(place: Place):
    with Client(place.url, key=place.key) as client:
        made = client.create_key("shy", "writer", "default")
        assert made.key is not None
        assert made.key not in repr(made)
        listed = list(client.keys())
        assert {key.key for key in listed} == {None}
        seen = client.project("default")
        client.change_project(seen, name="Default")
        with pytest.raises(ServiceError) as stale:
            client.change_project(seen, name="Again")
        assert stale.value.status == 412
