"""Whatever people, models and executors do, in whatever order: the promises of a run hold after every change.

The rules are in rules.py, what models and executors may say in scripted.py.
"""

import hashlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from orchestrator.domain.artifacts import take_files
from orchestrator.domain.catalog import Rule
from orchestrator.domain.change import Change
from orchestrator.domain.client_tools import claim_call, record_result
from orchestrator.domain.commands import receive_message, submit_plan
from orchestrator.domain.control import cancel, close, pause, resume
from orchestrator.domain.deciding import decide
from orchestrator.domain.drafts import PlanDraft
from orchestrator.domain.errors import (
    ActionNotAllowed,
    ApprovalAlreadyResolved,
    ClaimedByAnother,
    DeciderNotAllowed,
    DigestMismatch,
    GrantNotOffered,
    InvalidInput,
    SelfApproval,
    StaleVersion,
    WrongState,
)
from orchestrator.domain.events import RunFinished, ToolCallReady
from orchestrator.domain.expected import check_bytes
from orchestrator.domain.grants import revoke_grant
from orchestrator.domain.outcomes import Outcome, fold
from orchestrator.domain.reading import FoundFile, Gathered, Reading
from orchestrator.domain.reconcile import reconcile
from orchestrator.domain.records import (
    Approval,
    ApprovalTerms,
    Budget,
    ClientTool,
    Decision,
    Failure,
    Remember,
    Step,
    ToolResult,
    Workspace,
)
from orchestrator.domain.revising import revise_plan
from orchestrator.domain.terms import is_overdue
from orchestrator.domain.worktime import worked
from tests.property import rules, scripted
from tests.unit.domain.build import CLIENT_TOOLS, POLICY, SECOND, TOOLS, Play, catalog

T = TypeVar("T")
Command = Callable[[Change], object]
Steer = Callable[[Change, str, str, str], object]
ROLES = frozenset(["lead", "director"])
TOOLS_OF_CLIENTS = [
    *CLIENT_TOOLS,
    ClientTool("tab_doubt", time_limit=30 * SECOND, on_timeout="ASK"),
    ClientTool("tab_halt", time_limit=30 * SECOND, on_timeout="HALT"),
]
EDITED = b'{"edited": true}'  # in the place of an artifact
ACTIONS = ["APPROVE"] * 4 + ["RETRY"] * 3 + ["REJECT"] * 2 + ["RESPOND", "RESPOND", "EDIT", "EDIT", "ABORT"]
ACTIONS += ["REQUEST_CHANGES", "REQUEST_CHANGES", "REPLAN", "REPLAN", "SKIP"]


def _one_of(data: st.DataObject, things: list[T]) -> T:
    """Drawn by position: a failure's story stays short to read."""
    return things[data.draw(st.integers(0, len(things) - 1))]


