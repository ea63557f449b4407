"""Plans made ahead in a thread: hashing, probing and asking the lake take as long as a short clip does."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipeline.analyze.plan import Planner, VideoPlan
from pipeline.sources import Source

AHEAD = 16
"""Plans that wait to be taken, at most."""

_PATIENCE_S = 1.0

Made = VideoPlan | BaseException | None


class PlansAhead:
    """Plans of sources in their order, and those of the next ones meanwhile.

    A plan is made on what the lake says at that moment; what is committed until it is taken it does not know.
    """

    def __init__(self, planner: Planner, sources: Sequence[Source]) -> None:
        self._planner = planner
        self._sources = deque(sources)
        self._made: deque[tuple[Source, Made]] = deque()
        self._asked = 0  # plans that are asked for and not yet taken
        self._ended = False
        self._change = threading.Condition()
        # A daemon: no exit waits until a large file is hashed.
        self._thread = threading.Thread(target=self._work, name="marey-plan", daemon=True)
        self._thread.start()

    def ask(self, count: int) -> None:
        """Have so many plans made, as far as there are sources and place."""
        with self._change:
            self._asked = max(self._asked, min(count, AHEAD))
            self._change.notify_all()

    def ready(self) -> bool:
        """Whether the next plan is made."""
        with self._change:
            return bool(self._made)

    def take(self) -> tuple[Source, Made]:
        """The next source and its plan, or what its planning raised; waits for it."""
        with self._change:
            self._asked = max(self._asked, 1)
            self._change.notify_all()
            self._change.wait_for(lambda: self._made)
            self._asked -= 1
            return self._made.popleft()

    def end(self) -> None:
        """Make no more; one under way may outlast this."""
        with self._change:
            self._ended = True
            self._change.notify_all()
        self._thread.join(_PATIENCE_S)

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(
                    lambda: self._ended or (self._sources and len(self._made) < self._asked)
                )
                if self._ended:
                    return
                source = self._sources.popleft()
            made: Made
            try:
                made = self._planner.plan(source)
            except BaseException as exc:  # raised where the plan is taken
                made = exc
            with self._change:
                self._made.append((source, made))
                self._change.notify_all()


@contextmanager
def plans_ahead(planner: Planner, sources: Sequence[Source]) -> Iterator[PlansAhead]:
    """Plans made while they are asked for; leaving it by an error breaks off probing and copying."""
    ahead = PlansAhead(planner, sources)
    try:
        yield ahead
    except BaseException:
        planner.prober.abandon()
        planner.spool.abandon()
        raise
    finally:
        ahead.end()
