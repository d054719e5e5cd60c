"""What the executor counts beside what every process does."""

from prometheus_client import Counter, Gauge, Histogram

STEPS = Counter("assent_executor_steps", "Steps that ended here, by kind and outcome.", ["kind", "outcome"])
STEP_DURATION = Histogram(
    "assent_executor_step_duration_seconds",
    "Time a step took from its start to its outcome.",
    ["kind"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600),
)
SLOTS_HELD = Gauge("assent_executor_slots_held", "Slots taken by running steps and unrecorded outcomes.")
MODEL_TOKENS = Counter("assent_executor_model_tokens", "Tokens models read and wrote.", ["model", "direction"])
MODEL_COST = Counter("assent_executor_model_cost_usd", "What model calls cost, where the price is known.", ["model"])
