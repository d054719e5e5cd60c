"""Removes each guard that a promise stands on, one at a time in a copy of the checkout, and sees a test go red.

A guard that can be removed with every test green is not tested: the script says so and fails. So it does when a
guard is not found where the table says (then the table is out of date), or when a test is red with all guards in place.
Usage: python scripts/guards.py [words of a guard's name …]
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATEMENT, LEDGER = "orchestrator/store/statement.py", "executor/ledger.py"
DOMAIN, UNIT = "orchestrator/domain", "tests/unit/domain"
ENGINE = "orchestrator/engine"
LIMIT_SECONDS = 300.0
GREEN, RED = "green", "red"


@dataclass(frozen=True)
class Guard:
    """`text` of `file`, which stands there once, becomes `without`; then one of the `tests` must fail."""

    name: str
    file: str
    text: str
    without: str
    tests: tuple[str, ...]  # run together, in this order; a table entry of a moved guard is for its mover to mend

    def is_found_in(self, root: Path) -> bool:
        return (root / self.file).read_text().count(self.text) == 1


GUARDS = (
    Guard(
        "a write names its epoch",
        STATEMENT,
        "AND (input.owner = '' OR (s.owner = input.owner AND s.epoch = input.epoch))",
        "",
        ("tests/integration/store/test_writer.py",),
    ),
    Guard(
        "a write names the sequence it was made against",
        STATEMENT,
        "AND s.last_sequence = input.expected_sequence",
        "",
        ("tests/integration/store/test_writer.py",),
    ),
    Guard(
        "a live owner is not robbed",
        STATEMENT,
        "AND (input.claim_for = '' OR s.owner IN ('', input.claim_for) OR NOT EXISTS (\n"
        "            SELECT FROM lease WHERE lease.owner = s.owner AND lease.expire_time > assent_now()))",
        "",
        ("tests/integration/store/test_writer.py",),
    ),
    Guard(
        "a repeated request is not carried out again",
        STATEMENT,
        '{"AND NOT input.repeated" if requests else ""}',
        "",
        ("tests/integration/store/test_writer.py",),
    ),
    Guard(
        "a request id repeated with other content is refused",
        "orchestrator/operations/commanding.py",
        "if (stored.method, stored.fingerprint) != (caller.method, caller.fingerprint):",
        "if False:",
        ("tests/integration/orchestrator/test_repeats.py",),
    ),
    Guard(
        "one change set of a session in a batch or in flight",
        "orchestrator/store/writer.py",
        "    return (key,) if request is None else (key, (",
        "    key = ('unique', id(change_set))\n    return (key,) if request is None else (key, (",
        ("tests/integration/store/test_writer.py", "tests/integration/store/test_outages.py"),
    ),
    Guard(
        "poison is isolated",
        "orchestrator/store/committer.py",
        "elif len(batch) > 1:",
        "elif False:",
        ("tests/integration/store/test_writer.py",),
    ),
    Guard(
        "no more of a tenant's runs are worked on than may be",
        STATEMENT,
        '{"AND room.is_there" if counted else ""}',
        "",
        ("tests/integration/store/test_counting.py",),
    ),
    Guard(
        "who comes new does not go before those who wait",
        STATEMENT,
        "AND (locked.queue_time > 0 OR NOT EXISTS (",
        "AND (true OR NOT EXISTS (",
        ("tests/integration/store/test_counting.py",),
    ),
    Guard(
        "a run that is over in its batch is tried without it",
        "orchestrator/store/committer.py",
        "again = over if len(over) < len(batch) else []",
        "again: list[Item] = []",
        ("tests/integration/store/test_counting.py",),
    ),
    Guard(
        "only closed sessions are deleted",
        "orchestrator/store/erasing.py",
        "AND id = $2 AND state = 'CLOSED' FOR UPDATE",
        "AND id = $2 FOR UPDATE",
        ("tests/integration/store/test_retention.py",),
    ),
    Guard(
        "what is not finished is kept however old",
        "orchestrator/store/retention.py",
        "AND s.active_run_id = '' AND NOT s.runnable\n        AND s.due_time = 0 AND s.queue_time = 0 AND",
        "AND",
        ("tests/integration/store/test_retention.py",),
    ),
    Guard(
        "unknown is written down before it is said",
        LEDGER,
        "        self._tombstones[ref.step_id] = max(before, (ref.epoch, ref.dispatch))\n",
        "",
        ("tests/integration/executor/test_reattachment.py",),
    ),
    Guard(
        "a refusal for what was kept of a session is made sure of",
        "orchestrator/operations/commanding.py",
        "    except (DomainError, NotInSnapshot):\n        return None\n",
        "    finally:\n        pass\n",
        ("tests/unit/operations/test_commanding.py",),
    ),
    Guard(
        "that nothing is to be done is made sure of",
        "orchestrator/operations/commanding.py",
        "return attempt if attempt.changes else None",
        "return attempt",
        ("tests/unit/operations/test_commanding.py",),
    ),
    Guard(
        "an executor is told to forget a step whose last dispatch went to another",
        "orchestrator/store/queries.py",
        "AND body::json->>'executor_instance' = $2",
        "AND $2::text IS NOT NULL",
        ("tests/integration/store/test_queries.py",),
    ),
    Guard(
        "an outcome that nobody records is told again",
        "executor/servicer.py",
        "if self._ledger.waits_to_be_recorded(_UNRECORDED_SECONDS):",
        "if False:",
        ("tests/integration/executor/test_reattachment.py",),
    ),
    Guard(
        "a start that is not newer is refused",
        LEDGER,
        "if (ref.epoch, ref.dispatch) <= newest:",
        "if False:",
        ("tests/integration/executor/test_reattachment.py",),
    ),
    Guard(
        "a step that is known is reattached, not started",
        LEDGER,
        """        held = self._held.get(ref.step_id)
        if held is not None and not self._is_over(held, ref):
            self._reattach(held, ref, listener)
            return
        refused""",
        "        refused",
        ("tests/integration/executor/test_reattachment.py",),
    ),
    Guard(
        "an older owner's word does not count",
        LEDGER,
        "return ref.epoch < than.epoch or ref.dispatch < than.dispatch",
        "return False",
        ("tests/integration/executor/test_reattachment.py",),
    ),
    Guard(
        "a start names its instance",
        LEDGER,
        """        if start.target_instance not in ("", self.instance_id):
            return Refused("OTHER_INSTANCE", f"this is instance {self.instance_id}")
        newest""",
        "        newest",
        ("tests/integration/executor/test_perform_steps.py",),
    ),
    Guard(
        "the executor runs what was approved",
        "executor/performer.py",
        "if work.approval_preimage:",
        "if False:",
        ("tests/integration/executor/test_perform_steps.py",),
    ),
    Guard(
        "a decision names the digest",
        "orchestrator/domain/deciding.py",
        "if decision.digest != approval.digest:",
        "if False:",
        ("tests/unit/domain/test_deciding.py",),
    ),
    Guard(
        "a decision that the contract refuses is on record",
        "orchestrator/bootstrap.py",
        "on_invalid=audited(ctx),",
        "",
        ("tests/integration/orchestrator/test_refused_decisions.py",),
    ),
    Guard(
        "a settled approval takes no decision",
        "orchestrator/domain/deciding.py",
        "if approval.state != ApprovalState.PENDING:",
        "if False:",
        ("tests/unit/domain/test_deciding.py",),
    ),
    Guard(
        "a call runs only with its approval",
        "orchestrator/domain/starting.py",
        "if (step.approval_id or step.doubt_number) and (approval is None or not allows(approval, step)):",
        "if False:",
        ("tests/unit/domain/test_attempts.py",),
    ),
    Guard(
        "a call in doubt that policy had allowed needs a person too",
        "orchestrator/domain/starting.py",
        "(step.approval_id or step.doubt_number)",
        "(step.approval_id)",
        ("tests/unit/domain/test_doubt.py",),
    ),
    Guard(
        "after a doubt only a RETRY lets a call run",
        "orchestrator/domain/digests.py",
        "match approval.kind, decision.action, step.doubt_number > 0:",
        'match approval.kind, decision.action, approval.kind == "IN_DOUBT":',
        ("tests/unit/domain/test_digests.py", "tests/unit/domain/test_doubt.py"),
    ),
    Guard(
        "a retry waits until the call in doubt is surely over",
        "orchestrator/domain/outcomes.py",
        "not_before_time=step.deadline_time + OVERDUE_GRACE,",
        "not_before_time=0,",
        ("tests/unit/domain/test_doubt.py",),
    ),
    Guard(
        "an approval is used once",
        "orchestrator/domain/digests.py",
        "if is_first_use != (approval.consume_time == 0):",
        "if False:",
        ("tests/unit/domain/test_digests.py", "tests/unit/domain/test_attempts.py"),
    ),
    Guard(
        "an edited call is judged by policy again",
        "orchestrator/domain/editing.py",
        'if verdict.effect == "DENY":',
        "if False:",
        ("tests/unit/domain/test_editing.py",),
    ),
    Guard(
        "a client's call is its claimer's while the lease lives",
        "orchestrator/domain/client_tools.py",
        "if step.lease_expire_time > change.now and not is_own:",
        "if False:",
        ("tests/unit/domain/test_client_tools.py",),
    ),
    Guard(
        "the first result of a client's call wins",
        "orchestrator/domain/client_tools.py",
        "    if step.state != StepState.READY:",
        "    if False:",
        ("tests/unit/domain/test_client_tools.py",),
    ),
    Guard(
        "a call is handed to a client only with its approval",
        "orchestrator/domain/client_tools.py",
        "agent = permitted(change, step, catalog)",
        "agent = catalog.agents.get(step.agent)",
        ("tests/unit/domain/test_client_tools.py",),
    ),
    Guard(
        "nobody is asked about a call that does not fit its tool's schema",
        "orchestrator/domain/calls.py",
        "elif problems := _problems(change, tool, arguments):",
        "elif problems := []:",
        ("tests/unit/domain/test_proposals.py",),
    ),
    Guard(
        "an answer fits the schema that was asked with",
        "orchestrator/domain/questions.py",
        "if schema_json and (problems := problems_of(answer, schema_json, by_model=True)):",
        "if False and (problems := []):",
        ("tests/unit/domain/test_questions.py",),
    ),
    Guard(
        "a model's schema says nothing that could be made expensive",
        "orchestrator/domain/schemas.py",
        "fault = fault_of_models(schema) if by_model else fault_of(schema)",
        "fault = fault_of(schema)",
        ("tests/unit/domain/test_schemas.py",),
    ),
    Guard(
        "a model's schema is not applied to more than it may take",
        "orchestrator/domain/schemas.py",
        "if work * count_values(value) > most_work:",
        "if False:",
        ("tests/unit/domain/test_schemas.py",),
    ),
    Guard(
        "a question is no executor's and no client's",
        "orchestrator/domain/calls.py",
        "elif tool is questions.ASK_USER:",
        "elif False:",
        ("tests/unit/domain/test_questions.py",),
    ),
    Guard(
        "the model goes on when every call of its reply has ended",
        "orchestrator/domain/attempts.py",
        "if any(progressed) or not all(is_done(call) for call in calls):",
        "if any(progressed) or not any(is_done(call) for call in calls):",
        ("tests/property/test_mixes.py",),
    ),
    Guard(
        "a refused result of a call is on record",
        "orchestrator/operations/client_calls.py",
        'await record_refusal(ctx, caller, "", "", "", refusal, step_id=step_id)',
        "pass",
        ("tests/integration/orchestrator/test_client_tools.py",),
    ),
    Guard(
        "what must not happen twice is not repeated",
        "orchestrator/domain/outcomes.py",
        'return step.kind == "MODEL" or step.side_effect in ("READ_ONLY", "IDEMPOTENT")',
        "return True",
        ("tests/unit/domain/test_outcomes.py",),
    ),
    Guard(
        "an outcome of an earlier dispatch is none",
        "orchestrator/domain/outcomes.py",
        " or step.dispatch_number != outcome.dispatch_number:",
        ":",
        ("tests/unit/domain/test_outcomes.py",),
    ),
    Guard(
        "attempts that follow by themselves are bounded",
        f"{DOMAIN}/retries.py",
        " or tries >= policy.max_attempts",
        "",
        (f"{UNIT}/test_retries.py",),
    ),
    Guard(
        "what needs a person is not tried again",
        f"{DOMAIN}/retries.py",
        'failure.disposition == "RETRYABLE" and ',
        "",
        (f"{UNIT}/test_retries.py",),
    ),
    Guard(
        "an attempt goes on from those before it",
        f"{DOMAIN}/transcript.py",
        "return [a for a in tries if a.number <= attempt.number]",
        "return [attempt]",
        (f"{UNIT}/test_retries.py",),
    ),
    Guard(
        "a retry waits for its time",
        f"{DOMAIN}/attempts.py",
        " or tries[-1].retry_time > change.now",
        "",
        (f"{UNIT}/test_retries.py",),
    ),
    Guard(
        "a subtask's retry waits for its time",
        f"{DOMAIN}/subtasks.py",
        " or subtask.not_before_time > change.now",
        "",
        (f"{UNIT}/test_retries.py",),
    ),
    Guard(
        "a step that executors die under is quarantined",
        f"{DOMAIN}/outcomes.py",
        "elif step.losses >= MAX_LOSSES:",
        "elif False:",
        (f"{UNIT}/test_outcomes.py",),
    ),
    Guard(
        "a quarantined call ends its attempt",
        f"{DOMAIN}/attempts.py",
        "next(filter(is_quarantined, calls), None)",
        "None",
        (f"{UNIT}/test_outcomes.py",),
    ),
    Guard(
        "a plan's retry policy is approved",
        f"{DOMAIN}/digests.py",
        '**_if_said("retry_policy", s.retry_policy),',
        "",
        (f"{UNIT}/test_digests.py",),
    ),
    Guard(
        "the goal that agents are told is approved with the plan",
        f"{DOMAIN}/digests.py",
        '        **({"goal": goal} if goal != plan.title else {}),\n',
        "",
        (f"{UNIT}/test_digests.py",),
    ),
    Guard(
        "nothing starts when a run's time is up",
        f"{DOMAIN}/reconcile.py",
        '    if is_used_up(run, change.now):\n        return ask_for_more(change, run, "work_duration")\n',
        "",
        (f"{UNIT}/test_limits.py",),
    ),
    Guard(
        "somebody looks when a run's time is up",
        f"{DOMAIN}/reconcile.py",
        "(end := end_of_work(run)) > change.now",
        "(end := end_of_work(run)) < 0",
        (f"{UNIT}/test_limits.py",),
    ),
    Guard(
        "a run's clock stands while a person is waited for",
        f"{DOMAIN}/worktime.py",
        "_WORKING = (RunState.RUNNING, RunState.RESUMED)",
        "_WORKING = (RunState.RUNNING, RunState.RESUMED, RunState.WAITING)",
        (f"{UNIT}/test_limits.py",),
    ),
    Guard(
        "more time is more than the old",
        f"{DOMAIN}/limits.py",
        "if limit.of(said) <= least and",
        "if limit.of(said) <= 0 and",
        (f"{UNIT}/test_limits.py",),
    ),
    Guard(
        "no executor gets a call over the limit",
        f"{DOMAIN}/starting.py",
        " or hold_back(change, step.run_id):",
        ":",
        (f"{UNIT}/test_limits.py",),
    ),
    Guard(
        "no client gets a call over the limit",
        f"{DOMAIN}/calls.py",
        "        if hold_back(change, call.run_id):\n            return False\n",
        "",
        (f"{UNIT}/test_limits.py",),
    ),
    Guard(
        "calls under way count",
        f"{DOMAIN}/budgets.py",
        " + run.usage.tool_calls + under_way",
        " + run.usage.tool_calls",
        (f"{UNIT}/test_limits.py",),
    ),
    Guard(
        "what was read after an older answer is not recorded",
        f"{DOMAIN}/artifacts.py",
        " or answer.feedback or not _is_last(change.snapshot, answer):",
        ":",
        (f"{UNIT}/test_artifacts.py",),
    ),
    Guard(
        "a file that is wrong goes back to the agent",
        f"{DOMAIN}/artifacts.py",
        "    if problems:\n        send_back(",
        "    if False:\n        send_back(",
        (f"{UNIT}/test_artifacts.py",),
    ),
    Guard(
        "each gate is passed by a yes at that gate",
        f"{DOMAIN}/gates.py",
        "a.artifact_id == artifact.id and a.gate == gate]",
        "a.artifact_id == artifact.id]",
        (f"{UNIT}/test_artifacts.py",),
    ),
    Guard(
        "only the call that an edit of an artifact made writes it back",
        f"{DOMAIN}/digests.py",
        "named == (step.id, sha256(step.arguments_json))",
        "bool(named)",
        (f"{UNIT}/test_artifacts.py",),
    ),
    Guard(
        "policy judges the edit of an artifact",
        f"{DOMAIN}/reviewing.py",
        'if verdict.effect == "DENY":',
        "if False:",
        (f"{UNIT}/test_artifacts.py",),
    ),
    Guard(
        "what is to be left is part of what is approved",
        f"{DOMAIN}/digests.py",
        '**({"artifacts": [asdict(each) for each in s.artifacts]} if s.artifacts else {}),',
        "",
        (f"{UNIT}/test_artifacts.py",),
    ),
    Guard(
        "a session with files on their way is held",
        f"{DOMAIN}/reconcile.py",
        " or bool(change.reads)",
        "",
        (f"{UNIT}/test_artifacts.py",),
    ),
    Guard(
        "the hash of a file is over all of its bytes",
        f"{ENGINE}/files.py",
        " or chunk.sha256 != hashlib.sha256(self.data).hexdigest()",
        "",
        ("tests/unit/engine/test_files.py",),
    ),
    Guard(
        "a file that is larger than asked for is not taken for its beginning",
        f"{ENGINE}/files.py",
        "if chunk.size_bytes > self.most_bytes:",
        "if False:",
        ("tests/unit/engine/test_files.py",),
    ),
    Guard(
        "bytes are kept before anything speaks of them",
        f"{ENGINE}/gathering.py",
        "await self._contents.keep_content(*key, checked, data)",
        "",
        ("tests/unit/engine/test_gathering.py",),
    ),
    Guard(
        "nothing starts once a pause is asked",
        f"{DOMAIN}/reconcile.py",
        "    if run.pause is not None:\n        return _pause_when_quiet(change, run)\n",
        "",
        (f"{UNIT}/test_control.py",),
    ),
    Guard(
        "a pause waits for what is in flight",
        f"{DOMAIN}/reconcile.py",
        "    if is_flying(change.snapshot):\n        return False\n    assert run.pause",
        "    assert run.pause",
        (f"{UNIT}/test_control.py",),
    ),
    Guard(
        "nobody looks at the timers of a paused run",
        f"{DOMAIN}/reconcile.py",
        "    if run.pause is not None or is_used_up(run, change.now):",
        "    if is_used_up(run, change.now):",
        (f"{UNIT}/test_control.py",),
    ),
    Guard(
        "a decision does not end a pause",
        f"{DOMAIN}/control.py",
        "    if run.state == RunState.WAITING:\n        move_run(",
        "    if run.state in (RunState.WAITING, RunState.PAUSED):\n        move_run(",
        (f"{UNIT}/test_control.py",),
    ),
    Guard(
        "a session that is closed leaves nothing queued",
        f"{DOMAIN}/control.py",
        "        if is_open(run):\n",
        "        if run.id == change.session.active_run_id:\n",
        (f"{UNIT}/test_control.py",),
    ),
    Guard(
        "a closed session takes no message",
        f"{DOMAIN}/commands.py",
        "    if session.state == SessionState.CLOSED:\n",
        "    if False:\n",
        (f"{UNIT}/test_control.py",),
    ),
    Guard(
        "what interrupts ends what runs",
        f"{DOMAIN}/commands.py",
        "        _interrupt(change, ahead, run)\n",
        "",
        (f"{UNIT}/test_control.py",),
    ),
    Guard(
        "a subtask that is checked keeps its place in the limit",
        f"{DOMAIN}/subtasks.py",
        "_HOLDING = (SubtaskState.RUNNING, SubtaskState.VALIDATING, SubtaskState.AWAITING_APPROVAL)",
        "_HOLDING = (SubtaskState.RUNNING,)",
        (f"{UNIT}/test_subtasks.py",),
    ),
    Guard(
        "the executors of cancelled steps are told without their owner",
        "orchestrator/operations/commanding.py",
        "            self._ctx.hands.end(self._change.ends, session.epoch)\n",
        "            pass\n",
        ("tests/unit/operations/test_commanding.py",),
    ),
    Guard(
        "a repeat is not refused for what its first sending did",
        "orchestrator/operations/commanding.py",
        "        if (replayed := await replay(ctx, caller, answer_type)) is not None:\n            return replayed\n"
        "        raise",
        "        raise",
        ("tests/unit/operations/test_commanding.py",),
    ),
    Guard(
        "that a step was lost is overruled by its outcome",
        ENGINE + "/worker.py",
        'if o.kind != "LOST" or not _of_one_dispatch(o, outcome)]',
        "]",
        ("tests/unit/engine/test_worker.py",),
    ),
    Guard(
        "that another instance will not say what became of a step proves nothing",
        ENGINE + "/executors.py",
        "        if flight.asked and reason in _OF_WHO_ASKS:",
        "        if False:",
        ("tests/unit/engine/test_executors.py",),
    ),
    Guard(
        "only a start that was never followed by a question was never sent",
        ENGINE + "/executors.py",
        "flight.step.dispatch_number == frame.dispatch_number and not flight.asked:",
        "flight.step.dispatch_number == frame.dispatch_number:",
        ("tests/unit/engine/test_executors.py",),
    ),
    Guard(
        "who is overdue is asked before it is given up",
        ENGINE + "/executors.py",
        "                flight.overdue_since = now\n                self._ask(flight)",
        "                flight.overdue_since = now",
        ("tests/unit/engine/test_executors.py",),
    ),
    Guard(
        "an executor that keeps failing is left alone",
        ENGINE + "/instances.py",
        "and self._breaker(instance.address).admits(self._clock())",
        "",
        ("tests/unit/engine/test_executors.py",),
    ),
    Guard(
        "slots that others have are not taken",
        ENGINE + "/instances.py",
        "return instance.slots - instance.others - self._taken[instance.id]",
        "return instance.slots - self._taken[instance.id]",
        ("tests/unit/engine/test_executors.py",),
    ),
    Guard(
        "waiting for room costs no commit",
        ENGINE + "/decision.py",
        "waits_on = epoch == 0 and self.releases and change.session == before",
        "waits_on = False",
        ("tests/unit/engine/test_worker.py",),
    ),
    Guard(
        "a command goes on when its caller goes away",
        "orchestrator/operations/commanding.py",
        "    return await asyncio.shield(task)",
        "    return await task",
        ("tests/unit/operations/test_commanding.py",),
    ),
    Guard(
        "a lapsed lease takes nothing on",
        ENGINE + "/engine.py",
        " and self._lease_lives()",
        "",
        ("tests/unit/engine/test_engine.py",),
    ),
    Guard(
        "room that one session does not need is the next one's",
        ENGINE + "/room.py",
        "        self._offered.remove(key)\n        return True\n",
        "        self._offered.remove(key)\n        return False\n",
        ("tests/unit/engine/test_engine.py",),
    ),
    Guard(
        "unfinished frames are bounded",
        "rpc/chunks.py",
        "if self._bytes > UNFINISHED_BYTES or len(self._parts) > UNFINISHED_LIMIT:",
        "if False:",
        ("tests/unit/engine/test_link.py",),
    ),
    Guard(
        "another replica's words wait for the start of their step",
        "orchestrator/streaming/watch.py",
        "                fresh, waiting = _but_last_pieces(fresh)\n",
        "                waiting: list[Delta] = []\n",
        ("tests/unit/streaming/test_relay.py",),
    ),
    Guard(
        "a flood of words is cut at an end, without a hole",
        "orchestrator/streaming/news.py",
        "reply in self._cut or self._characters > MAX_DELTA_CHARACTERS or is_unfit",
        "reply in self._cut or is_unfit",
        ("tests/unit/streaming/test_news.py",),
    ),
    Guard(
        "a reply that was cut stays cut",
        "orchestrator/streaming/news.py",
        "reply in self._cut or ",
        "",
        ("tests/unit/streaming/test_news.py",),
    ),
    Guard(
        "any number of questions is told in texts that can be sent",
        "orchestrator/streaming/news.py",
        "    if len(moved.asked) <= MAX_ASKED:",
        "    if moved.asked or not moved.asked:",
        ("tests/unit/streaming/test_news.py",),
    ),
    Guard(
        "a lease that was given up is not renewed",
        "orchestrator/engine/engine.py",
        "            tasks.append(self._renewing)\n",
        "            pass\n",
        ("tests/unit/engine/test_engine.py",),
    ),
    Guard(
        "who needs what nobody offers takes no slot's turn",
        "orchestrator/engine/room.py",
        "        if lacks_slot:\n",
        "        if True:\n",
        ("tests/unit/engine/test_room.py",),
    ),
    Guard(
        "what a stopping executor cuts short may be tried again",
        LEDGER,
        "if held.is_cut_short and isinstance(outcome, Failed)",
        "if False and isinstance(outcome, Failed)",
        ("tests/unit/executor/test_ledger.py",),
    ),
    Guard(
        "a position is looked up after it was asked for",
        "orchestrator/streaming/reading.py",
        "            if self._gathering is batch:\n                self._gathering = None\n"
        "            return await self._query(list(batch.asked))",
        "            answers = await self._query(list(batch.asked))\n            if self._gathering is batch:\n"
        "                self._gathering = None\n            return answers",
        ("tests/unit/streaming/test_reading.py",),
    ),
    Guard(
        "only who holds a role decides",
        f"{DOMAIN}/terms.py",
        "    if terms.roles and not decider.holds_one_of(terms.roles):\n",
        "    if False:\n",
        (f"{UNIT}/test_terms.py",),
    ),
    Guard(
        "who asked for it does not decide",
        f"{DOMAIN}/terms.py",
        "    if terms.requester_excluded and decider.name in (approval.requester, author):\n",
        "    if False:\n",
        (f"{UNIT}/test_terms.py",),
    ),
    Guard(
        "who wrote the plan does not decide",
        f"{DOMAIN}/terms.py",
        "in (approval.requester, author):",
        "in (approval.requester,):",
        (f"{UNIT}/test_terms.py",),
    ),
    Guard(
        "one person has one vote",
        f"{DOMAIN}/voting.py",
        "    if any(v.voter == decision.decider for v in approval.votes):\n        return approval\n",
        "",
        (f"{UNIT}/test_voting.py",),
    ),
    Guard(
        "too few votes decide nothing",
        f"{DOMAIN}/deciding.py",
        "        if not is_enough(approval):\n            return approval\n",
        "",
        (f"{UNIT}/test_voting.py",),
    ),
    Guard(
        "too few votes let nothing run",
        f"{DOMAIN}/digests.py",
        "if approval.terms.quorum > 1 and len(",
        "if False and len(",
        (f"{UNIT}/test_voting.py",),
    ),
    Guard(
        "votes for a limit are for the same",
        f"{DOMAIN}/voting.py",
        "        if decision.new_limit != vote.new_limit:\n",
        "        if False:\n",
        (f"{UNIT}/test_voting.py",),
    ),
    Guard(
        "an edit into what others decide about is asked of them",
        "orchestrator/domain/calls.py",
        "verdict.rule == edited.policy_rule or covers(edited.terms, verdict.terms)",
        "True",
        ("tests/unit/domain/test_editing.py",),
    ),
    Guard(
        "an edit that was not enough is no approval of what something else allows",
        "orchestrator/domain/calls.py",
        "else without_approval(step)",
        "else step",
        ("tests/unit/domain/test_voting.py",),
    ),
    Guard(
        "writing an edit back is asked of those who decide about such writes",
        "orchestrator/domain/reviewing.py",
        'if verdict.effect == "ASK" and not covers(approval.terms, verdict.terms):',
        "if False:",
        ("tests/unit/domain/test_artifacts.py",),
    ),
    Guard(
        "nothing is asked about files of an attempt that has ended",
        "orchestrator/domain/gates.py",
        'withdraw(change, attempt.subtask_id, "an edited file could not be written back")',
        "pass",
        ("tests/unit/domain/test_artifacts.py",),
    ),
    Guard(
        "a stranger's schema of an artifact keeps nobody waiting",
        "orchestrator/domain/expected.py",
        'fault = fault_of_models(parse_strictly(text)) if text else ""',
        'fault = ""',
        ("tests/unit/domain/test_artifacts.py",),
    ),
    Guard(
        "no conversation breaks an executor's stream",
        "orchestrator/domain/attempts.py",
        "if is_too_long(change.snapshot, step, world.catalog):",
        "if False:",
        ("tests/unit/domain/test_attempts.py",),
    ),
    Guard(
        "an edit where several must say yes is asked about anew",
        f"{DOMAIN}/calls.py",
        "if edited is None or edited.terms.quorum > 1:",
        "if edited is None:",
        (f"{UNIT}/test_voting.py",),
    ),
    Guard(
        "an answer after its time is too late",
        f"{DOMAIN}/deciding.py",
        "    if is_overdue(approval, now):\n",
        "    if False:\n",
        (f"{UNIT}/test_expiring.py",),
    ),
    Guard(
        "somebody looks when a question expires",
        f"{DOMAIN}/reconcile.py",
        "    due += people",
        "    due += []",
        (f"{UNIT}/test_expiring.py",),
    ),
    Guard(
        "a question expires though its run is paused",
        f"{DOMAIN}/reconcile.py",
        "    if mind_the_time(change, run):\n        return True\n",
        "    if run.state != RunState.PAUSED and mind_the_time(change, run):\n        return True\n",
        (f"{UNIT}/test_expiring.py",),
    ),
    Guard(
        "an escalation to nobody opens nothing",
        f"{DOMAIN}/expiring.py",
        "roles = terms.escalation_roles or terms.roles",
        "roles = terms.escalation_roles",
        (f"{UNIT}/test_expiring.py",),
    ),
    Guard(
        "reminders end",
        f"{DOMAIN}/expiring.py",
        "number >= MOST_REMINDERS or ",
        "",
        (f"{UNIT}/test_expiring.py",),
    ),
    Guard(
        "an inbox shows nothing twice",
        "orchestrator/streaming/shown.py",
        "        if number in self._numbers:\n            return False\n",
        "",
        ("tests/unit/streaming/test_inbox.py",),
    ),
    Guard(
        "an inbox takes what is told again for what it is",
        "orchestrator/streaming/inbox.py",
        "        if key in self._seen:\n            return False\n",
        "",
        ("tests/unit/streaming/test_inbox.py",),
    ),
    Guard(
        "a call is judged again when it is about to begin",
        f"{DOMAIN}/calls.py",
        "        if judge_again(change, call, world.catalog):\n            return True\n",
        "",
        (f"{UNIT}/test_judging.py",),
    ),
    Guard(
        "what nobody approved and asks now, asks",
        f"{DOMAIN}/judging.py",
        'if verdict.effect != "ASK" or step.approval_id:',
        "if step.tool:",
        (f"{UNIT}/test_judging.py",),
    ),
    Guard(
        "a tool that has changed is asked about again",
        f"{DOMAIN}/judging.py",
        "if offered is not None and (offered.schema_digest, offered.side_effect) !=",
        "if step.tool == step.id and (step.schema_digest, step.side_effect) !=",
        (f"{UNIT}/test_judging.py",),
    ),
    Guard(
        "a session whose policy is gone asks",
        f"{DOMAIN}/catalog.py",
        "or replace(_GONE, name=session.policy, terms=self.policy.terms)",
        "or self.policy",
        (f"{UNIT}/test_judging.py",),
    ),
    Guard(
        "a DENY or ASK rule whose condition cannot be evaluated applies",
        f"{DOMAIN}/policy.py",
        'safe = rule.effect != "ALLOW"',
        "safe = False",
        (f"{UNIT}/test_rules.py",),
    ),
    Guard(
        "a path that may lead anywhere is one that is denied",
        f"{DOMAIN}/policy.py",
        "any(is_elsewhere(path) or fits(path, rule.paths) for path in paths)",
        "any(fits(path, rule.paths) for path in paths)",
        (f"{UNIT}/test_rules.py",),
    ),
    Guard(
        "an ALLOW is about calls that name no other path",
        f"{DOMAIN}/policy.py",
        "next((path for path in paths if not fits(path, rule.paths)), None)",
        "None if any(fits(path, rule.paths) for path in paths) else paths[0]",
        (f"{UNIT}/test_rules.py",),
    ),
    Guard(
        "no condition judges an integer that CEL would round",
        f"{DOMAIN}/conditions.py",
        'raise Unjudged("the arguments hold an integer of more than 64 bits")',
        "pass",
        (f"{UNIT}/test_conditions.py",),
    ),
    Guard(
        "the work of a condition is bounded",
        f"{DOMAIN}/conditions.py",
        "if condition.work(values) > MAX_WORK:",
        "if values < 0:",
        (f"{UNIT}/test_conditions.py",),
    ),
    Guard(
        "a pattern is never the call's",
        f"{DOMAIN}/conditions.py",
        'if pattern.lastgroup != "text" or not end or end[0][0] != ")":',
        'if pattern.lastgroup == "none":',
        (f"{UNIT}/test_conditions.py",),
    ),
    Guard(
        "who revised an older version than the newest is told",
        f"{DOMAIN}/revising.py",
        "if digest and digest != newest.digest:",
        "if False:",
        (f"{UNIT}/test_revising.py",),
    ),
    Guard(
        "a version that was superseded cannot be approved",
        f"{DOMAIN}/revising.py",
        'asked = settle_approval(change, approval, "superseded", actor=actor, reason=reason).id',
        "pass",
        (f"{UNIT}/test_revising.py",),
    ),
    Guard(
        "what a person said is told to one next try",
        f"{DOMAIN}/heeding.py",
        "if a.id not in heeded and ",
        "if ",
        (f"{UNIT}/test_revising.py", f"{UNIT}/test_failing.py"),
    ),
    Guard(
        "what is done is not planned anew",
        f"{DOMAIN}/planning.py",
        "done = done_of(change.snapshot, change.snapshot.plan)",
        "done = []",
        (f"{UNIT}/test_failing.py",),
    ),
    Guard(
        "what is done is approved as done",
        f"{DOMAIN}/digests.py",
        "**_if_carried(s),",
        "",
        (f"{UNIT}/test_failing.py",),
    ),
    Guard(
        "what is done is not defined anew",
        f"{DOMAIN}/graph.py",
        "if done.get(draft.key, draft) != draft:",
        "if False:",
        (f"{UNIT}/test_failing.py",),
    ),
    Guard(
        "planning anew ends what is under way",
        f"{DOMAIN}/ending.py",
        '_close_steps(change, steps, actor, reason, "The work was planned anew")',
        "pass",
        (f"{UNIT}/test_failing.py",),
    ),
    Guard(
        "what was asked of a plan is not asked once it is planned anew",
        f"{DOMAIN}/ending.py",
        'settle_approval(change, approval, "superseded", actor=actor, reason=reason)',
        "pass",
        (f"{UNIT}/test_failing.py",),
    ),
    Guard(
        "the session leaves its error handling with the last failure",
        f"{DOMAIN}/failing.py",
        'if any(a.kind == "FAILURE" for a in change.snapshot.pending):',
        "if False:",
        (f"{UNIT}/test_failing.py",),
    ),
    Guard(
        "a grant answers only the rule, policy and tool it was made for",
        f"{DOMAIN}/grants.py",
        "    what = (step.tool, step.schema_digest, step.policy_rule, policy.digest)\n",
        "    what = (step.tool, step.schema_digest, step.policy_rule, policy.digest)\n"
        "    return next((replace(step, grant_id=g.id) for g in standing(change) if g.tool == step.tool), None)\n",
        (f"{UNIT}/test_grants.py",),
    ),
    Guard(
        "a grant answers only the arguments it is about",
        f"{DOMAIN}/grants.py",
        "if grant.constraint == _same(arguments_json):",
        "if grant.constraint:",
        (f"{UNIT}/test_grants.py",),
    ),
    Guard(
        "a grant that has ended allows nothing",
        f"{DOMAIN}/grants.py",
        "if not g.end_time and g.expire_time > change.now]",
        "if g.tool]",
        (f"{UNIT}/test_grants.py",),
    ),
    Guard(
        "nobody grants to their own run what others must decide",
        f"{DOMAIN}/grants.py",
        "grants = [g for g in grants if g.creator != requester]",
        "pass",
        (f"{UNIT}/test_grants.py",),
    ),
    Guard(
        "what is not offered is not remembered",
        f"{DOMAIN}/grants.py",
        "    if not approval.may_remember:\n        raise GrantNotOffered(approval.id)\n",
        "",
        (f"{UNIT}/test_grants.py",),
    ),
    Guard(
        "a constraint is looked at before it is taken",
        f"{DOMAIN}/grants.py",
        "        _check_constraint(wish.constraint, approval.arguments_json)\n",
        "        pass\n",
        (f"{UNIT}/test_grants.py",),
    ),
    Guard(
        "looking at grants takes a bounded effort",
        f"{DOMAIN}/grants.py",
        "if left >= 0 and conditions.holds(",
        "if conditions.holds(",
        (f"{UNIT}/test_grants.py",),
    ),
    Guard(
        "votes remember the same or nothing",
        f"{DOMAIN}/voting.py",
        "        if decision.remember != vote.remember and ",
        "        if False and ",
        (f"{UNIT}/test_grants.py",),
    ),
    Guard(
        "a switch leaves what was said to whom it was said",
        f"{DOMAIN}/commands.py",
        "    change.put_session(agent=agent)\n",
        "    change.put_session(agent=agent)\n"
        "    for run in list(change.snapshot.runs.values()):\n"
        "        change.put(replace(run, agent=agent, route_agent=agent))\n",
        (f"{UNIT}/test_commands.py",),
    ),
    Guard(
        "a subtask keeps its agent whatever its session's is",
        f"{DOMAIN}/calls.py",
        "        attempt.subtask_id,\n        kind,\n        state,\n        attempt.agent,\n",
        "        attempt.subtask_id,\n        kind,\n        state,\n        change.session.agent,\n",
        ("tests/integration/orchestrator/test_switching.py",),
    ),
    Guard(
        "an inbox hides what its reader may not decide",
        "orchestrator/streaming/shown.py",
        "        if self.wants(approval):\n            return True\n",
        "        return True\n",
        ("tests/unit/streaming/test_inbox.py",),
    ),
    Guard(
        "what is shown hides nothing",
        f"{DOMAIN}/showing.py",
        "    shown = visible(text)\n",
        "    shown = text\n",
        (f"{UNIT}/test_showing.py",),
    ),
    Guard(
        "two texts that differ never look alike",
        f"{DOMAIN}/visible.py",
        "if code == _OPEN or code in _BLANK",
        "if code in _BLANK",
        (f"{UNIT}/test_showing.py",),
    ),
    Guard(
        "a gap hides nothing behind it",
        f"{DOMAIN}/visible.py",
        " if _has_gap(text) else text",
        " if False else text",
        (f"{UNIT}/test_showing.py",),
    ),
    Guard(
        "no line of a command poses as another argument",
        f"{DOMAIN}/showing.py",
        'f"> {line}"',
        "line",
        (f"{UNIT}/test_showing.py",),
    ),
    Guard(
        "a write with more to it is not shown as a mere write",
        f"{DOMAIN}/showing.py",
        'arguments.keys() != {"path", "content"} or ',
        "",
        (f"{UNIT}/test_showing.py",),
    ),
    Guard(
        "what is cut says so",
        f"{DOMAIN}/showing.py",
        "truncated=preview.truncated or any(is_cut for _, is_cut in texts.values())",
        "truncated=preview.truncated",
        (f"{UNIT}/test_showing.py",),
    ),
    Guard(
        "comparing takes bounded time",
        f"{DOMAIN}/differing.py",
        "            if steps < 0:\n                return []\n",
        "",
        (f"{UNIT}/test_differing.py",),
    ),
    Guard(
        "nobody waits longer for the inbox because of a file",
        "orchestrator/operations/looking.py",
        "            async with asyncio.timeout(READ_SECONDS):\n",
        "            async with asyncio.timeout(None):\n",
        ("tests/unit/operations/test_looking.py",),
    ),
    Guard(
        "what concerns people is told only where there is a webhook",
        "orchestrator/store/batch.py",
        "if delivers and name in TOLD_OF",
        "if name in TOLD_OF",
        ("tests/integration/store/test_deliveries.py",),
    ),
    Guard(
        "only what was written is told",
        STATEMENT,
        '    FROM {given} JOIN done ON done.n = given.n\n)"""\n\n\ndef _of',
        '    FROM {given} JOIN input AS done ON done.n = given.n\n)"""\n\n\ndef _of',
        ("tests/integration/store/test_deliveries.py",),
    ),
    Guard(
        "a delivery that somebody has is nobody else's",
        "orchestrator/store/deliveries.py",
        "due_time = assent_now() + $2, tries",
        "due_time = assent_now() + 0 * $2, tries",
        ("tests/integration/store/test_deliveries.py",),
    ),
    Guard(
        "who had a delivery before does not put it back",
        "orchestrator/store/deliveries.py",
        " AND tries = $4",
        " AND tries >= 0 * $4",
        ("tests/integration/store/test_deliveries.py",),
    ),
    Guard(
        "a webhook's redirect is not followed",
        "orchestrator/streaming/webhook.py",
        "follow_redirects=False",
        "follow_redirects=True",
        ("tests/integration/orchestrator/test_webhook.py",),
    ),
    Guard(
        "a webhook that does not answer is not waited for",
        "orchestrator/streaming/webhook.py",
        "        async with asyncio.timeout(SEND_SECONDS):\n",
        "        async with asyncio.timeout(None):\n",
        ("tests/integration/orchestrator/test_webhook.py",),
    ),
    Guard(
        "a webhook's address is not logged",
        "rpc/logs.py",
        '"httpx", "httpcore", ',
        "",
        ("tests/integration/orchestrator/test_webhook.py",),
    ),
    Guard(
        "a webhook is not told what a call would do in full",
        "orchestrator/servicers/notice.py",
        "        _shorten(told.approval_requested.approval)\n",
        "        pass\n",
        ("tests/unit/servicers/test_notice.py",),
    ),
)


