"""What people do in a scenario is judged: each promise that is broken in its history is reported by its check."""

import copy
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Approval, Plan, Step, Subtask
from tests.simulator.catalog import ASKING
from tests.simulator.checks import violations
from tests.simulator.history import History
from tests.simulator.spoiling import Spoil, append, edit, spoil
from tests.simulator.worker import physical_at
from tests.sweep.scenarios import SCENARIOS
from tests.sweep.sweeping import play


def _voted(history: History) -> Approval:
    """One that was decided by two, and let its call run."""
    return next(a for a in history.rows.approvals if len(a.votes) > 1 and a.consume_time)


def _respoil(history: History, approval: Approval, **changes: Any) -> None:
    spoil(history.rows.approvals, lambda a: a.id == approval.id, **changes)


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
    edit(history, "vote_recorded", lambda body: body.update(voter=approval.votes[0].voter))
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
    append(history, "step_started", body)
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


# Plans


def _old(history: History) -> Plan:
    """A version that gave way to another."""
    return next(plan for plan in history.rows.plans if plan.state == "SUPERSEDED")


def _old_version_starts(history: History) -> None:
    subtask = next(subtask for subtask in history.rows.subtasks if subtask.plan_id == _old(history).id)
    body = {"step_id": "s", "dispatch_number": 1, "kind": "MODEL", "run_id": "", "subtask_id": subtask.id}
    append(history, "step_started", body)


def _other_version_approved(history: History) -> None:
    """The decision names the digest of the version before."""
    approval = next(
        a for a in history.rows.approvals if a.kind == "PLAN" and a.decision and a.decision.action == "APPROVE"
    )
    assert approval.decision is not None
    _respoil(history, approval, decision=replace(approval.decision, digest=_old(history).digest))


def _carried(history: History) -> Subtask:
    return next(subtask for subtask in history.rows.subtasks if subtask.carried_subtask_id)


def _carried_runs(history: History) -> None:
    body = {"step_id": "s", "dispatch_number": 1, "kind": "MODEL", "run_id": "", "subtask_id": _carried(history).id}
    append(history, "step_started", body)


def _carried_from_what_is_not_done(history: History) -> None:
    cancelled = next(s for s in history.rows.subtasks if s.state == "CANCELLED")
    spoil(history.rows.subtasks, lambda s: s.id == _carried(history).id, carried_subtask_id=cancelled.id)


# Artifacts


def _redecide(history: History, answer: str, **changes: Any) -> None:
    """The decision about the first artifact that got this answer is another one."""
    approval = next(
        a for a in history.rows.approvals if a.kind == "ARTIFACT" and a.decision and a.decision.action == answer
    )
    assert approval.decision is not None
    _respoil(history, approval, decision=replace(approval.decision, **changes))


def _lost(history: History) -> None:
    history.rows.artifacts[:] = [artifact for artifact in history.rows.artifacts if artifact.name != "c.txt"]


def _other_bytes(history: History) -> None:
    """Every question about a file was about some other one."""
    hashes = {artifact.sha256 for artifact in history.rows.artifacts}
    for approval in [a for a in history.rows.approvals if a.kind == "ARTIFACT"]:
        sha = next(sha for sha in hashes if sha in approval.preimage)
        _respoil(history, approval, preimage=approval.preimage.replace(sha, "0" * 64))


# Grants


def _by_grant(history: History) -> Step:
    """A call that was started with a grant, and nobody asked."""
    return next(step for step in history.rows.steps if step.grant_id)


def _regrant(history: History, **changes: Any) -> None:
    spoil(history.rows.session_grants, lambda grant: grant.id == _by_grant(history).grant_id, **changes)


def _revoked_before(history: History) -> None:
    """The end of the grant comes before its use."""
    id = _by_grant(history).grant_id
    for events in history.rows.logs.values():
        made = next(at for at, e in enumerate(events) if e.payload_json.startswith('{"grant_changed":'))
        body = json.loads(events[made].payload_json)["grant_changed"]
        assert body["grant"]["id"] == id
        ended = {**body, "trigger": "expired"}
        events.insert(made + 1, replace(events[made], payload_json=json.dumps({"grant_changed": ended})))
        for at, event in enumerate(events):
            events[at] = replace(event, sequence=at + 1)


