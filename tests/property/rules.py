"""What must always hold of a session, written down independently of the rules that make it hold."""

import json
from collections import Counter, defaultdict
from fnmatch import fnmatchcase
from itertools import pairwise

from orchestrator.domain.catalog import Policy
from orchestrator.domain.change import Change
from orchestrator.domain.digests import sha256
from orchestrator.domain.events import (
    ApprovalRequested,
    ApprovalResolved,
    Event,
    MessageCreated,
    PlanDrafted,
    PlanStateChanged,
    RunFinished,
    RunQueued,
    RunStarted,
    RunStateChanged,
    SessionStateChanged,
    StepFinished,
    StepStarted,
    SubtaskStateChanged,
    ToolCallClaimed,
    ToolCallReady,
    ToolResultRecorded,
)
from orchestrator.domain.records import Approval, Attempt, RetryPolicy, Run, Step
from orchestrator.domain.retries import MAX_LOSSES, is_quarantined
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.transcript import ChatMessage
from orchestrator.domain.worktime import is_used_up

ENDED = ("COMPLETED", "FAILED", "CANCELLED")
STEP_ENDED = ("SUCCEEDED", "FAILED", "REJECTED", "EDITED", "CANCELLED")
SAFE_TO_REPEAT = ("READ_ONLY", "IDEMPOTENT")


def session_state(snapshot: Snapshot, run: Run | None, last_ended: str, closed: bool = False) -> str:
    """The session's state as a function of its active run, that run's plan and its open FAILURE questions."""
    if closed:
        return "CLOSED"
    if run is None:
        return "COMPLETED" if last_ended == "COMPLETED" else "IDLE"
    if any(a.kind == "FAILURE" and a.state == "PENDING" for a in snapshot.approvals.values() if a.run_id == run.id):
        return "ERROR_HANDLING"
    if run.route == "":
        return "CLASSIFY"
    if run.route == "ATOMIC":
        return "EXECUTION"
    plan = snapshot.plans.get(run.plan_id)
    if plan is None:
        begun = any(a.purpose == "PLANNING" and a.run_id == run.id for a in snapshot.attempts.values())
        decisions = [a.decision for a in snapshot.approvals.values() if a.run_id == run.id]
        anew = any(decision is not None and decision.action == "REPLAN" for decision in decisions)
        return "ARCHITECT_PLANNING" if begun or anew else "PLAN_REQUIRED"
    if plan.state == "SUPERSEDED":
        return "ARCHITECT_PLANNING"
    return "PLAN_REVIEW" if plan.state == "DRAFT" else "PLAN_EXECUTION"


def check_dispatches(snapshot: Snapshot, change: Change) -> None:
    """What is started now may be started: approved where it had to be, once, and of an approved plan."""
    for step_id in change.starts:
        step = snapshot.steps[step_id]
        run = snapshot.runs[step.run_id]
        assert snapshot.session.active_run_id == run.id or run.state in ENDED
        assert run.pause is None, "a step was started though a pause was asked"
        plan = snapshot.plans.get(run.plan_id)
        if plan is not None:
            assert plan.state not in ("DRAFT", "APPROVED", "REJECTED"), "a step of a plan nobody approved"
        if step.subtask_id:
            of = snapshot.plans[snapshot.subtasks[step.subtask_id].plan_id]
            assert (of, of.state) == (plan, "IN_PROGRESS"), "a step of another version than was approved"
        assert not is_used_up(run, change.now), "the run has worked as long as it may"
        if step.kind == "TOOL":
            check_policy(step, change.policy)
        if step.kind == "TOOL" and (step.policy_rule == "changes" or step.doubt_number or not step.model_step_id):
            if step.grant_id and not step.doubt_number:
                check_granted(snapshot, step, change.now)
            else:
                check_consumed(snapshot, step, change.now)


def check_granted(snapshot: Snapshot, step: Step, now: int) -> None:
    """Somebody said so, for this tool and these arguments, and it stood when the call first began."""
    grant = snapshot.grants.get(step.grant_id)
    if grant is None:
        assert step.dispatch_number > 1, "it ended, and was let go"
        return
    assert (step.approval_id, grant.tool, grant.schema_digest) == ("", step.tool, step.schema_digest)
    if step.dispatch_number == 1:
        assert (grant.end_time, grant.expire_time > now) == (0, True), "a grant that has ended"
    if "sha256" in grant.constraint:
        assert sha256(step.arguments_json) in grant.constraint
    else:
        assert json.loads(step.arguments_json)["path"] == "notes.md"
    assert grant.uses


