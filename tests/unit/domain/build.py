"""Builds sessions, rows and catalogs for tests of the domain, and drives a session as the engine would.

`Play` applies one change after another to one snapshot in memory; it checks nothing by itself.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from orchestrator.domain.artifacts import take_files
from orchestrator.domain.catalog import ARCHITECT, ROUTER, Agent, Catalog, Policy, Rule, Tool
from orchestrator.domain.change import Change
from orchestrator.domain.commands import create_session, receive_message, submit_plan
from orchestrator.domain.control import cancel, close, pause, resume
from orchestrator.domain.deciding import decide
from orchestrator.domain.drafts import PlanDraft
from orchestrator.domain.events import Event
from orchestrator.domain.expected import check_bytes, path_of
from orchestrator.domain.graph import SubtaskDraft
from orchestrator.domain.outcomes import Outcome, fold
from orchestrator.domain.reading import FoundFile, Gathered, Reading
from orchestrator.domain.reconcile import reconcile
from orchestrator.domain.records import (
    Approval,
    ClientTool,
    Decision,
    Failure,
    ModelReply,
    Plan,
    Run,
    Session,
    Step,
    Subtask,
    ToolCall,
    ToolResult,
    Usage,
    Workspace,
)
from orchestrator.domain.revising import revise_plan
from orchestrator.domain.starting import NoPlace, Place, World
from orchestrator.domain.states import ApprovalState, StepState
from orchestrator.domain.transcript import ModelCall, model_call

SECOND = 1_000_000

TOOLS = {
    "read_file": "READ_ONLY",
    "write_file": "IDEMPOTENT",
    "run_command": "NON_IDEMPOTENT",
    "send_mail": "NON_IDEMPOTENT",  # allowed without asking
    "index_files": "IDEMPOTENT",  # allowed without asking
    "format_disk": "NON_IDEMPOTENT",  # denied
}
POLICY = Policy(
    "default",
    "policy-digest",
    (
        Rule("never", "DENY", ("format_*",), reason="too dangerous"),
        Rule("changes", "ASK", ("write_*", "run_*"), reason="it changes something"),
        Rule("trusted", "ALLOW", ("send_mail", "index_files", "open_tab")),
    ),
)
# What a session's client executes itself; policy asks about the first and allows the second.
CLIENT_TOOLS = [ClientTool("ask_ide", "asks the IDE"), ClientTool("open_tab", "opens a tab", '{"type": "object"}')]
AGENTS = (
    Agent("orchestrator", ROUTER, "routes", "You route."),
    Agent("architect", ARCHITECT, "plans", "You plan.", tools=("read_file", "write_file"), write_globs=("*.md",)),
    Agent("coder", "CODER", "writes code", "You code.", tools=("*",), write_globs=("*",)),
    Agent("ask", "ASK", "answers", "You answer.", tools=("read_file",)),
)


def catalog(*, agents: Sequence[Agent] = AGENTS, policy: Policy = POLICY) -> Catalog:
    tools = {name: Tool(name, f"does {name}", "{}", f"schema of {name}", effect) for name, effect in TOOLS.items()}
    return Catalog({agent.name: agent for agent in agents}, policy, tools=tools)


def task(key: str, *depends_on: str, agent: str = "coder") -> SubtaskDraft:
    return SubtaskDraft(key, f"Do {key}", f"Instructions for {key}", agent, depends_on)


def draft(*tasks: SubtaskDraft, parallel_limit: int = 1) -> PlanDraft:
    return PlanDraft("Title", "Summary", tasks or (task("a"),), parallel_limit)


def route_answer(complexity: str = "complex", agent: str = "coder") -> str:
    return json.dumps({"complexity": complexity, "agent": agent, "reason": "because"})


def plan_answer(*tasks: SubtaskDraft, parallel_limit: int = 1) -> str:
    fields = ("key", "title", "instructions", "agent", "depends_on")
    subtasks = [{name: getattr(t, name) for name in fields} for t in tasks or (task("a"),)]
    return json.dumps({"title": "T", "summary": "S", "parallel_limit": parallel_limit, "subtasks": subtasks})


def call(tool: str, call_id: str = "c1", **arguments: Any) -> ToolCall:
    return ToolCall(call_id, tool, json.dumps(arguments))


def failure(disposition: str = "FATAL", reason: str = "MODEL_FAILED", message: str = "it broke") -> Failure:
    return Failure(reason, message, disposition)


def a_run(**fields: Any) -> Run:
    return replace(Run("t", "r1", "s1", "RUNNING", "MESSAGE", "auto", "the goal"), **fields)


def a_plan(**fields: Any) -> Plan:
    return replace(Plan("t", "p1", "s1", "r1", 1, "Title", "Summary", "architect"), **fields)


def a_subtask(**fields: Any) -> Subtask:
    return replace(Subtask("t", "k1", "s1", "r1", "p1", "a", "Do a", "Do it well", "coder", 1), **fields)


def a_step(**fields: Any) -> Step:
    step = Step("t", "x1", "s1", "r1", "a1", "", "TOOL", StepState.APPROVED, "coder", 2)
    return replace(step, **{"tool": "write_file", "arguments_json": "{}", "schema_digest": "sd", **fields})


def an_approval(**fields: Any) -> Approval:
    return replace(Approval("t", "v1", "s1", "r1", "TOOL_CALL", "digest"), **fields)


class Play:
    """One session in memory: do something to it, and let the rules go on, as one change."""

    def __init__(self, book: Catalog | None = None, **session: Any) -> None:
        self._numbers = count(1)
        self.catalog = book or catalog()
        self.now = 1_000 * SECOND
        self.has_room = True
        self.may_read = True
        self.may_run = True
        self.events: list[Event] = []
        created = create_session(Session("t", "s1", **session), self.now, self.new_id)
        self.snapshot = created.snapshot
        self.keep(created)

    def new_id(self) -> str:
        return f"id{next(self._numbers):04}"

    @property
    def world(self) -> World:
        return World(self.catalog, self._place, lambda _: self.may_read)

    def _place(self, step: Step, workspace: Workspace) -> Place | NoPlace:
        return Place("executor-1", "127.0.0.1:1") if self.has_room else NoPlace("NO_SLOT")

    # --- changing

    def change(self) -> Change:
        return Change(
            self.snapshot,
            self.now,
            self.new_id,
            policy=self.catalog.policy_of(self.session),
            may_run=self.may_run,
        )

    def keep(self, change: Change) -> None:
        """What the store does: the events get their numbers."""
        self.events += change.events
        session = self.snapshot.session
        self.snapshot.session = replace(
            session,
            last_sequence=session.last_sequence + len(change.events),
            last_event_time=change.now if change.events else session.last_event_time,
        )

    def do(self, command: Callable[[Change], object] | None = None) -> Change:
        self.now += 1
        change = self.change()
        if command:
            command(change)
        reconcile(change, self.world)
        self.keep(change)
        return change

    def say(self, text: str = "make it", agent: str = "auto") -> Change:
        return self.do(lambda c: receive_message(c, text, agent, "anna", self.catalog))

    def submit(self, plan: PlanDraft) -> Change:
        return self.do(lambda c: submit_plan(c, plan, "the goal", "anna", self.catalog))

    def revise(self, plan: PlanDraft, version: Plan | None = None, goal: str = "", digest: str = "") -> Change:
        edited = self.snapshot.plans[(version or self.plan).id]
        return self.do(lambda c: revise_plan(c, edited, plan, goal, digest, "boris", self.catalog))

    def cancel(self, run_id: str = "") -> Change:
        return self.do(lambda c: cancel(c, run_id or self.session.active_run_id, "anna", "no longer wanted"))

    def pause(self, run_id: str = "") -> Change:
        return self.do(lambda c: pause(c, run_id or self.session.active_run_id, "anna", "lunch"))

    def resume(self, run_id: str = "") -> Change:
        return self.do(lambda c: resume(c, run_id or self.session.active_run_id, "boris", ""))

    def close(self) -> Change:
        return self.do(lambda c: close(c, "anna", "all done"))

    def outcome(self, kind: str, step: Step | None = None, **fields: Any) -> Change:
        step = step or self.flying[0]
        return self.do(lambda c: fold(c, Outcome(step.id, step.dispatch_number, kind, **fields)))

    def reply(self, text: str = "", *calls: ToolCall, step: Step | None = None) -> Change:
        usage = Usage(input_tokens=10, output_tokens=1)
        return self.outcome("SUCCEEDED", step, reply=ModelReply(text, tool_calls=list(calls)), usage=usage)

    def files(self, **contents: bytes) -> Change:
        """What is wanted is read: of each path the bytes given here, `_` for `.` in its name; others do not exist."""
        [reading] = self.do().reads.values()
        return self.do(lambda c: take_files(c, self.gathered(reading, **contents)))

    def gathered(self, reading: Reading, **contents: bytes) -> Gathered:
        found = []
        for expected in reading.expected:
            data = contents.get(path_of(expected).replace(".", "_"))
            checked = None if data is None else check_bytes(expected, data)
            found.append(FoundFile(expected, checked, "" if checked else "does not exist"))
        return Gathered(reading.subtask_id, reading.answer_id, tuple(found))

    def result(self, content: str = "ok", step: Step | None = None) -> Change:
        return self.outcome("SUCCEEDED", step, result=ToolResult(content))

    def fail(self, disposition: str = "FATAL", step: Step | None = None, **fields: Any) -> Change:
        return self.outcome("FAILED", step, failure=failure(disposition), **fields)

    def decide(
        self,
        action: str,
        approval: Approval | None = None,
        feedback: str = "",
        *,
        by: str = "anna",
        roles: Sequence[str] = (),
        digest: str = "",
        edited_artifact: bytes = b"",
        **said: Any,
    ) -> Change:
        chosen = approval or self.pending[0]
        decision = Decision(action, by, self.now, digest or chosen.digest, feedback, **said)
        return self.do(
            lambda c: decide(c, chosen, decision, self.catalog, frozenset(roles), edited_artifact=edited_artifact)
        )

    def wait(self, microseconds: int) -> Change:
        self.now += microseconds
        return self.do()

    # --- shortcuts to a place in the story

    def approved_plan(self, *tasks: SubtaskDraft, parallel_limit: int = 1) -> "Play":
        self.submit(draft(*tasks, parallel_limit=parallel_limit))
        self.decide("APPROVE")
        return self

    # --- looking

    @property
    def session(self) -> Session:
        return self.snapshot.session

    @property
    def run(self) -> Run:
        run = self.snapshot.run
        assert run is not None
        return run

    @property
    def plan(self) -> Plan:
        plan = self.snapshot.plan
        assert plan is not None
        return plan

    @property
    def steps(self) -> list[Step]:
        return list(self.snapshot.steps.values())

    @property
    def flying(self) -> list[Step]:
        return [s for s in self.steps if s.state == StepState.DISPATCHED]

    @property
    def ready(self) -> list[Step]:
        return [s for s in self.steps if s.state == StepState.READY]

    @property
    def calls(self) -> list[Step]:
        return [s for s in self.steps if s.kind == "TOOL"]

    @property
    def pending(self) -> list[Approval]:
        return [a for a in self.snapshot.approvals.values() if a.state == ApprovalState.PENDING]

    def subtask(self, key: str) -> Subtask:
        """Of the newest version of the plan that has it."""
        return [s for s in self.snapshot.subtasks.values() if s.key == key][-1]

    def seen(self, step: Step | None = None) -> ModelCall:
        """What the model of a step in flight reads."""
        return model_call(self.snapshot, step or self.flying[0], self.catalog)

    def triggers(self, event_class: type[Event]) -> list[str]:
        return [e.trigger for e in self.events if isinstance(e, event_class)]  # type: ignore[union-attr]  # if it has one
