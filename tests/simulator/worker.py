"""One process that plays seeds: what to play comes as JSON on its input, a line of JSON a seed goes to its output."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

from tests.postgres import embedded_server
from tests.simulator.checks import violations
from tests.simulator.history import History
from tests.simulator.ordinary import ordinary
from tests.simulator.physical import Physical
from tests.simulator.seeds import TRACE_LINES
from tests.simulator.world import World


def play(physical: Physical, seed: int, only: Sequence[str] = ()) -> History:
    """The seed's world: how large it is, who is in it and what befalls it (of `only` these) are drawn from the seed."""
    random = Random(seed)
    sizes = {
        "replicas": random.choice([2, 2, 3]),
        "executors": random.choice([1, 1, 2]),
        "slots": random.choice([1, 3, 8]),
    }
    world = World(physical, seed, **sizes)
    world.only = frozenset(only)
    return world.run(ordinary)


def report_of(history: History, *, whole: bool) -> dict[str, Any]:
    found = violations(history)
    rows = history.rows
    counts = {
        "seconds": round(history.seconds),
        "commands": len(history.commands),
        "change sets": sum(written.outcome == "written" for written in history.written),
        "over a limit": sum(written.outcome == "over" for written in history.written),
        "stale or fenced": sum(written.outcome in ("stale", "fenced") for written in history.written),
        "tools started": len(history.started),
        "client calls": sum(step.client_id != "" for step in rows.steps),
        "runs": len(rows.runs),
        "decisions": sum(approval.state == "RESOLVED" for approval in rows.approvals),
        "votes": sum(len(approval.votes) for approval in rows.approvals),
        "expired": sum(approval.state == "EXPIRED" for approval in rows.approvals),
        "superseded": sum(approval.state == "SUPERSEDED" for approval in rows.approvals),
        "grants": len(rows.session_grants),
        "uses of grants": sum(grant.uses for grant in rows.session_grants),
        "answers to questions": sum(a.kind == "QUESTION" and a.state == "RESOLVED" for a in rows.approvals),
        "failures": sum(approval.kind == "FAILURE" for approval in rows.approvals),
        "artifacts": len(rows.artifacts),
        "gates passed": sum(a.kind == "ARTIFACT" and a.state == "RESOLVED" for a in rows.approvals),
        "carried subtasks": sum(subtask.carried_subtask_id != "" for subtask in rows.subtasks),
        "refused": sum(len(command.refusals) for command in history.commands),
        "in doubt": sum(approval.kind == "IN_DOUBT" for approval in rows.approvals),
    }
    trace = history.trace if whole else history.trace[-TRACE_LINES:] if found else []
    return {
        "seed": history.seed,
        "violations": found,
        "counts": counts,
        "faults": history.faults,
        "trace": trace,
    }


@contextmanager
def physical_at(url: str) -> Iterator[Physical]:
    """The database at this URL, or one on a server of one's own."""
    if url:
        physical = Physical(url)
        try:
            yield physical
        finally:
            physical.close()
    else:
        with embedded_server() as server, physical_at(server.url) as physical:
            yield physical


def main() -> None:
    asked = json.load(sys.stdin)
    with physical_at(asked["database_url"]) as physical:
        physical.prepare()
        for seed in asked["seeds"]:
            report = report_of(play(physical, seed, asked.get("only", ())), whole="--trace" in sys.argv)
            sys.stdout.write(json.dumps(report) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
