"""Runs all rules of a camera over the tracks of one video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa

from pipeline.config import Rule
from pipeline.event_rows import details_json, event_id, events_table
from pipeline.ids import digest
from pipeline.rules.followers import LineFollower, PresenceFollower, StayFollower
from pipeline.rules.geometry import Border, line_of, zone_of
from pipeline.rules.groups import CountRunner
from pipeline.rules.pace import StopFollower, WrongWayFollower
from pipeline.rules.pairs import PairRunner
from pipeline.rules.steps import Finding, Follower, Rows, by_object

FORGET_S = 10.0
"""An object not seen for longer is gone; should its id come back, it is another object."""

_Key = tuple[int, int, tuple[int, ...]]  # row at which the event was certain, rule, tracks: their order


class Runner(Protocol):
    """One rule with what it remembers."""

    @property
    def num_remembered(self) -> int:
        """How many things are remembered."""
        ...

    def update(self, rows: Rows) -> Iterator[Finding]:
        """Take the next rows, in order of time."""
        ...

    def finish(self, row: int, end_t: float) -> Iterator[Finding]:
        """The video is over after `row` rows, with its last frame at `end_t` seconds."""
        ...


class RuleEngine:
    """Tracks in, events out, piece by piece.

    The events, and their order, do not depend on how the rows are cut into updates. Memory follows the
    objects seen within the last `FORGET_S` seconds, not the length of the video.
    """

    def __init__(
        self, rules: tuple[Rule, ...], frame_size: tuple[int, int], video_id: str, sample_s: float = 0.0
    ) -> None:
        """Prepare the rules.

        Args:
            rules: those that match the camera.
            frame_size: width and height in displayed pixels.
            video_id: goes into the events' ids.
            sample_s: seconds from sample to sample, where they may be long: nobody is seen in between.
        """
        self._video_id = video_id
        self._rules = [(rule, digest(rule.model_dump(mode="json"))[:12]) for rule in rules]
        self._runners = [_runner(rule, frame_size, sample_s) for rule in rules]
        self._num_rows = 0
        self._newest = -np.inf

    @property
    def num_remembered(self) -> int:
        """Objects, pairs and moments that are remembered: what memory follows."""
        return sum(runner.num_remembered for runner in self._runners)

    def lose(self, begin_t: float, end_t: float) -> None:
        """Note that there is no frame between two times, before rows later than that are given.

        What is last seen before and first seen after has neither gone nor come: nobody can tell.
        """
        for runner in self._runners:
            if isinstance(runner, ObjectRunner):
                runner.lose(begin_t, end_t)

    def update(self, tracks: pa.Table) -> pa.Table:
        """Take the next rows.

        Args:
            tracks: columns of TRACKS, in order of `t`.

        Returns:
            Events that became certain, as EVENTS.

        Raises:
            ValueError: the rows are not in order of time.
        """
        if tracks.num_rows == 0:
            return events_table([])
        rows = Rows.of(tracks, self._num_rows)
        if rows.t[0] < self._newest or (np.diff(rows.t) < 0).any():
            raise ValueError("track rows must come in order of t")
        self._newest = float(rows.t[-1])
        self._num_rows += len(rows.t)
        return self._table([list(runner.update(rows)) for runner in self._runners])

    def finish(self, end_t: float | None = None) -> pa.Table:
        """Events that are certain when the video is over, as EVENTS.

        Args:
            end_t: time of the last sampled frame, in seconds; None takes that of the last row. Objects that
                were not seen for `FORGET_S` before it are gone, the others were there to the end.
        """
        end_t = self._newest if end_t is None else end_t
        return self._table([list(runner.finish(self._num_rows, end_t)) for runner in self._runners])

    def _table(self, by_rule: list[list[Finding]]) -> pa.Table:
        found: list[tuple[_Key, Finding]] = [
            ((finding.row, number, finding.tracks), finding)
            for number, findings in enumerate(by_rule)
            for finding in findings
        ]
        found.sort(key=lambda item: (item[0], item[1].t_start))
        return events_table(self._row(key[1], finding) for key, finding in found)

    def _row(self, number: int, finding: Finding) -> dict[str, object]:
        rule, rule_digest = self._rules[number]
        times = (finding.t_start, finding.t_end, finding.t_peak)
        return {
            "event_id": event_id(self._video_id, "rule", rule.name, times, finding.tracks),
            "source": "rule",
            "label": rule.name,
            "t_start": finding.t_start,
            "t_end": finding.t_end,
            "t_peak": finding.t_peak,
            "score": finding.score,
            "track_ids": list(finding.tracks),
            "zone": rule.name if rule.zone is not None or rule.kind == "line_crossing" else None,
            "direction": finding.direction,
            "details": details_json(kind=rule.kind, rule=rule_digest, **finding.measured),
        }


def _runner(rule: Rule, frame_size: tuple[int, int], sample_s: float) -> Runner:
    border: Border | None = zone_of(rule, frame_size) if rule.zone is not None else None
    if rule.kind in ("occupancy", "crowding"):
        return CountRunner(rule, border, sample_s)
    if rule.kind == "approach":
        return PairRunner(rule, border, sample_s)
    return ObjectRunner(rule, border, frame_size)


@dataclass
class _Object:
    follower: Follower
    last_t: float = 0.0
    kind: str = ""  # class, as last known


class ObjectRunner:
    """A rule that looks at one object at a time."""

    def __init__(self, rule: Rule, border: Border | None, frame_size: tuple[int, int]) -> None:
        self._rule, self._frame_size = rule, frame_size
        self._border = line_of(rule, frame_size) if rule.kind == "line_crossing" else border
        # To be called otherwise is neither to come nor to go.
        self._throughout = rule.kind in ("appear", "disappear")
        self._objects: dict[int, _Object] = {}
        self._lost: list[tuple[float, float]] = []  # from the last frame before to the first after, in order

    @property
    def num_remembered(self) -> int:
        return len(self._objects) + len(self._lost)

    def lose(self, begin_t: float, end_t: float) -> None:
        self._lost.append((begin_t, end_t))

    def update(self, rows: Rows) -> Iterator[Finding]:
        for track, steps in by_object(self._rule, self._border, rows, FORGET_S, all_classes=self._throughout):
            known = self._objects.get(track)
            if known is not None and steps.t[0] - FORGET_S > known.last_t:
                yield from self._end(track, rows)
                known = None
            if known is None:
                known = self._objects[track] = _Object(self._follower(float(steps.t[0])))
            known.last_t, known.kind = float(steps.t[-1]), steps.kind[-1]
            for finding in known.follower.push(steps):
                yield _told(track, steps.kind[np.searchsorted(steps.row, finding.row)], finding)
        now = rows.t[-1] - FORGET_S
        for track in [track for track, known in self._objects.items() if now > known.last_t]:
            yield from self._end(track, rows)
        # Whoever is remembered was seen after what was over by then.
        while self._lost and self._lost[0][1] < now:
            del self._lost[0]

    def finish(self, row: int, end_t: float) -> Iterator[Finding]:
        for track, known in self._objects.items():
            there = end_t - FORGET_S <= known.last_t or self._seen_to_a_loss(known.last_t)
            for finding in known.follower.end(row, over=there):
                yield _told(track, known.kind, finding)
        self._objects.clear()

    def _follower(self, first_t: float) -> Follower:
        rule, border = self._rule, self._border
        if rule.kind == "stopped":
            return StopFollower(rule, border)
        if rule.kind == "wrong_way":
            return WrongWayFollower(rule, border, self._frame_size)
        if border is None:
            raise ValueError(f"rule {rule.name!r} of kind {rule.kind} has no line or zone")
        if rule.kind == "line_crossing":
            return LineFollower(rule, border)
        if rule.kind in ("appear", "disappear"):
            begin_t = max((end for _, end in self._lost if end <= first_t), default=0.0)
            return PresenceFollower(rule, begin_t)
        return StayFollower(rule, border)

    def _end(self, track: int, rows: Rows) -> Iterator[Finding]:
        known = self._objects.pop(track)
        row = int(rows.row[np.searchsorted(rows.t - FORGET_S, known.last_t, "right")])
        for finding in known.follower.end(row, over=self._seen_to_a_loss(known.last_t)):
            yield _told(track, known.kind, finding)

    def _seen_to_a_loss(self, last_t: float) -> bool:
        """Whether frames are missing so soon after an object was last seen that nobody can tell."""
        return any(last_t <= begin <= last_t + FORGET_S for begin, _ in self._lost)


def _told(track: int, kind: str, finding: Finding) -> Finding:
    """The finding with the object that it is about, and what it was called when that was certain."""
    return replace(finding, tracks=(track,), measured={"class": kind, **finding.measured})
