"""What one watcher of the inbox has been shown as pending, as numbers: enough to tell what is new to it. Pure."""

from collections.abc import Callable
from typing import NamedTuple

from orchestrator.domain.records import Approval
from orchestrator.streaming.about import About, number_of

Shows = Callable[[Approval], bool]
"""Whether whoever watches wants to see an approval that their filter takes."""


class Tally(NamedTuple):
    """How many are pending, and the sum of the last 32 bits of their ids: two inboxes of one tally are the same."""

    number: int
    total: int

    def less(self, other: "Tally") -> "Tally":
        return Tally(self.number - other.number, self.total - other.total)


class Shown:
    """The pending approvals that a filter takes. Those not wanted count too: so the database can count them."""

    def __init__(self, wants: Shows) -> None:
        self.wants = wants
        self._numbers: set[int] = set()
        self._sum = 0
        self._unwanted: set[int] = set()
        self._counts: dict[tuple[int, str], int] = {}  # how many votes and reminders are known

    @property
    def tally(self) -> Tally:
        return Tally(len(self._numbers), self._sum)

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def add(self, approval: Approval) -> bool:
        """Whether it is to be seen: it is new, and wanted."""
        number = number_of(approval.id)
        if number in self._numbers:
            return False
        self._numbers.add(number)
        self._sum += number & 0xFFFF_FFFF
        for what, count in (("VOTED", len(approval.votes)), ("REMINDED", approval.reminders)):
            if count:
                self._counts[number, what] = count
        if self.wants(approval):
            return True
        self._unwanted.add(number)
        return False

    def remove(self, number: int) -> bool:
        """Whether it had been seen."""
        self._numbers.remove(number)
        self._sum -= number & 0xFFFF_FFFF
        for what in ("VOTED", "REMINDED"):
            self._counts.pop((number, what), None)
        if number not in self._unwanted:
            return True
        self._unwanted.remove(number)
        return False

    def count(self, number: int, told: About) -> bool:
        """Whether a vote or a reminder is to be seen: the approval was, and without it."""
        if number not in self._numbers or number in self._unwanted:
            return False
        if told.nth <= self._counts.get((number, told.what), 0):
            return False
        self._counts[number, told.what] = told.nth
        return True
