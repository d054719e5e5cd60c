"""`python -m tests.simulator SEED` replays a seed; `--seeds N` plays that many, from `--first` on."""

import argparse
import sys

from tests.simulator.seeds import replay, run


def main() -> int:
    """0: nothing was wrong."""
    arguments = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    arguments.add_argument("seed", nargs="?", type=int, help="the one to replay, with its trace")
    arguments.add_argument("--seeds", type=int, default=200, help="how many to play")
    arguments.add_argument("--first", type=int, default=0, help="the first of them")
    arguments.add_argument("--workers", type=int, default=1, help="processes to play them in")
    arguments.add_argument("--only", nargs="*", default=[], help="kinds of faults, instead of those the seed chooses")
    given = arguments.parse_args()
    if given.seed is not None:
        summary = replay(given.seed, given.only)
        sys.stdout.write("\n".join(summary.traces[given.seed]) + "\n")
    else:
        summary = run(range(given.first, given.first + given.seeds), given.workers, only=given.only)
    sys.stdout.write(f"{summary}\n")
    return 1 if summary.failures else 0


if __name__ == "__main__":
    sys.exit(main())