def main() -> int:
    wanted = [guard for guard in GUARDS if all(word in guard.name for word in sys.argv[1:])]
    with tempfile.TemporaryDirectory(prefix="assent-guards-") as directory:
        copy = Path(directory)
        _check_out(copy)
        tests = sorted({test for guard in wanted for test in guard.tests})
        print(f"With every guard in place, {len(tests)} files of tests: ", end="", flush=True)
        outcome = _outcome(copy, tests)
        print(outcome)
        if outcome != GREEN:
            return 1
        results = [_try_without(guard, copy) for guard in wanted]
    print(f"{sum(results)} of {len(results)} guards are missed by a test when they are gone.")
    return 0 if all(results) else 1


def _check_out(copy: Path) -> None:
    """What is in the index and the work tree, without what is built from it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    tar = subprocess.run(["tar", "-c", "--null", "-T", "-"], cwd=ROOT, input=listed, check=True, capture_output=True)
    subprocess.run(["tar", "-x"], cwd=copy, input=tar.stdout, check=True)


def _try_without(guard: Guard, copy: Path) -> bool:
    print(f"  {guard.name}: ", end="", flush=True)
    if not guard.is_found_in(copy):
        print(f"NOT FOUND once in {guard.file}")
        return False
    file = copy / guard.file
    whole = file.read_text()
    began = time.monotonic()
    file.write_text(whole.replace(guard.text, guard.without))
    try:
        outcome = _outcome(copy, guard.tests)
    finally:
        file.write_text(whole)
    print(f"{outcome} ({time.monotonic() - began:.0f} s)")
    return outcome == RED


def _outcome(copy: Path, tests: Sequence[str]) -> str:
    """Red is a test that fails or hangs; a copy whose tests cannot even begin proves nothing."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return RED
    return {0: GREEN, 1: RED}.get(done.returncode, f"BROKEN: {done.stdout.decode()[-2000:]}")


if __name__ == "__main__":
    raise SystemExit(main())
