"""Lists: newest first, page by page, filtered, each tenant its own; and one by its id."""

import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from orchestrator.domain.errors import InvalidInput, InvalidPageToken
from orchestrator.domain.events import LoggedEvent, MessageCreated
from orchestrator.domain.records import Approval, Message, Plan, Row, Session, Subtask
from orchestrator.store import audit, queries, requests
from orchestrator.store.database import Database
from orchestrator.store.paging import Page, Paging
from orchestrator.store.writer import Writer
from tests.integration.store.making import (
    TENANT,
    a_run,
    a_step,
    appending,
    assert_gapless_and_chained,
    creation,
    events_after,
    new_id,
    new_request,
    new_session,
    written,
)


async def every_page(list_page: Callable[[Paging], Awaitable[Page[object]]], size: int) -> list[object]:
    items, token = list[object](), ""
    while True:
        page = await list_page(Paging(size, token))
        assert len(page.items) <= size
        items += page.items
        if not page.next_page_token:
            return items
        assert len(page.items) == size
        token = page.next_page_token


async def make_sessions(writer: Writer, number: int) -> list[Session]:
    """Newest first; two by two of the same moment."""
    made = []
    for n in range(number):
        session = Session(
            TENANT,
            new_id(),
            state="IDLE" if n % 3 else "CLOSED",
            labels={"team": "blue" if n % 2 else "red", **({"urgent": ""} if n == 4 else {})},
            create_time=1000 + n // 2,
        )
        answer = await writer.write(creation(session), operation="create")
        assert answer.session is not None
        made.append(answer.session)
    return sorted(made, key=lambda session: (session.create_time, session.id), reverse=True)


@pytest.mark.parametrize("size", [1, 3, 7, 8, 100])
async def test_pages_of_sessions_follow_one_another_newest_first(writer: Writer, database: Database, size: int) -> None:
    sessions = await make_sessions(writer, 7)
    found = await every_page(lambda paging: queries.list_sessions(database, TENANT, paging=paging), size)
    assert found == sessions


async def test_sessions_are_filtered_by_state_and_labels(writer: Writer, database: Database) -> None:
    sessions = await make_sessions(writer, 9)

    async def listed(**filters: object) -> list[object]:
        return await every_page(
            lambda paging: queries.list_sessions(database, TENANT, paging=paging, **filters),  # type: ignore[arg-type]
            2,
        )

    assert await listed(state="CLOSED") == [s for s in sessions if s.state == "CLOSED"]
    assert await listed(labels=["team=blue"]) == [s for s in sessions if s.labels["team"] == "blue"]
    assert await listed(labels=["urgent"]) == [s for s in sessions if "urgent" in s.labels]
    assert await listed(labels=["urgent", "team=blue"]) == []
    assert await listed(labels=["nul\0"]) == []


