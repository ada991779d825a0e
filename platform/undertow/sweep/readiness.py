"""Which work of a sweep is ready: follows the graph as artifacts are made, fail, or are lost with a job."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable

from undertow.sweep.graph import Step, Work

# The chain that follows (negative), the position in the plan, the number of a part, and the key.
Entry = tuple[float, int, int, str]


class Readiness:
    """The state of each artifact, and the parts that can be made now, in the order of the plan.

    An artifact of engines is ready as its parts, every other one as part 0.

    Attributes:
        works: by key.
        made, failed, skipped: keys of the artifacts that were made, that failed, and that depend on these.
        held: keys of the artifacts that are not offered until `release` (see `make`).
        training_seconds, sampling_seconds: the remaining estimated seconds of trainings, and of the work of
            engines that a training depends on.
        waiting_seconds: of the trainings that have not begun.
    """

    def __init__(self, works: Iterable[Work], *, longest_first: bool = False) -> None:
        """Starts with nothing made.

        Args:
            longest_first: whether work comes first that a long chain of other work depends on, instead of the
                order of the plan.
        """
        self.works = {work.key: work for work in works}
        self.made, self.failed, self.skipped = set[str](), set[str](), set[str]()
        self.held: list[str] = []
        self._inputs = {k: {i for i in work.inputs if i in self.works} for k, work in self.works.items()}
        self._dependants: dict[str, list[str]] = {key: [] for key in self.works}
        for key, inputs in self._inputs.items():
            for other in inputs:
                self._dependants[other].append(key)
        chains = self._chains() if longest_first else {}
        self._order = {key: (-chains.get(key, 0.0), number) for number, key in enumerate(self.works)}
        self._heaps: dict[Step, dict[Hashable, list[Entry]]] = {}
        self._seconds: defaultdict[Hashable, float] = defaultdict(
            float
        )  # of the ready parts of engines, by pool
        self._parts = {key: work.parts if _is_of_engines(work) else 1 for key, work in self.works.items()}
        self._taken: Counter[str] = Counter()  # parts that are being made
        self._coming: Counter[tuple[Step, Hashable]] = Counter()  # parts neither made nor being made
        self._feeding = self._inputs_of_trainings()
        self.training_seconds, self.sampling_seconds, self.waiting_seconds = 0.0, 0.0, 0.0
        for key in self.works:
            self._expect(key, self._parts[key])
            self._count(key, self._parts[key])
        for key, inputs in self._inputs.items():
            if not inputs:
                self._add(key)

    # What happened.

    def take(self, step: Step, pool: Hashable) -> tuple[str, int]:
        """Takes the first ready part of a pool: the artifact's key, and the number of the part."""
        *_, part, key = heapq.heappop(self._heaps[step][pool])
        work = self.works[key]
        self._seconds[pool] -= work.seconds / self._all_parts(key)
        self._taken[key] += 1
        self._expect(key, -1)
        return key, part

    def give_back(self, key: str, part: int) -> None:
        """A part that was taken was not made: it is ready again unless its artifact has failed."""
        if not self.is_settled(key):
            self._taken[key] -= 1
            self._expect(key, 1)
            self._push(key, part)

    def finish_part(self, key: str, hold: Collection[str] = ()) -> None:
        """A part that was taken was made; the artifact is made with the last one."""
        if self.is_settled(key):
            return
        self._taken[key] -= 1
        self._parts[key] -= 1
        self._count(key, -1)
        if not self._parts[key]:
            self.make(key, hold)

    def make(self, key: str, hold: Collection[str] = ()) -> None:
        """An artifact was made, also by another sweep.

        Args:
            hold: keys whose direct dependants are not offered until `release` is called.
        """
        if self.is_settled(key):
            return
        self._settle(key)
        self.made.add(key)
        for dependant in self._dependants[key]:
            self._inputs[dependant].discard(key)
            if not self._inputs[dependant] and not self.is_settled(dependant):
                if any(i in hold for i in self.works[dependant].inputs):
                    self.held.append(dependant)
                else:
                    self._add(dependant)

    def fail(self, key: str) -> list[str]:
        """An artifact cannot be made, or not be used. Returns the keys of those that are skipped for it."""
        if key in self.failed:
            return []
        if not self.is_settled(key):
            self._settle(key)
        self.failed.add(key)
        skipped, todo = list[str](), [key]
        while todo:
            for dependant in self._dependants[todo.pop()]:
                if not self.is_settled(dependant):
                    self._settle(dependant)
                    self.skipped.add(dependant)
                    skipped.append(dependant)
                    todo.append(dependant)
        return skipped

    def release(self) -> None:
        """Offers what was held."""
        held, self.held = self.held, []
        for key in held:
            if not self.is_settled(key):
                self._add(key)

    # What is ready.

    def is_settled(self, key: str) -> bool:
        """Whether an artifact was made, has failed or is skipped."""
        return key in self.made or key in self.failed or key in self.skipped

    def is_possible(self, key: str) -> bool:
        """Whether an artifact can be made now, or is being made."""
        return not self._inputs[key] and not self.is_settled(key)

    def steps(self) -> list[Step]:
        """The steps with ready work, in their order."""
        return sorted(step for step, heaps in self._heaps.items() if any(heaps.values()))

    def pools(self, step: Step) -> list[Hashable]:
        """The pools of a step with ready work, in the order in which it is made."""
        heaps = self._heaps.get(step, {})
        return sorted((pool for pool, heap in heaps.items() if heap), key=lambda pool: heaps[pool][0])

    def first(self, step: Step, pool: Hashable) -> Work:
        """The work of the first ready part of a pool."""
        return self.works[self._heaps[step][pool][0][-1]]

    def count(self, step: Step, pool: Hashable) -> int:
        """How many parts of a pool are ready in a step."""
        return len(self._heaps.get(step, {}).get(pool, ()))

    def seconds(self, pool: Hashable) -> float:
        """The estimated seconds of one engine for the ready parts of a pool."""
        return self._seconds[pool]

    def coming(self, step: Step, pool: Hashable) -> int:
        """How many parts of a pool are neither made nor being made, ready or not."""
        return self._coming[step, pool]

    # Bookkeeping.

    def _all_parts(self, key: str) -> int:
        return self.works[key].parts if _is_of_engines(self.works[key]) else 1

    def _add(self, key: str) -> None:
        for part in range(self._all_parts(key)):
            self._push(key, part)

    def _push(self, key: str, part: int) -> None:
        work = self.works[key]
        heap = self._heaps.setdefault(work.step, {}).setdefault(work.pool, [])
        heapq.heappush(heap, (*self._order[key], part, key))
        self._seconds[work.pool] += work.seconds / self._all_parts(key)

    def _settle(self, key: str) -> None:
        """Removes an artifact that will not be made any more from what is ready, and from the counts."""
        work = self.works[key]
        heap = self._heaps.get(work.step, {}).get(work.pool, [])
        kept = [entry for entry in heap if entry[-1] != key]
        if len(kept) < len(heap):
            self._seconds[work.pool] -= work.seconds / self._all_parts(key) * (len(heap) - len(kept))
            heap[:] = kept
            heapq.heapify(heap)
        self._expect(key, self._taken[key] - self._parts[key])
        self._count(key, -self._parts[key])
        self._parts[key] = self._taken[key] = 0

    def _expect(self, key: str, parts: int) -> None:
        """Counts parts that are neither made nor being made."""
        work = self.works[key]
        self._coming[work.step, work.pool] += parts
        if work.step.by == "training":
            self.waiting_seconds += parts * work.seconds

    def _count(self, key: str, parts: int) -> None:
        """Adds the seconds of parts to the remaining seconds."""
        work = self.works[key]
        seconds = work.seconds * parts / self._all_parts(key)
        if work.step.by == "training":
            self.training_seconds += seconds
        elif key in self._feeding:
            self.sampling_seconds += seconds

    def _chains(self) -> dict[str, float]:
        """The seconds of the longest chain of work that begins with each artifact."""
        chains: dict[str, float] = {}
        todo = list(self.works)
        while todo:
            key = todo[-1]
            after = self._dependants[key]
            if unknown := [other for other in after if other not in chains]:
                todo += unknown
            else:
                work = self.works[todo.pop()]
                chains[key] = work.seconds / self._all_parts(key) + max(
                    map(chains.__getitem__, after), default=0.0
                )
        return chains

    def _inputs_of_trainings(self) -> set[str]:
        """The keys of the work of engines that some training depends on."""
        todo = [key for key, work in self.works.items() if work.step.by == "training"]
        seen = set(todo)
        while todo:
            new = self._inputs[todo.pop()] - seen
            seen |= new
            todo += new
        return {key for key in seen if _is_of_engines(self.works[key])}


def _is_of_engines(work: Work) -> bool:
    return work.step.by == "engines"
