"""Messages, client plans and cancels: who goes first, who waits behind whom, and what is refused."""

from dataclasses import replace

import pytest

from orchestrator.domain.commands import MAX_QUEUED_RUNS, receive_message, submit_plan, switch_agent
from orchestrator.domain.control import cancel
from orchestrator.domain.drafts import PlanDraft
from orchestrator.domain.errors import InvalidInput, InvalidPlan, LimitExceeded, SessionBusy, UnknownAgent, WrongState
from orchestrator.domain.events import AgentSwitched, RunFinished, RunQueued, StepFinished
from tests.unit.domain.build import AGENTS, Play, call, catalog, draft, task


def test_a_message_starts_a_run_and_enters_by_its_own_trigger() -> None:
    for agent, state in (("auto", "CLASSIFY"), ("ask", "EXECUTION"), ("architect", "ARCHITECT_PLANNING")):
        play = Play()
        play.say("do it", agent=agent)
        assert (play.session.state, play.run.state, play.run.goal) == (state, "RUNNING", "do it")
        assert (play.session.runnable, play.session.settled) == (True, False)


def test_a_message_to_nobody_goes_to_the_sessions_agent() -> None:
    play = Play(agent="ask")
    play.say(agent="")
    assert play.run.route_agent == "ask"


def test_an_agent_that_is_switched_to_gets_the_messages_to_come_and_not_those_that_wait() -> None:
    play = Play(agent="ask")
    play.say("one", agent="")
    play.say("two", agent="")
    play.do(lambda c: switch_agent(c, "coder", "anna", play.catalog))
    play.say("three", agent="")
    assert [r.agent for r in sorted(play.snapshot.runs.values(), key=lambda r: r.queue_number)] == [
        "ask",
        "ask",
        "coder",
    ]
    assert AgentSwitched("ask", "coder", "anna") in play.events


def test_a_session_is_not_given_to_the_router_or_to_nobody_nor_a_closed_one_to_anybody() -> None:
    play = Play()
    for agent in ("orchestrator", "nobody"):
        with pytest.raises(UnknownAgent):
            switch_agent(play.change(), agent, "anna", play.catalog)
    play.close()
    with pytest.raises(WrongState):
        switch_agent(play.change(), "coder", "anna", play.catalog)


def test_a_message_carries_its_place_in_the_log() -> None:
    play = Play()
    before = play.session.last_sequence
    play.say("hello")
    [message] = play.snapshot.messages.values()
    assert (message.sequence, message.role, message.author) == (before + 1, "USER", "anna")
    assert play.run.message_id == message.id


def test_runs_queue_in_order_and_each_says_what_it_waits_behind() -> None:
    play = Play()
    play.say("one", agent="ask")
    play.submit(draft(task("a")))
    play.say("three", agent="ask")
    one, two, three = sorted(play.snapshot.runs.values(), key=lambda r: r.queue_number)
    assert (one.state, two.state, three.state) == ("RUNNING", "CREATED", "CREATED")
    assert (two.queued_behind_run_id, three.queued_behind_run_id) == (one.id, two.id)
    assert [e.behind_run_id for e in play.events if isinstance(e, RunQueued)] == [one.id, two.id]
    play.reply("done")
    assert (play.run.id, play.session.state) == (two.id, "PLAN_REVIEW")
    play.decide("REJECT")
    assert (play.run.id, play.session.state) == (three.id, "EXECUTION")


def test_a_queued_plan_is_stored_at_once_and_put_to_review_when_its_turn_comes() -> None:
    play = Play()
    play.say(agent="ask")
    play.submit(draft(task("a")))
    [plan] = play.snapshot.plans.values()
    assert (plan.state, play.pending) == ("DRAFT", [])
    play.reply("done")
    assert [a.plan_id for a in play.pending] == [plan.id]


def test_a_busy_session_that_rejects_names_the_run_it_is_busy_with() -> None:
    play = Play(when_busy="REJECT")
    play.say(agent="ask")
    change = play.change()
    with pytest.raises(SessionBusy) as refused:
        receive_message(change, "again", "ask", "anna", play.catalog)
    assert refused.value.run_id == play.run.id
    with pytest.raises(SessionBusy):
        submit_plan(change, draft(), "", "anna", play.catalog)
    assert change.is_empty
    play.reply("done")
    play.say(agent="ask")
    assert play.session.state == "EXECUTION"


def test_the_queue_is_bounded() -> None:
    play = Play()
    for _ in range(1 + MAX_QUEUED_RUNS):
        play.say(agent="ask")
    change = play.change()
    with pytest.raises(LimitExceeded, match=str(MAX_QUEUED_RUNS)):
        receive_message(change, "one more", "ask", "anna", play.catalog)
    assert change.is_empty


@pytest.mark.parametrize("agent", ["wizard", "orchestrator"])
def test_an_agent_nobody_may_address_is_refused_with_those_one_may(agent: str) -> None:
    play = Play()
    change = play.change()
    with pytest.raises(InvalidInput) as refused:
        receive_message(change, "hi", agent, "anna", play.catalog)
    [violation] = refused.value.violations
    assert violation.field == "agent"
    assert "auto, architect, coder, ask" in violation.description
    assert change.is_empty


