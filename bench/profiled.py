"""`python -m bench.profiled FILE`: an orchestrator under cProfile, its figures in FILE when it stops.

Profiling makes it about twice as slow: read shares, not times.
"""

import cProfile
import pstats
import sys

from orchestrator.__main__ import main

with cProfile.Profile() as profile:
    status = main(["serve"])
with open(sys.argv[1], "w") as report:
    stats = pstats.Stats(profile, stream=report)
    stats.sort_stats("tottime").print_stats(80)
    stats.sort_stats("cumulative").print_stats(120)
sys.exit(status)
