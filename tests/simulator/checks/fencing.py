"""Change sets were written one after the other, and by an engine only while it held the session."""

from collections import defaultdict
from collections.abc import Iterator

from tests.simulator.history import History, Written


def check_fencing(history: History) -> Iterator[str]:
    by_session: dict[str, list[Written]] = defaultdict(list)
    for written in history.written:
        if written.outcome == "written":
            by_session[written.session_id].append(written)
    for session_id, all_written in by_session.items():
        owner, epoch, sequence = "", 0, 0
        for written in all_written:
            where = f"session {session_id} at {written.time:.4f} by {written.by}"
            if written.owner and (written.owner, written.epoch) != (owner, epoch):
                yield f"{where}: written by the holder of epoch {written.epoch}, while {epoch} held it"
            if written.expected_sequence != sequence:
                yield f"{where}: made against {written.expected_sequence}, written at {sequence}"
            if written.claim_for:
                owner, epoch = written.claim_for, epoch + 1
            if written.release:
                owner = ""
            if written.epoch_after != epoch:
                yield f"{where}: the row has epoch {written.epoch_after}, after {epoch} claims"
            sequence = written.sequence_after
