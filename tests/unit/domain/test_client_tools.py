"""A session's own tools: offered, judged, handed to a client, claimed by one, answered once, and over in time."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.catalog import Rule, Tool
from orchestrator.domain.client_tools import (
    MAX_SCHEMA_VALUES,
    MAX_TOOLS_BYTES,
    check_client_tools,
    claim_call,
    record_result,
)
from orchestrator.domain.control import pause, resume
from orchestrator.domain.errors import ClaimedByAnother, InvalidInput, InvalidJson, WrongState
from orchestrator.domain.events import (
    RunStateChanged,
    StepFinished,
    StepStarted,
    ToolCallClaimed,
    ToolCallReady,
    ToolResultRecorded,
)
from orchestrator.domain.records import Budget, ClientTool, Step, ToolResult
from tests.unit.domain.build import CLIENT_TOOLS, POLICY, SECOND, Play, call, catalog, task

DONE = ToolResult("done")
FAILED = ToolResult("no such tab", is_error=True)


def opening(*calls: Any) -> Play:
    """The coder calls `open_tab`, which policy allows, or what is given."""
    play = Play(client_tools=CLIENT_TOOLS)
    play.approved_plan(task("a"))
    play.reply("", *(calls or (call("open_tab", url="x"),)))
    return play


def the_step(play: Play) -> Step:
    [step] = play.calls
    return step


def claim(play: Play, client: str = "ide", seconds: int = 60, actor: str = "anna") -> None:
    play.do(lambda c: claim_call(c, the_step(play), client, seconds * SECOND, actor))


def hand_in(play: Play, client: str = "", result: ToolResult = DONE, actor: str = "anna") -> None:
    play.do(lambda c: record_result(c, the_step(play), client, actor, result))


def read_by_the_model(play: Play) -> list[tuple[str, bool]]:
    return [(m.text, m.is_error) for m in play.seen().messages if m.role == "TOOL"]


# --- offered and judged


def test_an_agent_that_may_use_it_is_offered_the_clients_tool() -> None:
    play = Play(client_tools=CLIENT_TOOLS)
    play.say(agent="coder")
    offered = {tool.name: tool for tool in play.seen().tools}
    assert {"ask_ide", "open_tab", "write_file"} <= set(offered)
    assert (offered["ask_ide"].description, offered["ask_ide"].input_schema_json) == (
        "asks the IDE",
        '{"type": "object"}',
    )
    assert offered["ask_ide"].side_effect == "NON_IDEMPOTENT"


def test_an_agent_that_may_not_use_it_is_not_offered_it_and_its_call_is_denied() -> None:
    play = Play(client_tools=CLIENT_TOOLS)
    play.say(agent="ask")
    assert "open_tab" not in [tool.name for tool in play.seen().tools]
    play.reply("", call("open_tab"))
    assert (the_step(play).state, the_step(play).failure.reason) == ("REJECTED", "TOOL_DENIED")


def test_another_sessions_client_tool_is_none_of_this_one() -> None:
    play = Play()
    play.say(agent="coder")
    play.reply("", call("open_tab"))
    assert "there is no tool" in the_step(play).failure.message


def test_what_no_rule_names_asks_and_is_handed_over_once_approved() -> None:
    play = opening(call("ask_ide", q="x"))
    [asked] = play.pending
    assert (the_step(play).state, asked.tool) == ("AWAITING_APPROVAL", "ask_ide")
    play.decide("APPROVE")
    step = the_step(play)
    assert (step.state, step.approval_id, step.dispatch_number) == ("READY", asked.id, 1)
    assert play.snapshot.approvals[asked.id].consume_time == play.now


def test_an_edited_call_is_handed_over_with_the_edited_bytes() -> None:
    play = opening(call("ask_ide", q="x"))
    play.decide("EDIT", edited_arguments_json='{"q":  "y"}')
    [ready] = [e for e in play.events if isinstance(e, ToolCallReady)]
    assert ready.arguments_json == '{"q":  "y"}'


@pytest.mark.parametrize(
    "tampered", [{"arguments_json": "{}"}, {"approval_id": "another"}, {"doubt_number": 1}], ids=str
)
def test_a_call_that_is_not_what_was_approved_is_not_handed_over(tampered: dict[str, Any]) -> None:
    play = opening(call("ask_ide", q="x"))
    play.snapshot.steps[the_step(play).id] = replace(the_step(play), **tampered)
    play.decide("APPROVE")
    assert (the_step(play).state, the_step(play).failure.reason) == ("CANCELLED", "DIGEST_MISMATCH")
    assert not [e for e in play.events if isinstance(e, ToolCallReady)]


def test_its_own_tool_keeps_its_name_when_an_executor_comes_with_one_like_it() -> None:
    play = Play(client_tools=CLIENT_TOOLS)
    play.catalog.tools["open_tab"] = replace(play.catalog.tools["read_file"], name="open_tab")
    play.say(agent="coder")
    play.reply("", call("open_tab"))
    assert the_step(play).state == "READY"


# --- handed over


def test_a_call_that_is_allowed_is_ready_for_a_client_and_no_executor_has_it() -> None:
    play = opening()
    [ready] = [e for e in play.events if isinstance(e, ToolCallReady)]
    step, agent = the_step(play), play.catalog.agents["coder"]
    assert (ready.step_id, ready.tool, ready.arguments_json) == (step.id, "open_tab", step.arguments_json)
    assert ready.deadline_time == step.deadline_time == play.now + agent.tool_timeout
    assert not [e for e in play.events if isinstance(e, StepStarted) and e.kind == "TOOL"]
    assert (play.flying, play.pending) == ([], [])


def test_a_run_that_waits_only_for_a_client_waits_and_is_settled_and_looked_at_in_time() -> None:
    play = opening()
    assert (play.run.state, play.session.settled, play.session.runnable) == ("WAITING", True, False)
    assert play.session.due_time == the_step(play).deadline_time


def test_other_calls_of_the_reply_go_on_meanwhile() -> None:
    play = opening(call("open_tab", "c1"), call("read_file", "c2"))
    assert (play.run.state, [s.tool for s in play.flying]) == ("RUNNING", ["read_file"])
    play.result("text")
    assert play.run.state == "WAITING"


# --- claimed


def test_a_claim_is_in_the_log_and_on_the_step() -> None:
    play = opening()
    claim(play, "ide", 300)
    step = the_step(play)
    assert (step.state, step.client_id, step.claimer) == ("READY", "ide", "anna")
    assert step.lease_expire_time == step.deadline_time == play.now + 300 * SECOND
    [claimed] = [e for e in play.events if isinstance(e, ToolCallClaimed)]
    assert (claimed.client_id, claimed.actor, claimed.lease_expire_time) == ("ide", "anna", step.lease_expire_time)
    assert play.run.state == "WAITING"


def test_a_short_claim_does_not_shorten_the_time_there_is() -> None:
    play = opening()
    deadline = the_step(play).deadline_time
    claim(play, "ide", 1)
    assert (the_step(play).deadline_time, play.session.due_time) == (deadline, deadline)


@pytest.mark.parametrize(("client", "actor"), [("web", "anna"), ("ide", "boris"), ("", "anna")])
def test_nobody_else_may_claim_or_answer_while_the_lease_lives(client: str, actor: str) -> None:
    play = opening()
    claim(play)
    before, change = deepcopy(play.snapshot), play.change()
    with pytest.raises(ClaimedByAnother, match="'ide'"):
        claim_call(change, the_step(play), client, SECOND, actor)
    with pytest.raises(ClaimedByAnother):
        record_result(change, the_step(play), client, actor, DONE)
    assert change.is_empty
    assert play.snapshot == before


def test_the_same_client_renews_its_lease() -> None:
    play = opening()
    claim(play)
    play.now += 30 * SECOND
    claim(play)
    assert the_step(play).lease_expire_time == play.now + 60 * SECOND


def test_after_the_lease_anybody_may_claim_or_answer() -> None:
    play = opening()
    claim(play)
    play.now += 60 * SECOND
    claim(play, "web", actor="boris")
    assert (the_step(play).client_id, the_step(play).claimer) == ("web", "boris")
    play.now += 60 * SECOND
    hand_in(play, "another")
    assert the_step(play).client_id == "another"


@pytest.mark.parametrize("client", ["ide", "", "web"])
def test_an_unclaimed_call_is_anybodys_to_answer(client: str) -> None:
    play = opening()
    hand_in(play, client)
    assert (the_step(play).state, the_step(play).client_id) == ("SUCCEEDED", client)


# --- answered


def test_the_result_resumes_the_run_and_the_model_reads_it() -> None:
    play = opening()
    claim(play)
    hand_in(play, "ide", ToolResult("7 tabs", "7"))
    step = the_step(play)
    assert (step.state, step.result) == ("SUCCEEDED", ToolResult("7 tabs", "7"))
    assert (step.usage.tool_calls, play.run.usage.tool_calls) == (1, 1)
    assert read_by_the_model(play) == [("7 tabs", False)]
    [recorded] = [e for e in play.events if isinstance(e, ToolResultRecorded)]
    assert (recorded.client_id, recorded.actor, recorded.is_error, recorded.output_preview) == (
        "ide",
        "anna",
        False,
        "7 tabs",
    )
    assert play.run.state == "RUNNING"


def test_an_error_fails_the_call_and_the_model_reads_why() -> None:
    play = opening()
    hand_in(play, result=FAILED)
    assert (the_step(play).state, the_step(play).failure.reason) == ("FAILED", "TOOL_FAILED")
    assert read_by_the_model(play) == [("no such tab", True)]
    assert play.subtask("a").state == "RUNNING"


def test_the_first_result_wins_and_a_later_one_is_refused() -> None:
    play = opening()
    hand_in(play)
    change = play.change()
    with pytest.raises(WrongState, match="SUCCEEDED"):
        record_result(change, the_step(play), "", "anna", DONE)
    with pytest.raises(WrongState, match="SUCCEEDED"):
        claim_call(change, the_step(play), "ide", SECOND, "anna")
    assert change.is_empty


def test_a_call_of_an_executor_takes_no_clients_result() -> None:
    play = opening(call("send_mail"))
    with pytest.raises(WrongState, match="DISPATCHED"):
        record_result(play.change(), the_step(play), "", "anna", DONE)


def test_a_result_for_a_paused_run_is_kept_and_used_after_the_resume() -> None:
    play = opening()
    run_id = play.run.id
    play.do(lambda c: pause(c, run_id, "anna", ""))
    assert (play.run.state, play.session.due_time) == ("PAUSED", 0)
    hand_in(play)
    assert (play.run.state, play.flying) == ("PAUSED", [])
    play.do(lambda c: resume(c, run_id, "anna", ""))
    assert read_by_the_model(play) == [("done", False)]


# --- over in time


@pytest.mark.parametrize("claimed", [False, True])
def test_a_call_that_nobody_answers_in_time_fails_in_words_and_the_run_goes_on(claimed: bool) -> None:
    play = opening()
    if claimed:
        claim(play, seconds=600)
    deadline = the_step(play).deadline_time
    play.wait(deadline - play.now - 2)
    assert the_step(play).state == "READY"
    change = play.wait(2)
    step = the_step(play)
    assert (step.state, step.failure.reason) == ("FAILED", "DEADLINE_EXCEEDED")
    [(words, is_error)] = read_by_the_model(play)
    assert ("may have taken effect" in words) is claimed
    assert is_error
    assert [e.trigger for e in change.events if isinstance(e, StepFinished)] == ["failed"]
    assert (play.run.state, play.session.settled) == ("RUNNING", False)


def test_a_deadline_that_passed_during_a_pause_counts_after_it() -> None:
    play = opening()
    run_id = play.run.id
    play.do(lambda c: pause(c, run_id, "anna", ""))
    play.wait(3600 * SECOND)
    assert the_step(play).state == "READY"
    play.do(lambda c: resume(c, run_id, "anna", ""))
    assert the_step(play).state == "FAILED"


@pytest.mark.parametrize("claimed", [False, True])
def test_a_cancelled_run_gives_the_call_its_one_result(claimed: bool) -> None:
    play = opening()
    if claimed:
        claim(play)
    play.cancel()
    step = the_step(play)
    assert step.state == "CANCELLED"
    assert step.result is not None
    assert ("may have taken effect" in step.result.content) is claimed
    assert (play.session.due_time, play.session.settled) == (0, True)


# --- a time of its own, and what happens then


def limited(on_timeout: str, limit: int = 90 * SECOND, *calls: Any) -> Play:
    """As `opening`, with a limit of its own and an action at its end."""
    tools = [ClientTool("open_tab", "opens a tab", "", limit, on_timeout), CLIENT_TOOLS[0]]
    play = Play(client_tools=tools)
    play.approved_plan(task("a"))
    play.reply("", *(calls or (call("open_tab", url="x"),)))
    return play


def time_out(play: Play) -> None:
    play.wait(the_step(play).deadline_time - play.now)


@pytest.mark.parametrize("on_timeout", ["", "FAIL", "ASK", "HALT"])
def test_its_own_limit_counts_and_not_its_agents(on_timeout: str) -> None:
    play = limited(on_timeout)
    assert the_step(play).deadline_time == play.now + 90 * SECOND == play.session.due_time
    play.wait(90 * SECOND - 2)
    assert the_step(play).state == "READY"


@pytest.mark.parametrize("on_timeout", ["", "FAIL"])
def test_it_fails_unless_something_else_was_asked_for(on_timeout: str) -> None:
    play = limited(on_timeout)
    time_out(play)
    assert (the_step(play).state, the_step(play).failure.reason) == ("FAILED", "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("claimed", [False, True])
def test_ask_has_a_person_say_what_became_of_it(claimed: bool) -> None:
    play = limited("ASK")
    if claimed:
        claim(play, "ide", 90)
    time_out(play)
    [doubt] = play.pending
    assert (the_step(play).state, doubt.kind, doubt.step_id) == ("IN_DOUBT", "IN_DOUBT", the_step(play).id)
    assert ("ide had taken it" in doubt.preview.reason) is claimed
    assert (play.run.state, play.session.settled, play.session.due_time) == ("WAITING", True, 0)
    with pytest.raises(WrongState, match="IN_DOUBT"):
        record_result(play.change(), the_step(play), "ide", "anna", DONE)


def test_a_person_who_knows_gives_the_result() -> None:
    play = limited("ASK")
    time_out(play)
    play.decide("RESPOND", response_json='"it opened"')
    assert (the_step(play).state, read_by_the_model(play)) == ("SUCCEEDED", [("it opened", False)])


def test_a_person_who_gives_it_up_says_so_to_the_model() -> None:
    play = limited("ASK")
    time_out(play)
    play.decide("REJECT", feedback="leave it")
    [(words, is_error)] = read_by_the_model(play)
    assert "leave it" in words
    assert is_error


@pytest.mark.parametrize("asked_before", [False, True])
def test_a_retry_hands_it_over_once_more_with_all_its_time_and_nobodys_claim(asked_before: bool) -> None:
    play = limited("ASK", 90 * SECOND, call("ask_ide" if asked_before else "open_tab"))
    if asked_before:
        play.session.client_tools[1] = replace(CLIENT_TOOLS[0], on_timeout="ASK")
        play.decide("APPROVE")
    claim(play, "ide", 600)
    first = the_step(play)
    time_out(play)
    [doubt] = play.pending
    play.decide("RETRY")
    again = the_step(play)
    assert (again.state, again.client_id, again.lease_expire_time) == ("READY", "", 0)
    assert (again.dispatch_number, again.doubt_number, again.approval_id) == (2, 1, doubt.id)
    assert again.deadline_time > play.now >= first.deadline_time
    assert [e.step_id for e in play.events if isinstance(e, ToolCallReady)] == [again.id] * 2
    time_out(play)
    [second] = play.pending
    assert second.digest != doubt.digest
    play.decide("RESPOND", response_json='"now"')
    assert read_by_the_model(play) == [("now", False)]


def test_halt_pauses_the_run_and_the_resume_gives_it_its_time_again() -> None:
    play = limited("HALT")
    run_id = play.run.id
    change = play.wait(the_step(play).deadline_time - play.now)
    assert (play.run.state, the_step(play).state, play.session.due_time) == ("PAUSED", "READY", 0)
    assert play.run.pause is not None
    assert (play.run.pause.requester, "open_tab" in play.run.pause.reason) == ("engine", True)
    assert [e.trigger for e in change.events if isinstance(e, RunStateChanged)] == ["paused"]
    play.wait(3600 * SECOND)
    assert play.run.state == "PAUSED"
    play.resume(run_id)
    assert (play.run.state, play.session.due_time) == ("WAITING", play.now + 90 * SECOND)
    assert [e.deadline_time for e in play.events if isinstance(e, ToolCallReady)][1:] == [play.session.due_time]
    time_out(play)
    assert play.run.state == "PAUSED"
    play.resume(run_id)
    hand_in(play)
    assert read_by_the_model(play) == [("done", False)]


def test_a_result_for_a_run_that_a_silence_halted_is_taken() -> None:
    play = limited("HALT")
    run_id = play.run.id
    time_out(play)
    hand_in(play)
    assert (play.run.state, play.flying) == ("PAUSED", [])
    play.resume(run_id)
    assert read_by_the_model(play) == [("done", False)]


def test_halt_waits_for_what_an_executor_has_in_hand() -> None:
    play = limited("HALT", 90 * SECOND, call("open_tab", "c1"), call("read_file", "c2"))
    run_id = play.run.id
    play.wait(90 * SECOND)
    assert (play.run.state, play.run.pause is not None) == ("RUNNING", True)
    play.result("text")
    assert play.run.state == "PAUSED"
    play.resume(run_id)
    assert [s.deadline_time for s in play.ready] == [play.now + 90 * SECOND]


def test_halt_that_a_person_takes_back_before_it_holds_gives_the_time_again_as_well() -> None:
    play = limited("HALT", 90 * SECOND, call("open_tab", "c1"), call("read_file", "c2"))
    play.wait(90 * SECOND)
    play.resume(play.run.id)
    assert (play.run.pause, [s.deadline_time for s in play.ready]) == (None, [play.now + 90 * SECOND])


def test_a_limit_that_passed_during_a_persons_pause_does_not_halt_the_run_they_resume() -> None:
    play = limited("HALT")
    run_id = play.run.id
    play.pause()
    play.wait(3600 * SECOND)
    play.resume(run_id)
    assert (play.run.state, the_step(play).deadline_time) == ("WAITING", play.now + 90 * SECOND)


def test_of_several_that_are_over_at_once_each_ends_as_it_was_to() -> None:
    tools = [ClientTool(f"tab_{then}", "", "", 90 * SECOND, then) for then in ("FAIL", "ASK", "HALT")]
    rules = (Rule("all", "ALLOW", ("tab_*",)),)
    play = Play(catalog(policy=replace(POLICY, rules=rules)), client_tools=tools)
    play.approved_plan(task("a"))
    play.reply("", *(call(tool.name, tool.name) for tool in tools))
    play.wait(90 * SECOND)
    assert [s.state for s in play.calls] == ["FAILED", "IN_DOUBT", "READY"]
    assert (play.run.state, [a.kind for a in play.pending]) == ("PAUSED", ["IN_DOUBT"])


# --- declared in the catalog


def declared(**fields: Any) -> Play:
    book = catalog()
    schema = '{"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}'
    tool = Tool("show_page", "shows a page", schema, "digest of show_page", "READ_ONLY", "client", 30 * SECOND, "ASK")
    book.client_tools["show_page"] = replace(tool, **fields)
    play = Play(book)
    play.say(agent="coder")
    return play


def test_a_catalogs_client_tool_is_offered_in_every_session_and_handed_to_a_client() -> None:
    play = declared()
    assert "show_page" in [t.name for t in play.seen().tools]
    play.reply("", call("show_page", url="x"))
    step = the_step(play)
    assert (step.state, step.side_effect, step.schema_digest) == ("READY", "READ_ONLY", "digest of show_page")
    assert step.deadline_time == play.now + 30 * SECOND
    time_out(play)
    assert the_step(play).state == "IN_DOUBT"


def test_an_executors_tool_of_its_name_is_shadowed() -> None:
    play = declared()
    play.catalog.tools["show_page"] = replace(play.catalog.tools["read_file"], name="show_page")
    play.reply("", call("show_page", url="x"))
    assert (the_step(play).state, play.flying) == ("READY", [])


def test_a_catalogs_schema_is_applied_and_a_sessions_is_left_to_its_client() -> None:
    play = declared(side_effect="NON_IDEMPOTENT")
    play.reply("", call("show_page", url=1))
    assert (the_step(play).failure.reason, play.pending) == ("TOOL_ARGUMENTS_INVALID", [])
    own = ClientTool("open_tab", "", '{"properties": {"url": {"pattern": "^(a+)+$"}}}')
    session = Play(client_tools=[own])
    session.say(agent="coder")
    session.reply("", call("open_tab", url="a" * 60 + "!"))
    assert the_step(session).state == "READY"


# --- what a session may bring along


def test_tools_are_taken_as_they_are() -> None:
    check_client_tools(CLIENT_TOOLS, catalog())
    check_client_tools([ClientTool("a", input_schema_json='{"$ref": "http://127.0.0.1:1/"}')], catalog())  # unread


@pytest.mark.parametrize(
    ("tools", "field"),
    [
        ([ClientTool("write_file")], "client_tools[0].name"),
        ([ClientTool("ask_user")], "client_tools[0].name"),
        ([ClientTool("a"), ClientTool("a")], "client_tools[1].name"),
        ([ClientTool("a", input_schema_json='{"type": "strin"}')], "client_tools[0].input_schema_json"),
        ([ClientTool("a", input_schema_json='{"pattern": "("}')], "client_tools[0].input_schema_json"),
        ([ClientTool("a", "x" * MAX_TOOLS_BYTES)], "client_tools"),
        ([ClientTool("a", input_schema_json='{"enum": [' + "1," * MAX_SCHEMA_VALUES + "1]}")], "client_tools"),
    ],
    ids=["the server's", "the question", "twice", "no schema", "no pattern", "too large", "too many values"],
)
def test_tools_that_will_not_do_are_refused_by_field(tools: list[ClientTool], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_client_tools(tools, catalog())
    assert [v.field for v in refused.value.violations] == [field]


@pytest.mark.parametrize("text", ["{", "[]", "true", '{"a":1,"a":2}', '{"a": NaN}'])
def test_a_schema_that_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidJson):
        check_client_tools([ClientTool("a", input_schema_json=text)], catalog())


# --- beside the other limits of a run


def test_a_call_is_over_in_time_also_when_the_run_has_used_up_its_own() -> None:
    play = Play(client_tools=CLIENT_TOOLS, budget=Budget(work_duration=10 * SECOND))
    play.approved_plan(task("a"))
    play.reply("", call("open_tab", "c1"), call("read_file", "c2"))
    play.wait(11 * SECOND)
    play.result("text")
    assert [a.kind for a in play.pending] == ["BUDGET"]
    assert (play.run.state, play.session.due_time) == ("WAITING", play.ready[0].deadline_time)
    play.wait(play.session.due_time - play.now)
    assert [s.state for s in play.calls] == ["FAILED", "SUCCEEDED"]
    assert (play.run.state, play.flying, play.session.due_time) == ("WAITING", [], 0)


def test_a_result_for_a_run_without_room_is_kept_until_there_is_some() -> None:
    play = opening()
    play.may_run = False
    hand_in(play)
    assert (play.run.state, play.flying, play.session.queue_time) == ("RESUMED", [], play.now)
    play.may_run = True
    play.do()
    assert read_by_the_model(play) == [("done", False)]


def test_a_run_without_room_still_ends_its_calls_in_time() -> None:
    play = opening(call("open_tab", "c1"), call("open_tab", "c2"))
    play.may_run = False
    first, second = play.ready
    play.do(lambda c: record_result(c, first, "", "anna", DONE))
    play.wait(second.deadline_time - play.now)
    assert [s.state for s in play.calls] == ["SUCCEEDED", "FAILED"]
    assert (play.run.state, play.session.due_time) == ("RESUMED", 0)
