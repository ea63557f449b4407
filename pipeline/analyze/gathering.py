"""Plans that begin in one commit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from pipeline.analyze.plan import VideoPlan

MAX_GROUP = 16
"""Attempts that begin in one commit, at most."""


class Gathering:
    """Puts plans together, as many as are made: a commit takes as long as some seconds of video.

    Args:
        max_s: what a group may last, in seconds of video, if it is more than one.
    """

    def __init__(self, max_s: float) -> None:
        self._max_s = max_s
        self.plans: list[VideoPlan] = []
        """Those that are gathered and handed to no group yet."""

    def groups(self, plans: Iterable[VideoPlan | None]) -> Iterator[list[VideoPlan]]:
        """The plans, group by group, in their order.

        A video of which an attempt came to no end begins alone: what kills its worker is not counted for
        others.

        Args:
            plans: None: the next is not made yet, and those gathered do not wait for it.

        Yields:
            Groups; an empty one: the next plan is not made yet.
        """
        for plan in plans:
            if plan is None or not self._fits(plan):
                group, self.plans = self.plans, []
                if group or plan is None:
                    yield group
            if plan is not None:
                self.plans.append(plan)
        group, self.plans = self.plans, []
        if group:
            yield group

    def _fits(self, plan: VideoPlan) -> bool:
        group = [*self.plans, plan]
        seconds = sum(plan.name.duration_s or math.inf for plan in group)
        ended = not any(plan.history.unended for plan in group)
        return ended and len(group) <= MAX_GROUP and seconds <= self._max_s
