"""The writer's promises: compare and append, one winner, fences, claims, repeats, and poison kept to itself."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import asyncpg
import pytest

from orchestrator.domain.change import ChangeSet
from orchestrator.domain.records import Session, ToolResult
from orchestrator.store import committer, queries, snapshots
from orchestrator.store.answers import Outcome, PoisonedChangeSet
from orchestrator.store.batch import Prepared, statement_of
from orchestrator.store.database import Database
from orchestrator.store.leases import Lease
from orchestrator.store.writer import Writer
from tests.integration.store.making import (
    TENANT,
    Followed,
    a_run,
    a_step,
    append_until_written,
    appending,
    asked_but_not_committed,
    assert_sound,
    creation,
    new_id,
    new_request,
    new_session,
    now_micros,
    set_clock,
    stored_session,
    until_somebody_waits_for_a_lock,
    written,
)


async def test_what_was_written_is_what_is_read(writer: Writer, database: Database) -> None:
    session = await new_session(writer, title="Ein Titel", labels={"team": "blue"}, when_busy="REJECT")
    run = a_run(session)
    step = a_step(session, run.id)
    after = await written(writer, appending(replace(session, active_run_id=run.id, runnable=True), run, step, events=3))
    assert after.last_sequence == 4
    assert await stored_session(database, session) == after
    assert await queries.get_run(database, TENANT, run.id) == run
    assert await queries.get_step(database, TENANT, step.id) == step


async def test_a_row_is_replaced_by_its_newer_version(writer: Writer, database: Database, session: Session) -> None:
    run = a_run(session)
    session = await written(writer, appending(session, run))
    await written(writer, appending(session, replace(run, state="COMPLETED", goal="another")))
    stored = await queries.get_run(database, TENANT, run.id)
    assert stored is not None
    assert (stored.state, stored.goal) == ("COMPLETED", "another")


async def test_numbers_have_no_gaps_and_the_chain_verifies_under_64_writers(
    writer: Writer, database: Database, followed: Followed
) -> None:
    sessions = [await new_session(writer) for _ in range(8)]

    async def write_five(n: int) -> None:
        for _ in range(5):
            answer = await append_until_written(writer, database, sessions[n % 8], f"writer {n}")
            assert answer.outcome is Outcome.WRITTEN

    await asyncio.gather(*(write_five(n) for n in range(64)))
    logs = await assert_sound(database)
    assert sum(len(log) for log in logs.values()) == 8 + 64 * 5
    for session in sessions:
        assert followed.sequences(session.id) == list(range(1, 42))


async def test_a_change_set_made_against_an_older_sequence_is_stale(
    writer: Writer, database: Database, session: Session
) -> None:
    await written(writer, appending(session, events=2))
    run = a_run(session)
    answer = await writer.write(appending(session, run), operation="test")
    assert (answer.outcome, answer.last_sequence) == (Outcome.STALE, 3)
    assert answer.session is None
    assert await queries.get_run(database, TENANT, run.id) is None
    await assert_sound(database)


async def test_of_two_writers_that_read_the_same_state_one_wins(
    database: Database, writer: Writer, session: Session
) -> None:
    other = Writer(database.connect_writer, clock=lambda: 0, on_written=lambda *_: None)
    await other.start()
    for _ in range(20):
        answers = await asyncio.gather(
            writer.write(appending(session), operation="test"), other.write(appending(session), operation="test")
        )
        assert sorted(answer.outcome for answer in answers) == [Outcome.STALE, Outcome.WRITTEN]
        session = next(answer.session for answer in answers if answer.session)
    await other.close()
    await assert_sound(database)


async def test_a_session_that_is_not_there_is_absent(writer: Writer) -> None:
    answer = await writer.write(appending(Session(TENANT, new_id())), operation="test")
    assert answer.outcome is Outcome.ABSENT


async def test_another_tenants_session_is_absent(writer: Writer, database: Database, session: Session) -> None:
    answer = await writer.write(appending(replace(session, tenant="other")), operation="test")
    assert answer.outcome is Outcome.ABSENT
    assert await stored_session(database, session) == session


# Claims and fences


async def test_a_claim_takes_an_unowned_session_and_raises_the_epoch(writer: Writer, session: Session) -> None:
    answer = await writer.write(appending(session, claim_for="me", events=0), operation="claim")
    assert answer.outcome is Outcome.WRITTEN
    assert (answer.owner, answer.epoch, answer.last_sequence) == ("me", 1, 1)
    assert answer.session is not None
    assert (answer.session.owner, answer.session.epoch) == ("me", 1)


async def test_a_session_may_be_born_claimed(writer: Writer) -> None:
    answer = await writer.write(creation(Session(TENANT, new_id()), claim_for="me"), operation="create")
    assert (answer.outcome, answer.owner, answer.epoch) == (Outcome.WRITTEN, "me", 1)


async def test_the_owner_may_claim_again(writer: Writer, session: Session) -> None:
    session = await written(writer, appending(session, claim_for="me"))
    session = await written(writer, appending(session, claim_for="me"))
    assert (session.owner, session.epoch) == ("me", 2)


async def test_a_live_owner_is_not_robbed_and_a_lapsed_one_is(
    writer: Writer, database: Database, session: Session
) -> None:
    await Lease(database, "they").register()
    session = await written(writer, appending(session, claim_for="they"))
    refused = await writer.write(appending(session, claim_for="me"), operation="claim")
    assert (refused.outcome, refused.owner, refused.epoch) == (Outcome.FENCED, "they", 1)
    connection = await database.connect()
    await set_clock(connection, 16_000_000)
    await connection.close()
    session = await written(writer, appending(session, claim_for="me"))
    assert (session.owner, session.epoch) == ("me", 2)


async def test_a_stale_worker_changes_nothing(writer: Writer, database: Database, session: Session) -> None:
    held = await written(writer, appending(session, claim_for="old"))
    await written(writer, appending(held, claim_for="new", events=0))  # old has no lease: it counts as lapsed
    answer = await writer.write(appending(held, a_run(held), owner="old", epoch=held.epoch), operation="engine")
    assert (answer.outcome, answer.owner, answer.epoch) == (Outcome.FENCED, "new", 2)
    assert (await stored_session(database, session)).last_sequence == held.last_sequence


async def test_a_released_session_still_fences_its_last_owner(writer: Writer, session: Session) -> None:
    held = await written(writer, appending(session, claim_for="me"))
    freed = await written(writer, appending(held, owner="me", epoch=1, release=True, events=0))
    assert (freed.owner, freed.epoch) == ("", 1)
    answer = await writer.write(appending(freed, owner="me", epoch=1), operation="engine")
    assert answer.outcome is Outcome.FENCED


async def test_one_change_set_may_claim_act_and_release(writer: Writer, session: Session) -> None:
    after = await written(writer, appending(session, claim_for="me", release=True))
    assert (after.owner, after.epoch, after.last_sequence) == ("", 1, 2)


async def test_a_command_leaves_the_owner_in_its_place(writer: Writer, session: Session) -> None:
    await written(writer, appending(session, claim_for="me", events=0))
    answer = await writer.write(appending(session), operation="command")
    assert (answer.outcome, answer.owner, answer.epoch) == (Outcome.WRITTEN, "me", 1)


# Requests


async def test_a_repeated_request_finds_the_first_answer(writer: Writer, session: Session) -> None:
    request = new_request(answer='"the first answer"')
    await written(writer, appending(session, request=request))
    again = replace(request, answer_json='"another"')
    answer = await writer.write(appending(session, request=again), operation="test")
    assert answer.outcome is Outcome.DUPLICATE
    assert answer.request == request


async def test_the_same_request_to_two_sessions_at_once_takes_effect_in_one(writer: Writer, database: Database) -> None:
    other = Writer(database.connect_writer, clock=lambda: 0, on_written=lambda *_: None)
    await other.start()
    for _ in range(20):
        one, two = await new_session(writer), await new_session(writer)
        request = new_request()
        answers = await asyncio.gather(
            writer.write(appending(one, request=request), operation="test"),
            other.write(appending(two, request=request), operation="test"),
        )
        assert sorted(answer.outcome for answer in answers) == [Outcome.DUPLICATE, Outcome.WRITTEN]
        assert [answer.request for answer in answers if answer.request] == [request]
    await other.close()
    await assert_sound(database)


@pytest.mark.parametrize("creates", [False, True], ids=["a command", "a creation"])
async def test_a_request_that_another_replica_is_about_to_commit_is_found_afterwards(
    writer: Writer, database: Database, session: Session, creates: bool
) -> None:
    request = new_request(answer='"what the other replica answered"')
    mine = replace(request, answer_json='"what this one would have answered"')
    new = Session(TENANT, new_id())
    async with asked_but_not_committed(database, request):
        change_set = creation(new, mine) if creates else appending(session, request=mine)
        asking = asyncio.create_task(writer.write(change_set, operation="test"))
        await until_somebody_waits_for_a_lock(database)
    answer = await asking
    assert (answer.outcome, answer.request) == (Outcome.DUPLICATE, request)
    assert await queries.get_session(database, TENANT, new.id) is None
    assert await stored_session(database, session) == session


async def test_two_creations_with_one_request_make_one_session(writer: Writer, database: Database) -> None:
    other = Writer(database.connect_writer, clock=lambda: 0, on_written=lambda *_: None)
    await other.start()
    for round in range(20):
        request = new_request(request_id=f"request {round}")
        makers = [writer, other, writer, other]
        answers = await asyncio.gather(
            *(each.write(creation(Session(TENANT, new_id()), request), operation="create") for each in makers)
        )
        assert [answer.outcome for answer in answers].count(Outcome.WRITTEN) == 1
        assert [answer.request for answer in answers].count(request) == 3
    await other.close()
    assert len(await assert_sound(database)) == 20


async def test_callers_and_tenants_have_request_ids_of_their_own(writer: Writer, session: Session) -> None:
    for caller in ("ann", "bob"):
        session = await written(writer, appending(session, request=new_request(caller, "the same")))


# Poison


async def healthy_and(writer: Writer, *poison: ChangeSet) -> list[object]:
    """Write the poison together with forty healthy change sets, in one queue; what became of the poison."""
    sessions = [await new_session(writer) for _ in range(40)]
    healthy = [writer.write(appending(each, a_run(each)), operation="test") for each in sessions]
    ill = [writer.write(each, operation="test") for each in poison]
    mixed = [*healthy[:20], *ill, *healthy[20:]]
    results = await asyncio.gather(*mixed, return_exceptions=True)
    well = results[:20] + results[20 + len(ill) :]
    assert [result.outcome for result in well if not isinstance(result, BaseException)] == [Outcome.WRITTEN] * 40
    return list(results[20 : 20 + len(ill)])


async def test_a_state_that_no_machine_knows_is_refused_alone(
    writer: Writer, database: Database, session: Session
) -> None:
    [result] = await healthy_and(writer, appending(session, a_run(session, state="FLYING")))
    assert isinstance(result, PoisonedChangeSet)
    assert await stored_session(database, session) == session
    await written(writer, appending(session))


async def test_a_row_of_another_session_is_refused_alone(writer: Writer, database: Database, session: Session) -> None:
    other = await new_session(writer)
    run = a_run(other)
    await written(writer, appending(other, run))
    [result] = await healthy_and(writer, appending(session, a_run(session, run.id)))
    assert isinstance(result, PoisonedChangeSet)
    assert await queries.get_run(database, TENANT, run.id) == run


async def test_a_session_id_that_is_taken_is_refused_alone(
    writer: Writer, database: Database, session: Session
) -> None:
    taken = creation(Session(TENANT, session.id, title="another"))
    [result] = await healthy_and(writer, taken)
    assert isinstance(result, PoisonedChangeSet)
    assert await stored_session(database, session) == session


async def test_two_poisoned_change_sets_and_one_row_twice_in_a_batch(writer: Writer) -> None:
    one, two, three, four = [await new_session(writer) for _ in range(4)]
    run_id = new_id()
    results = await healthy_and(
        writer,
        appending(one, a_run(one, state="FLYING")),
        appending(two, a_run(two, queue_number=2**70)),
        appending(three, a_run(three, run_id)),
        appending(four, a_run(four, run_id)),
    )
    assert [isinstance(result, PoisonedChangeSet) for result in results[:2]] == [True, True]
    assert sum(isinstance(result, PoisonedChangeSet) for result in results[2:]) == 1


async def test_every_kind_of_poison_in_one_batch_leaves_the_healthy_written_and_the_connection_in_use(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NUL and a lone surrogate in a tool's output are healthy; a CHECK violation and a duplicate key are not."""
    connections, batches = _counted(database, monkeypatch)
    writer = Writer(connections.make, clock=now_micros, committers=1, on_written=lambda *_: None)
    await writer.start()
    dirty, checked, taken = [await new_session(writer) for _ in range(3)]
    step = a_step(dirty, new_id(), result=ToolResult("a\0b\ud800c", structured_json='"\ud800"'))
    batches.clear()
    cleaned, *refused = await healthy_and(
        writer,
        appending(dirty, step),
        appending(checked, a_run(checked, state="FLYING")),
        creation(Session(TENANT, taken.id)),
    )
    assert getattr(cleaned, "outcome", cleaned) is Outcome.WRITTEN
    stored = await queries.get_step(database, TENANT, step.id)
    assert stored is not None
    assert stored.result == ToolResult("a\0b\ufffdc", structured_json='"\ufffd"')
    assert [type(each) for each in refused] == [PoisonedChangeSet] * 2
    assert 43 in batches, "they were never tried together"
    assert connections.made == 1, "the connection was given up"
    for session in (checked, taken):
        assert await stored_session(database, session) == session
        await written(writer, appending(session))
    await writer.close()
    await assert_sound(database)


