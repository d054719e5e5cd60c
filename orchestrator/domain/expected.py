"""What a plan may expect its subtasks to leave, and whether a file's bytes are that. Pure; where they come from, and
what becomes of the answer, is not known here."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from orchestrator.domain.arguments import BadJson, parse_strictly
from orchestrator.domain.errors import Violation
from orchestrator.domain.frozen import dataclass
from orchestrator.domain.paths import names_of
from orchestrator.domain.records import ExpectedArtifact
from orchestrator.domain.schemas import MOST_WORK, fault_of_models, problems_of

MOST_BYTES = 32 * 1024 * 1024
MOST_CHECKED_BYTES = 1024 * 1024  # of a file that is to be JSON
PREVIEW_CHARACTERS = 16 * 1024

_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]*/[a-z0-9][a-z0-9.+-]*")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_BY_SUFFIX = {
    ".csv": "text/csv",
    ".gif": "image/gif",
    ".html": "text/html",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zip": "application/zip",
}
_BEGINS = {
    "application/pdf": (b"%PDF-",),
    "application/zip": (b"PK\x03\x04", b"PK\x05\x06"),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/png": (b"\x89PNG\r\n\x1a\n",),
}
_TEXTS = ("application/json", "application/xml", "application/yaml", "application/toml")


@dataclass(frozen=True, slots=True)
class Checked:
    """What the bytes are, and what is wrong with them, one sentence each."""

    media_type: str
    sha256: str
    size_bytes: int
    schema_digest: str = ""
    errors: tuple[str, ...] = ()
    preview: str = ""  # the beginning, where they are text


def path_of(expected: ExpectedArtifact) -> str:
    return expected.path or expected.name


def in_words(expected: ExpectedArtifact) -> str:
    """For the person who approves the plan."""
    path = path_of(expected)
    words = expected.name if path == expected.name else f"{expected.name} at {path}"
    words += f", {expected.media_type}" if expected.media_type else ""
    return f"{words}, by the JSON Schema {expected.schema_json}" if expected.schema_json else words


def check_expected(artifacts: Sequence[ExpectedArtifact], gates: Sequence[str], where: str) -> Iterator[Violation]:
    """Everything wrong with what a subtask is to leave; `where` is the subtask's field."""
    names: set[str] = set()
    paths: set[tuple[str, ...]] = set()
    for index, each in enumerate(artifacts):
        field, path = f"{where}.artifacts[{index}]", names_of(path_of(each))
        if not _PLAIN.fullmatch(each.name):
            yield Violation(f"{field}.name", "must be 1 to 200 characters, none of them a control character")
        if not path or not _PLAIN.fullmatch(each.path or "."):
            yield Violation(f"{field}.path", "must be a file's path, relative to the workspace and inside it")
        if each.name in names or path in paths:
            yield Violation(field, "has the name or the path of one before it")
        names.add(each.name)
        paths.add(path)
        if each.media_type and not _MEDIA_TYPE.fullmatch(each.media_type):
            yield Violation(f"{field}.media_type", "must be a media type without parameters, such as text/markdown")
        if problem := _problem_of_schema(each.schema_json):
            yield Violation(f"{field}.schema_json", problem)
    if gates and not artifacts:
        yield Violation(f"{where}.gates", "need artifacts: there is nothing that could pass them")
    if len(set(gates)) != len(gates) or not all(_PLAIN.fullmatch(gate) for gate in gates):
        yield Violation(f"{where}.gates", "must be different names without control characters")


def _problem_of_schema(text: str) -> str:
    """It is a stranger's, as a model's is: nothing in it may keep everybody else waiting."""
    try:
        fault = fault_of_models(parse_strictly(text)) if text else ""
    except BadJson as error:
        fault = str(error)
    return f"is no JSON Schema that can be used: {fault}"[:500] if fault else ""


def check_bytes(expected: ExpectedArtifact, data: bytes, most_work: int = MOST_WORK) -> Checked:
    """What these bytes are, against what is expected. A schema may take seconds, unless `most_work` is less."""
    text = _as_text(data)
    media_type = expected.media_type or _guess(path_of(expected), text)
    errors = list(_misfits(media_type, data, text))
    if expected.schema_json and not errors:
        errors = list(_misfits_of_schema(expected.schema_json, text, most_work))
    return Checked(
        media_type,
        hashlib.sha256(data).hexdigest(),
        len(data),
        hashlib.sha256(expected.schema_json.encode()).hexdigest() if expected.schema_json else "",
        tuple(error[:500] for error in errors),
        (text or "")[:PREVIEW_CHARACTERS],
    )


def is_text(media_type: str) -> bool:
    return media_type.startswith("text/") or media_type in _TEXTS or media_type.endswith(("+json", "+xml"))


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or media_type.endswith("+json")


def _as_text(data: bytes) -> str | None:
    try:
        return None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        return None


def _guess(path: str, text: str | None) -> str:
    """By its name, unless its bytes are nothing of the kind."""
    named = _BY_SUFFIX.get(PurePosixPath(path).suffix.lower(), "")
    if text is None:
        return named if named and not is_text(named) else "application/octet-stream"
    return named if named and is_text(named) else "text/plain"


def _misfits(media_type: str, data: bytes, text: str | None) -> Iterator[str]:
    begins = _BEGINS.get(media_type)
    if begins and not data.startswith(begins):
        yield f"does not begin as {media_type} does"
    if is_text(media_type) and text is None:
        yield f"is not the UTF-8 text that {media_type} is"
    elif _is_json(media_type) and text is not None:
        try:
            parse_strictly(text, MOST_CHECKED_BYTES)
        except (BadJson, RecursionError) as error:
            yield f"is to be JSON, and the text {error}"


def _misfits_of_schema(schema_json: str, text: str | None, most_work: int) -> Iterator[str]:
    if text is None:
        yield "is to satisfy a JSON Schema, and is no UTF-8 text"
        return
    try:
        value = parse_strictly(text, MOST_CHECKED_BYTES)
    except (BadJson, RecursionError) as error:
        yield f"is to satisfy a JSON Schema, and the text {error}"
        return
    yield from problems_of(value, schema_json, by_model=True, most_work=most_work)
