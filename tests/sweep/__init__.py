"""The crash sweep: each scenario dies at every failpoint, at its first, second, third arrival, until none is left.

The world is the simulator's: the real store, engines, links and ledgers in virtual time. `run` sweeps and judges;
`python -m tests.sweep SCENARIO FAILPOINTS` plays one again and shows what happened.
"""

from tests.sweep.processes import run
from tests.sweep.sweeping import Findings

__all__ = ["Findings", "run"]