def check_policy(step: Step, policy: Policy) -> None:
    """As it is at this moment: what it denies never begins, and what it asks about only if somebody said yes."""
    says = {rule.effect for rule in policy.rules if any(fnmatchcase(step.tool, glob) for glob in rule.tools)}
    assert "DENY" not in says, "begun though it is denied by now"
    if "ASK" in says and step.dispatch_number <= 1:
        assert step.approval_id or step.grant_id, "begun though it asks by now, and nobody said yes"


def check_handed_over(snapshot: Snapshot, event: ToolCallReady, now: int, policy: Policy) -> None:
    """What a client may begin, policy allows or a person has approved; no executor has it."""
    step = snapshot.steps[event.step_id]
    check_policy(step, policy)
    assert step.tool in {tool.name for tool in snapshot.session.client_tools}
    assert (step.dispatch_number > step.doubt_number, step.executor_instance) == (True, "")
    assert (event.arguments_json, event.deadline_time) == (step.arguments_json, step.deadline_time)
    if step.policy_rule != "trusted" or step.doubt_number:
        check_consumed(snapshot, step, now)


def check_consumed(snapshot: Snapshot, step: Step, now: int) -> None:
    approval = snapshot.approvals[step.approval_id]
    assert approval.state == "RESOLVED"
    assert approval.decision is not None
    assert approval.digest == approval.decision.digest == sha256(approval.preimage)
    if approval.kind == "ARTIFACT":
        made = snapshot.artifacts[approval.decision.edited_artifact_id]
        assert (made.replaces_artifact_id, step.doubt_number) == (approval.artifact_id, 0)
        assert (step.tool, approval.decision.action) == ("write_file", "EDIT")
        assert approval.decision.edited_digest == sha256(step.approval_preimage)
    elif approval.decision.action == "EDIT":
        assert (approval.kind, step.doubt_number) == ("TOOL_CALL", 0)
        assert (approval.step_id, snapshot.steps[approval.step_id].state) == (step.replaces_step_id, "EDITED")
        assert approval.decision.edited_arguments_json == step.arguments_json
        assert approval.decision.edited_digest == sha256(step.approval_preimage)
    else:
        expected = ("IN_DOUBT", "RETRY") if step.doubt_number else ("TOOL_CALL", "APPROVE")
        assert (approval.kind, approval.decision.action) == expected
        assert (approval.step_id, approval.arguments_json) == (step.id, step.arguments_json)
        assert step.approval_preimage == approval.preimage
    assert {f"step: {step.id}", f"arguments_sha256: {sha256(step.arguments_json)}"} <= set(
        step.approval_preimage.splitlines()
    )
    assert 0 < approval.consume_time <= now
    users = [s for s in snapshot.steps.values() if s.approval_id == approval.id and s.start_time]
    assert [s.id for s in users] == [step.id]


def check_said_not_to_have_happened(snapshot: Snapshot, step: Step, dispatch_number: int) -> None:
    """A person said so of this dispatch, one RETRY of their own for it, and it is surely over by now."""
    answers = [
        approval
        for approval in snapshot.approvals.values()
        if approval.kind == "IN_DOUBT"
        and approval.step_id == step.id
        and f"dispatch: {dispatch_number}" in approval.preimage.splitlines()
    ]
    assert [a.decision and a.decision.action for a in answers] == ["RETRY"], "it may have happened"
    [answer] = answers
    assert answer.consume_time
    assert step.not_before_time <= answer.consume_time


def check_ended_runs(snapshot: Snapshot) -> None:
    """Nothing of a run outlives it."""
    for run in (r for r in snapshot.runs.values() if r.state in ENDED):
        assert run.end_time
        assert all(s.state in STEP_ENDED for s in snapshot.steps.values() if s.run_id == run.id)
        assert all(a.state != "PENDING" for a in snapshot.approvals.values() if a.run_id == run.id)
        assert all(a.state != "RUNNING" for a in snapshot.attempts.values() if a.run_id == run.id)
        done = ("SUCCEEDED", "SKIPPED", "CANCELLED")
        assert all(s.state in done for s in snapshot.subtasks.values() if s.run_id == run.id)
        assert all(p.state in (*ENDED, "REJECTED", "SUPERSEDED") for p in snapshot.plans.values() if p.run_id == run.id)


def check_agents(snapshot: Snapshot) -> None:
    """A subtask keeps its agent from its first step to its last."""
    for step in snapshot.steps.values():
        assert step.agent == snapshot.attempts[step.attempt_id].agent
        if step.subtask_id:
            assert step.agent == snapshot.subtasks[step.subtask_id].agent


