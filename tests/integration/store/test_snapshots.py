"""A snapshot is all that a decision needs of one session, as of one moment, and nothing else."""

from dataclasses import replace

from orchestrator.domain.records import (
    Approval,
    Attempt,
    Decision,
    Grant,
    Message,
    ModelReply,
    Plan,
    Preview,
    Row,
    Session,
    Subtask,
    ToolCall,
    ToolResult,
)
from orchestrator.domain.snapshot import Snapshot
from orchestrator.store import snapshots
from orchestrator.store.database import Database
from orchestrator.store.writer import Writer
from tests.integration.store.making import TENANT, a_run, a_step, appending, new_id, new_session, written


def a_message(session: Session, run_id: str, sequence: int) -> Message:
    return Message(TENANT, new_id(), session.id, run_id, "USER", "auto", f"message {sequence}", sequence=sequence)


async def test_it_holds_the_open_runs_and_the_active_run_whole(
    writer: Writer, database: Database, session: Session
) -> None:
    active, queued = a_run(session, queue_number=2), a_run(session, state="CREATED", queue_number=3)
    ended = a_run(session, state="COMPLETED", queue_number=1)
    ended_step = a_step(session, ended.id)
    plans = [Plan(TENANT, new_id(), session.id, active.id, n, f"plan {n}", "", "architect") for n in (1, 2)]
    subtasks = [
        Subtask(TENANT, new_id(), session.id, active.id, plans[1].id, f"key{n}", "", "", "coder", n, [f"key{n - 1}"])
        for n in (1, 2, 3)
    ]
    attempt = Attempt(TENANT, new_id(), session.id, active.id, "SUBTASK", "coder", 1, subtasks[0].id)
    call = ToolCall("call", "write_file", '{"id": 1234567890123456789}')
    steps = [
        a_step(session, active.id, create_time=5, reply=ModelReply("text", "why", [call], "tool_calls")),
        replace(
            a_step(session, active.id, create_time=5, result=ToolResult("done"), tool="write_file"),
            kind="TOOL",
            state="PROPOSED",
            ordinal=2,
            arguments_json=call.arguments_json,
        ),
    ]
    approval = Approval(
        TENANT,
        new_id(),
        session.id,
        active.id,
        "TOOL_CALL",
        "digest",
        allowed_actions=["APPROVE", "REJECT"],
        preview=Preview("title"),
        decision=Decision("APPROVE", "ann", 7),
    )
    rows: list[Row] = [queued, ended, ended_step, active, attempt, approval]
    rows += [*reversed(plans), *reversed(subtasks), *reversed(steps)]
    held = await written(writer, appending(replace(session, active_run_id=active.id), *rows))

    snapshot = await snapshots.load(database, TENANT, session.id)

    assert snapshot == Snapshot(
        held,
        runs={run.id: run for run in (active, queued)},
        plans={plan.id: plan for plan in plans},
        subtasks={subtask.id: subtask for subtask in subtasks},
        attempts={attempt.id: attempt},
        steps={step.id: step for step in steps},
        approvals={approval.id: approval},
    )
    assert list(snapshot.runs) == [active.id, queued.id]
    assert list(snapshot.plans) == [plan.id for plan in plans]
    assert list(snapshot.subtasks) == [subtask.id for subtask in subtasks]
    assert list(snapshot.steps) == [step.id for step in steps]
    assert snapshot.run == active


async def test_a_plan_that_waits_with_its_queued_run_is_in_it_and_that_of_an_ended_run_is_not(
    writer: Writer, database: Database, session: Session
) -> None:
    queued, ended = a_run(session, state="CREATED"), a_run(session, state="COMPLETED")
    rows: list[Row] = [queued, ended]
    for run in (queued, ended):
        plan = Plan(TENANT, f"plan of {run.id}", session.id, run.id, 1, "title", "", "ann")
        rows += [plan, Subtask(TENANT, f"node of {run.id}", session.id, run.id, plan.id, "a", "", "", "coder", 1)]
    await written(writer, appending(session, *rows))
    snapshot = await snapshots.load(database, TENANT, session.id)
    assert snapshot is not None
    assert list(snapshot.plans) == [f"plan of {queued.id}"]
    assert list(snapshot.subtasks) == [f"node of {queued.id}"]


async def test_it_holds_the_grants_that_stand_whatever_run_made_them_the_newest_first(
    writer: Writer, database: Database, session: Session
) -> None:
    grants = [
        Grant(TENANT, new_id(), session.id, "put", "schema", "arguments.id == 1", new_id(), "ann", n, 99, end_time=end)
        for n, end in ((1, 0), (2, 7), (3, 0))
    ]
    await written(writer, appending(session, *grants))
    snapshot = await snapshots.load(database, TENANT, session.id)
    assert snapshot is not None
    assert list(snapshot.grants.values()) == [grants[2], grants[0]]


async def test_it_holds_the_latest_sixty_messages_oldest_first(
    writer: Writer, database: Database, session: Session
) -> None:
    messages = [a_message(session, "", sequence) for sequence in range(1, 81)]
    await written(writer, appending(session, *messages))
    snapshot = await snapshots.load(database, TENANT, session.id)
    assert snapshot is not None
    assert [message.sequence for message in snapshot.messages.values()] == list(range(21, 81))


async def test_other_sessions_and_tenants_are_not_in_it(writer: Writer, database: Database, session: Session) -> None:
    other = await new_session(writer)
    run = a_run(other)
    await written(writer, appending(replace(other, active_run_id=run.id), run, a_message(other, run.id, 2)))
    snapshot = await snapshots.load(database, TENANT, session.id)
    assert snapshot == Snapshot(session)
    assert await snapshots.load(database, "another tenant", session.id) is None
    assert await snapshots.load(database, TENANT, new_id()) is None
