import json

import pytest
from google.protobuf.message import Message

from gateway.framing import JSON_LINES, SSE, framing_for, item_name, items_of, sequence_of
from tests.unit.gateway.notes import message


def event(**fields: object) -> Message:
    return message("NoteEvent", **fields)


def test_an_event_has_its_choice_as_name_its_sequence_as_id_and_one_line_of_json() -> None:
    written = event(note_id="7", sequence=3, note_written=message("Note", text="two\nlines\r\nй\u2028"))
    lines = SSE.item(written).decode().split("\n")
    assert lines[0] == "event: note_written"
    assert lines[1] == "id: 3"
    assert lines[2].startswith("data: ")
    assert lines[3:] == ["", ""]
    shown = json.loads(lines[2].removeprefix("data: "))
    assert shown["sequence"] == "3"
    assert shown["noteWritten"]["text"] == "two\nlines\r\nй\u2028"


def test_what_is_not_durable_has_no_id() -> None:
    assert b"id:" not in SSE.item(event(note_moved=message("Place", city="x")))


def test_an_element_without_a_choice_is_a_message() -> None:
    assert item_name(event()) == "message"
    # `nickname` is optional: the oneof that stands for that is no choice.
    assert item_name(message("Note", nickname="n", yes="y")) == "yes"
    assert item_name(message("Place")) == "message"


def test_a_batch_is_taken_apart_and_anything_else_is_one_element() -> None:
    batch = message("WatchNoteResponse", events=[event(sequence=1), event(sequence=2)])
    assert [sequence_of(item) for item in items_of(batch)] == [1, 2]
    alone = message("WatchAllResponse", snapshot=message("Note"))
    assert list(items_of(alone)) == [alone]
    assert (item_name(alone), sequence_of(alone)) == ("snapshot", 0)


def test_what_came_with_a_batch_goes_first_named_by_what_it_is() -> None:
    snapshot = message("WatchNoteResponse", notes=[message("Note", id="7")], snapshot_complete=True)
    snapshot.events.append(event(sequence=1))  # type: ignore[attr-defined]  # made from a descriptor
    first, second = items_of(snapshot)
    assert item_name(first) == "notes"
    assert json.loads(JSON_LINES.item(first)) == {
        "events": [],
        "notes": [json.loads(JSON_LINES.item(message("Note", id="7")))],
        "snapshotComplete": True,
    }
    assert sequence_of(second) == 1
    assert [item_name(item) for item in items_of(message("WatchNoteResponse", snapshot_complete=True))] == [
        "snapshot_complete"
    ]
    assert list(items_of(message("WatchNoteResponse"))) == []


def test_an_error_is_an_event_of_its_own() -> None:
    assert SSE.error(b'{"code":14}') == b'event: stream_error\ndata: {"code":14}\n\n'
    assert JSON_LINES.error(b'{"code":14}') == b'{"streamError":{"code":14}}\n'


def test_a_json_line_is_one_line() -> None:
    line = JSON_LINES.item(event(note_id="a\nb"))
    assert line.count(b"\n") == 1
    assert json.loads(line)["noteId"] == "a\nb"


@pytest.mark.parametrize(
    ("accept", "framing"),
    [
        ("", SSE),
        ("*/*", SSE),
        ("text/event-stream", SSE),
        ("application/json", SSE),
        ("application/x-ndjson", JSON_LINES),
        ("text/html, Application/X-NDJSON;q=0.9", JSON_LINES),
    ],
)
def test_the_client_chooses_the_framing(accept: str, framing: object) -> None:
    assert framing_for(accept) is framing
