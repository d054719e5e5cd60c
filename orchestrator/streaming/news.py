"""What replicas tell one another: coalesced here, and cut into texts that a NOTIFY can carry. No I/O.

News are never the only way to learn something: whoever hears none finds out by looking, a little later.
"""

from collections.abc import Iterable, Sequence

import msgspec

from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Key, Session
from orchestrator.streaming.feed import Delta, Position

MAX_TEXT_BYTES = 7_900  # PostgreSQL takes less than 8,000
PIECE_CHARACTERS = 1_000  # of a delta: at most 6 bytes each in JSON
MAX_KEYS = 10_000
MAX_DELTA_CHARACTERS = 256 * 1024  # between two sendings
MAX_NAME_CHARACTERS = 200  # of a delta's tool and call together; of what a model calls by more nothing is said
MAX_ASKED = 300  # sequences in one text
MAX_CUT = 1_024  # replies
_ABOUT_APPROVALS = ('{"approval_', '{"vote_recorded"')


class Moved(msgspec.Struct, frozen=True, array_like=True):
    """How far a session's log has come."""

    tenant: str
    session_id: str
    last_sequence: int
    settled: bool
    state: str
    wants_engine: bool = False  # it has something to do, and nobody owns it
    asked: tuple[int, ...] = ()  # the sequences of events about approvals

    @property
    def position(self) -> Position:
        return Position(self.last_sequence, self.settled, self.state)


class Said(msgspec.Struct, frozen=True, array_like=True):
    """A piece of a model's reply; the fields of Delta follow the session's."""

    tenant: str
    session_id: str
    run_id: str
    subtask_id: str
    attempt_id: str
    step_id: str
    dispatch_number: int
    kind: str
    text: str
    tool: str = ""
    call_id: str = ""

    @property
    def delta(self) -> Delta:
        return Delta(*msgspec.structs.astuple(self)[2:])


class Bulletin(msgspec.Struct, array_like=True):
    """One text. Fields are only ever added at the end: replicas of two versions listen to one another."""

    sender: str
    is_new: bool = False  # the sender has just begun to listen: say what you watch
    gave_up: bool = False  # sessions were let go: look for them now
    moved: Sequence[Moved] = ()
    watched: Sequence[Key] = ()  # live deltas of these are wanted, for a while
    said: Sequence[Said] = ()


class Draft:
    """What is to be said next: of each session the newest, pieces of one reply put together."""

    def __init__(self, sender: str) -> None:
        self._sender = sender
        self._cut: dict[tuple[str, int], None] = {}  # replies of which something was not said; the latest
        self._clear()

    def _clear(self) -> None:
        self._flags: set[str] = set()
        self._moved: dict[Key, Moved] = {}
        self._watched: dict[Key, None] = {}
        self._said: dict[tuple[str, int], list[Said]] = {}  # by step and dispatch
        self._characters = 0

    @property
    def is_empty(self) -> bool:
        return not (self._flags or self._moved or self._watched or self._said)

    def flag(self, *names: str) -> None:
        """Say even if there is nothing else: `is_new`, `gave_up`, or anything for a mere sign of life."""
        self._flags.update(names)

    def watch(self, keys: Iterable[Key]) -> None:
        self._watched.update(dict.fromkeys(keys))

    def moved(self, news: Moved) -> None:
        """What is not said for lack of room is found by looking."""
        key = (news.tenant, news.session_id)
        older = self._moved.get(key)
        if older is None and len(self._moved) >= MAX_KEYS:
            return
        if older is not None and older.asked:
            news = msgspec.structs.replace(news, asked=(*older.asked, *news.asked))
        if older is None or older.last_sequence <= news.last_sequence:
            self._moved[key] = news
        elif news.asked:
            self._moved[key] = msgspec.structs.replace(older, asked=news.asked)

    def say(self, key: Key, delta: Delta) -> None:
        """Beyond the limit a reply is cut, never given with a hole: its outcome is in the log soon."""
        reply = (delta.step_id, delta.dispatch_number)
        self._characters += len(delta.text)
        is_unfit = len(delta.tool) + len(delta.call_id) > MAX_NAME_CHARACTERS
        if reply in self._cut or self._characters > MAX_DELTA_CHARACTERS or is_unfit:
            self._cut_short(reply)
            return
        pieces = self._said.setdefault(reply, [])
        last = pieces[-1] if pieces else None
        if last is not None and (last.kind, last.tool, last.call_id) == (delta.kind, delta.tool, delta.call_id):
            pieces[-1] = msgspec.structs.replace(last, text=last.text + delta.text)
        else:
            pieces.append(_said(key, delta))

    def not_sent(self, bulletins: Iterable[Bulletin]) -> None:
        """Where sessions are is said later; replies are not: what follows would come with a hole, or too late."""
        for bulletin in bulletins:
            for moved in bulletin.moved:
                self.moved(moved)
            for said in bulletin.said:
                self._cut_short((said.step_id, said.dispatch_number))

    def _cut_short(self, reply: tuple[str, int]) -> None:
        self._cut[reply] = None
        if len(self._cut) > MAX_CUT:
            del self._cut[next(iter(self._cut))]

    def take(self) -> list[Bulletin]:
        """Everything that is to be said, each bulletin short enough to be sent."""
        packing = _Packing(self._sender, self._flags)
        for moved in (part for whole in self._moved.values() for part in _asked_in_parts(whole)):
            packing.add("moved", moved)
        for key in self._watched:
            packing.add("watched", key)
        for said in (piece for pieces in self._said.values() for whole in pieces for piece in _cut(whole)):
            packing.add("said", said)
        self._clear()
        return packing.bulletins


