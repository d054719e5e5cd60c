"""The sessions that wait for room on executors, and which of them is offered it: by priority, then the longest waiting.

Each slot is offered to one. If all looked, most would find none and wait again: work that grows with the square of
those who wait. Those who need what no executor offers now are apart: offered to them, a slot would stay free. No I/O,
and no rule of the domain.
"""

from collections import defaultdict
from itertools import islice

from orchestrator.domain.records import Key


class WaitingForRoom:
    """One a replica."""

    def __init__(self) -> None:
        self._keys: dict[int, dict[Key, None]] = defaultdict(dict)  # by priority, the longest waiting first
        self._unserved: dict[Key, int] = {}  # with their priorities: what they need no executor offers
        self._offered: set[Key] = set()  # told that there is room, and not looked at yet

    def __len__(self) -> int:
        return sum(map(len, self._keys.values())) + len(self._unserved)

    def join(self, key: Key, priority: int, *, lacks_slot: bool) -> None:
        """It has steps to start that no executor had room for: for want of a slot, or nobody offers what they need."""
        if lacks_slot:
            self._keys[priority][key] = None
        else:
            self._unserved[key] = priority

    def leave(self, key: Key, priority: int) -> None:
        """It is looked at: whether it waits on, or takes what it was offered, is said next."""
        self._unserved.pop(key, None)
        keys = self._keys.get(priority)
        if keys is not None:
            keys.pop(key, None)
            self._drop_if_empty(priority)

    def offer(self, slots: int) -> list[Key]:
        """Those whose turn it is now that so many slots are free; they no longer wait. Where that leaves slots over,
        some of those whom nobody serves look, too: to them it was not offered."""
        in_order = ((of, key) for of in sorted(self._keys, reverse=True) for key in self._keys[of])
        first = list(islice(in_order, max(0, slots)))
        for priority, key in first:
            del self._keys[priority][key]
            self._drop_if_empty(priority)
        keys = [key for _, key in first]
        self._offered.update(keys)
        others = list(islice(self._unserved, max(0, slots - len(keys))))
        for key in others:
            del self._unserved[key]
        return keys + others

    def offers_changed(self) -> None:
        """Executors offer more than before: who was served by nobody waits like the others."""
        for key, priority in self._unserved.items():
            self._keys[priority][key] = None
        self._unserved.clear()

    def took(self, key: Key) -> None:
        """It has used the room it was offered, or there was none for it after all."""
        self._offered.discard(key)

    def declined(self, key: Key) -> bool:
        """It has no use for room now. Whether it was offered some, which is the next one's then."""
        if key not in self._offered:
            return False
        self._offered.remove(key)
        return True

    def _drop_if_empty(self, priority: int) -> None:
        if not self._keys[priority]:
            del self._keys[priority]
