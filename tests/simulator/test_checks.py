"""A history that keeps every promise passes; each promise that is broken in it is reported by its check."""

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Approval
from tests.simulator.catalog import ASKING, TOOLS
from tests.simulator.checks import violations
from tests.simulator.history import History, Started
from tests.simulator.worker import physical_at, play

T = TypeVar("T")
Spoil = Callable[[History], None]
SEEDS = range(600, 640)


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
    yield any(approval.state == "EXPIRED" and approval.tool for approval in history.rows.approvals)
    yield any(len(approval.votes) > 1 and approval.consume_time for approval in history.rows.approvals)


def test_a_sound_history_passes(sound: History) -> None:
    assert violations(sound) == []


# Ways to spoil one


def _spoil(rows: list[T], which: Callable[[T], bool], **changes: Any) -> None:
    """Change the first of these rows for which it holds."""
    at = next(at for at, row in enumerate(rows) if which(row))
    rows[at] = replace(rows[at], **changes)  # type: ignore[type-var]  # rows are dataclasses


def _cut(rows: list[T], at: int) -> None:
    rows.pop(at)


def _log(history: History) -> list[LoggedEvent]:
    return max(history.rows.logs.values(), key=len)


def _edit(history: History, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the first event of that name in what it says, as a wrong rule would have written it."""
    for log in history.rows.logs.values():
        for at, event in enumerate(log):
            ((found, body),) = json.loads(event.payload_json).items()
            if found == name:
                change(body)
                log[at] = replace(event, payload_json=json.dumps({name: body}))
                return
    raise AssertionError(f"no {name}")


def _append(history: History, name: str, body: dict[str, Any]) -> None:
    log = _log(history)
    log.append(replace(log[-1], sequence=len(log) + 1, payload_json=f'{{"{name}":{json.dumps(body)}}}'))


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
    _spoil(history.rows.approvals, lambda a: a.id == approval_id, decision=replace(decision, decider="somebody"))


def _about_something_else(history: History) -> None:
    id = _asked(history)
    decision = next(a.decision for a in history.rows.approvals if a.id == id)
    assert decision is not None
    _spoil(history.rows.approvals, lambda a: a.id == id, decision=replace(decision, digest="0" * 64))


def _voted(history: History) -> Approval:
    """One that was decided by two, and let its call run."""
    return next(a for a in history.rows.approvals if len(a.votes) > 1 and a.consume_time)


def _respoil(history: History, approval: Approval, **changes: Any) -> None:
    _spoil(history.rows.approvals, lambda a: a.id == approval.id, **changes)


def _one_vote(history: History) -> None:
    """As the row and the log would have it if one were taken for enough."""
    approval = _voted(history)
    _respoil(history, approval, votes=approval.votes[:1])
    for log in history.rows.logs.values():
        voted = [e for e in log if e.payload_json.startswith('{"vote_recorded":') and approval.id in e.payload_json]
        for event in voted[1:]:
            log.remove(event)


def _same_vote(history: History) -> None:
    approval = _voted(history)
    _respoil(history, approval, votes=[approval.votes[0], approval.votes[0]])
    _edit(history, "vote_recorded", lambda body: body.update(voter=approval.votes[0].voter))
    for log in history.rows.logs.values():
        for at, event in enumerate(log):
            if event.payload_json.startswith('{"vote_recorded":') and approval.id in event.payload_json:
                body = {**json.loads(event.payload_json)["vote_recorded"], "voter": approval.votes[0].voter}
                log[at] = replace(event, payload_json=json.dumps({"vote_recorded": body}))


def _decided_by(history: History, who: str) -> None:
    approval = next(a for a in history.rows.approvals if a.terms.roles and a.decision and a.kind == "TOOL_CALL")
    assert approval.decision is not None
    _respoil(history, approval, decision=replace(approval.decision, decider=who))


def _decided_oneself(history: History) -> None:
    approval = next(a for a in history.rows.approvals if a.decision is not None)
    assert approval.decision is not None
    _respoil(
        history, approval, requester=approval.decision.decider, terms=replace(approval.terms, requester_excluded=True)
    )


def _decided_late(history: History) -> None:
    approval = next(a for a in history.rows.approvals if a.decision is not None and a.expire_time)
    _respoil(history, approval, expire_time=approval.resolve_time)


def _ran_on_an_expired_one(history: History) -> None:
    """The call of a question that nobody answered in time is started with it all the same."""
    expired = next(a for a in history.rows.approvals if a.state == "EXPIRED" and a.tool in ASKING)
    body = {"step_id": expired.step_id, "dispatch_number": 1, "kind": "TOOL", "run_id": "", "approval_id": expired.id}
    _append(history, "step_started", body)
    step = next(step for step in history.rows.steps if step.id == expired.step_id)
    history.started.append(
        dataclasses.replace(
            history.started[0], step_id=step.id, dispatch=1, tool=step.tool, arguments_json=step.arguments_json
        )
    )


def _settled_twice(history: History) -> None:
    log = next(log for log in history.rows.logs.values() if any("approval_resolved" in e.payload_json for e in log))
    again = next(e for e in log if e.payload_json.startswith('{"approval_resolved":'))
    log.append(replace(again, sequence=len(log) + 1))


def _other_arguments(history: History) -> None:
    history.started[0].arguments_json = "{}"


def _used_twice(history: History) -> None:
    id = _asked(history)
    body = {"step_id": "another", "dispatch_number": 1, "kind": "TOOL", "run_id": "", "approval_id": id}
    _append(history, "step_started", body)


def _paused_and_started(history: History) -> None:
    moved = {"run_id": "r", "from_state": "RUNNING", "trigger": "paused", "to_state": "PAUSED"}
    _append(history, "run_state_changed", moved)
    _append(history, "step_started", {"step_id": "s", "dispatch_number": 1, "kind": "TOOL", "run_id": "r"})


def _closed_and_started(history: History) -> None:
    _append(history, "session_closed", {})
    _append(history, "run_started", {"run_id": "r"})


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
    for log in history.rows.logs.values():
        for at, event in enumerate(log):
            if event.payload_json.startswith('{"approval_resolved":') and id in event.payload_json:
                log.append(replace(log.pop(at), sequence=len(log) + 1))
                return


SPOILS: dict[str, tuple[str, Spoil]] = {
    "an event is missing": ("logs", lambda h: _cut(_log(h), 3)),
    "two events changed places": ("logs", lambda h: _log(h).insert(3, _log(h).pop(4))),
    "an event was changed": (
        "logs",
        lambda h: _spoil(_log(h), lambda e: e.sequence == 4, payload_json='{"run_queued":{}}'),
    ),
    "an event is early": ("logs", lambda h: _spoil(_log(h), lambda e: e.sequence == 4, event_time=1)),
    "a row is behind its log": ("logs", lambda h: _spoil(h.rows.sessions, lambda s: True, last_sequence=1)),
    "a watcher missed an event": ("views", lambda h: _cut(max(h.views, key=lambda v: len(v.events)).events, 2)),
    "a watcher saw one twice": ("views", lambda h: h.views[0].events.insert(1, h.views[0].events[0])),
    "a watcher saw another": ("views", lambda h: h.views[0].events.__setitem__(0, (1, "{}"))),
    "a watcher fell behind": ("views", lambda h: _cut(h.views[0].events, -1)),
    "a transition is none": ("machines", lambda h: _edit(h, "run_finished", lambda b: b.update(trigger="paused"))),
    "a machine jumps": ("machines", lambda h: _edit(h, "run_finished", lambda b: b.update(from_state="PAUSED"))),
    "a row is elsewhere": ("machines", lambda h: _spoil(h.rows.runs, lambda r: r.state == "COMPLETED", state="FAILED")),
    "a dispatch comes again": (
        "machines",
        lambda h: _edit(h, "step_started", lambda b: b.update(dispatch_number=b["dispatch_number"] + 1)),
    ),
    "a stale worker wrote": ("fencing", _stale_write),
    "a change set was written twice": ("fencing", _blind_write),
    "a claim left no trace": ("fencing", _robbery),
    "a call happened twice": ("starts", lambda h: h.started.append(copy.copy(_once(h)))),
    "a start nobody wrote": ("starts", lambda h: setattr(h.started[0], "dispatch", 99)),
    "other bytes ran": ("starts", _other_arguments),
    "what is denied ran": ("starts", lambda h: setattr(h.started[0], "tool", "erase")),
    "nobody decided": ("approvals", lambda h: _spoil(h.rows.approvals, lambda a: a.id == _asked(h), state="CANCELLED")),
    "the approval is unused": (
        "approvals",
        lambda h: _spoil(h.rows.approvals, lambda a: a.id == _asked(h), consume_time=0),
    ),
    "the decision is about something else": ("approvals", _about_something_else),
    "an approval was used twice": ("approvals", _used_twice),
    "dispatched before the decision": ("approvals", _early_dispatch),
    "what expired lets a call run": ("approvals", _ran_on_an_expired_one),
    "one vote lets run what needs two": ("approvals", _one_vote),
    "one vote was enough where two are needed": ("decisions", _one_vote),
    "somebody voted twice": ("decisions", _same_vote),
    "the votes are not those of the log": (
        "decisions",
        lambda h: _respoil(h, _voted(h), votes=list(reversed(_voted(h).votes))),
    ),
    "somebody without the role decided": ("decisions", lambda h: _decided_by(h, "mallory")),
    "somebody decided what they asked for": ("decisions", _decided_oneself),
    "a decision came too late": ("decisions", _decided_late),
    "a question was settled twice": ("decisions", _settled_twice),
    "an expired question has a decision": (
        "decisions",
        lambda h: _spoil(h.rows.approvals, lambda a: a.decision is not None, state="EXPIRED"),
    ),
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
        lambda h: _spoil(
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
        lambda h: _spoil(h.rows.steps, lambda s: s.run_id == _ended_run(h) and s.kind == "TOOL", state="APPROVED"),
    ),
    "a call has no result": (
        "ends",
        lambda h: _spoil(h.rows.steps, lambda s: s.kind == "TOOL" and s.state == "SUCCEEDED", result=None),
    ),
    "a call has two results": (
        "ends",
        lambda h: h.rows.steps.append(
            replace(next(s for s in h.rows.steps if s.kind == "TOOL" and s.state != "EDITED"), id="another")
        ),
    ),
    "a run waits for nobody": (
        "ends",
        lambda h: _spoil(
            h.rows.sessions, lambda s: True, active_run_id=_open_again(h), owner="replica1", runnable=True
        ),
    ),
}


def _open_again(history: History) -> str:
    run = history.rows.runs[0]
    history.rows.runs[0] = replace(run, state="RUNNING")
    return run.id


@pytest.mark.parametrize("what", SPOILS)
def test_what_is_wrong_is_reported(sound: History, what: str) -> None:
    check, spoil = SPOILS[what]
    history = copy.deepcopy(sound)
    spoil(history)
    assert any(words.startswith(f"{check}: ") for words in violations(history)), violations(history)
