"""What is tried again after a failure, how often and how long after: a dispatch of a step, and an attempt. Pure.

A *step* whose dispatch failed in passing, or whose executor died, is dispatched again a few times, by `outcomes`. When
it has failed for good its *attempt* fails, and another one follows as the retry policy of the subtask or the agent
says; only then is a person asked. A step that executors keep dying under is quarantined: no attempt follows by itself.

The rule about work that was done: an attempt is never thrown away by the engine. The next one goes on from the whole
transcript of those before it (`transcript` reads them all), so the model knows of every call that took effect and no
policy can choose a fresh start. After a NON_IDEMPOTENT success only a person may discard an attempt.
"""

import hashlib
from itertools import takewhile

from orchestrator.domain.catalog import SECOND, Agent
from orchestrator.domain.change import Change
from orchestrator.domain.errors import Violation
from orchestrator.domain.events import AttemptSuperseded
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Attempt, Failure, RetryPolicy, Step, Subtask
from orchestrator.domain.states import StepState

# Of one step: the first dispatch and one after each transient fault.
DISPATCHES = RetryPolicy(max_attempts=5, first_backoff=SECOND // 2, longest_backoff=60 * SECOND)
MAX_LOSSES = 3  # a step that was lost so often may be what kills its executors
LONGEST_RETRY_AFTER = 3600 * SECOND  # whatever a provider says


def is_retryable(failure: Failure, policy: RetryPolicy) -> bool:
    """Whether the same may well succeed later without anybody doing anything. HUMAN_REQUIRED and FATAL may not."""
    return failure.disposition == "RETRYABLE" and failure.reason not in policy.non_retryable_reasons


def is_quarantined(step: Step) -> bool:
    """Whether it was given up because executors kept dying under it."""
    return step.state == StepState.FAILED and step.failure.reason == "EXECUTOR_LOST"


def backoff(policy: RetryPolicy, number: int, key: str) -> int:
    """How long to wait after failure `number` (1, 2, 3 …): between half of what the policy's numbers give and all of
    it, by a hash of `key`, so that those who failed together do not come back together."""
    longest = min(policy.first_backoff * policy.factor ** (number - 1), policy.longest_backoff)
    jitter = int.from_bytes(hashlib.sha256(f"{key}:{number}".encode()).digest()[:4]) / 2**32
    return int(longest * (1 + jitter) / 2)


def capped(retry_after: int) -> int:
    """What whoever failed asks for, within reason; 0: nothing."""
    return min(max(retry_after, 0), LONGEST_RETRY_AFTER)


def policy_of(agent: Agent | None, subtask: Subtask | None = None) -> RetryPolicy:
    """The plan's word counts more than the agent's; an agent that is gone has the default."""
    if subtask is not None and subtask.retry_policy is not None:
        return subtask.retry_policy
    return agent.retry_policy if agent is not None else RetryPolicy()


def schedule_retry(change: Change, attempt: Attempt, policy: RetryPolicy) -> int:
    """When the work of this failed attempt is tried again, which is recorded and told; 0: a person is asked."""
    failure, tries = attempt.failure, tries_in_a_row(change, attempt)
    if not is_retryable(failure, policy) or tries >= policy.max_attempts:
        return 0
    again = change.now + max(backoff(policy, tries, attempt.id), capped(failure.retry_after))
    change.put(replace(attempt, retry_time=again))
    if (run := change.snapshot.runs.get(attempt.run_id)) is not None:
        change.put(replace(run, retries=run.retries + 1))
    words = f"attempt {tries} of {policy.max_attempts} failed: {failure.reason}: {failure.message}"
    change.emit(AttemptSuperseded(attempt.run_id, attempt.subtask_id, attempt.id, words[:2000], again))
    return again


def tries_in_a_row(change: Change, attempt: Attempt) -> int:
    """This attempt and those that led to it by themselves: a person's RETRY begins the count anew."""
    tries = change.snapshot.tries(attempt.run_id, attempt.purpose, attempt.subtask_id)
    earlier = [a for a in tries if a.number < attempt.number]
    return 1 + sum(1 for _ in takewhile(lambda a: a.retry_time, reversed(earlier)))


def check_policy(policy: RetryPolicy, path: str) -> list[Violation]:
    """What is wrong with a policy that a plan brings along."""
    problems = []
    if policy.max_attempts < 1:
        problems.append(Violation(f"{path}.max_attempts", "must be at least 1"))
    if policy.first_backoff < 0:
        problems.append(Violation(f"{path}.first_backoff", "must not be negative"))
    if policy.longest_backoff < policy.first_backoff:
        problems.append(Violation(f"{path}.longest_backoff", "must not be shorter than the first one"))
    if not policy.factor >= 1:  # NaN neither
        problems.append(Violation(f"{path}.factor", "must be at least 1"))
    return problems


def in_words(policy: RetryPolicy) -> str:
    """For the person who approves it."""
    if policy.max_attempts == 1:
        return "not tried again by itself"
    first, longest = policy.first_backoff / SECOND, policy.longest_backoff / SECOND
    words = f"up to {policy.max_attempts} attempts, {first:g} s to {longest:g} s apart (× {policy.factor:g})"
    never = ", ".join(policy.non_retryable_reasons)
    return f"{words}, never after {never}" if never else words