class AnySession(RuleBasedStateMachine):
    """A session, everybody who acts on it, and a history made of its events alone."""

    @initialize(
        when_busy=st.sampled_from(["ENQUEUE", "ENQUEUE", "INTERRUPT"]),
        budget=st.sampled_from([0, SECOND, 10 * SECOND, 1000 * SECOND]),
        terms=scripted.terms,
    )
    def create(self, when_busy: str, budget: int, terms: dict[str, ApprovalTerms]) -> None:
        book = catalog(policy=replace(POLICY, terms=terms))
        self.play = Play(
            book,
            when_busy=when_busy,
            client_tools=TOOLS_OF_CLIENTS,
            budget=Budget(work_duration=budget),
            workspace=Workspace("root", "s1"),
        )
        self.closed = False
        self.history = rules.History()
        self.last_ended = ""
        self.past: list[Outcome] = []

    # --- people

    @rule(
        data=st.data(), command=st.sampled_from([pause, pause, resume]), apart=st.booleans(), really=st.integers(0, 1)
    )
    @precondition(lambda self: self._open_runs)
    def hold_or_let_go(self, data: st.DataObject, command: Steer, apart: bool, really: int) -> None:
        run = self.play.snapshot.runs[_one_of(data, self._open_runs)]

        def act(change: Change) -> object:
            return command(change, run.id, "anna", "why")

        if run.state == "PAUSED" if command is pause else run.pause is None:
            self._refused(act, WrongState)
        elif command is pause and run.pause is not None:
            change = self.play.change()
            assert act(change) == run
            assert change.is_empty
        elif really or command is resume:
            self._do(act, apart)

    @rule(apart=st.booleans(), really=st.integers(0, 9))
    def close(self, apart: bool, really: int) -> None:
        if self.closed:
            self._refused(lambda c: close(c, "anna", ""), WrongState)
        elif not really:
            self.closed = True
            self._do(lambda c: close(c, "anna", ""), apart)
            assert not self._open_runs

    @rule(agent=st.sampled_from(["auto", "auto", "auto", "ask", "coder", "architect"]), apart=st.booleans())
    @precondition(lambda self: len(self._open_runs) < 3)
    def say(self, agent: str, apart: bool) -> None:
        if self.closed:
            self._refused(lambda c: receive_message(c, "hi", agent, "anna", self.play.catalog), WrongState)
            return
        self._do(lambda c: receive_message(c, "make it", agent, "anna", self.play.catalog), apart)

    @rule(draft=scripted.plans, apart=st.booleans())
    @precondition(lambda self: len(self._open_runs) < 3)
    def submit(self, draft: PlanDraft, apart: bool) -> None:
        if self.closed:
            self._refused(lambda c: submit_plan(c, draft, "the goal", "anna", self.play.catalog), WrongState)
            return
        self._do(lambda c: submit_plan(c, draft, "the goal", "anna", self.play.catalog), apart)

    @rule(data=st.data(), draft=scripted.plans, apart=st.booleans())
    @precondition(lambda self: self.play.snapshot.plans)
    def revise(self, data: st.DataObject, draft: PlanDraft, apart: bool) -> None:
        plans = [p for p in self.play.snapshot.plans.values() if p.run_id in self._open_runs]
        if not plans:
            return
        plan = _one_of(data, plans)
        digest = data.draw(st.sampled_from(["", plan.digest]))
        newest = max(p.version for p in self.play.snapshot.plans.values() if p.run_id == plan.run_id)

        def act(change: Change) -> object:
            return revise_plan(change, plan, draft, "", digest, "carla", self.play.catalog)

        if plan.state == "DRAFT":
            self._do(act, apart)
        else:
            self._refused(act, StaleVersion if digest and plan.version < newest else WrongState)

    @rule(data=st.data(), action=st.sampled_from(ACTIONS), apart=st.booleans())
    @precondition(lambda self: self.play.pending)
    def decide(self, data: st.DataObject, action: str, apart: bool) -> None:
        approval = _one_of(data, self.play.pending)
        decision = self._answer(approval, action, data.draw(st.sampled_from(["", "why"])))
        decision = replace(decision, decider=data.draw(st.sampled_from(["anna", "boris", "clara"])))
        if approval.kind == "TOOL_CALL" and action == "APPROVE":
            decision = replace(decision, remember=data.draw(scripted.wishes))
        if is_overdue(approval, self.play.now + 1):
            self._refused(partial(self._decide, approval, decision, ROLES), ApprovalAlreadyResolved)
        elif approval.terms.roles and data.draw(st.integers(0, 9)) == 9:
            self._refused(partial(self._decide, approval, decision, frozenset(["nobody"])), DeciderNotAllowed)
        elif self._is_excluded(approval, decision.decider):
            self._refused(partial(self._decide, approval, decision, ROLES), SelfApproval)
        elif action not in approval.allowed_actions:
            self._refused(partial(self._decide, approval, decision, ROLES), ActionNotAllowed)
        elif decision.remember is not None and not self._may_remember(approval):
            self._refused(partial(self._decide, approval, decision, ROLES), GrantNotOffered)
        elif self._is_wrong(approval, decision):
            self._refused(partial(self._decide, approval, decision, ROLES), InvalidInput)
        else:
            self._do(partial(self._decide, approval, decision, ROLES), apart)

    @rule(data=st.data(), apart=st.booleans())
    @precondition(lambda self: self.play.snapshot.grants)
    def revoke(self, data: st.DataObject, apart: bool) -> None:
        grant = _one_of(data, list(self.play.snapshot.grants.values()))
        if grant.end_time or grant.expire_time <= self.play.now:
            self._refused(lambda c: revoke_grant(c, grant, "anna", ""), WrongState)
        elif grant.expire_time > self.play.now + 1:
            self._do(lambda c: revoke_grant(c, grant, "anna", ""), apart)

    def _may_remember(self, approval: Approval) -> bool:
        """It is offered, and the policy is still the one by which it was asked."""
        policy = f"policy: {self.play.catalog.policy.digest}"
        return approval.may_remember and policy in approval.preimage.splitlines()

    def _is_wrong(self, approval: Approval, decision: Decision) -> bool:
        """It remembers what is not true of the call or what others have not voted for, or makes of the call what the
        policy denies by now."""
        wish = decision.remember
        if wish is not None and "!=" in wish.constraint:
            return True
        others = [v for v in approval.votes if v.remember != wish and (wish or v.voter == decision.decider)]
        if others and decision.action == "APPROVE":
            return True
        tool, rules = approval.tool or "write_file", self.play.catalog.policy.rules
        return decision.action == "EDIT" and any(r.effect == "DENY" and tool in r.tools for r in rules)

    def _decide(self, approval: Approval, decision: Decision, roles: frozenset[str], change: Change) -> object:
        said = replace(decision, decide_time=change.now)
        return decide(change, approval, said, self.play.catalog, roles, edited_artifact=EDITED)

    def _answer(self, approval: Approval, action: str, feedback: str = "") -> Decision:
        edited = '{"path": "edited.md", "id": 1234567890123456789}'
        decision = Decision(action, "anna", self.play.now, approval.digest, feedback)
        match approval.kind, action:
            case _, "REQUEST_CHANGES":
                return replace(decision, feedback=feedback or "smaller steps")
            case _, "RESPOND":
                return replace(decision, response_json='{"id": 1}')
            case "ARTIFACT", "EDIT":
                return replace(decision, edited_sha256=hashlib.sha256(EDITED).hexdigest())
            case _, "EDIT":
                return replace(decision, edited_arguments_json=edited)
            case "BUDGET", "APPROVE" if approval.votes:
                return replace(decision, new_limit=approval.votes[0].new_limit)
            case "BUDGET", "APPROVE":
                more = worked(self.play.run, self.play.now) + 5 * SECOND
                return replace(decision, new_limit=Budget(work_duration=more))
        return decision

    @rule(data=st.data(), action=st.sampled_from(["REPLAN", "REPLAN", "SKIP", "RETRY"]), apart=st.booleans())
    @precondition(lambda self: any(s.subtask_id and s.kind == "MODEL" for s in self.play.flying))
    def give_up_on_a_subtask(self, data: st.DataObject, action: str, apart: bool) -> None:
        """One of several fails for good while the others are wherever they are, and a person says what then."""
        step = _one_of(data, [s for s in self.play.flying if s.subtask_id and s.kind == "MODEL"])
        fault = Failure("FAULT", "it broke", "FATAL")
        self._report(Outcome(step.id, step.dispatch_number, "FAILED", failure=fault))
        for approval in self.play.pending:
            if (approval.kind, approval.subtask_id) != ("FAILURE", step.subtask_id):
                continue
            if not is_overdue(approval, self.play.now + 1):
                decision = replace(self._answer(approval, action, "why"), decider="dora")
                self._do(partial(self._decide, approval, decision, ROLES), apart)

    @rule(data=st.data())
    @precondition(lambda self: self.play.snapshot.approvals)
    def decide_what_is_settled_or_of_another_digest(self, data: st.DataObject) -> None:
        approval = _one_of(data, list(self.play.snapshot.approvals.values()))
        decision = Decision(approval.allowed_actions[0], "zoe", self.play.now, "another digest")
        standing = approval.state == "PENDING" and not is_overdue(approval, self.play.now)
        expected = DigestMismatch if standing else ApprovalAlreadyResolved
        self._refused(partial(self._decide, approval, decision, ROLES), expected)

    @rule(data=st.data(), apart=st.booleans(), really=st.integers(0, 3))
    @precondition(lambda self: self._open_runs)
    def cancel(self, data: st.DataObject, apart: bool, really: int) -> None:
        if really:
            return
        run_id = _one_of(data, self._open_runs)
        self._do(lambda c: cancel(c, run_id, "anna", ""), apart)

    # --- clients

    @rule(data=st.data(), client=st.sampled_from(["ide", "web"]), seconds=st.integers(1, 300), apart=st.booleans())
    @precondition(lambda self: self.play.ready)
    def claim(self, data: st.DataObject, client: str, seconds: int, apart: bool) -> None:
        step = _one_of(data, self.play.ready)
        if rules.may_have(step, client, self.play.now + 1):
            self._do(lambda c: claim_call(c, step, client, seconds * SECOND, "anna"), apart)
        else:
            self._refused(lambda c: claim_call(c, step, client, SECOND, "anna"), ClaimedByAnother)

    @rule(data=st.data(), client=st.sampled_from(["ide", "web", ""]), apart=st.booleans())
    @precondition(lambda self: self.play.ready)
    def hand_in(self, data: st.DataObject, client: str, apart: bool) -> None:
        step, result = _one_of(data, self.play.ready), data.draw(scripted.results)
        if rules.may_have(step, client, self.play.now + 1):
            self._do(lambda c: record_result(c, step, client, "anna", result), apart)
        else:
            self._refused(lambda c: record_result(c, step, client, "anna", result), ClaimedByAnother)

    @rule(data=st.data())
    @precondition(lambda self: any(s.kind == "TOOL" and s.state != "READY" for s in self.play.steps))
    def hand_in_what_nobody_wants(self, data: st.DataObject) -> None:
        step = _one_of(data, [s for s in self.play.steps if s.kind == "TOOL" and s.state != "READY"])
        self._refused(lambda c: record_result(c, step, "ide", "anna", ToolResult("late")), WrongState)

    # --- executors

    @rule(data=st.data(), steps=st.integers(1, 12))
    def go_on(self, data: st.DataObject, steps: int) -> None:
        """What usually happens: calls succeed, people agree, time passes."""
        for _ in range(steps):
            if self.play.flying and (not self.play.pending or data.draw(st.booleans())):
                self._finish(data, _one_of(data, self.play.flying))
            elif self.play.pending:
                self._agree(_one_of(data, self.play.pending), data.draw(scripted.true_wishes))
            elif self._reads:
                self.read_files(data)
            elif self.play.session.due_time:
                self.wait(True)
            elif (run := self.play.snapshot.run) is not None and run.state == "PAUSED":
                self._do(partial(resume, run_id=run.id, actor="anna", reason=""))

    def _is_excluded(self, approval: Approval, name: str) -> bool:
        """Whether they asked for it, or wrote the plan that is asked about."""
        plan = self.play.snapshot.plans.get(approval.plan_id) if approval.kind == "PLAN" else None
        return approval.terms.requester_excluded and name in (approval.requester, plan.author if plan else "")

    def _agree(self, approval: Approval, wish: Remember | None) -> None:
        """As many as it takes, unless it is too late; to be remembered where that is offered."""
        for who in ("boris", "clara", "dora", "emil"):
            approval = self.play.snapshot.approvals[approval.id]
            late = approval.state != "PENDING" or is_overdue(approval, self.play.now + 1)
            if not late and not self._is_excluded(approval, who):
                decision = replace(self._answer(approval, approval.allowed_actions[0]), decider=who)
                if self._may_remember(approval):
                    decision = replace(decision, remember=wish)
                self._do(partial(self._decide, approval, decision, ROLES))
        if self.play.snapshot.approvals[approval.id].state == "PENDING":
            self.wait(True)

    @property
    def _reads(self) -> dict[str, Reading]:
        """What the rules want read now, which changes nothing."""
        change = replace(self.play.change(), snapshot=deepcopy(self.play.snapshot))
        reconcile(change, self.play.world)
        return change.reads

    @rule(data=st.data())
    @precondition(lambda self: any(s.state == "VALIDATING" for s in self.play.snapshot.subtasks.values()))
    def read_files(self, data: st.DataObject) -> None:
        """Read twice by mistake, it is recorded once."""
        if not (reads := list(self._reads.values())):
            return
        reading = _one_of(data, reads)
        contents = [data.draw(scripted.found_files) for _ in reading.expected]
        found = [
            FoundFile(expected, None if content is None else check_bytes(expected, content), "is not there")
            for expected, content in zip(reading.expected, contents, strict=True)
        ]
        gathered = Gathered(reading.subtask_id, reading.answer_id, tuple(found))
        self._do(lambda c: take_files(c, gathered))
        change = self.play.change()
        assert not take_files(change, gathered)
        assert change.is_empty

    @rule(data=st.data())
    @precondition(lambda self: self.play.flying)
    def go_wrong(self, data: st.DataObject) -> None:
        tools = [step for step in self.play.flying if step.kind == "TOOL"]
        self._go_wrong(data, _one_of(data, tools or self.play.flying))

    @rule(kind=st.sampled_from(["FAILED", "FAILED", "LOST"]), times=st.integers(3, 16))
    @precondition(lambda self: self.play.flying)
    def break_down(self, kind: str, times: int) -> None:
        """Nothing works any more, again and again, for a while."""
        fault = Failure("FAULT", "it broke", "RETRYABLE")
        for _ in range(times):
            for step in self.play.flying[:1]:
                self._report(Outcome(step.id, step.dispatch_number, kind, failure=fault))
            if not self.play.flying and self.play.session.due_time:
                self.wait(True)

    def _finish(self, data: st.DataObject, step: Step) -> None:
        outcome = Outcome(step.id, step.dispatch_number, "SUCCEEDED", usage=data.draw(scripted.usages))
        if data.draw(st.integers(0, 9)) == 9:
            self._go_wrong(data, step)
        elif step.kind == "TOOL":
            self._report(replace(outcome, result=data.draw(scripted.results)))
        else:
            purpose = self.play.snapshot.attempts[step.attempt_id].purpose
            self._report(replace(outcome, reply=data.draw(scripted.replies(purpose))))

    def _go_wrong(self, data: st.DataObject, step: Step) -> None:
        kind = data.draw(st.sampled_from(["LOST", "LOST", "FAILED", "FAILED", "REFUSED", "UNKNOWN"]))
        outcome = Outcome(step.id, step.dispatch_number, kind, failure=data.draw(scripted.failures))
        self._report(replace(outcome, effect_possible=kind == "FAILED" and data.draw(st.booleans())))

    @rule(data=st.data())
    @precondition(lambda self: self.past)
    def report_again(self, data: st.DataObject) -> None:
        """A duplicate, or one of another dispatch than the one in flight, changes nothing."""
        outcome = _one_of(data, self.past)
        step = self.play.snapshot.steps.get(outcome.step_id)
        if step and (step.state, step.dispatch_number) == ("DISPATCHED", outcome.dispatch_number):
            return
        change = self.play.change()
        assert not fold(change, outcome)
        assert change.is_empty

    @rule()
    def reload(self) -> None:
        """What another replica would load: open runs with their plans, and the active run whole."""
        snapshot = self.play.snapshot
        active = snapshot.session.active_run_id
        snapshot.runs = {i: r for i, r in snapshot.runs.items() if r.state not in rules.ENDED}
        snapshot.plans = {i: p for i, p in snapshot.plans.items() if p.run_id in snapshot.runs}
        snapshot.subtasks = {i: s for i, s in snapshot.subtasks.items() if s.run_id in snapshot.runs}
        snapshot.attempts = {i: a for i, a in snapshot.attempts.items() if a.run_id == active}
        snapshot.steps = {i: s for i, s in snapshot.steps.items() if s.run_id == active}
        snapshot.approvals = {i: a for i, a in snapshot.approvals.items() if a.run_id == active}
        snapshot.grants = {i: g for i, g in snapshot.grants.items() if not g.end_time}
        snapshot.artifacts = {i: a for i, a in snapshot.artifacts.items() if a.run_id == active}
        self._do(None)

    @rule(has_room=st.booleans())
    def change_room(self, has_room: bool) -> None:
        self.play.has_room = has_room
        self._do(None)

    @rule(effect=st.sampled_from(["DENY", "ASK", ""]), tool=st.sampled_from([*TOOLS, "open_tab"]))
    def read_another_catalog(self, effect: str, tool: str) -> None:
        """As after a restart: its policy has one rule more, or is the first one again."""
        self._read_policy(effect, tool)
        self._do(None)

    @rule(data=st.data(), effect=st.sampled_from(["DENY", "ASK"]))
    @precondition(lambda self: any(s.kind == "TOOL" and s.state == "APPROVED" for s in self.play.steps))
    def think_again_about_what_waits(self, data: st.DataObject, effect: str) -> None:
        """Another catalog speaks of a call that is allowed and has not begun; then there is room for it."""
        waiting = [s for s in self.play.steps if s.kind == "TOOL" and s.state == "APPROVED"]
        self._read_policy(effect, _one_of(data, waiting).tool)
        self.play.has_room = self.play.may_run = True
        self._do(None)

    def _read_policy(self, effect: str, tool: str) -> None:
        own = self.play.catalog.policy
        first = tuple(rule for rule in own.rules if rule.name != "one-more")
        more = (Rule("one-more", effect, (tool,)),) if effect else ()
        self.play.catalog.policy = replace(own, digest=f"{effect} {tool}", rules=(*more, *first))

    @rule(may_run=st.booleans())
    def meet_the_tenants_limit(self, may_run: bool) -> None:
        self.play.may_run = may_run
        self._do(None)

    @rule(until_due=st.booleans())
    def wait(self, until_due: bool) -> None:
        due = self.play.session.due_time
        self.play.now = max(self.play.now, due) if until_due else self.play.now + SECOND // 10
        self._do(None)

    # --- how a change is made, and what each must hold to

    @property
    def _open_runs(self) -> list[str]:
        return [r.id for r in self.play.snapshot.runs.values() if r.state not in rules.ENDED]

    def _report(self, outcome: Outcome) -> None:
        self.past.append(outcome)
        self._do(lambda c: fold(c, outcome))

    def _do(self, command: Command | None, apart: bool = False) -> None:
        """A command and the rules in one change, or, `apart`, in two: somebody else owned the session."""
        if command and apart:
            self._write([command])
            command = None
        self._write([command] if command else [], self._reconcile)
        self._nothing_more_is_due()
        self._everything_promised_holds()

    def _reconcile(self, change: Change) -> None:
        reconcile(change, self.play.world)

    def _write(self, commands: list[Command], *then: Command) -> None:
        play = self.play
        play.now += 1
        change = play.change()
        before = {step.id: step for step in play.steps}
        running = rules.count_running(play.snapshot)
        for act in (*commands, *then):
            act(change)
        # What a pass prepared for a step nobody has room for is not written until something happens.
        assert change.events or not change.as_change_set().rows, "rows without an event"
        assert change.running == rules.count_running(play.snapshot) - running
        assert play.may_run or change.running <= 0, "more run than may"
        self._check_numbers(change, before)
        rules.check_dispatches(play.snapshot, change)
        for event in change.events:
            if isinstance(event, ToolCallReady) and play.snapshot.steps[event.step_id].state == "READY":
                rules.check_handed_over(play.snapshot, event, change.now, change.policy)
        play.keep(change)
        for event in change.events:
            self.history.follow(event)
            if isinstance(event, RunFinished) and event.from_state != "CREATED":
                self.last_ended = event.state

    def _check_numbers(self, change: Change, before: dict[str, Step]) -> None:
        """Each dispatch has the next number of its step, and a call that must not happen twice has one alone, and one
        more for each time that a person said it did not happen."""
        assert len(set(change.starts)) == len(change.starts)
        for step_id in change.starts:
            step, old = self.play.snapshot.steps[step_id], before.get(step_id)
            assert step.dispatch_number == (old.dispatch_number if old else 0) + 1
            assert old is None or old.not_before_time <= change.now, "before its time"
            if step.kind == "TOOL" and step.side_effect not in rules.SAFE_TO_REPEAT:
                said = [o for o in self.past if o.step_id == step_id and o.kind not in ("REFUSED", "UNKNOWN")]
                for outcome in said:
                    rules.check_said_not_to_have_happened(self.play.snapshot, step, outcome.dispatch_number)

    def _nothing_more_is_due(self) -> None:
        session = self.play.session
        change = self.play.change()
        reconcile(change, self.play.world)
        assert (change.events, change._rows, change.starts) == ([], {}, [])
        assert self.play.session == session

    def _refused(self, command: Command, error: type[Exception]) -> None:
        before, change = deepcopy(self.play.snapshot), self.play.change()
        try:
            command(change)
        except error:
            assert change.is_empty
            assert self.play.snapshot == before
        else:
            raise AssertionError(f"not refused with {error.__name__}")

    def _everything_promised_holds(self) -> None:
        snapshot = self.play.snapshot
        self.history.check(snapshot)
        rules.check_ended_runs(snapshot)
        rules.check_agents(snapshot)
        rules.check_attempts(snapshot)
        rules.check_retries(snapshot)
        rules.check_order(snapshot)
        rules.check_results(snapshot)
        rules.check_questions(snapshot)
        rules.check_artifacts(snapshot)
        rules.check_liveness(snapshot)
        assert not (self.play.may_run and snapshot.session.queue_time), "it waits, and there is room"
        assert snapshot.session.state == rules.session_state(snapshot, snapshot.run, self.last_ended, self.closed)
        for step in self.play.flying:
            if step.kind == "MODEL":
                rules.check_conversation(self.play.seen(step).messages)


TestAnySession = AnySession.TestCase
