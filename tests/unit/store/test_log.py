"""Sealed events are numbered, timed and chained so that anyone can verify them."""

import hashlib
import json

from orchestrator.domain.events import AgentSwitched, SessionCreated
from orchestrator.domain.records import Session, Workspace
from orchestrator.store.log import seal

EVENTS = (SessionCreated("title", "auto", "ann", {}, Workspace()), AgentSwitched("auto", "coder", "ann"))


def test_the_hash_is_that_of_the_documented_text() -> None:
    first, second = seal(Session("acme", "s"), EVENTS, now=1700000000000001)
    assert first.previous_hash == "0" * 64
    text = f"{'0' * 64}\n1\n1700000000000001\n{first.payload_json}"
    assert first.hash == hashlib.sha256(text.encode()).hexdigest()
    text = f"{first.hash}\n2\n1700000000000001\n{second.payload_json}"
    assert (second.previous_hash, second.hash) == (first.hash, hashlib.sha256(text.encode()).hexdigest())


def test_numbers_and_chain_go_on_where_the_session_stands() -> None:
    [event] = seal(Session("acme", "s", last_sequence=41, last_hash="a" * 64), EVENTS[1:], now=5, trace_id="trace")
    assert (event.sequence, event.previous_hash, event.trace_id) == (42, "a" * 64, "trace")


def test_time_never_goes_back() -> None:
    [event] = seal(Session("acme", "s", last_event_time=100), EVENTS[1:], now=5)
    assert event.event_time == 100


def test_the_payload_is_compact_json_under_the_events_name() -> None:
    [event] = seal(Session("acme", "s"), EVENTS[1:], now=5)
    assert event.payload_json == '{"agent_switched":{"from_agent":"auto","to_agent":"coder","actor":"ann"}}'


def test_nul_stays_escaped_and_a_lone_surrogate_is_replaced() -> None:
    [event] = seal(Session("acme", "s"), [AgentSwitched("a\0b", "c\ud800d", "😀")], now=5)
    assert json.loads(event.payload_json)["agent_switched"] == {
        "from_agent": "a\0b",
        "to_agent": "c\ufffdd",
        "actor": "😀",
    }
    assert "\0" not in event.payload_json
