"""What the rules make of a session and the outcomes at hand, and the change set it becomes; nothing is written here."""

from orchestrator.domain.artifacts import take_files
from orchestrator.domain.catalog import SECOND, Catalog
from orchestrator.domain.change import Change, ChangeSet
from orchestrator.domain.outcomes import Outcome, fold
from orchestrator.domain.reading import Gathered
from orchestrator.domain.reconcile import reconcile
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.starting import World
from orchestrator.operations.context import Reservation

HOLD = SECOND  # what is due sooner is waited for; letting go and claiming again would cost two commits


class Decision:
    """One turn of the loop, by the holder of `epoch` (0: who has yet to claim). Abandon it, whatever became of it."""

    def __init__(
        self,
        change: Change,
        outcomes: list[Outcome],
        gathered: list[Gathered],
        *,
        catalog: Catalog,
        reservation: Reservation,
        owner: str,
        epoch: int,
    ) -> None:
        self.change = change
        self.outcomes = outcomes
        self.gathered = gathered
        self.reservation = reservation
        self._owner, self._epoch = owner, epoch
        before = change.session
        try:
            for outcome in outcomes:
                fold(change, outcome)
            for files in gathered:
                take_files(change, files)
            reconcile(change, World(catalog, reservation, reservation.may_read))
        except BaseException:
            self.abandon()
            raise
        self.releases = not change.session.runnable and not self._soon_due()
        # A session that nobody owns and that waits as it did is left as it is: waiting costs no commit.
        waits_on = epoch == 0 and self.releases and change.session == before
        self.writes = bool(change.events) or (not waits_on and (epoch == 0 or self.releases))

    @property
    def snapshot(self) -> Snapshot:
        """The session as it is once this is written."""
        return self.change.snapshot

    def _soon_due(self) -> bool:
        due = self.change.session.due_time
        return due != 0 and due - self.change.now < HOLD

    def change_set(self) -> ChangeSet:
        if self._epoch == 0:
            return self.change.as_change_set(claim_for=self._owner, release=self.releases)
        return self.change.as_change_set(owner=self._owner, epoch=self._epoch, release=self.releases)

    def abandon(self) -> None:
        """Give back the slots that were taken for it; those of steps that were started are not its own any more."""
        self.reservation.abandon()
