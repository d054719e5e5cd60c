"""How hard Hypothesis tries: the same few examples in every CI run, or, with HYPOTHESIS_PROFILE=deep, many new ones."""

import os

from hypothesis import HealthCheck, Phase, settings

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
_PHASES = [Phase.generate, Phase.shrink]  # explaining a failure takes longer than a test may
settings.register_profile(
    "ci",
    max_examples=250,
    stateful_step_count=50,
    derandomize=True,
    database=None,
    deadline=None,
    phases=_PHASES,
    suppress_health_check=_SLOW,
)
settings.register_profile(
    "deep",
    max_examples=4_000,
    stateful_step_count=80,
    database=None,
    deadline=None,
    phases=_PHASES,
    suppress_health_check=_SLOW,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