SPOILS: dict[str, tuple[str, str, Spoil]] = {
    "what expired lets a call run": ("votes", "approvals", _ran_on_an_expired_one),
    "one vote lets run what needs two": ("votes", "approvals", _one_vote),
    "one vote was enough where two are needed": ("votes", "decisions", _one_vote),
    "somebody voted twice": ("votes", "decisions", _same_vote),
    "the votes are not those of the log": (
        "votes",
        "decisions",
        lambda h: _respoil(h, _voted(h), votes=list(reversed(_voted(h).votes))),
    ),
    "somebody without the role decided": ("votes", "decisions", lambda h: _decided_by(h, "mallory")),
    "somebody decided what they asked for": ("votes", "decisions", _decided_oneself),
    "a decision came too late": ("votes", "decisions", _decided_late),
    "a question was settled twice": ("votes", "decisions", _settled_twice),
    "an expired question has a decision": (
        "votes",
        "decisions",
        lambda h: spoil(h.rows.approvals, lambda a: a.decision is not None, state="EXPIRED"),
    ),
    "a version that gave way is carried out": ("review", "plans", _old_version_starts),
    "the version before was approved": ("review", "plans", _other_version_approved),
    "two versions are in force": (
        "review",
        "plans",
        lambda h: spoil(h.rows.plans, lambda p: p.id == _old(h).id, state="DRAFT"),
    ),
    "a version is missing": (
        "review",
        "plans",
        lambda h: spoil(h.rows.plans, lambda p: p.state == "COMPLETED", version=7),
    ),
    "a run goes by an old version": (
        "review",
        "plans",
        lambda h: spoil(h.rows.runs, lambda r: True, plan_id=_old(h).id),
    ),
    "what is done is done again": ("replan", "plans", _carried_runs),
    "what is carried is not as it was": (
        "replan",
        "plans",
        lambda h: spoil(h.rows.subtasks, lambda s: s.id == _carried(h).id, result="something else"),
    ),
    "what is not done is carried": ("replan", "plans", _carried_from_what_is_not_done),
    "what is carried is defined anew": (
        "replan",
        "plans",
        lambda h: h.rows.subtasks.append(replace(_carried(h), id="another", carried_subtask_id="")),
    ),
    "a subtask did not wait": (
        "gates",
        "plans",
        lambda h: spoil(h.rows.subtasks, lambda s: s.key == "first", depends_on=["second"]),
    ),
    "a file is not kept": ("gates", "artifacts", lambda h: h.rows.contents.clear()),
    "a file was never read": ("gates", "artifacts", _lost),
    "a gate was passed by a no": ("gates", "artifacts", lambda h: _redecide(h, "APPROVE", action="REJECT")),
    "a gate was passed by a yes to other bytes": ("gates", "artifacts", _other_bytes),
    "an edit made another file": ("gates", "artifacts", lambda h: _redecide(h, "EDIT", edited_artifact_id="another")),
    "what nobody edited was written": ("gates", "approvals", lambda h: _redecide(h, "EDIT", action="APPROVE")),
    "a grant is not there": ("grants", "grants", lambda h: h.rows.session_grants.clear()),
    "a grant is about another tool": ("grants", "grants", lambda h: _regrant(h, tool="put")),
    "a grant is about a tool as it was": ("grants", "grants", lambda h: _regrant(h, schema_digest="another")),
    "a grant's constraint is not true": (
        "grants",
        "grants",
        lambda h: _regrant(h, constraint='arguments.what.endsWith("1")'),
    ),
    "a grant had run out": ("grants", "grants", lambda h: _regrant(h, expire_time=1)),
    "a grant had ended": ("grants", "grants", _revoked_before),
    "a use was not counted": ("grants", "grants", lambda h: _regrant(h, uses=1)),
}


@pytest.fixture(scope="module")
def sound() -> Iterator[dict[str, History]]:
    """What happens in each of the scenarios when nothing fails."""
    wanted = {scenario for scenario, _, _ in SPOILS.values()}
    with physical_at("") as physical:
        physical.prepare()
        yield {each.name: play(physical, each, "")[1] for each in SCENARIOS if each.name in wanted}


def test_sound_histories_pass(sound: dict[str, History]) -> None:
    assert {name: violations(history) for name, history in sound.items()} == {name: [] for name in sound}


@pytest.mark.parametrize("what", SPOILS)
def test_what_is_wrong_is_reported(sound: dict[str, History], what: str) -> None:
    scenario, check, spoilt = SPOILS[what]
    history = copy.deepcopy(sound[scenario])
    spoilt(history)
    assert any(words.startswith(f"{check}: ") for words in violations(history)), violations(history)
