"""What the executor counts beside what every process does."""

from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram

from executor.models.model import Reply

STEPS = Counter("assent_executor_steps", "Steps that ended here, by kind and outcome.", ["kind", "outcome"])
STEP_DURATION = Histogram(
    "assent_executor_step_duration_seconds",
    "Time a step took from its start to its outcome.",
    ["kind"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600),
)
SLOTS_HELD = Gauge("assent_executor_slots_held", "Slots taken by running steps and unrecorded outcomes.")
_TOKENS = Counter("assent_executor_model_tokens", "Tokens models read and wrote.", ["model", "direction"])
_COST = Counter("assent_executor_model_cost_usd", "What model calls cost, where the price is known.", ["model"])


@lru_cache(maxsize=1024)
def _of_model(model: str) -> tuple[Counter, Counter, Counter]:
    return _TOKENS.labels(model, "input"), _TOKENS.labels(model, "output"), _COST.labels(model)


def count_reply(model: str, reply: Reply) -> None:
    """Count what a model call used."""
    read, written, cost = _of_model(model)
    read.inc(reply.usage.input_tokens)
    written.inc(reply.usage.output_tokens)
    if reply.cost_usd_micros:
        cost.inc(reply.cost_usd_micros / 1e6)
