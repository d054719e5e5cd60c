"""Failpoints: named places where this process can be made to die, stall, wait, or lose an answer. Off by default.

`ASSENT_FAILPOINT=name:n:action` arms the n-th arrival at a place (several, separated by commas). The places of both
services are listed here, so that a name is checked before anything starts; each site is `if failpoints.on:` and one
call. What a service does about the fault is its own business.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, Protocol

import prometheus_client
import structlog

on = False
"""Whether anything is armed. Sites look here first: all that a failpoint costs while it is off."""

ACTIONS = "crash, lose, pause, delay:SECONDS"

_FIRED = prometheus_client.Counter(
    "assent_failpoints_fired", "Failpoints that fired, by name.", ["failpoint", "action"]
)
_log = structlog.get_logger("rpc.failpoints")


class Lost(ConnectionError):
    """The connection broke here; what had been done at this place is done, and nobody was told."""


class Frame(Protocol):
    """A message whose oneof `frame` says what kind it is."""

    def WhichOneof(self, oneof_group: Literal["frame"], /) -> str | None: ...


class Order(NamedTuple):
    """What is to happen at the n-th arrival at a place."""

    point: str
    occurrence: int
    action: str
    seconds: float = 0.0


def _around(group: str, kinds: str, before: str, after: str) -> Iterator[tuple[str, str]]:
    for kind in kinds.split():
        yield f"{group}.{kind}.before", before.format(kind=kind)
        yield f"{group}.{kind}.after", after.format(kind=kind)


_COMMIT = "a change set ({kind}) is about to be sent to the database", "it ({kind}) is committed; nobody knows yet"
_WAITING = "a turn on the waiting path ({kind}) is about to be committed", "it ({kind}) is committed; nobody knows yet"
_LEASE = "the replica's lease is about to be changed ({kind})", "it is changed ({kind}); nobody knows yet"
_SEND = "a frame ({kind}) is about to be sent to an executor", "a frame ({kind}) has been sent to an executor"
_RECEIVE = "a frame ({kind}) has come from an executor", "a frame ({kind}) from an executor has been dealt with"
_ARRIVE = "a frame ({kind}) has come to the executor", "a frame ({kind}) has been dealt with by the executor"
_TELL = "the executor is about to send a frame ({kind})", "the executor has sent a frame ({kind})"

POINTS: dict[str, str] = {
    **dict(_around("commit", "command claim engine release", *_COMMIT)),
    **dict(_around("waiting", "command engine", *_WAITING)),
    **dict(_around("lease", "renew release", *_LEASE)),
    "dispatch": "a step's dispatch is committed; its start frame has not been made",
    **dict(_around("send", "start reattach recorded cancel", *_SEND)),
    **dict(_around("receive", "hello accepted running unknown finished failed refused", *_RECEIVE)),
    **dict(_around("executor.receive", "start reattach recorded cancel", *_ARRIVE)),
    "executor.effect.before": "the executor has accepted a step and is about to perform it",
    "executor.effect.after": "the step is performed; its outcome is neither kept nor told",
    **dict(_around("executor.send", "accepted running unknown finished failed refused", *_TELL)),
}
"""Every place, with what is true there."""

NO_ANSWER = frozenset({"dispatch", "executor.effect.before", "executor.effect.after"})
"""Places without a connection whose answer could be lost."""

reached: Counter[str] = Counter()
"""How often each place was reached since failpoints were armed."""

fired: list[Order] = []
"""What was carried out, in order."""

_orders: dict[tuple[str, int], Order] = {}
_crash: Callable[[str], None]


def parse(text: str) -> list[Order]:
    """The orders in `text`. Raises ValueError, with what there is to choose from."""
    return [_order(part.strip()) for part in text.split(",") if part.strip()]


def arm(text: str, *, crash: Callable[[str], None] | None = None) -> None:
    """Arm these and forget all others, counting from nothing; an empty text only counts arrivals.

    `crash` is what dying means, with the place it happens at, where several services live in one process.
    """
    global on, _crash
    disarm()
    _orders.update({(order.point, order.occurrence): order for order in parse(text)})
    on, _crash = True, crash or _die


def arm_for_service(text: str) -> None:
    """What a process does with its setting: nothing at all without one, and never in silence."""
    if text:
        arm(text)
        _log.warning("failpoints_armed", failpoints=text)


def disarm() -> None:
    """As if there were no failpoints."""
    global on
    on = False
    reached.clear()
    fired.clear()
    _orders.clear()


def each(group: str, kinds: Iterable[str | None], moment: str) -> list[str]:
    """The places of these kinds, those kinds that have none left out."""
    return [point for kind in sorted({str(kind) for kind in kinds}) if (point := f"{group}.{kind}.{moment}") in POINTS]


def of_frames(group: str, frames: Iterable[Frame], moment: str) -> list[str]:
    """The places of these frames."""
    return each(group, (frame.WhichOneof("frame") for frame in frames), moment)


def hit(*points: str) -> None:
    """Arrive where nothing can wait: a delay holds up the whole process."""
    for order in _due(points):
        if order.seconds:
            time.sleep(order.seconds)
        _carry_out(order)


async def reach(*points: str) -> None:
    """Arrive where a task can wait: a delay holds up this task alone."""
    for order in _due(points):
        if order.seconds:
            await asyncio.sleep(order.seconds)
        _carry_out(order)


def _due(points: Iterable[str]) -> list[Order]:
    due = []
    for point in points:
        if point not in POINTS:
            raise KeyError(point)
        reached[point] += 1
        if (order := _orders.get((point, reached[point]))) is not None:
            due.append(order)
    return due


def _carry_out(order: Order) -> None:
    fired.append(order)
    _FIRED.labels(order.point, order.action).inc()
    _log.warning("failpoint", failpoint=order.point, occurrence=order.occurrence, action=order.action)
    match order.action:
        case "crash":
            _crash(order.point)
        case "lose":
            raise Lost(f"failpoint {order.point}")
        case "pause":
            os.kill(os.getpid(), signal.SIGSTOP)


def _die(_point: str) -> None:
    """As kill -9 does: nothing is flushed, closed or said."""
    os.kill(os.getpid(), signal.SIGKILL)


def _order(text: str) -> Order:
    point, _, rest = text.partition(":")
    occurrence, _, action = rest.partition(":")
    if point not in POINTS:
        known = "\n".join(f"  {name}  {meaning}" for name, meaning in POINTS.items())
        raise ValueError(f"there is no failpoint {point}; there are\n{known}")
    if not occurrence.isdecimal() or int(occurrence) < 1:
        raise ValueError(f"{text}: must be NAME:N:ACTION, with N the arrival at which it fires, from 1")
    if action == "lose" and point in NO_ANSWER:
        raise ValueError(f"{text}: there is no answer to be lost at {point}")
    if action in ("crash", "lose", "pause"):
        return Order(point, int(occurrence), action)
    kind, _, seconds = action.partition(":")
    if kind == "delay" and seconds.replace(".", "", 1).isdecimal():
        return Order(point, int(occurrence), kind, float(seconds))
    raise ValueError(f"{text}: the actions are {ACTIONS}")
