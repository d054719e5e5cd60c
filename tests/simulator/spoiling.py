"""Ways to spoil a history: what a wrong rule would have left in rows and log. What is spoilt is in the tests."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.frozen import replace
from tests.simulator.history import History

T = TypeVar("T")
Spoil = Callable[[History], None]


def spoil(rows: list[T], which: Callable[[T], bool], **changes: Any) -> None:
    """Change the first of these rows for which it holds."""
    at = next(at for at, row in enumerate(rows) if which(row))
    rows[at] = replace(rows[at], **changes)  # type: ignore[type-var]  # rows are dataclasses


def cut(rows: list[T], at: int) -> None:
    rows.pop(at)


def log(history: History) -> list[LoggedEvent]:
    return max(history.rows.logs.values(), key=len)


def edit(history: History, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the first event of that name in what it says, as a wrong rule would have written it."""
    for events in history.rows.logs.values():
        for at, event in enumerate(events):
            ((found, body),) = json.loads(event.payload_json).items()
            if found == name:
                change(body)
                events[at] = replace(event, payload_json=json.dumps({name: body}))
                return
    raise AssertionError(f"no {name}")


def append(history: History, name: str, body: dict[str, Any]) -> None:
    last = log(history)
    last.append(replace(last[-1], sequence=len(last) + 1, payload_json=f'{{"{name}":{json.dumps(body)}}}'))