def check_attempts(snapshot: Snapshot) -> None:
    """Tries at one piece of work of one run are numbered 1, 2, 3 …, and only a later one is told of an earlier."""
    tries: dict[tuple[str, str, str], list[Attempt]] = defaultdict(list)
    for attempt in snapshot.attempts.values():
        tries[attempt.run_id, attempt.purpose, attempt.subtask_id].append(attempt)
    for numbered in tries.values():
        assert [a.number for a in numbered] == list(range(1, len(numbered) + 1))
        assert all(bool(a.feedback) == (a is not numbered[0] or bool(a.heeds_approval_id)) for a in numbered)
        for attempt, following in pairwise(numbered):
            assert attempt.state == "FAILED" or following.heeds_approval_id, "a second time by itself"
    heeded = [a.heeds_approval_id for a in snapshot.attempts.values() if a.heeds_approval_id]
    assert len(set(heeded)) == len(heeded), "one decision, two attempts"


def check_retries(snapshot: Snapshot) -> None:
    """Attempts follow by themselves only after what may pass, not too often, and what went wrong adds up."""
    run = snapshot.run
    if run is None:
        return
    attempts = [a for a in snapshot.attempts.values() if a.run_id == run.id]
    steps = [s for s in snapshot.steps.values() if s.run_id == run.id]
    in_a_row: Counter[tuple[str, str]] = Counter()
    began: dict[tuple[str, str], int] = {}
    for attempt in sorted(attempts, key=lambda a: a.number):
        work = (attempt.purpose, attempt.subtask_id)
        assert attempt.create_time >= began.get(work, 0), "before its time"
        began[work] = attempt.retry_time
        if attempt.retry_time:
            assert (attempt.state, attempt.failure.disposition) == ("FAILED", "RETRYABLE")
            assert attempt.purpose != "ROUTING"
        in_a_row[work] = in_a_row[work] + 1 if attempt.retry_time else 0
        assert in_a_row[work] < RetryPolicy().max_attempts
        assert attempt.losses == sum(s.losses for s in steps if s.attempt_id == attempt.id)
        if any(is_quarantined(s) for s in steps if s.attempt_id == attempt.id):
            assert not attempt.retry_time, "tried again with what kills executors"
    for step in steps:
        if step.kind == "MODEL" or step.side_effect in SAFE_TO_REPEAT:  # the others a person has repeated
            assert step.losses < MAX_LOSSES or is_quarantined(step) or step.state == "CANCELLED"
    for subtask in (s for s in snapshot.subtasks.values() if s.run_id == run.id):
        assert subtask.losses == sum(a.losses for a in attempts if a.subtask_id == subtask.id)
        assert subtask.attempts == sum(1 for a in attempts if a.subtask_id == subtask.id)
    counted = (run.retries, run.faults, run.losses)
    retried = sum(1 for a in attempts if a.retry_time)
    assert counted == (retried, sum(s.faults for s in steps), sum(s.losses for s in steps))


def check_order(snapshot: Snapshot) -> None:
    """Subtasks wait for what they depend on, and run no more at once than the plan allows."""
    running: Counter[str] = Counter()
    for subtask in snapshot.subtasks.values():
        states = {s.key: s.state for s in snapshot.subtasks.values() if s.plan_id == subtask.plan_id}
        if subtask.state not in ("PENDING", "CANCELLED"):
            assert all(states[key] in ("SUCCEEDED", "SKIPPED") for key in subtask.depends_on)
        running[subtask.plan_id] += subtask.state == "RUNNING"
    for plan_id, count in running.items():
        assert count <= snapshot.plans[plan_id].parallel_limit


def check_results(snapshot: Snapshot) -> None:
    """Each call of a reply has one step, in the reply's order; each call that has ended has one result."""
    steps: dict[str, list[Step]] = defaultdict(list)
    for step in snapshot.steps.values():
        if step.kind == "TOOL":
            if step.model_step_id:  # else a person's edit wrote it
                steps[step.model_step_id].append(step)
            # A call that a person edited has its result from the one that took its place.
            assert (step.result is not None) == (step.state in STEP_ENDED and step.state != "EDITED")
    for model_id, calls in steps.items():
        reply = snapshot.steps[model_id].reply
        assert reply is not None
        standing = [c.call_id for c in calls if c.state != "EDITED"]
        assert sorted(standing) == sorted(c.call_id for c in reply.tool_calls)
        assert len(set(standing)) == len(standing)
        replaced = [c.replaces_step_id for c in calls if c.replaces_step_id]
        assert sorted(replaced) == sorted(c.id for c in calls if c.state == "EDITED")


