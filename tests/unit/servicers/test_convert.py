"""Whatever a record or an event holds reaches the client: compared by way of protobuf's own JSON, not our converter."""

import dataclasses
import re
import typing
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from gen.assent.v1 import (
    approval_pb2,
    attempt_pb2,
    budget_pb2,
    event_pb2,
    failure_pb2,
    message_pb2,
    plan_pb2,
    retry_policy_pb2,
    run_pb2,
    session_pb2,
    step_pb2,
    tool_call_pb2,
    usage_pb2,
    workspace_pb2,
)
from orchestrator.domain import events, records
from orchestrator.domain.events import LoggedEvent, event_name
from orchestrator.domain.records import Session
from orchestrator.domain.states import SessionState
from orchestrator.servicers.convert import enum_word, event_to_proto, item_to_proto, plan_to_proto, to_proto
from orchestrator.store.log import seal
from orchestrator.streaming.feed import Delta, Heartbeat, Settled
from tests.unit.domain.build import a_plan, a_run, a_step, a_subtask

TIME = 1_790_000_000_123_456
RESOURCES: dict[type, type[Message]] = {
    records.Usage: usage_pb2.Usage,
    records.Failure: failure_pb2.Failure,
    records.RetryPolicy: retry_policy_pb2.RetryPolicy,
    records.Budget: budget_pb2.Budget,
    records.Workspace: workspace_pb2.Workspace,
    records.Session: session_pb2.Session,
    records.Message: message_pb2.Message,
    records.Run: run_pb2.Run,
    records.Plan: plan_pb2.Plan,
    records.Subtask: plan_pb2.Subtask,
    records.Attempt: attempt_pb2.Attempt,
    records.Step: step_pb2.Step,
    records.ToolCall: tool_call_pb2.ToolCall,
    records.Approval: approval_pb2.Approval,
    records.Decision: approval_pb2.Decision,
}
EVENTS: tuple[type, ...] = events.Event.__args__


class Filler:
    """Builds records with every field set to something else than in any other field."""

    def __init__(self, enum_at: int = 1) -> None:
        self._enum_at = enum_at
        self._numbers = 0

    def fill(self, cls: type, message: Any) -> Any:
        kinds = typing.get_type_hints(cls)
        values = {
            field.name: self._value(kinds[field.name], field.name, message.fields_by_name.get(field.name))
            for field in dataclasses.fields(cls)
        }
        return cls(**values)

    def _value(self, kind: Any, name: str, field: Any) -> Any:
        self._numbers += 1
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is list:
            return [self._value(arguments[0], name, field) for _ in range(2)]
        if origin is dict:
            return {f"{name} key": f"{name} «значение»", "": "nothing"}
        if arguments:  # something or None
            [kind] = [each for each in arguments if each is not type(None)]
        if dataclasses.is_dataclass(kind):
            assert field is not None, f"{name} has no place in the contract"
            return self.fill(typing.cast(type, kind), field.message_type)
        if kind is bool:
            return True
        if kind is int:
            return TIME + self._numbers if name.endswith("_time") else 1_000_000 + self._numbers
        if kind is float:
            return self._numbers + 0.5
        if field is not None and field.enum_type is not None:
            return words(field.enum_type)[self._enum_at % len(words(field.enum_type))]
        return f"{name} {self._numbers}: “ж” \U0001f600"


def words(enum: Any) -> list[str]:
    """The contract's words, without the unspecified one; the prefix is made from the enum's own name."""
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper() + "_"
    names = [value.name for value in enum.values]
    assert names[0] == f"{prefix}UNSPECIFIED"
    return [name.removeprefix(prefix) for name in names[1:]]


def check(source: Any, message: Message) -> None:
    """Every field of the message says what the source's field of that name says."""
    told = json_format.MessageToDict(message, preserving_proto_field_name=True)
    check_fields(source, told, message.DESCRIPTOR)


