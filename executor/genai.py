"""The names of span attributes for model and tool calls; they follow OpenTelemetry's, which still move."""

from executor.models.model import ModelRequest, Reply

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
AGENT = "gen_ai.agent.name"
TOOL = "gen_ai.tool.name"
ERROR = "error.type"
COST_USD_MICROS = "assent.cost_usd_micros"
SESSION = "assent.session_id"
RUN = "assent.run_id"
STEP = "assent.step_id"


def of_request(request: ModelRequest) -> dict[str, str]:
    """What is known before a model answers; never what was said."""
    return {
        OPERATION: "chat",
        PROVIDER: request.model.partition(":")[0],
        REQUEST_MODEL: request.model,
        AGENT: request.agent,
    }


def of_reply(reply: Reply) -> dict[str, str | int | list[str]]:
    """What is known after it; never what was said."""
    return {
        RESPONSE_MODEL: reply.model,
        RESPONSE_ID: reply.provider_request_id,
        FINISH_REASONS: [reply.finish_reason],
        INPUT_TOKENS: reply.usage.input_tokens,
        OUTPUT_TOKENS: reply.usage.output_tokens,
        COST_USD_MICROS: reply.cost_usd_micros,
    }


def of_tool(tool: str) -> dict[str, str]:
    """What is known of a tool call; never its arguments."""
    return {OPERATION: "execute_tool", TOOL: tool}
