"""How things go between the processes just now: how long messages take, how often something is lost or said twice."""

from dataclasses import dataclass, fields
from random import Random


@dataclass
class Weather:
    """Chances per statement or message, delays in seconds. As made: a fine day."""

    message_delay: float = 0.002  # the longest; the shortest is a tenth of it
    statement_delay: float = 0.002
    lose_statement: float = 0.0  # the connection breaks before the server has it
    lose_answer: float = 0.0  # it is done, and the connection breaks before anybody hears so
    stray: float = 0.0  # a statement arrives long after its sender has given up
    duplicate: float = 0.0  # a frame of a stream arrives again later
    duplicate_delay: float = 0.5

    def clear_up(self) -> None:
        """A fine day again."""
        for each in fields(self):
            setattr(self, each.name, each.default)


def between(random: Random, longest: float) -> float:
    return random.uniform(longest / 10, longest)
