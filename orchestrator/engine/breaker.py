"""When an executor that keeps failing is left alone for a while, and when it is tried again. Pure: time is given.

Only faults of the executor itself count, never what a model or a tool says: streams that break, processes that die
under their steps, starts refused one after the other.
"""

FAILURES_LIMIT = 3
REFUSALS_LIMIT = 10
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class Breaker:
    """Closed: steps go. Open: none, for a pause that grows. Then one step a pause, until one comes to an outcome."""

    def __init__(self) -> None:
        self._failures = 0
        self._refusals = 0
        self._pause = 0.0  # seconds; 0: closed
        self._until = 0.0
        self._tries = False  # one went through since the pause ended

    @property
    def is_closed(self) -> bool:
        return not self._pause

    @property
    def pause_seconds(self) -> float:
        """How long it is left alone this time; 0: it is closed."""
        return self._pause

    def admits(self, now: float) -> bool:
        """Whether a step may go there."""
        return self.is_closed or now >= self._until

    def admitted(self, now: float) -> None:
        """One goes there; of an open one it is the only one until a pause later."""
        if not self.is_closed:
            self._tries = True
            self._until = now + self._pause

    def failed(self, now: float) -> bool:
        """A stream broke, or the process died under its steps. Whether that opened it, or opened it for longer."""
        self._failures += 1
        return self._failures >= FAILURES_LIMIT and self._open(now)

    def refused(self, now: float) -> bool:
        """It would not take a step that it should have taken. Whether that opened it, or opened it for longer."""
        self._refusals += 1
        return self._refusals >= REFUSALS_LIMIT and self._open(now)

    def accepted(self) -> None:
        """It took a step."""
        self._refusals = 0

    def worked(self) -> bool:
        """A step came to an outcome there. Whether that closed it."""
        was_open = not self.is_closed
        self._failures = self._refusals = 0
        self._pause, self._tries = 0.0, False
        return was_open

    def _open(self, now: float) -> bool:
        if not self.is_closed and not self._tries:
            return False  # late news of what opened it
        self._pause = min(self._pause * 2 or FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        self._until = now + self._pause
        self._tries = False
        return True
