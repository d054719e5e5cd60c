"""What replicas tell one another: of each session the newest, replies in one piece, in texts that can be sent."""

from collections.abc import Iterable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Session
from orchestrator.streaming.feed import Delta
from orchestrator.streaming.news import Bulletin, Draft, Moved, Said, moved_by, read, text_of

KEY = ("default", "session")


def piece(text: str, *, step: str = "step", number: int = 1, kind: str = "TEXT") -> Delta:
    return Delta("run", "subtask", "attempt", step, number, kind, text)


def sent(draft: Draft) -> list[Bulletin]:
    """As others read it."""
    heard = []
    for text in map(text_of, draft.take()):
        assert len(text.encode()) < 8_000
        bulletin = read(text, but_from="other")
        assert bulletin is not None
        heard.append(bulletin)
    return heard


def words(bulletins: Iterable[Bulletin]) -> str:
    return "".join(said.text for bulletin in bulletins for said in bulletin.said)


def test_of_a_session_only_the_newest_is_told_and_every_approval() -> None:
    draft = Draft("me")
    draft.moved(Moved(*KEY, 5, False, "EXECUTION", asked=(4,)))
    draft.moved(Moved(*KEY, 9, True, "COMPLETED"))
    draft.moved(Moved(*KEY, 7, False, "EXECUTION", asked=(6, 7)))
    ((moved,),) = [bulletin.moved for bulletin in sent(draft)]
    assert moved == Moved(*KEY, 9, True, "COMPLETED", asked=(4, 6, 7))
    assert draft.is_empty


def test_pieces_of_a_reply_travel_as_one_and_in_order() -> None:
    draft = Draft("me")
    for text in "abc":
        draft.say(KEY, piece(text))
        draft.say(KEY, piece(text.upper(), step="another"))
    draft.say(KEY, piece("hm", kind="REASONING"))
    draft.say(KEY, piece("d"))
    draft.say(KEY, piece("again", number=2))
    ((*said,),) = [bulletin.said for bulletin in sent(draft)]
    assert [each.delta for each in said] == [
        piece("abc"),
        piece("hm", kind="REASONING"),
        piece("d"),
        piece("ABC", step="another"),
        piece("again", number=2),
    ]


def test_a_flood_of_words_is_cut_at_an_end_and_never_has_a_hole() -> None:
    draft = Draft("me")
    told = "".join(chr(97 + n % 26) for n in range(300_000))
    for n in range(0, len(told), 1000):
        draft.say(KEY, piece(told[n : n + 1000]))
    draft.say(KEY, piece("short", step="another"))
    heard = words(sent(draft))
    assert len(heard) > 200_000
    assert told.startswith(heard)


def test_what_was_cut_stays_cut_when_there_is_room_again() -> None:
    draft = Draft("me")
    draft.say(KEY, piece("x" * 300_000))
    draft.not_sent([Bulletin("me", said=[Said(*KEY, "run", "", "attempt", "not sent", 1, "TEXT", "lost")])])
    sent(draft)
    for step in ("step", "not sent"):
        draft.say(KEY, piece("after the hole", step=step))
        draft.say(KEY, piece("again", step=step, number=2))
    assert [(each.text, each.dispatch_number) for bulletin in sent(draft) for each in bulletin.said] == [
        ("again", 2)
    ] * 2


def test_a_session_that_closes_thousands_of_questions_at_once_is_told_in_parts() -> None:
    draft = Draft("me")
    asked = tuple(range(1_000_000, 1_003_000))
    draft.moved(Moved(*KEY, asked[-1], True, "IDLE", asked=asked))
    heard = [moved for bulletin in sent(draft) for moved in bulletin.moved]
    assert [n for moved in heard for n in moved.asked] == list(asked)
    assert {moved.position.last_sequence for moved in heard} == {asked[-1]}


def test_a_call_with_an_endless_name_is_not_told_of_and_spoils_nothing() -> None:
    draft = Draft("me")
    draft.say(KEY, Delta("run", "", "attempt", "step", 1, "TOOL_ARGUMENTS", "\x01" * 1_000, "tool", "c" * 9_000))
    draft.say(KEY, Delta("run", "", "attempt", "other", 1, "TOOL_ARGUMENTS", "\x01" * 1_000, "t" * 100, "c" * 100))
    assert [each.step_id for bulletin in sent(draft) for each in bulletin.said] == ["other"]


@given(st.lists(st.text(max_size=3_000), max_size=8), st.integers(0, 300))
def test_whatever_is_said_arrives_whole_in_texts_that_can_be_sent(texts: list[str], sessions: int) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    draft = Draft("me")
    draft.flag("is_new")
    for n in range(sessions):
        draft.moved(Moved("default", f"{n:036}", n, False, "PLAN_EXECUTION"))
        draft.watch([("default", f"{n:036}")])
    for text in texts:
        draft.say(KEY, piece(text))
    heard = sent(draft)
    assert words(heard) == "".join(texts)
    assert sum(len(bulletin.moved) for bulletin in heard) == sessions
    assert sum(len(bulletin.watched) for bulletin in heard) == sessions
    assert [bulletin.is_new for bulletin in heard] == [True] + [False] * (len(heard) - 1)


def test_nobody_hears_itself_and_what_is_no_bulletin_is_passed_over() -> None:
    (text,) = map(text_of, Draft("me").take())
    assert read(text, but_from="me") is None
    assert read(text, but_from="you") == Bulletin("me", moved=[], watched=[], said=[])
    for garbage in ("", "hello", "{}", "[1]", '["x",3]'):
        assert read(garbage, but_from="me") is None


def test_what_a_later_version_adds_is_passed_over() -> None:
    text = msgspec.json.encode(["new", False, True, [[*KEY, 5, False, "IDLE", False, [], "more"]], [], [], "more"])
    bulletin = read(text.decode(), but_from="me")
    assert bulletin is not None
    assert (bulletin.gave_up, [moved.last_sequence for moved in bulletin.moved]) == (True, [5])


def test_what_a_change_set_wrote_says_who_should_look() -> None:
    def event(sequence: int, name: str) -> LoggedEvent:
        return LoggedEvent(*KEY, sequence, 0, "", f'{{"{name}":{{}}}}', "", "")

    events = [event(1, "step_finished"), event(2, "approval_requested"), event(3, "approval_resolved")]
    session = Session(*KEY, last_sequence=3, runnable=True, state="EXECUTION", settled=False)
    assert moved_by(session, events) == Moved(*KEY, 3, False, "EXECUTION", True, (2, 3))
    owned = Session(*KEY, last_sequence=3, runnable=True, owner="somebody")
    assert not moved_by(owned, []).wants_engine
