"""Tools that do nothing, for benchmarks and trying approvals: they answer with the bytes they were given."""

from executor.tools.tool import SideEffect, Tool, ToolCall, ToolResult


def _echo(call: ToolCall) -> ToolResult:
    return ToolResult(call.arguments_json, structured_json=call.arguments_json)


NOOP = Tool(
    name="noop",
    description="Do nothing and answer with the arguments.",
    side_effect=SideEffect.READ_ONLY,
    instant=_echo,
)
NOOP_ASK = Tool(
    name="noop_ask",
    description="Do nothing and answer with the arguments, as a call that must not be repeated.",
    side_effect=SideEffect.NON_IDEMPOTENT,
    instant=_echo,
)