def test_a_closed_session_takes_nothing() -> None:
    play = Play()
    play.snapshot.session = replace(play.session, state="CLOSED")
    change = play.change()
    with pytest.raises(WrongState) as refused:
        receive_message(change, "hi", "ask", "anna", play.catalog)
    assert (refused.value.state, "IDLE" in refused.value.accepting) == ("CLOSED", True)
    with pytest.raises(WrongState):
        submit_plan(change, draft(), "", "anna", play.catalog)
    assert change.is_empty


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (draft(task("a", "a")), "subtasks[0].depends_on"),
        (draft(task("a", "b"), task("b", "a")), "subtasks"),
        (draft(task("a", agent="architect")), "subtasks[0].agent"),
        (draft(parallel_limit=0), "parallel_limit"),
        (draft(parallel_limit=-1), "parallel_limit"),
    ],
)
def test_a_clients_plan_that_does_not_do_is_refused_with_the_field_and_leaves_nothing(
    plan: PlanDraft, field: str
) -> None:
    play = Play()
    change = play.change()
    with pytest.raises(InvalidPlan) as refused:
        submit_plan(change, plan, "", "anna", play.catalog)
    assert [v.field for v in refused.value.violations] == [field]
    assert change.is_empty


def test_a_clients_plan_is_a_draft_like_any_other() -> None:
    play = Play()
    play.submit(draft(task("a"), task("b", "a")))
    assert (play.session.state, play.run.state, play.plan.state) == ("PLAN_REVIEW", "WAITING", "DRAFT")
    assert (play.run.kind, play.plan.author, play.plan.version) == ("PLAN", "anna", 1)
    assert [(s.key, s.state, s.depends_on) for s in play.snapshot.subtasks.values()] == [
        ("a", "PENDING", []),
        ("b", "PENDING", ["a"]),
    ]


def test_without_a_router_keywords_decide_at_once() -> None:
    play = Play(catalog(agents=[a for a in AGENTS if a.name != "orchestrator"]))
    play.say("What is this?")
    assert (play.session.state, play.flying[0].agent) == ("EXECUTION", "ask")


# --- cancels


def test_cancelling_the_active_run_closes_all_of_it_and_the_next_one_starts() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), task("c", "a"), parallel_limit=2)
    play.reply("", call("write_file", path="a"), call("read_file", "c2"))
    run = play.run
    play.say("next", agent="ask")
    change = play.cancel(run.id)
    assert play.snapshot.runs[run.id].state == "CANCELLED"
    assert {s.state for s in play.snapshot.subtasks.values()} == {"CANCELLED"}
    assert {s.state for s in play.steps if s.run_id == run.id} == {"SUCCEEDED", "CANCELLED"}
    assert {a.state for a in play.snapshot.attempts.values() if a.run_id == run.id} == {"CANCELLED"}
    assert {a.state for a in play.snapshot.approvals.values()} == {"RESOLVED", "CANCELLED"}
    assert (play.run.goal, play.session.state, len(play.flying)) == ("next", "EXECUTION", 1)
    assert [e.reason for e in change.events if isinstance(e, RunFinished)] == ["no longer wanted"]


def test_every_open_call_of_a_cancelled_run_gets_its_one_result() -> None:
    play = Play()
    play.say(agent="coder")
    play.reply("", call("write_file", path="a"), call("send_mail", "c2"))
    change = play.cancel()
    assert [s.result.is_error for s in play.calls if s.result] == [True, True]
    finished = [e for e in change.events if isinstance(e, StepFinished)]
    assert [(e.trigger, e.state) for e in finished] == [("cancelled", "CANCELLED")] * 2


def test_a_cancelled_call_does_not_claim_that_nothing_happened_once_it_was_sent() -> None:
    play = Play()
    play.say(agent="coder")
    play.reply("", call("read_file", path="a"), call("write_file", "c2", path="a"))
    play.cancel()
    words = {step.tool: step.result.content for step in play.calls if step.result}
    assert "may have taken effect" in words["read_file"]
    assert "before this call began" in words["write_file"]


def test_a_subtask_that_never_started_has_no_start_time_when_it_is_cancelled() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b", "a"))
    play.cancel()
    assert play.subtask("a").start_time > 0
    assert (play.subtask("b").start_time, play.subtask("b").end_time) == (0, play.now)


def test_cancelling_a_queued_run_leaves_the_active_one_alone() -> None:
    play = Play()
    play.say("one", agent="ask")
    play.submit(draft(task("a")))
    queued = next(r for r in play.snapshot.runs.values() if r.state == "CREATED")
    play.cancel(queued.id)
    assert (play.session.state, play.run.goal) == ("EXECUTION", "one")
    assert play.snapshot.plans[queued.plan_id].state == "CANCELLED"
    play.reply("done")
    assert (play.session.state, play.session.active_run_id) == ("COMPLETED", "")


def test_a_run_that_has_ended_cannot_be_cancelled() -> None:
    play = Play()
    play.say(agent="ask")
    run_id = play.run.id
    play.reply("done")
    with pytest.raises(WrongState) as refused:
        cancel(play.change(), run_id, "anna", "")
    assert refused.value.state == "COMPLETED"
    assert set(refused.value.accepting) == {"CREATED", "RUNNING", "WAITING", "RESUMED", "PAUSED"}