@pytest.mark.parametrize("token", ["nonsense", "bm9uc2Vuc2U", "W10", "AAAA", "ü\0"])
async def test_a_token_that_no_list_gave_is_refused_by_name(database: Database, token: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await queries.list_sessions(database, TENANT, paging=Paging(10, token))
    assert [violation.field for violation in refused.value.violations] == ["page_token"]


async def test_a_token_of_another_filter_list_or_tenant_is_refused(writer: Writer, database: Database) -> None:
    await make_sessions(writer, 3)
    page = await queries.list_sessions(database, TENANT, paging=Paging(1))
    stolen = Paging(1, page.next_page_token)
    for use in (
        lambda: queries.list_sessions(database, TENANT, state="CLOSED", paging=stolen),
        lambda: queries.list_sessions(database, "other", paging=stolen),
        lambda: queries.list_runs(database, TENANT, paging=stolen),
    ):
        with pytest.raises(InvalidInput):
            await use()


async def test_an_executor_is_awaited_for_the_steps_whose_last_dispatch_went_to_it(
    writer: Writer, database: Database, session: Session
) -> None:
    run = a_run(session)
    flying, elsewhere = (a_step(session, run.id, state="DISPATCHED", executor_instance=name) for name in ("i1", "i2"))
    ended = a_step(session, run.id, state="SUCCEEDED", executor_instance="i1")
    await written(writer, appending(session, run, flying, elsewhere, ended))
    asked = [flying.id, elsewhere.id, ended.id, "unknown"]
    assert await queries.dispatched(database, asked, "i1") == {flying.id}
    assert await queries.dispatched(database, asked, "i2") == {elsewhere.id}


async def test_what_belongs_to_a_session_is_listed_and_found_by_id(
    writer: Writer, database: Database, session: Session
) -> None:
    runs = [a_run(session, state=state, create_time=n) for n, state in enumerate(["COMPLETED", "RUNNING"])]
    run = runs[1]
    plans = [
        Plan(TENANT, new_id(), session.id, run.id, n, "title", "", "architect", state=state, create_time=n)
        for n, state in ((1, "SUPERSEDED"), (2, "DRAFT"))
    ]
    subtasks = [
        Subtask(TENANT, new_id(), session.id, run.id, plans[1].id, f"key{n}", "", "", "coder", n) for n in (1, 2)
    ]
    steps = [replace(a_step(session, run.id, create_time=9), ordinal=n) for n in (1, 2, 3)]
    steps[2] = replace(steps[2], kind="TOOL", state="PROPOSED", subtask_id=subtasks[0].id)
    messages = [Message(TENANT, new_id(), session.id, run.id, "USER", "auto", f"{n}", sequence=n) for n in (1, 2, 3)]
    approvals = [
        Approval(TENANT, new_id(), session.id, run.id, kind, "digest", state=state, create_time=n)
        for n, (kind, state) in enumerate([("PLAN", "RESOLVED"), ("PLAN", "PENDING"), ("TOOL_CALL", "PENDING")])
    ]
    rows: list[Row] = [*runs, *plans, *subtasks, *steps, *messages, *approvals]
    await written(writer, appending(session, *rows))
    other = await new_session(writer)
    await written(writer, appending(other, a_run(other, create_time=50)))

    async def listed(query: Callable[..., Awaitable[Page[object]]], *args: str, **filters: str) -> list[object]:
        return await every_page(lambda paging: query(database, TENANT, *args, paging=paging, **filters), 1)

    q: dict[str, Callable[..., Awaitable[Page[object]]]] = vars(queries)
    assert await listed(q["list_runs"], session_id=session.id) == runs[::-1]
    assert await listed(q["list_runs"], session_id=session.id, state="RUNNING") == [run]
    assert len(await listed(q["list_runs"])) == 3
    assert await listed(q["list_plans"], session.id) == plans[::-1]
    assert await listed(q["list_plans"], session.id, run_id=run.id, state="DRAFT") == [plans[1]]
    assert await queries.subtasks_of(database, TENANT, plans[1].id) == subtasks
    assert await listed(q["list_steps"], run.id) == steps
    assert await listed(q["list_steps"], run.id, kind="TOOL") == [steps[2]]
    assert await listed(q["list_steps"], run.id, subtask_id=subtasks[0].id) == [steps[2]]
    assert await listed(q["list_messages"], session.id) == messages[::-1]
    assert await listed(q["list_approvals"]) == approvals[::-1]
    assert await listed(q["list_approvals"], state="PENDING") == [approvals[2], approvals[1]]
    assert await listed(q["list_approvals"], state="PENDING", kind="PLAN", run_id=run.id) == [approvals[1]]
    assert await listed(q["list_approvals"], session_id=other.id) == []
    found_by_id: list[Row] = [*runs, *plans, *steps, *messages, *approvals]
    for row in found_by_id:
        get: Callable[..., Awaitable[object]] = vars(queries)[f"get_{type(row).__name__.lower()}"]
        assert await get(database, TENANT, row.id) == row
        assert await get(database, "another tenant", row.id) is None


async def test_a_list_of_what_somebody_may_decide_pages_right_however_rare_that_is(
    writer: Writer, database: Database, session: Session
) -> None:
    rows = [
        Approval(TENANT, new_id(), session.id, "run", "TOOL_CALL", "digest", create_time=n, tool=f"tool{n % 7}")
        for n in range(200)
    ]
    await written(writer, appending(session, *rows))
    newest_first = rows[::-1]

    async def listed(size: int, kept: set[str]) -> tuple[list[Approval], list[int]]:
        found, sizes, token = list[Approval](), list[int](), ""
        while not sizes or token:
            page = await queries.list_approvals(
                database,
                TENANT,
                state="PENDING",
                paging=Paging(size, token),
                keep=lambda approval: approval.tool in kept,
                kept_for=("decidable", sorted(kept)),
            )
            found += page.items
            sizes.append(len(page.items))
            token = page.next_page_token
        return found, sizes

    for size in (1, 7, 50, 500):
        for kept in ({"tool3"}, {"tool1", "tool5"}, {"none"}, {f"tool{n}" for n in range(7)}):
            found, sizes = await listed(size, kept)
            assert found == [approval for approval in newest_first if approval.tool in kept]
            assert max(sizes) <= size
    mine = await queries.list_approvals(
        database, TENANT, paging=Paging(5), keep=lambda _: True, kept_for=("decidable", "anna")
    )
    with pytest.raises(InvalidPageToken):
        await queries.list_approvals(database, TENANT, paging=Paging(5, mine.next_page_token))
    of_tool = await queries.list_approvals(database, TENANT, tool="tool2", paging=Paging(500))
    assert of_tool.items == [approval for approval in newest_first if approval.tool == "tool2"]
    assert await queries.pending_tally(database, TENANT, queries.OfApprovals(tool="tool2", run_id="run")) == (
        len(of_tool.items),
        sum(int(approval.id[-8:], 16) for approval in of_tool.items),
    )
    assert (await queries.list_approvals(database, TENANT, tool="a\0b")).items == []


async def test_events_are_listed_oldest_first_after_a_sequence(
    writer: Writer, database: Database, session: Session
) -> None:
    held = await written(writer, appending(session, events=9))
    log = await events_after(database, session.id, 0, 100)
    assert_gapless_and_chained(log)
    assert (log[-1].sequence, log[-1].hash) == (held.last_sequence, held.last_hash)
    assert await events_after(database, session.id, 4, 2) == log[4:6]
    assert (
        await every_page(lambda paging: queries.list_events(database, TENANT, session.id, after=3, paging=paging), 2)
        == log[3:]
    )


async def test_pages_of_large_items_are_short_and_leave_nothing_out(writer: Writer, database: Database) -> None:
    """A client takes messages up to 4 MiB, and an event may travel in it twice."""
    session = await new_session(writer)
    for n in range(9):
        text = chr(ord("a") + n) * 300_000 if n % 3 else "я" * 150_000
        message = Message(TENANT, new_id(), session.id, "run", "USER", "auto", text, sequence=n)
        change = replace(appending(session, message), events=(MessageCreated(message),))
        session = await written(writer, change)

    pages = list[Page[object]]()
    for list_page in (queries.list_events, queries.list_messages):
        found, token = list[object](), ""
        while not found or token:
            page: Page[object] = await list_page(database, TENANT, session.id, paging=Paging(500, token))
            pages.append(page)
            found += page.items
            token = page.next_page_token
        assert len(found) == (10 if list_page is queries.list_events else 9)
        assert len(set(map(str, found))) == len(found)
    log = list[LoggedEvent]()
    while part := await events_after(database, session.id, len(log), 500):
        pages.append(Page(part, ""))
        log += part
    assert_gapless_and_chained(log)
    assert len(log) == 10
    assert all(len(str(page.items).encode()) < 2 * 1024 * 1024 for page in pages)


async def test_one_item_larger_than_a_page_is_a_page(writer: Writer, database: Database) -> None:
    session = await new_session(writer)
    large = Message(TENANT, new_id(), session.id, "run", "USER", "auto", "x" * 3_000_000, sequence=2)
    after = replace(large, id=new_id(), text="y", sequence=3)
    session = await written(writer, replace(appending(session, large), events=(MessageCreated(large),)))
    await written(writer, replace(appending(session, after), events=(MessageCreated(after),)))

    assert [event.sequence for event in await events_after(database, session.id, 1, 500)] == [2]
    assert [event.sequence for event in await events_after(database, session.id, 2, 500)] == [3]
    assert await every_page(lambda paging: queries.list_messages(database, TENANT, session.id, paging=paging), 1) == [
        after,
        large,
    ]


async def test_standings_are_those_of_the_sessions_asked_for(writer: Writer, database: Database) -> None:
    one, two = await new_session(writer), await new_session(writer)
    await written(writer, appending(replace(two, settled=False, state="EXECUTION"), events=3))
    keys = [(TENANT, one.id), (TENANT, two.id), (TENANT, new_id()), ("other", one.id)]
    assert await queries.standings(database, keys) == {
        (TENANT, one.id): (1, True, "IDLE"),
        (TENANT, two.id): (4, False, "EXECUTION"),
    }


async def test_a_stored_request_is_found_by_its_caller_alone(
    writer: Writer, database: Database, session: Session
) -> None:
    request = new_request("ann")
    await written(writer, appending(session, request=request))
    assert await requests.find(database, TENANT, "ann", request.request_id) == request
    assert await requests.find(database, TENANT, "bob", request.request_id) is None
    assert await requests.find(database, "other", "ann", request.request_id) is None


async def test_a_refused_decision_leaves_one_row_however_often_it_is_written(database: Database) -> None:
    said = {"subject": "ann", "method": "DecideApproval", "approval_id": "a", "action": "APPROVE", "digest": "\0"}
    why = {"reason": "DigestMismatch", "message": "another digest"}
    refusal = new_id()
    for _ in range(2):  # as when the first answer was lost
        await audit.record_refusal(database, tenant=TENANT, id=refusal, create_time=5, **said, **why)
    [row] = await database.fetch("SELECT * FROM audit")
    assert dict(row) == {
        "tenant": TENANT,
        "id": row["id"],
        "create_time": 5,
        **said,
        **why,
        "digest": "\ufffd",
        "step_id": "",
    }


async def test_a_page_token_that_its_client_has_changed_is_refused_whatever_it_holds(
    database: Database, writer: Writer
) -> None:
    await make_sessions(writer, 3)
    token = (await queries.list_sessions(database, TENANT, paging=Paging(1))).next_page_token
    bound, time, id = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    for forged in (
        [bound, 2**70, id],
        [bound, time, "a\0b"],
        [bound, -(2**63) - 1, id],
        [bound, time],
        [bound, id, time],
    ):
        changed = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode().rstrip("=")
        with pytest.raises(InvalidPageToken):
            await queries.list_sessions(database, TENANT, paging=Paging(1, changed))
