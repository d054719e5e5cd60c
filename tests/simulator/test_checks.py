"""A history that keeps every promise passes; each promise that is broken in it is reported by its check."""

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.domain.frozen import replace
from tests.simulator.catalog import ASKING, TOOLS
from tests.simulator.checks import violations
from tests.simulator.history import History, Started
from tests.simulator.spoiling import Spoil, append, cut, edit, log, spoil
from tests.simulator.worker import physical_at, play

SEEDS = range(704, 744)


@pytest.fixture(scope="module")
def sound(postgres_url: str) -> Iterator[History]:
    """A seed's history in which there is something of everything."""
    with physical_at("") as physical:
        physical.prepare()
        for seed in SEEDS:
            history = play(physical, seed)
            if not violations(history) and all(_has_all(history)):
                yield history
                return
    pytest.fail("no seed has something of everything")


def _has_all(history: History) -> Iterator[bool]:
    tools = {started.tool for started in history.started}
    paths = {command.path for command in history.commands if command.answers}
    yield any(TOOLS[tool] == "NON_IDEMPOTENT" for tool in tools)
    yield any(tool in ASKING for tool in tools)
    yield {"SessionService/SendMessage", "RunService/CancelRun", "ApprovalService/DecideApproval"} <= paths
    yield any(written.owner for written in history.written)
    yield any(run.state == "COMPLETED" for run in history.rows.runs)
    yield any(len(view.events) > 5 for view in history.views)


def test_a_sound_history_passes(sound: History) -> None:
    assert violations(sound) == []


# Ways to spoil one


def _answered(history: History, path: str) -> Any:
    return next(command for command in history.commands if command.path == path and command.answers)


def _once(history: History) -> Started:
    return next(started for started in history.started if TOOLS[started.tool] == "NON_IDEMPOTENT")


def _asked(history: History) -> str:
    """The approval under which a call that asks was started."""
    step_ids = {started.step_id for started in history.started if started.tool in ASKING}
    return next(step.approval_id for step in history.rows.steps if step.id in step_ids)


def _ended_run(history: History) -> str:
    calls = {step.run_id for step in history.rows.steps if step.kind == "TOOL" and step.state == "SUCCEEDED"}
    return next(run.id for run in history.rows.runs if run.state == "COMPLETED" and run.id in calls)


def _message(history: History) -> Any:
    return _answered(history, "SessionService/SendMessage").answers[0].message


def _drop_message(history: History) -> None:
    id = _message(history).id
    history.rows.messages[:] = [message for message in history.rows.messages if message.id != id]


def _double_message(history: History) -> None:
    id = _message(history).id
    history.rows.messages += [replace(message, id="another") for message in history.rows.messages if message.id == id]


def _another_decider(history: History) -> None:
    approval_id = _answered(history, "ApprovalService/DecideApproval").request.approval_id
    decision = next(a.decision for a in history.rows.approvals if a.id == approval_id)
    assert decision is not None
    spoil(history.rows.approvals, lambda a: a.id == approval_id, decision=replace(decision, decider="somebody"))


def _about_something_else(history: History) -> None:
    id = _asked(history)
    decision = next(a.decision for a in history.rows.approvals if a.id == id)
    assert decision is not None
    spoil(history.rows.approvals, lambda a: a.id == id, decision=replace(decision, digest="0" * 64))


def _other_arguments(history: History) -> None:
    history.started[0].arguments_json = "{}"


def _used_twice(history: History) -> None:
    id = _asked(history)
    body = {"step_id": "another", "dispatch_number": 1, "kind": "TOOL", "run_id": "", "approval_id": id}
    append(history, "step_started", body)


def _paused_and_started(history: History) -> None:
    moved = {"run_id": "r", "from_state": "RUNNING", "trigger": "paused", "to_state": "PAUSED"}
    append(history, "run_state_changed", moved)
    append(history, "step_started", {"step_id": "s", "dispatch_number": 1, "kind": "TOOL", "run_id": "r"})


def _closed_and_started(history: History) -> None:
    append(history, "session_closed", {})
    append(history, "run_started", {"run_id": "r"})


def _stale_write(history: History) -> None:
    """An engine writes once more, after another claimed."""
    at, written = next((at, w) for at, w in enumerate(history.written) if w.owner and w.outcome == "written")
    again = dataclasses.replace(written, epoch=written.epoch - 1, expected_sequence=written.sequence_after)
    history.written.insert(at + 1, again)


def _blind_write(history: History) -> None:
    at, written = next((at, w) for at, w in enumerate(history.written) if w.outcome == "written")
    history.written.insert(at + 1, written)


def _robbery(history: History) -> None:
    next(w for w in history.written if w.claim_for and w.outcome == "written").epoch_after += 1


def _early_dispatch(history: History) -> None:
    id = _asked(history)
    for each in history.rows.logs.values():
        for at, event in enumerate(each):
            if event.payload_json.startswith('{"approval_resolved":') and id in event.payload_json:
                each.append(replace(each.pop(at), sequence=len(each) + 1))
                return


