"""A sample that does not depend on who draws it: of each group, what ranks lowest."""

import heapq
from typing import Any


class Lowest:
    """Of each group the `size` records that rank lowest, the earlier ones among equals.

    Rank by a hash, and it is a random sample that is the same in whatever order records come, and the
    lowest of all tasks are among the lowest of each (bottom-k sketch: Cohen and Kaplan 2007).
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._heaps: dict[Any, list[tuple[int, int, Any]]] = {}
        self._seen = 0

    def wants(self, group: Any, rank: int) -> bool:
        """Whether `add` would keep such a record: to ask is cheaper than to make one."""
        heap = self._heaps.get(group, ())
        return len(heap) < self.size or (len(heap) > 0 and rank < -heap[0][0])

    def add(self, group: Any, rank: int, record: Any) -> None:
        if self.wants(group, rank):
            heap = self._heaps.setdefault(group, [])
            self._seen += 1
            heapq.heappush(heap, (-rank, -self._seen, record))
            if len(heap) > self.size:
                heapq.heappop(heap)

    def forget(self, group: Any) -> None:
        del self._heaps[group]

    def __contains__(self, group: Any) -> bool:
        return group in self._heaps

    def __len__(self) -> int:
        return len(self._heaps)

    @property
    def groups(self) -> list[Any]:
        """Every group that has a record, in order."""
        return sorted(self._heaps)

    def records(self, group: Any) -> list[Any]:
        """Of a group, the lowest first."""
        entries = sorted(self._heaps.get(group, ()), key=lambda entry: entry[:2], reverse=True)
        return [record for *_, record in entries]
