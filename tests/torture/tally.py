"""What torture has found so far, and the one table that it ends with."""

from dataclasses import dataclass, field

from tests.e2e.services import LEASE_SECONDS
from tests.simulator.seeds import DOUBLE, STUCK

RECOVERY_LIMIT_SECONDS = LEASE_SECONDS + 1.0


@dataclass
class Tally:
    """`wrong` has a line for everything that must not be; what each part counts stands beside it."""

    scenarios: int = 0
    pairs: int = 0  # of a scenario and a failpoint that fired in it
    failpoints: int = 0
    failpoints_known: int = 0
    plays: int = 0
    deaths: int = 0
    deaths_wanted: int = 0
    seeds: int = 0
    seeds_wanted: int = 0
    kills: int = 0
    recovery_seconds: list[float] = field(default_factory=list)
    restarts: int = 0
    acknowledged: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def double_starts(self) -> int:
        return sum(DOUBLE in line for line in self.wrong)

    @property
    def stuck(self) -> int:
        return sum(STUCK in line for line in self.wrong)

    def recovery(self, share: float) -> float:
        """How long the quickest of that share took at most."""
        seconds = sorted(self.recovery_seconds)
        return seconds[min(len(seconds) - 1, int(share * len(seconds)))] if seconds else 0.0

    def table(self) -> str:
        recovery = f"p50 {self.recovery(0.5):.2f} s, p99 {self.recovery(0.99):.2f} s"
        allowed = f"{len(self.recovery_seconds)} sessions in {self.kills} kills; at most {RECOVERY_LIMIT_SECONDS} s"
        rows = {
            "scenarios × failpoints covered": f"{self.pairs:,}: {self.scenarios} scenarios, {self.failpoints} of "
            f"{self.failpoints_known} failpoints, {self.plays:,} plays",
            "deaths of real processes": f"{self.deaths} of {self.deaths_wanted}",
            "seeds run": f"{self.seeds:,} of {self.seeds_wanted:,}",
            "violations": f"{len(self.wrong)}",
            "double starts": f"{self.double_starts}",
            "stuck runs": f"{self.stuck}",
            "recovery after kill -9": f"{recovery} ({allowed})",
            "lost acknowledged commands": f"{self.lost} of {self.acknowledged:,}, {self.restarts} PostgreSQL restarts",
        }
        left, right = max(map(len, rows)), max(map(len, rows.values()))
        lines = [f"| {name:{left}} | {value:{right}} |" for name, value in rows.items()]
        return "\n".join(lines)