SPOILS: dict[str, tuple[str, Spoil]] = {
    "an event is missing": ("logs", lambda h: cut(log(h), 3)),
    "two events changed places": ("logs", lambda h: log(h).insert(3, log(h).pop(4))),
    "an event was changed": (
        "logs",
        lambda h: spoil(log(h), lambda e: e.sequence == 4, payload_json='{"run_queued":{}}'),
    ),
    "an event is early": ("logs", lambda h: spoil(log(h), lambda e: e.sequence == 4, event_time=1)),
    "a row is behind its log": ("logs", lambda h: spoil(h.rows.sessions, lambda s: True, last_sequence=1)),
    "a watcher missed an event": ("views", lambda h: cut(max(h.views, key=lambda v: len(v.events)).events, 2)),
    "a watcher saw one twice": ("views", lambda h: h.views[0].events.insert(1, h.views[0].events[0])),
    "a watcher saw another": ("views", lambda h: h.views[0].events.__setitem__(0, (1, "{}"))),
    "a watcher fell behind": ("views", lambda h: cut(h.views[0].events, -1)),
    "a transition is none": ("machines", lambda h: edit(h, "run_finished", lambda b: b.update(trigger="paused"))),
    "a machine jumps": ("machines", lambda h: edit(h, "run_finished", lambda b: b.update(from_state="PAUSED"))),
    "a row is elsewhere": ("machines", lambda h: spoil(h.rows.runs, lambda r: r.state == "COMPLETED", state="FAILED")),
    "a dispatch comes again": (
        "machines",
        lambda h: edit(h, "step_started", lambda b: b.update(dispatch_number=b["dispatch_number"] + 1)),
    ),
    "a stale worker wrote": ("fencing", _stale_write),
    "a change set was written twice": ("fencing", _blind_write),
    "a claim left no trace": ("fencing", _robbery),
    "a call happened twice": ("starts", lambda h: h.started.append(copy.copy(_once(h)))),
    "a start nobody wrote": ("starts", lambda h: setattr(h.started[0], "dispatch", 99)),
    "other bytes ran": ("starts", _other_arguments),
    "what is denied ran": ("starts", lambda h: setattr(h.started[0], "tool", "erase")),
    "nobody decided": ("approvals", lambda h: spoil(h.rows.approvals, lambda a: a.id == _asked(h), state="CANCELLED")),
    "the approval is unused": (
        "approvals",
        lambda h: spoil(h.rows.approvals, lambda a: a.id == _asked(h), consume_time=0),
    ),
    "the decision is about something else": ("approvals", _about_something_else),
    "an approval was used twice": ("approvals", _used_twice),
    "dispatched before the decision": ("approvals", _early_dispatch),
    "a message was lost": ("commands", _drop_message),
    "a message is there twice": ("commands", _double_message),
    "two winners": ("commands", _another_decider),
    "the request is not kept": ("commands", lambda h: h.rows.requests.clear()),
    "answers differ": (
        "commands",
        lambda h: h.commands[0].answers.append(type(h.commands[0].answers[0])()),
    ),
    "answered and refused": ("commands", lambda h: h.commands[0].refusals.append("WRONG_STATE")),
    "a cancelled run goes on": (
        "commands",
        lambda h: spoil(
            h.rows.runs, lambda r: r.id == _answered(h, "RunService/CancelRun").request.run_id, state="RUNNING"
        ),
    ),
    "started while paused": ("control", _paused_and_started),
    "started after closing": ("control", _closed_and_started),
    "something moves for ever": ("ends", lambda h: h.unrest.append("it moves")),
    "a transaction is open": ("ends", lambda h: h.open_transactions.append("replica1")),
    "a service failed": ("ends", lambda h: h.defects.append("error")),
    "something is still due": ("ends", lambda h: h.not_idle.append("StepStarted")),
    "a tenant's runs are too many": ("ends", lambda h: h.miscounted.append("2 runs are RUNNING; 1 may be")),
    "a step never ended": (
        "ends",
        lambda h: spoil(h.rows.steps, lambda s: s.run_id == _ended_run(h) and s.kind == "TOOL", state="APPROVED"),
    ),
    "a call has no result": (
        "ends",
        lambda h: spoil(h.rows.steps, lambda s: s.kind == "TOOL" and s.state == "SUCCEEDED", result=None),
    ),
    "a call has two results": (
        "ends",
        lambda h: h.rows.steps.append(
            replace(next(s for s in h.rows.steps if s.kind == "TOOL" and s.state != "EDITED"), id="another")
        ),
    ),
    "a run waits for nobody": (
        "ends",
        lambda h: spoil(h.rows.sessions, lambda s: True, active_run_id=_open_again(h), owner="replica1", runnable=True),
    ),
}


def _open_again(history: History) -> str:
    run = history.rows.runs[0]
    history.rows.runs[0] = replace(run, state="RUNNING")
    return run.id


@pytest.mark.parametrize("what", SPOILS)
def test_what_is_wrong_is_reported(sound: History, what: str) -> None:
    check, spoilt = SPOILS[what]
    history = copy.deepcopy(sound)
    spoilt(history)
    assert any(words.startswith(f"{check}: ") for words in violations(history)), violations(history)