def check_conversation(messages: tuple[ChatMessage, ...]) -> None:
    """Every call is followed at once by its one result, and nothing else is."""
    assert messages[0].role == "SYSTEM"
    open_calls: list[str] = []
    for message in messages:
        if message.role == "TOOL":
            assert open_calls.pop(0) == message.call_id
            continue
        assert not open_calls
        open_calls = [c.call_id for c in message.tool_calls]
    assert not open_calls
    assert messages[-1].role in ("USER", "TOOL"), "the model has nothing to answer to"


def count_running(snapshot: Snapshot) -> int:
    """What counts against the limit of a tenant's runs: those being worked on, and no parked ones."""
    return sum(run.state == "RUNNING" for run in snapshot.runs.values())


def check_liveness(snapshot: Snapshot) -> None:
    """An open run is on its way, waits for a timer, or waits for a person, and the session's row says which."""
    session, run = snapshot.session, snapshot.run
    queued = [r for r in snapshot.runs.values() if r.state == "CREATED"]
    waits = [r.state for r in snapshot.runs.values() if r.waits_for]
    assert len(waits) <= 1
    assert bool(waits) == bool(session.queue_time)
    if run is None:
        assert bool(queued) == bool(waits)
        assert (session.runnable, session.due_time, session.settled) == (False, 0, not waits)
        return
    flying = any(s.state == "DISPATCHED" for s in snapshot.steps.values())
    asked = any(a.state == "PENDING" for a in snapshot.approvals.values())
    if run.pause is None and not waits and not _is_out_of_time(snapshot, run):
        # Files that are to be read keep the session in somebody's hands as a call does.
        flying = flying or any(s.state == "VALIDATING" for s in snapshot.subtasks.values() if s.run_id == run.id)
    assert session.runnable == flying
    assert session.settled == (run.state in ("WAITING", "PAUSED"))
    assert bool(run.work_start_time) == (run.state in ("RUNNING", "RESUMED") and not run.waits_for)
    people = [time for a in snapshot.approvals.values() if a.state == "PENDING" for time in times_of(a)]
    assert not people or 0 < session.due_time <= min(people), "nobody looks when a question expires"
    if run.pause is not None:
        assert (run.state == "PAUSED") == (not flying)
        assert session.due_time == min(people, default=0)
        return
    ready = [s.deadline_time for s in snapshot.steps.values() if s.state == "READY"]
    assert not ready or 0 < session.due_time <= min(ready), "a client's silence must end"
    if waits:
        assert run.state == waits[0] == "RESUMED"
        return
    assert flying or session.due_time or asked, "stuck"
    asked_for_more = any(a.kind == "BUDGET" and a.state == "PENDING" for a in snapshot.approvals.values())
    if run.work_start_time and run.budget.work_duration and not asked_for_more:
        end = run.work_start_time + run.budget.work_duration - run.work_duration
        assert 0 < session.due_time <= end, "nobody looks when its time is up"
    if ready or session.due_time in people:
        assert run.state == "WAITING" or flying or _may_start(snapshot)
    else:
        assert (run.state == "WAITING") == (asked and not flying and not session.due_time)


def _is_out_of_time(snapshot: Snapshot, run: Run) -> bool:
    asked = [a for a in snapshot.approvals.values() if a.kind == "BUDGET" and a.state == "PENDING"]
    return any("limit: work_duration" in a.preimage.splitlines() for a in asked if a.run_id == run.id)


def times_of(approval: Approval) -> list[int]:
    """When something happens to a question though nobody answers."""
    return [time for time in (approval.expire_time, approval.remind_time) if time]


def check_artifacts(snapshot: Snapshot) -> None:
    """What a subtask that succeeded leaves is whole, valid, and has passed every gate as these very bytes."""
    for subtask in (s for s in snapshot.subtasks.values() if s.state == "SUCCEEDED" and not s.carried_subtask_id):
        if snapshot.session.active_run_id != subtask.run_id:
            continue  # what its gates were asked is not loaded any more
        for expected in subtask.artifacts:
            mine = [a for a in snapshot.artifacts.values() if (a.subtask_id, a.name) == (subtask.id, expected.name)]
            last = max(mine, key=lambda a: a.create_time)
            assert last.valid
            for gate in subtask.gates:
                at = [a for a in snapshot.approvals.values() if (a.subtask_id, a.gate) == (subtask.id, gate)]
                yes = [a.artifact_id for a in at if a.decision and a.decision.action == "APPROVE"]
                made = [a.decision.edited_artifact_id for a in at if a.decision]
                assert last.id in (*yes, *made), "past a gate that it did not pass"
    for approval in (a for a in snapshot.approvals.values() if a.kind == "ARTIFACT"):
        artifact = snapshot.artifacts[approval.artifact_id]
        assert {f"sha256: {artifact.sha256}", f"gate: {approval.gate}"} <= set(approval.preimage.splitlines())
        if approval.state == "PENDING":
            assert snapshot.subtasks[approval.subtask_id].state == "AWAITING_APPROVAL"


