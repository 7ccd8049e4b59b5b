"""docs/events.md says what the code does."""

import ast
import re
from pathlib import Path
from typing import get_args

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from dayrun import run_folder
from dayrun.event_types import EVENT_TYPES, table
from service.database import now

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/events.md").read_text()


def recorded() -> dict[str, str]:
    """Type → place of every event that the service's code records."""
    found: dict[str, str] = {}
    for path in (ROOT / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in ("record", "begin", "record_project", "told") and len(node.args) > 2:
                    argument = node.args[2]
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        found[argument.value] = f"{path.relative_to(ROOT)}:{node.lineno}"
    return found


def test_every_event_that_is_recorded_is_in_the_table():
    told = recorded()
    assert {"state_changed", "webhook_created"} <= told.keys()  # the search finds what there is
    assert {name: place for name, place in told.items() if name not in EVENT_TYPES} == {}
    trainer = {name for name, about in EVENT_TYPES.items() if about.teller == "trainer"}
    assert trainer == set(get_args(run_folder.EventType))


def test_the_table_is_that_of_the_code():
    assert table() in TEXT


def test_the_receiver_of_the_docs_takes_a_message_once_and_no_forgery():
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    scope: dict = {}
    exec(code, scope)
    secret, body, at, seen = "whsec_" + "QUJD" * 11, '{"type":"ended"}', now(), set()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(at.timestamp()))}
    headers["webhook-signature"] = Webhook(secret).sign("msg_1", at, body)
    assert scope["receive"](secret, headers, body.encode(), seen) == {"type": "ended"}
    assert scope["receive"](secret, headers, body.encode(), seen) is None
    with pytest.raises(WebhookVerificationError):
        scope["receive"](secret, headers, b'{"type":"other"}', seen)
