"""The sessions that wait for room on executors, and which of them is offered it: by priority, then the longest waiting.

Each slot is offered to one. If all looked, most would find none and wait again: work that grows with the square of
those who wait. No I/O, and no rule of the domain.
"""

from collections import defaultdict
from itertools import islice

from orchestrator.domain.records import Key


class WaitingForRoom:
    """One a replica."""

    def __init__(self) -> None:
        self._keys: dict[int, dict[Key, None]] = defaultdict(dict)  # by priority, the longest waiting first
        self._offered: set[Key] = set()  # told that there is room, and not looked at yet

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))

    def join(self, key: Key, priority: int) -> None:
        """It has steps to start that no executor had room for."""
        self._keys[priority][key] = None

    def leave(self, key: Key, priority: int) -> None:
        """It is looked at: whether it waits on, or takes what it was offered, is said next."""
        keys = self._keys.get(priority)
        if keys is not None:
            keys.pop(key, None)
            self._drop_if_empty(priority)

    def offer(self, slots: int) -> list[Key]:
        """Those whose turn it is now that so many slots are free; they no longer wait."""
        in_order = ((of, key) for of in sorted(self._keys, reverse=True) for key in self._keys[of])
        first = list(islice(in_order, max(0, slots)))
        for priority, key in first:
            del self._keys[priority][key]
            self._drop_if_empty(priority)
        keys = [key for _, key in first]
        self._offered.update(keys)
        return keys

    def took(self, key: Key) -> None:
        """It has used the room it was offered, or there was none for it after all."""
        self._offered.discard(key)

    def declined(self, key: Key) -> bool:
        """It needs no room. Whether it was offered some, which is the next one's then."""
        if key not in self._offered:
            return False
        self._offered.remove(key)
        return True

    def _drop_if_empty(self, priority: int) -> None:
        if not self._keys[priority]:
            del self._keys[priority]
