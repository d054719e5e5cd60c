"""What model and tool calls consumed, and what they may consume."""

from orchestrator.domain.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """What model calls consumed. `cost_usd_micros` counts priced calls only; `unpriced_calls` the others."""

    model_calls: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd_micros: int = 0
    unpriced_calls: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.model_calls + other.model_calls,
            self.tool_calls + other.tool_calls,
            self.input_tokens + other.input_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cost_usd_micros + other.cost_usd_micros,
            self.unpriced_calls + other.unpriced_calls,
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may consume; 0: no limit of that kind. `work_duration` in microseconds."""

    cost_usd_micros: int = 0
    total_tokens: int = 0
    calls: int = 0
    work_duration: int = 0
