"""Every transition in a log is one of its machine's table and leaves the state the last one entered; so do the rows."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Step
from orchestrator.domain.states import APPROVAL, MODEL_STEP, PLAN, RUN, SESSION, SUBTASK, TOOL_STEP, Machine
from tests.simulator.history import History

Keys = dict[tuple[str, str], str]


def check_machines(history: History) -> Iterator[str]:
    for session in history.rows.sessions:
        replay = Replay(session.id)
        for event in history.rows.logs.get(session.id, []):
            yield from replay.take(event)
        states = replay.states
        yield from _rows("session", [session], states, "IDLE")
        yield from _rows("run", _of(history.rows.runs, session.id), states, "CREATED")
        yield from _rows("plan", _of(history.rows.plans, session.id), states, "")
        yield from _rows("subtask", _of(history.rows.subtasks, session.id), states, "")
        yield from _rows("approval", _of(history.rows.approvals, session.id), states, "")
        for step in _of(history.rows.steps, session.id):
            yield from _step_row(step, states)


class Replay:
    """Follows one session's log: where every machine stands."""

    def __init__(self, session_id: str) -> None:
        self.states: Keys = {("session", session_id): "IDLE"}
        self.dispatches: dict[str, int] = {}
        self._session_id = session_id

    def take(self, event: LoggedEvent) -> Iterator[str]:
        ((name, body),) = json.loads(event.payload_json).items()
        for words in self._follow(name, body):
            yield f"session {self._session_id}, event {event.sequence}: {words}"

    def _follow(self, name: str, body: dict[str, Any]) -> Iterator[str]:
        match name:
            case "session_state_changed":
                yield from self._move(SESSION, "session", self._session_id, body)
            case "session_closed":
                self.states["session", self._session_id] = "CLOSED"
            case "run_started":
                yield from self._moved(RUN, "run", body["run_id"], "CREATED", "started", "RUNNING")
            case "run_state_changed":
                yield from self._move(RUN, "run", body["run_id"], body)
            case "run_finished":
                yield from self._moved(RUN, "run", body["run_id"], body["from_state"], body["trigger"], body["state"])
            case "plan_drafted":
                self.states["plan", body["plan"]["id"]] = "DRAFT"
                for subtask in body["subtasks"]:
                    born = subtask["state"] if subtask.get("carried_subtask_id") else "PENDING"
                    self.states["subtask", subtask["id"]] = born
            case "plan_state_changed":
                yield from self._move(PLAN, "plan", body["plan_id"], body)
            case "subtask_state_changed":
                yield from self._move(SUBTASK, "subtask", body["subtask_id"], body)
            case "approval_requested":
                self.states["approval", body["approval"]["id"]] = "PENDING"
            case "approval_resolved":
                yield from self._moved(
                    APPROVAL, "approval", body["approval_id"], "PENDING", body["trigger"], body["state"]
                )
            case "step_started":
                yield from self._started(body)
            case "step_finished":
                yield from self._finished(body)

    def _move(self, machine: Machine, kind: str, id: str, body: dict[str, Any]) -> Iterator[str]:
        yield from self._moved(machine, kind, id, body["from_state"], body["trigger"], body["to_state"])

    def _moved(self, machine: Machine, kind: str, id: str, before: str, trigger: str, after: str) -> Iterator[str]:
        stood = self.states.get((kind, id), "CREATED" if kind == "run" else "")
        if stood != before:
            yield f"{kind} {id} leaves {before}, but it was {stood or 'not there'}"
        if machine.table.get((before, trigger)) != after:
            yield f"{kind} {id}: no transition {before} --{trigger}--> {after}"
        self.states[kind, id] = after

    def _started(self, body: dict[str, Any]) -> Iterator[str]:
        id, stood, machine = body["step_id"], self.states.get(("step", body["step_id"]), ""), _machine(body)
        if stood == "DISPATCHED" or stood in machine.terminal:
            yield f"step {id} is dispatched, but it was {stood}"
        if body["dispatch_number"] != self.dispatches.get(id, 0) + 1:
            yield f"step {id} has dispatch {body['dispatch_number']} after {self.dispatches.get(id, 0)}"
        self.dispatches[id] = body["dispatch_number"]
        self.states["step", id] = "DISPATCHED"

    def _finished(self, body: dict[str, Any]) -> Iterator[str]:
        id, stood, machine = body["step_id"], self.states.get(("step", body["step_id"]), ""), _machine(body)
        before = {
            s for (s, trigger), after in machine.table.items() if (trigger, after) == (body["trigger"], body["state"])
        }
        if not before or (stood in ("DISPATCHED", *machine.terminal) and stood not in before):
            yield f"step {id}: no transition {stood} --{body['trigger']}--> {body['state']}"
        if stood != "DISPATCHED" and before == {"DISPATCHED"}:
            yield f"step {id} ends a dispatch, but it was {stood or 'not there'}"
        self.states["step", id] = body["state"]


def _machine(body: dict[str, Any]) -> Machine:
    return MODEL_STEP if body["kind"] == "MODEL" else TOOL_STEP


def _of(rows: Iterable[Any], session_id: str) -> list[Any]:
    return [row for row in rows if row.session_id == session_id]


def _rows(kind: str, rows: Iterable[Any], states: Keys, first: str) -> Iterator[str]:
    for row in rows:
        logged = states.get((kind, row.id), first)
        if row.state != logged:
            yield f"{kind} {row.id} is {row.state}, by the log {logged or 'not there'}"


def _step_row(step: Step, states: Keys) -> Iterator[str]:
    """Between two events a step moves in silence, but not into flight or to its end."""
    machine = MODEL_STEP if step.kind == "MODEL" else TOOL_STEP
    loud = ("DISPATCHED", *machine.terminal)
    logged = states.get(("step", step.id), "")
    if step.state != logged and (step.state in loud or logged in loud):
        yield f"step {step.id} is {step.state}, by the log {logged or 'not there'}"
