"""What the engine counts: executors as this replica sees them, and the sessions that wait for one."""

from prometheus_client import Counter, Gauge

CONNECTED = Gauge("assent_executor_connected", "Whether the stream to the executor is up: 0 or 1.", ["address"])
PAUSE = Gauge(
    "assent_executor_pause_seconds",
    "How long an executor that keeps failing is left alone before one step is tried again; 0: it gets steps.",
    ["address"],
)
REFUSALS = Counter("assent_executor_refusals", "Starts that executors refused, by reason.", ["reason"])
LOSSES = Counter("assent_executor_steps_lost", "Steps given up with the executor that had them.")
BLOCKED = Gauge("assent_sessions_blocked", "Sessions this replica knows to wait for an executor with a free slot.")
