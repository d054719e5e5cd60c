"""What is kept of sessions that nobody works on: bounded, one taker each, and as a load would find it."""

from dataclasses import replace

import pytest

from orchestrator.domain.records import Message, Session
from orchestrator.domain.snapshot import Snapshot
from orchestrator.store import kept as kept_module
from orchestrator.store.kept import Kept
from orchestrator.store.snapshots import LATEST_MESSAGES
from tests.unit.engine.scene import Scene
from tests.unit.engine.virtual_time import in_virtual_time


def a_snapshot(session_id: str = "s1", texts: int = 0, **fields: object) -> Snapshot:
    session = replace(Session("t", session_id), **fields)  # type: ignore[arg-type]  # by name
    messages = [Message("t", f"m{n}", session_id, "r", "USER", "auto", "words", sequence=n) for n in range(texts)]
    return Snapshot(session, messages={message.id: message for message in messages})


def test_a_snapshot_is_for_one_taker() -> None:
    kept = Kept()
    kept.put(a_snapshot())
    assert kept.take("t", "s1") == a_snapshot()
    assert kept.take("t", "s1") is None
    assert kept.take("other", "s1") is None


def test_of_a_session_the_last_one_is_kept_until_it_is_forgotten() -> None:
    kept = Kept()
    kept.put(a_snapshot())
    kept.put(a_snapshot(title="new"))
    assert kept.take("t", "s1") == a_snapshot(title="new")
    kept.put(a_snapshot())
    kept.forget("t", "s1")
    assert kept.take("t", "s1") is None


@pytest.mark.parametrize("snapshot", [a_snapshot(owner="replica-2"), a_snapshot(runnable=True)])
def test_what_somebody_is_about_to_work_on_is_not_kept_and_what_was_is_not_either(snapshot: Snapshot) -> None:
    kept = Kept()
    kept.put(a_snapshot())
    kept.put(snapshot)
    assert kept.take("t", "s1") is None


def test_what_was_kept_first_goes_first_and_what_is_too_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "MOST_CHARACTERS", 40_000)
    kept = Kept()
    for name in ("s1", "s2", "s3"):
        kept.put(a_snapshot(name, texts=10))
    assert [kept.take("t", name) is not None for name in ("s1", "s2", "s3")] == [False, True, True]
    kept.put(a_snapshot("s4", texts=50))
    assert kept.take("t", "s4") is None
    kept.put(a_snapshot("s5", texts=10))
    kept.put(a_snapshot("s6", texts=10))
    assert [kept.take("t", name) is not None for name in ("s5", "s6")] == [True, True]


def test_of_messages_the_latest_are_kept() -> None:
    kept = Kept()
    kept.put(a_snapshot(texts=LATEST_MESSAGES + 5))
    found = kept.take("t", "s1")
    assert found is not None
    assert list(found.messages) == [f"m{n}" for n in range(5, LATEST_MESSAGES + 5)]


@in_virtual_time
@pytest.mark.parametrize("asks", [False, True])
async def test_a_session_that_is_let_go_is_kept_as_a_load_finds_it(asks: bool) -> None:
    scene = Scene()
    await scene.began()
    await scene.reply(*(["write_file"] if asks else []))
    assert scene.is_released
    kept = Kept()
    assert scene.store.kept is not None
    kept.put(scene.store.kept)
    found = kept.take("t", "s1")
    assert found == await scene.store.load("t", "s1")
    assert found is not None
    assert bool(found.steps) == bool(found.runs) == asks
