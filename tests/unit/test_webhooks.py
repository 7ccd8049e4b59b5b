"""What webhooks may reach, and when a message is tried again: pure decisions."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest

from service.webhooks.addresses import networks, why_not
from service.webhooks.decide import WAIT_SECONDS, Outcome, after_try, wait_seconds

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("10.0.0.8", "private"),
        ("192.168.1.1", "private"),
        ("fd00:ec2::254", "private"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("168.63.129.16", "a metadata service"),
        ("100.100.100.200", "not public"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("255.255.255.255", "private"),
        ("93.184.216.34", None),
        ("2606:2800:220:1::1", None),
    ],
)
def test_only_public_addresses_are_sent_to(address: str, kind: str | None):
    assert why_not(ip_address(address), []) == kind


def test_a_setting_opens_a_private_network_and_no_other():
    allowed = networks("10.1.0.0/16, fd12::/16")
    assert why_not(ip_address("10.1.2.3"), allowed) is None
    assert why_not(ip_address("::ffff:10.1.2.3"), allowed) is None
    assert why_not(ip_address("fd12::1"), allowed) is None
    assert why_not(ip_address("10.2.2.3"), allowed) == "private"


def test_a_message_is_tried_for_about_a_day():
    for chance in (0.0, 0.5, 1.0):
        total = sum(wait_seconds(tries, chance) for tries in range(1, len(WAIT_SECONDS) + 1))
        assert 18 * 3600 < total < 29 * 3600
    assert after_try(1, 500, AT, 0.5) == Outcome("due", AT + timedelta(seconds=5))
    assert after_try(1, None, AT, 1.0).next_try_at == AT + timedelta(seconds=6)
    last = after_try(len(WAIT_SECONDS) + 1, 500, AT, 0.5)
    assert (last.state, last.next_try_at) == ("failed", None)
    assert last.disable


def test_answers_decide():
    assert after_try(3, 204, AT, 0.5) == Outcome("delivered")
    assert after_try(1, 302, AT, 0.5).state == "due"
    gone = after_try(1, 410, AT, 0.5)
    assert (gone.state, gone.at_once) == ("failed", True)
