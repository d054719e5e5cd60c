"""What a client was told is so: an answered command took effect exactly once, a refused one not at all."""

from collections.abc import Callable, Iterator

from gen.assent.v1 import approval_pb2
from tests.simulator.history import Command, History


def check_commands(history: History) -> Iterator[str]:
    kept = {(caller, request_id) for caller, request_id, _ in history.rows.requests}
    for command in history.commands:
        where = f"{command.path} {command.request_id} of {command.who}"
        is_kept = command.path not in _WITHOUT_ROW or (command.who, command.request_id) in kept
        if is_kept and any(answer != command.answers[0] for answer in command.answers):
            yield f"{where} got different answers"
        if command.answers and command.refusals:
            yield f"{where} was answered and refused: {command.refusals}"
        if command.answers and command.path not in _WITHOUT_ROW and (command.who, command.request_id) not in kept:
            yield f"{where} was answered, and its request is not kept"
        if (count := _COUNTS.get(command.path)) is not None:
            yield from _times(where, command, count(history, command))
        if (look := _EFFECTS.get(command.path)) is not None and command.answers:
            yield from (f"{where}: {words}" for words in look(history, command))


def _times(where: str, command: Command, times: int) -> Iterator[str]:
    if times > 1:
        yield f"{where} took effect {times} times"
    elif command.answers and not times:
        yield f"{where} was answered and had no effect"
    elif command.refusals and not command.answers and not command.uncertain and times:
        yield f"{where} was refused and took effect"


def _messages(history: History, command: Command) -> int:
    return sum(1 for m in history.rows.messages if (m.role, m.text) == ("USER", command.request.text))


def _plans(history: History, command: Command) -> int:
    mine = [p for p in history.rows.plans if p.title == command.request.title and p.version == 1]
    return len([p for p in mine if p.author == command.who])


def _revisions(history: History, command: Command) -> int:
    mine = [p for p in history.rows.plans if p.title == command.request.title and p.version > 1]
    return len([p for p in mine if p.author == command.who])


def _sent(history: History, command: Command) -> Iterator[str]:
    runs = {run.id for run in history.rows.runs}
    if command.answers[0].run.id not in runs:
        yield "its run is not there"
    if command.answers[0].message.id not in {message.id for message in history.rows.messages}:
        yield "its message is not there"


def _decided(history: History, command: Command) -> Iterator[str]:
    approval = next((a for a in history.rows.approvals if a.id == command.request.approval_id), None)
    decision = approval.decision if approval else None
    action = approval_pb2.DecisionAction.Name(command.request.action).removeprefix("DECISION_ACTION_")
    has_voted = approval is not None and any((v.action, v.voter) == (action, command.who) for v in approval.votes)
    if not has_voted and (decision is None or (decision.action, decision.decider) != (action, command.who)):
        yield f"{action} was accepted, and the decision is {decision}"


def _cancelled(history: History, command: Command) -> Iterator[str]:
    run = next((r for r in history.rows.runs if r.id == command.request.run_id), None)
    if run is None or run.state != "CANCELLED":
        yield f"the run is {run.state if run else 'not there'}"


def _created(history: History, command: Command) -> Iterator[str]:
    if command.answers[0].session.id not in {session.id for session in history.rows.sessions}:
        yield "the session is not there"


# What is so already is answered, and leaves nothing: a decision repeated by the same person, a pause asked twice.
_WITHOUT_ROW = ("ApprovalService/DecideApproval", "RunService/PauseRun", "RunService/ResumeRun")
_COUNTS: dict[str, Callable[[History, Command], int]] = {
    "SessionService/SendMessage": _messages,
    "PlanService/CreatePlan": _plans,
    "PlanService/RevisePlan": _revisions,
}


def _closed(history: History, command: Command) -> Iterator[str]:
    session = next((s for s in history.rows.sessions if s.id == command.request.session_id), None)
    if session is None or session.state != "CLOSED":
        yield f"the session is {session.state if session else 'not there'}"


def _revoked(history: History, command: Command) -> Iterator[str]:
    grant = next((g for g in history.rows.session_grants if g.id == command.request.grant_id), None)
    if grant is None or (grant.revoker, bool(grant.revoke_time)) != (command.who, True):
        yield f"the grant is {grant}"


_EFFECTS: dict[str, Callable[[History, Command], Iterator[str]]] = {
    "SessionService/CreateSession": _created,
    "SessionService/SendMessage": _sent,
    "ApprovalService/DecideApproval": _decided,
    "RunService/CancelRun": _cancelled,
    "SessionService/CloseSession": _closed,
    "ApprovalService/RevokeGrant": _revoked,
}
