"""The simulator: the real orchestrators, store and executor rules in virtual time, with faults drawn from a seed.

`run` plays seeds and judges what came of them; `python -m tests.simulator SEED` replays one and shows what happened.
"""

from tests.simulator.seeds import Summary, run

__all__ = ["Summary", "run"]