def check_questions(snapshot: Snapshot) -> None:
    """Nobody decides who may not, too few decide nothing, and what expires was not answered."""
    for approval in snapshot.approvals.values():
        won, terms, voters = approval.decision, approval.terms, [v.voter for v in approval.votes]
        assert (won is not None) == (approval.state == "RESOLVED")
        assert len(set(voters)) == len(voters) <= max(terms.quorum, 1)
        if approval.state == "EXPIRED":
            assert 0 < approval.expire_time <= approval.resolve_time
        if won is None:
            assert len(voters) < max(terms.quorum, 1)
            continue
        assert not 0 < approval.expire_time <= won.decide_time
        assert not (terms.requester_excluded and won.decider == approval.requester)
        if terms.quorum > 1 and (won.action == "APPROVE" or (approval.kind, won.action) == ("IN_DOUBT", "RETRY")):
            assert (len(voters), voters[-1]) == (terms.quorum, won.decider)


def _may_start(snapshot: Snapshot) -> bool:
    """Something waits for room or for its time."""
    return (
        any(s.state in ("PENDING", "APPROVED") for s in snapshot.steps.values())
        or any(a.retry_time > 0 for a in snapshot.attempts.values())
        or any(s.not_before_time > 0 for s in snapshot.subtasks.values())
    )


def may_have(step: Step, client: str, now: int) -> bool:
    """Whether the client may claim or answer the call."""
    return step.lease_expire_time <= now or step.client_id == client


class History:
    """States as the events alone tell them, to be compared with the rows."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.flying: dict[str, int] = {}
        self.answered: dict[str, bool] = {}  # a client's calls, by step: whether it has a result

    def follow(self, event: Event) -> None:
        match event:
            case SessionStateChanged():
                self._move("session", event.from_state, event.to_state)
            case RunQueued() if event.waits_for:
                assert self.states.setdefault(event.run_id, "CREATED") in ("CREATED", "RESUMED")
            case RunQueued():
                self.states[event.run_id] = "CREATED"
            case RunStarted():
                assert self.states.get(event.run_id, "CREATED") == "CREATED"
                self.states[event.run_id] = "RUNNING"
            case RunStateChanged():
                self._move(event.run_id, event.from_state, event.to_state)
            case RunFinished():
                self._move(event.run_id, event.from_state, event.state)
            case PlanDrafted():
                assert event.plan.state == "DRAFT"
                assert all((s.state == "PENDING") == (not s.carried_subtask_id) for s in event.subtasks)
                self.states |= {event.plan.id: "DRAFT"} | {s.id: s.state for s in event.subtasks}
            case PlanStateChanged():
                self._move(event.plan_id, event.from_state, event.to_state)
            case SubtaskStateChanged():
                self._move(event.subtask_id, event.from_state, event.to_state)
            case ApprovalRequested():
                self.states[event.approval.id] = "PENDING"
            case ApprovalResolved():
                self._move(event.approval_id, "PENDING", event.state)
            case StepStarted():
                assert event.step_id not in self.flying
                self.flying[event.step_id] = event.dispatch_number
            case StepFinished():
                assert self.flying.pop(event.step_id, 0) in (0, event.dispatch_number)
            case ToolCallReady():
                assert not self.answered.get(event.step_id)  # it may be handed over again, but not after a result
                self.answered[event.step_id] = False
            case ToolCallClaimed():
                assert not self.answered[event.step_id]
            case ToolResultRecorded():
                assert not self.answered[event.step_id]
                self.answered[event.step_id] = True
            case MessageCreated():
                self.states[event.message.id] = "CREATED"
            case _:
                pass

    def _move(self, subject: str, source: str, to: str) -> None:
        assert self.states.get(subject, "IDLE" if subject == "session" else "") == source
        self.states[subject] = to

    def check(self, snapshot: Snapshot) -> None:
        assert self.states.get("session", "IDLE") == snapshot.session.state
        for table in (snapshot.runs, snapshot.plans, snapshot.subtasks, snapshot.approvals):
            for row in table.values():
                assert self.states[row.id] == row.state
        assert set(snapshot.messages) <= set(self.states)
        flying = {s.id: s.dispatch_number for s in snapshot.steps.values() if s.state == "DISPATCHED"}
        assert flying == self.flying
