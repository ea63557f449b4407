"""Rules about several objects in one place: occupancy and crowding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.config import Rule
from pipeline.rules.geometry import Border
from pipeline.rules.sides import Sides
from pipeline.rules.steps import SAME_S, Finding, Rows, Steps, by_object

HOLD_S = 1.0
"""An object unseen for no longer is still there, and fewer objects for no longer end no crowd: at least for
one and a half times the way from sample to sample, which is not always the same."""


@dataclass
class _Member:
    sides: Sides = field(default_factory=Sides)
    inside: bool = False
    last_t: float = 0.0


@dataclass(frozen=True)
class _Change:
    """An object came in, or went (`score` None), at `t`."""

    t: float
    track: int
    score: float | None


class CountRunner:
    """Counts the objects inside; what happened is settled when it is `HOLD_S` ago.

    Anchors near the border may tell later than that on which side they are; such a passage counts from
    `HOLD_S` before it was certain.
    """

    def __init__(self, rule: Rule, border: Border | None, sample_s: float) -> None:
        self._rule, self._border = rule, border
        self._hold_s = hold_s = max(HOLD_S, 1.5 * sample_s)
        self._members: dict[int, _Member] = {}
        self._changes: list[_Change] = []  # in the order in which they became known, not settled
        self._count = _Count(rule, hold_s)

    @property
    def num_remembered(self) -> int:
        return len(self._members) + len(self._changes) + len(self._count.inside)

    def update(self, rows: Rows) -> Iterator[Finding]:
        for track, steps in by_object(self._rule, self._border, rows, self._hold_s):
            self._follow(track, steps)
        now = float(rows.t[-1]) - self._hold_s
        gone = [track for track, member in self._members.items() if now > member.last_t]
        for track in gone:
            self._lose(track)
        for finding in self._settle(now):
            certain = np.searchsorted(rows.t - self._hold_s - finding.t_end, self._hold_s, "right")
            yield replace(finding, row=int(rows.row[certain]))

    def finish(self, row: int, end_t: float) -> Iterator[Finding]:
        for track in list(self._members):
            self._lose(track)
        for finding in self._settle(np.inf):
            yield replace(finding, row=row)

    def _follow(self, track: int, steps: Steps) -> None:
        member = self._members.get(track)
        if member is not None and steps.t[0] - self._hold_s > member.last_t:
            self._lose(track)
            member = None
        if member is None:
            member = self._members[track] = _Member()
        self._move(track, member, steps)
        member.last_t = float(steps.t[-1])

    def _move(self, track: int, member: _Member, steps: Steps) -> None:
        if self._border is None:
            if not member.inside:
                self._enter(track, member, steps, 0, float(steps.t[0]))
            return
        unknown = member.sides.side == 0
        sides, flips = member.sides.push(steps)
        if unknown and sides.any():
            first = int(np.flatnonzero(sides)[0])
            if sides[first] > 0:
                self._enter(track, member, steps, first, float(steps.t[first]))
        for flip in flips:
            t = max(float(flip.locate(self._border)[0][0]), float(steps.t[flip.k]) - self._hold_s)
            if flip.side > 0:
                self._enter(track, member, steps, flip.k, t)
            else:
                member.inside = False
                self._changes.append(_Change(t, track, None))

    def _enter(self, track: int, member: _Member, steps: Steps, k: int, t: float) -> None:
        member.inside = True
        self._changes.append(_Change(t, track, float(steps.score[k])))

    def _lose(self, track: int) -> None:
        member = self._members.pop(track)
        if member.inside:
            self._changes.append(_Change(member.last_t, track, None))

    def _settle(self, now: float) -> Iterator[Finding]:
        """What the changes before `now` make certain."""
        # Stable: changes of one object stay in their order.
        self._changes.sort(key=lambda change: (change.t, change.track))
        num_old = sum(change.t < now for change in self._changes)
        old, self._changes = self._changes[:num_old], self._changes[num_old:]
        for change in old:
            yield from self._count.until(change.t)
            self._count.take(change)
        yield from self._count.until(now)


class _Count:
    """The objects inside, and the stretch of time for which they have been enough."""

    def __init__(self, rule: Rule, hold_s: float) -> None:
        self._enough, self._min_s, self._hold_s = rule.min_count, rule.min_duration_s, hold_s
        self.inside: dict[int, float] = {}  # score by track
        self._since: float | None = None
        self._fell: float | None = None  # since when they have been too few, if this may still pass
        self._most: tuple[float, dict[int, float]] = 0.0, {}  # when they were most, and who

    def take(self, change: _Change) -> None:
        if change.score is None:
            self.inside.pop(change.track, None)
        else:
            self.inside[change.track] = change.score
        if len(self.inside) < self._enough:
            self._fell = change.t if self._fell is None else self._fell
            return
        self._fell = None
        if self._since is None:
            self._since, self._most = change.t, (change.t, {})
        if len(self.inside) > len(self._most[1]):
            self._most = change.t, dict(self.inside)

    def until(self, t: float) -> Iterator[Finding]:
        """Nothing changed until `t`: a stretch that this ends, its row not yet known."""
        since, fell = self._since, self._fell
        if since is None or fell is None or t - fell <= self._hold_s:
            return
        self._since = None
        if fell - since < self._min_s - SAME_S:
            return
        t_peak, most = self._most
        measured = {"most": len(most), "duration_s": fell - since}
        score = sum(most.values()) / len(most)
        yield Finding(0, since, fell, t_peak, score, None, measured, tuple(sorted(most)))