def check_fields(source: Any, told: dict[str, Any], descriptor: Any) -> None:
    known = {field.name for field in dataclasses.fields(source)}
    assert set(told) <= known
    for name in known & set(descriptor.fields_by_name):
        assert name in told, f"{descriptor.name}.{name} was lost"
        check_value(getattr(source, name), told[name], descriptor.fields_by_name[name])


def check_value(value: Any, told: Any, field: Any) -> None:
    if isinstance(value, list):
        assert len(told) == len(value)
        for one, one_told in zip(value, told, strict=True):
            check_one(one, one_told, field)
    else:
        check_one(value, told, field)


def check_one(value: Any, told: Any, field: Any) -> None:
    if dataclasses.is_dataclass(value):
        check_fields(value, told, field.message_type)
    elif field.enum_type is not None:
        assert told.endswith(f"_{value}")
        assert value in words(field.enum_type)
    elif field.message_type is not None and field.message_type.name == "Timestamp":
        whole, _, rest = told.rstrip("Z").partition(".")
        seconds = datetime.fromisoformat(f"{whole}+00:00").timestamp()
        assert round(seconds) * 1_000_000 + int(rest.ljust(6, "0")) == value
    elif field.message_type is not None and field.message_type.name == "Duration":
        assert told == f"{value / 1e6:f}s"
    elif not isinstance(value, int) or isinstance(value, bool):
        assert told == value
    else:
        assert int(told) == value


def enum_fields(descriptor: Any) -> Iterator[Any]:
    return (field for field in descriptor.fields if field.enum_type is not None)


def most_words(descriptor: Any) -> int:
    return max((len(words(field.enum_type)) for field in enum_fields(descriptor)), default=1)


@pytest.mark.parametrize(("record", "resource"), RESOURCES.items(), ids=lambda each: each.__name__)
def test_a_record_reaches_the_client_whole(record: type, resource: type[Message]) -> None:
    for enum_at in range(most_words(resource.DESCRIPTOR)):
        filled = Filler(enum_at).fill(record, resource.DESCRIPTOR)
        check(filled, to_proto(resource, filled))


@pytest.mark.parametrize("event", EVENTS, ids=lambda each: each.__name__)
def test_an_event_reaches_the_client_whole_and_in_order(event: type) -> None:
    payload: Any = event_pb2.SessionEvent.DESCRIPTOR.fields_by_name[event_name(event)].message_type
    for enum_at in range(most_words(payload)):
        filled = Filler(enum_at).fill(event, payload)
        [logged] = seal(Session("t", "s1", last_sequence=6, last_hash="h" * 64), [filled], now=TIME, trace_id="trace")
        told = event_to_proto(logged)
        assert told.WhichOneof("payload") == event_name(event)
        check(filled, getattr(told, event_name(event)))
        assert (told.session_id, told.sequence, told.trace_id, told.payload_json) == ("s1", 7, "trace", "")
        assert (told.hash, told.previous_hash) == (logged.hash, "h" * 64)
        assert told.event_time.ToMicroseconds() == TIME


def test_the_text_that_was_hashed_is_told_as_it_is() -> None:
    event = events.AgentSwitched("coder", 'a "quoted" «агент» \u2028', "anna")
    [logged] = seal(Session("t", "s1"), [event], now=TIME)
    told = event_to_proto(logged, with_payload=True)
    assert told.payload_json == logged.payload_json
    assert events.chain_hash(told.previous_hash, 1, TIME, told.payload_json) == told.hash


def test_what_did_not_fail_has_no_failure_and_what_was_not_chosen_is_absent() -> None:
    """A message that is there and empty would say otherwise to whoever asks whether it is there."""
    for resource, record in ((run_pb2.Run, a_run()), (plan_pb2.Subtask, a_subtask()), (step_pb2.Step, a_step())):
        told = to_proto(resource, record)
        assert "failure" not in {field.name for field, _ in told.ListFields()}
    assert not to_proto(session_pb2.Session, Session("t", "s1")).HasField("workspace")
    [logged] = seal(Session("t", "s1"), [events.PlanDrafted(a_plan(), [a_subtask()])], now=TIME)
    assert not event_to_proto(logged).plan_drafted.subtasks[0].HasField("failure")


