"""Entity tags, preferences, and sealed cursors: what a header allows, and what it does not."""

import asyncio

import pytest
from starlette.requests import Request

from service.http.etags import check_match, check_none_match, is_known
from service.http.paging import Pages
from service.http.prefer import preferred_wait
from service.http.problem import Problem


@pytest.mark.parametrize(
    ("header", "tag", "needed", "status"),
    [
        (None, '"3"', False, None),
        (None, '"3"', True, 428),
        (None, None, True, None),  # nothing is there that could be overwritten
        ('"3"', '"3"', True, None),
        ('"1", "3"', '"3"', True, None),
        ("*", '"3"', True, None),
        ("*", None, True, 412),
        ('"2"', '"3"', False, 412),
        ('W/"3"', '"3"', False, 412),  # weak tags allow no change
        ("3", '"3"', False, 412),
        ("", '"3"', False, 412),
    ],
)
def test_a_change_is_allowed_by_a_strong_tag_only(header: str | None, tag: str | None, needed: bool, status: int | None):
    if status is None:
        check_match(header, tag, needed=needed)
        return
    with pytest.raises(Problem) as caught:
        check_match(header, tag, needed=needed)
    assert caught.value.status == status


def test_who_wants_to_make_it_new_does_not_replace_it():
    check_none_match("*", None)
    check_none_match('"4"', '"3"')
    with pytest.raises(Problem) as caught:
        check_none_match("*", '"3"')
    assert caught.value.status == 412


@pytest.mark.parametrize(
    ("header", "known"), [('"3"', True), ('W/"3"', True), ("*", True), ('"1","3"', True), ('"33"', False), (None, False)]
)
def test_a_transfer_is_spared_by_weak_tags_too(header: str | None, known: bool):
    assert is_known(header, '"3"') is known


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=10", 10),
        ("respond-async, wait=5", 5),
        ('Wait = "7"', 7),
        ("wait=100000", 60),
        ("wait=-1", None),
        ("wait=soon", None),
        ("await=3", None),
        (None, None),
    ],
)
def test_a_preference_is_read_where_it_can_be_and_passed_over_otherwise(header: str | None, seconds: int | None):
    assert asyncio.run(preferred_wait(header)) == seconds


def pages(path: str = "/runs", query: str = "", key: bytes = b"k" * 32) -> Pages:
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode(), "headers": [], "scheme": "http"}
    return Pages(key, Request({**scope, "server": ("here", 80)}))


def test_a_cursor_goes_on_where_it_was_made_even_with_another_limit():
    cursor = pages(query="state=failed&limit=2").seal("run_7")
    assert pages(query=f"limit=9&cursor={cursor}&state=failed").open(cursor) == "run_7"


@pytest.mark.parametrize(
    ("path", "query", "key"),
    [("/runs", "state=queued", b"k" * 32), ("/other", "state=failed", b"k" * 32), ("/runs", "state=failed", b"x" * 32)],
)
def test_a_cursor_for_another_list_filter_or_service_is_refused(path: str, query: str, key: bytes):
    cursor = pages(query="state=failed").seal("run_7")
    with pytest.raises(Problem) as caught:
        pages(path, query, key).open(cursor)
    assert (caught.value.status, caught.value.kind) == (400, "bad-cursor")


@pytest.mark.parametrize("made_up", ["", "run_7", "AAAA", "%%%", "ü", "A" * 1000, "cnVuXzc"])
def test_a_cursor_made_by_hand_is_refused(made_up: str):
    with pytest.raises(Problem) as caught:
        pages().open(made_up)
    assert caught.value.status == 400
