"""How often a service looks for garbage: rarely, for almost everything it makes goes by reference counting."""

import gc

# Net allocations before the young are looked at, and how many such looks before the older are; Python's own are
# 700, 10 and 10, at which an orchestrator spends a tenth of its time on them.
THRESHOLDS = (20_000, 20, 20)


def tend() -> None:
    """To be called once, when the service has started: what is there by now lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