def test_a_result_without_words_is_there_all_the_same() -> None:
    told = to_proto(step_pb2.Step, a_step(result=records.ToolResult()))
    assert told.HasField("result")
    assert not to_proto(step_pb2.Step, a_step()).HasField("result")


def test_what_is_not_set_stays_empty() -> None:
    told = json_format.MessageToDict(to_proto(run_pb2.Run, a_run(kind="", agent="", goal="", state="")))
    assert told == {"id": "r1", "sessionId": "s1", "usage": {}}


def test_numbers_larger_than_doubles_hold_arrive_as_they_are() -> None:
    usage = records.Usage(input_tokens=2**63 - 1, cost_usd_micros=9_007_199_254_740_993)
    told = to_proto(usage_pb2.Usage, usage)
    assert (told.input_tokens, told.cost_usd_micros) == (2**63 - 1, 9_007_199_254_740_993)


def test_a_plan_shows_its_subtasks_in_their_order() -> None:
    subtasks = [a_subtask(id=f"k{9 - at}", position=at) for at in (2, 1, 3)]
    told = plan_to_proto(a_plan(state="IN_PROGRESS"), subtasks)
    assert [subtask.id for subtask in told.subtasks] == ["k8", "k7", "k6"]
    assert told.state == plan_pb2.PLAN_STATE_IN_PROGRESS


def test_a_delta_is_told_whole_and_is_not_durable() -> None:
    delta = Delta("r1", "k1", "a1", "x1", 2, "TOOL_ARGUMENTS", "{", "write_file", "c1")
    told = item_to_proto("s1", delta, TIME)
    assert (told.session_id, told.sequence, told.hash) == ("s1", 0, "")
    assert told.event_time.ToMicroseconds() == TIME
    check(delta, told.message_delta)


def test_a_heartbeat_says_how_far_the_stream_has_come() -> None:
    told = item_to_proto("s1", Heartbeat(7), TIME)
    assert (told.sequence, told.heartbeat.last_sequence) == (0, 7)


@pytest.mark.parametrize("state", list(SessionState))
def test_settled_says_why_and_how_far(state: SessionState) -> None:
    told = item_to_proto("s1", Settled(state, 7), TIME)
    assert (told.sequence, told.settled.last_sequence) == (0, 7)
    assert enum_word(session_pb2.SessionState.DESCRIPTOR, told.settled.state) == state
    at_rest = {SessionState.IDLE: "IDLE", SessionState.COMPLETED: "IDLE", SessionState.CLOSED: "CLOSED"}
    reason = enum_word(event_pb2.SettledReason.DESCRIPTOR, told.settled.reason)
    assert reason == at_rest.get(state, "WAITING_FOR_DECISION")


def test_a_durable_event_is_told_with_its_text_only_where_it_was_asked_for() -> None:
    [logged] = seal(Session("t", "s1"), [events.AgentSwitched("a", "b", "c")], now=TIME)
    assert isinstance(logged, LoggedEvent)
    assert item_to_proto("s1", logged, 0) == event_to_proto(logged)
    assert item_to_proto("s1", logged, 0, with_payload=True).payload_json == logged.payload_json


def test_every_word_of_every_enum_is_read_as_the_domains() -> None:
    for enum in {
        f.enum_type.full_name: f.enum_type for r in RESOURCES.values() for f in enum_fields(r.DESCRIPTOR)
    }.values():
        assert enum_word(enum, 0) == ""
        assert [enum_word(enum, value.number) for value in enum.values][1:] == words(enum)