class Connections:
    """Counts the connections that a writer makes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.made = 0

    async def make(self) -> asyncpg.Connection:
        self.made += 1
        return await self._database.connect_writer()


def _counted(database: Database, monkeypatch: pytest.MonkeyPatch) -> tuple[Connections, list[int]]:
    """Connections that are counted, and the sizes of the batches that will be tried."""
    sizes: list[int] = []

    def noting(batch: Sequence[Prepared]) -> tuple[str, list[object]]:
        sizes.append(len(batch))
        return statement_of(batch)

    monkeypatch.setattr(committer, "statement_of", noting)
    return Connections(database), sizes


async def test_nul_and_lone_surrogates_poison_nothing(writer: Writer, database: Database) -> None:
    dirty = "a\0b\ud800c"
    session = await new_session(writer, title=dirty, labels={dirty: dirty})
    run = replace(a_run(session), goal=dirty)
    request = replace(new_request(), caller=dirty, answer_json=dirty)
    change_set = replace(
        appending(replace(session, active_run_id=run.id), run, request=request),
        events=(creation(replace(session, title=dirty)).events[0],),
    )
    [answer] = await healthy_and(writer, change_set)
    assert getattr(answer, "outcome", answer) is Outcome.WRITTEN
    stored = await stored_session(database, session)
    assert (stored.title, stored.labels) == ("a\ufffdb\ufffdc", {"a\ufffdb\ufffdc": "a\ufffdb\ufffdc"})
    snapshot = await snapshots.load(database, TENANT, session.id)
    assert snapshot is not None
    assert snapshot.runs[run.id].goal == "a\0b\ufffdc"
    await assert_sound(database)


# What may not be asked


@pytest.mark.parametrize(
    "change_set",
    [
        ChangeSet(Session(TENANT, "s"), 0),
        ChangeSet(Session(TENANT, "s"), 5, events=creation(Session(TENANT, "s")).events),
        replace(creation(Session(TENANT, "s")), request=None),
        appending(Session(TENANT, "s"), a_run(Session(TENANT, "another"))),
    ],
    ids=["no event", "another sequence than the session's", "a creation without a request", "another session's row"],
)
async def test_a_change_set_that_would_break_the_log_is_a_defect(writer: Writer, change_set: ChangeSet) -> None:
    with pytest.raises(ValueError):
        await writer.write(change_set, operation="test")
