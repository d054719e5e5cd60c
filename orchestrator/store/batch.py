"""Change sets made ready to be written: encoded once each, and gathered into the parameters of a batch."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.domain.change import ChangeSet, Request
from orchestrator.domain.events import LoggedEvent, event_name
from orchestrator.domain.records import Session
from orchestrator.store.codec import CODECS, Values, clean, encode_session
from orchestrator.store.statement import EVENT, REQUEST, text_for

TOLD_OF = frozenset({"approval_requested", "approval_reminder", "approval_resolved"})
"""The events that a webhook is told of, where there is one."""

_NO_REQUEST: Values = (None,) * (len(REQUEST) + 1)


@dataclass(slots=True)
class Prepared:
    """A change set sealed and encoded once, however often it is tried."""

    change_set: ChangeSet
    sealed: list[LoggedEvent]
    fence: Values
    session: Values
    request: Values
    events: list[Values]
    rows: dict[str, list[Values]]  # by table
    has_request: bool
    running: int  # how many more of the tenant's runs are RUNNING after it; 0 where they are not limited
    runs_limit: int
    size: int  # bytes, roughly: what bounds a batch
    deliveries: list[Values]  # the sequences of the events that the webhook is told of

    @property
    def kind(self) -> str:
        """What it is, in the words of the failpoints."""
        if self.has_request:
            return "command"
        if self.change_set.claim_for:
            return "claim"
        return "release" if self.change_set.release else "engine"


def prepare(
    change_set: ChangeSet, sealed: list[LoggedEvent], trace_id: str, runs_limit: int = 0, *, delivers: bool = False
) -> Prepared:
    """Encode a change set and its sealed events. At most `runs_limit` of its tenant's runs may be RUNNING; 0: any.

    `delivers`: a webhook is to be told of what concerns people.
    """
    session = change_set.session
    rows: dict[str, list[Values]] = defaultdict(list)
    size = 1000
    for row in change_set.rows:
        if isinstance(row, Session):
            raise TypeError("the session itself is ChangeSet.session, never one of its rows")
        codec = CODECS[type(row)]
        if (row.tenant, row.session_id) != (session.tenant, session.id):
            raise ValueError(f"{codec.table.name} {row.id} is not of session {session.id}")
        values = codec.values(row)
        rows[codec.table.name].append(values)
        size += len(str(values[-1]))
    logged: list[Values] = []
    for event, made in zip(sealed, change_set.events, strict=True):
        size += len(event.payload_json)
        name = event_name(type(made))
        logged.append((event.sequence, name, event.payload_json, event.hash, event.previous_hash))
    fence = _fence_values(change_set, sealed[-1] if sealed else None, trace_id)
    request = _request_values(change_set.request) if change_set.request else _NO_REQUEST
    has_request = change_set.request is not None
    running = change_set.running if runs_limit else 0
    values = encode_session(session)
    deliveries: list[Values] = [(sequence,) for sequence, name, *_ in logged if delivers and name in TOLD_OF]
    return Prepared(
        change_set, sealed, fence, values, request, logged, rows, has_request, running, runs_limit, size, deliveries
    )


def _fence_values(change_set: ChangeSet, last: LoggedEvent | None, trace_id: str) -> Values:
    """What the session's row must be for this to be written, and what the log's last event then is."""
    session = change_set.session
    return (
        session.tenant,
        session.id,
        change_set.creates,
        change_set.expected_sequence,
        change_set.owner,
        change_set.epoch,
        change_set.claim_for,
        change_set.release,
        last.sequence if last else session.last_sequence,
        last.hash if last else session.last_hash,
        last.event_time if last else session.last_event_time,
        clean(trace_id),
    )


def _request_values(request: Request) -> Values:
    named = (getattr(request, name) for name in REQUEST)
    return (*(clean(value) for value in named), request.create_time)


def statement_of(batch: Sequence[Prepared]) -> tuple[str, list[object]]:
    """The text and the parameters that write `batch`; the answer's `n` counts its change sets from 1."""
    counted = any(prepared.running for prepared in batch)
    requests = any(prepared.has_request for prepared in batch)
    touched = [codec for codec in CODECS.values() if any(codec.table.name in p.rows for p in batch)]
    parameters: list[object] = []
    parameters += zip(*(p.fence for p in batch), strict=True)
    parameters += zip(*(p.session for p in batch), strict=True)
    if counted:
        parameters += [[p.running for p in batch], [p.runs_limit for p in batch]]
    if requests:
        parameters += zip(*(p.request for p in batch), strict=True)
    parameters += _numbered([p.events for p in batch], len(EVENT))
    for codec in touched:
        parameters += _numbered([p.rows.get(codec.table.name, ()) for p in batch], len(codec.columns))
    delivers = any(p.deliveries for p in batch)
    if delivers:
        parameters += _numbered([p.deliveries for p in batch], 1)
    return text_for(tuple(codec.table.name for codec in touched), requests, counted, delivers), parameters


def _numbered(groups: Iterable[Sequence[Values]], width: int) -> list[Sequence[object]]:
    """Columns of all rows, before them the number of each row's change set."""
    groups = list(groups)
    numbers = [n for n, group in enumerate(groups, 1) for _ in group]
    columns = list(zip(*(values for group in groups for values in group), strict=True))
    return [numbers, *(columns or [()] * width)]
