"""What an orchestrator asks for and what it is told, in plain values; wire.py knows how they travel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from executor.errors import Disposition
from executor.models.model import Delta, ModelRequest, Reply, Usage
from executor.tools.tool import ToolResult

RefusalReason = Literal["NO_SLOT", "OLDER_EPOCH", "OTHER_INSTANCE", "WRONG_DIGEST", "DRAINING", "NOT_OFFERED"]


class Ref(NamedTuple):
    """Which dispatch of which step, under which owner of its session."""

    step_id: str
    epoch: int
    dispatch: int


class ToolWork(NamedTuple):
    """A call of a tool, as the orchestrator judged it; an empty `directory` means that it needs no files."""

    tool: str
    arguments_json: str
    approval_preimage: str = ""
    schema_digest: str = ""
    root_id: str = ""
    directory: str = ""
    write_globs: tuple[str, ...] = ()


class Start(NamedTuple):
    """A step to perform; an empty target means any instance."""

    ref: Ref
    target_instance: str
    session_id: str
    run_id: str
    traceparent: str
    deadline_nanos: int
    work: ModelRequest | ToolWork


class Accepted(NamedTuple):
    """The step was taken."""


class Refused(NamedTuple):
    """The step was not taken and never started under this dispatch number."""

    reason: RefusalReason
    message: str


class Running(NamedTuple):
    """The step still runs."""


class Unknown(NamedTuple):
    """The step never started under this dispatch number, and never will."""


class Progress(NamedTuple):
    """How far a tool has come."""

    message: str


class Finished(NamedTuple):
    """The step ended as it should."""

    result: Reply | ToolResult
    latency_nanos: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The step came to nothing; with `effect_possible` it may have done something all the same."""

    reason: str
    message: str
    disposition: Disposition
    retry_after: float | None = None
    usage: Usage | None = None
    latency_nanos: int = 0
    effect_possible: bool = False


Outcome = Finished | Failed
Said = Accepted | Refused | Running | Unknown | Delta | Progress | Finished | Failed
Tell = Callable[[Delta | Progress], None]


class Listener(Protocol):
    """Whoever is told what becomes of steps: one stream of one orchestrator."""

    def tell(self, ref: Ref, said: Said) -> None:
        """Take note; never waits and never fails."""