class _Packing:
    """Fills one bulletin after another."""

    def __init__(self, sender: str, flags: set[str]) -> None:
        self._sender = sender
        self.bulletins = [Bulletin(sender, "is_new" in flags, "gave_up" in flags, [], [], [])]
        self._bytes = len(_encode(self.bulletins[0]))

    def add(self, field: str, item: object) -> None:
        size = len(_encode(item)) + 1
        if self._bytes + size > MAX_TEXT_BYTES:
            self.bulletins.append(Bulletin(self._sender, moved=[], watched=[], said=[]))
            self._bytes = len(_encode(self.bulletins[-1]))
        getattr(self.bulletins[-1], field).append(item)
        self._bytes += size


def moved_by(session: Session, events: Sequence[LoggedEvent]) -> Moved:
    """What a written change set makes news of."""
    asked = tuple(event.sequence for event in events if is_about_approval(event))
    wants_engine = session.runnable and not session.owner
    return Moved(session.tenant, session.id, session.last_sequence, session.settled, session.state, wants_engine, asked)


def is_about_approval(event: LoggedEvent) -> bool:
    return event.payload_json.startswith(_ABOUT_APPROVALS)


def text_of(bulletin: Bulletin) -> str:
    return _encode(bulletin).decode()


def read(text: str, *, but_from: str) -> Bulletin | None:
    """What somebody said; None for what `but_from` said itself, and for what is not a bulletin."""
    if text.startswith(f'["{but_from}"'):
        return None
    try:
        return _decode(text)
    except msgspec.DecodeError:
        return None


def _said(key: Key, delta: Delta) -> Said:
    return Said(
        *key,
        delta.run_id,
        delta.subtask_id,
        delta.attempt_id,
        delta.step_id,
        delta.dispatch_number,
        delta.kind,
        delta.text,
        delta.tool,
        delta.call_id,
    )


def _asked_in_parts(moved: Moved) -> Iterable[Moved]:
    """A run that is cancelled closes all that it has asked at once."""
    if len(moved.asked) <= MAX_ASKED:
        return (moved,)
    starts = range(0, len(moved.asked), MAX_ASKED)
    return (msgspec.structs.replace(moved, asked=moved.asked[n : n + MAX_ASKED]) for n in starts)


def _cut(said: Said) -> Iterable[Said]:
    if len(said.text) <= PIECE_CHARACTERS:
        return (said,)
    starts = range(0, len(said.text), PIECE_CHARACTERS)
    return (msgspec.structs.replace(said, text=said.text[n : n + PIECE_CHARACTERS]) for n in starts)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Bulletin).decode
