"""What the rules find in random scenes, beside their definitions worked out row by row, without arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, groupby, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config import Rule
from pipeline.lake.schema import TRACKS
from pipeline.rules import RuleEngine

WIDTH, HEIGHT = 1000, 500
FORGET_S, WINDOW_S, NEAR_S = 10.0, 1.0, 0.5
SAME_S = 1e-6
HORSESHOE = [(200, 100), (800, 100), (800, 400), (600, 400), (600, 200), (400, 200), (400, 400), (200, 400)]
YARD = [(400, 100), (600, 100), (600, 400), (400, 400)]

Row = dict[str, Any]
Place = tuple[float, float]
Found = tuple[float, float, float, tuple[int, ...]]  # start, end, peak, tracks


class Line:
    def __init__(self, rule: Rule) -> None:
        self.a, self.b = rule.line  # type: ignore[misc]
        self.along = self.b[0] - self.a[0], self.b[1] - self.a[1]
        self.length = math.hypot(*self.along)

    def signed(self, p: Place) -> float:
        return (self.along[0] * (p[1] - self.a[1]) - self.along[1] * (p[0] - self.a[0])) / self.length

    def band(self, wish: float) -> float:
        return wish

    def passage(self, p: Place, q: Place) -> tuple[float, bool]:
        before, after = self.signed(p), self.signed(q)
        share = before / (before - after) if before != after else 0.0
        x, y = (u + share * (v - u) for u, v in zip(p, q, strict=True))
        at = (x - self.a[0]) * self.along[0] + (y - self.a[1]) * self.along[1]
        return share, 0 <= at <= self.length**2


class Zone:
    def __init__(self, rule: Rule) -> None:
        corners = list(rule.zone or ())
        self.sides = list(zip(corners, [*corners[1:], corners[0]], strict=True))
        self.inner = 50.0  # half the radius of the largest circle in both zones

    def signed(self, p: Place) -> float:
        crossed = sum(
            (a[1] > p[1]) != (b[1] > p[1]) and p[0] < (b[0] - a[0]) * (p[1] - a[1]) / (b[1] - a[1]) + a[0]
            for a, b in self.sides
        )
        away = min(self._away(p, *side) for side in self.sides)
        return away if crossed % 2 else -away

    def band(self, wish: float) -> float:
        return min(wish, self.inner)

    def passage(self, p: Place, q: Place) -> tuple[float, bool]:
        return max((share for side in self.sides for share in _meeting(p, q, *side)), default=0.0), True

    @staticmethod
    def _away(p: Place, a: Place, b: Place) -> float:
        x, y = b[0] - a[0], b[1] - a[1]
        share = min(max(((p[0] - a[0]) * x + (p[1] - a[1]) * y) / (x * x + y * y), 0), 1)
        return math.hypot(p[0] - a[0] - share * x, p[1] - a[1] - share * y)


def _meeting(p: Place, q: Place, a: Place, b: Place) -> Iterator[float]:
    x, y, u, v = q[0] - p[0], q[1] - p[1], b[0] - a[0], b[1] - a[1]
    if cross := x * v - y * u:
        share = ((a[0] - p[0]) * v - (a[1] - p[1]) * u) / cross
        along = ((a[0] - p[0]) * y - (a[1] - p[1]) * x) / cross
        if 0 <= share <= 1 and 0 <= along <= 1:
            yield share


def anchor(row: Row) -> Place:
    return (row["x1"] + row["x2"]) / 2, row["y2"]


def height(row: Row) -> float:
    return max(row["y2"] - row["y1"], 1.0)


def objects(rows: Sequence[Row], rule: Rule, apart_s: float) -> Iterator[tuple[int, list[Row]]]:
    """Rows of each object, in stretches of which none is `apart_s` seconds from the next."""
    for track in sorted({row["track_id"] for row in rows}):
        part: list[Row] = []
        for row in rows:
            if row["track_id"] != track or (rule.classes and row["class"] not in rule.classes):
                continue
            if part and row["t"] - apart_s > part[-1]["t"]:
                yield track, part
                part = []
            part.append(row)
        if part:
            yield track, part


def sides(part: Sequence[Row], rule: Rule, border: Line | Zone) -> list[tuple[int, float | None, bool]]:
    """For each row the side, and if it passed to that one for certain, when it did, and on the drawn part."""
    side, told, passed = 0, [], dict[int, tuple[Row, Row]]()
    for before, row in zip([None, *part], part, strict=False):
        d = border.signed(anchor(row))
        if before is not None:
            was = border.signed(anchor(before))
            passed |= {1: (before, row)} if was <= 0 < d else {-1: (before, row)} if d < 0 <= was else {}
        now, t, drawn = (d > 0) - (d < 0), None, False
        if side and now == -side and abs(d) >= border.band(rule.hysteresis * height(row)):
            a, b = passed[now]
            share, drawn = border.passage(anchor(a), anchor(b))
            t = a["t"] + share * (b["t"] - a["t"])
        side = now if t is not None or not side else side
        told.append((side, t, drawn))
    return told


def crossings(rows: Sequence[Row], rule: Rule) -> Iterator[Found]:
    for track, part in objects(rows, rule, FORGET_S):
        for side, t, drawn in sides(part, rule, Line(rule)):
            if t is not None and drawn and rule.direction in ("both", _WAYS[side]):
                yield t, t, t, (track,)


_WAYS = {1: "left_to_right", -1: "right_to_left"}


def stays(rows: Sequence[Row], rule: Rule) -> Iterator[Found]:
    wanted, border = -1 if rule.kind == "zone_exit" else 1, Zone(rule)
    for track, part in objects(rows, rule, FORGET_S):
        told = sides(part, rule, border)
        bounds = [
            k for k, (side, t, _) in enumerate(told) if t is not None or (side and not (k and told[k - 1][0]))
        ]
        for first, stop in zip(bounds, [*bounds, len(part)][1:], strict=True):
            side, came, _ = told[first]
            if side != wanted:
                continue
            since = part[first]["t"] if came is None else came
            left = told[stop][1] if stop < len(part) else None
            enough = since + rule.min_duration_s
            seen = any(
                row["t"] >= enough - SAME_S and border.signed(anchor(row)) * wanted > 0
                for row in part[first:stop]
            )
            if not seen and (left is None or left < enough - SAME_S):
                continue
            if rule.kind == "dwell":
                yield since, part[-1]["t"] if left is None else left, enough, (track,)
            elif came is not None:
                yield since, enough, enough, (track,)


def joined(windows: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Stretches that overlapping windows, in order, make together."""
    out: list[tuple[float, float]] = []
    for begin, end in windows:
        if out and begin <= out[-1][1]:
            out[-1] = out[-1][0], end
        else:
            out.append((begin, end))
    return out


def paces(rows: Sequence[Row], rule: Rule) -> Iterator[Found]:
    window_s = min(WINDOW_S, rule.min_duration_s or WINDOW_S)
    for track, part in objects(rows, rule, FORGET_S):
        windows = []
        for stop, row in enumerate(part):
            early = [k for k in range(stop + 1) if part[k]["t"] <= row["t"] - window_s + SAME_S]
            if early and _HOLDS[rule.kind](rule, part[early[-1] : stop + 1]):
                windows.append((part[early[-1]]["t"], row["t"]))
        for begin, end in joined(windows):
            if end - begin >= rule.min_duration_s - SAME_S:
                yield begin, end, begin + rule.min_duration_s, (track,)


def stands(rule: Rule, part: Sequence[Row]) -> bool:
    reach = max(math.dist(anchor(row), anchor(part[0])) for row in part)
    return reach < rule.max_speed * height(part[-1]) * (part[-1]["t"] - part[0]["t"])


def goes_back(rule: Rule, part: Sequence[Row]) -> bool:
    line = Line(rule)
    backs = [
        -sum((v - u) * w for u, v, w in zip(anchor(part[0]), anchor(row), line.along, strict=True))
        / line.length
        for row in part
    ]
    fast = backs[-1] >= rule.min_speed * height(part[-1]) * (part[-1]["t"] - part[0]["t"])
    steady = all(-1e-9 <= back <= backs[-1] + 1e-9 for back in backs)
    return fast and steady and backs[-1] >= 0.5 * math.dist(anchor(part[0]), anchor(part[-1]))


_HOLDS = {"stopped": stands, "wrong_way": goes_back}


def counts(rows: Sequence[Row], rule: Rule) -> Iterator[Found]:
    hold_s, border = 1.0, Zone(rule)
    changes: list[tuple[float, int, int]] = []
    for track, part in objects(rows, rule, hold_s):
        inside, known = False, False
        for row, (side, t, _) in zip(part, sides(part, rule, border), strict=True):
            if t is not None or (side and not known):
                if t is not None or side > 0:
                    changes.append((row["t"] if t is None else max(t, row["t"] - hold_s), track, side))
                inside, known = side > 0, True
        changes += [(part[-1]["t"], track, -1)] * inside
    there, enough = set[int](), list[tuple[float, float]]()
    most: list[tuple[float, int]] = []
    changes = [*sorted(changes, key=lambda change: change[:2]), (math.inf, 0, 0)]
    for (t, track, step), (later, _, _) in pairwise(changes):
        there = there | {track} if step > 0 else there - {track}
        if len(there) >= rule.min_count:
            enough.append((t, later))
            most.append((t, len(there)))
    stretches: list[tuple[float, float]] = []
    for begin, end in enough:
        if stretches and begin - stretches[-1][1] <= hold_s:
            stretches[-1] = stretches[-1][0], end
        else:
            stretches.append((begin, end))
    for begin, end in stretches:
        if end - begin >= rule.min_duration_s - SAME_S:
            number = max(n for t, n in most if begin <= t <= end)
            yield begin, end, next(t for t, n in most if begin <= t <= end and n == number), ()


def approaches(rows: Sequence[Row], rule: Rule) -> Iterator[Found]:
    moments = [
        (t, {row["track_id"]: row for row in part if not rule.classes or row["class"] in rule.classes})
        for t, part in groupby(rows, lambda row: row["t"])
    ]
    for a, b in combinations(sorted({row["track_id"] for row in rows}), 2):
        windows, near = [], []
        for k, (t, seen) in enumerate(moments):
            before = [moment for moment in moments[:k] if moment[0] <= t - NEAR_S + SAME_S][-1:]
            for begin, was in before:
                if t - begin > 2 * NEAR_S + SAME_S or not {a, b} <= set(seen) & set(was):
                    continue
                mean = (height(seen[a]) + height(seen[b])) / 2
                far, far_before = (math.dist(anchor(at[a]), anchor(at[b])) / mean for at in (seen, was))
                if (far_before - far) / (t - begin) >= rule.min_speed - SAME_S:
                    windows.append((begin, t))
                    near += [t] * (far <= rule.distance)
        for begin, end in joined(windows):
            peak = next((t for t in near if begin < t <= end), None)
            if peak is not None and end - begin >= rule.min_duration_s - SAME_S:
                yield begin, end, peak, (a, b)


KINDS = {
    "line_crossing": crossings, "zone_entry": stays, "zone_exit": stays, "dwell": stays, "stopped": paces,
    "wrong_way": paces, "occupancy": counts, "crowding": counts, "approach": approaches,
}  # fmt: skip


def scene(rng: np.random.Generator) -> list[Row]:
    """Walks with jitter, halts and gaps, now and then along the borders themselves, or called otherwise."""
    num, fps = int(rng.integers(10, 90)), rng.choice([2, 5, 10])
    times = np.cumsum(rng.uniform(0.3, 1.7, num)) / fps if rng.random() < 0.4 else np.arange(num) / fps
    times = times + rng.choice([0.0, 2.5, 12.0]) * (np.arange(num) > num // 2)
    rows = []
    for track in range(1, int(rng.integers(2, 7))):
        steps = rng.normal(0, rng.choice([1, 8, 40]), (num, 2)) * (
            rng.random((num, 1)) < rng.choice([0.3, 1])
        )
        points = rng.uniform((350, 150), (650, 350)) + np.cumsum(steps, axis=0)
        points[:, 0] += rng.choice([0, 200]) * np.sin(np.arange(num) / rng.uniform(4, 9))
        points = np.clip(np.round(points / 50) * 50 if rng.random() < 0.3 else points, 2, (998, 498))
        tall, kind = float(rng.choice([10, 50, 100])), "person"
        for n in np.flatnonzero(rng.random(num) < rng.choice([0.5, 1.0])):
            kind = str(rng.choice(["person", "car"])) if rng.random() < 0.03 else kind
            x, y = np.float32(points[n]).tolist()
            rows.append(
                {"track_id": track, "sample": int(n), "t": float(times[n]), "x1": x - 8, "x2": x + 8,
                 "y1": y - tall, "y2": y, "class": kind, "score": 0.5, "observed": True}
            )  # fmt: skip
    return sorted(rows, key=lambda row: (row["sample"], row["track_id"]))


def rule_of(kind: str, rng: np.random.Generator) -> Rule:
    least = rng.choice([0.3, 1.0, 2.5]) if kind in ("dwell", "stopped") else rng.choice([0.0, 0.3, 1.0])
    values = {
        "hysteresis": rng.choice([0, 0.05, 0.3]), "max_speed": rng.choice([0.1, 0.5, 2]),
        "min_speed": rng.choice([0.1, 0.3]), "distance": rng.choice([0.5, 1.5, 4]), "units": "pixels",
        "direction": str(rng.choice(["both", *_WAYS.values()])), "min_duration_s": least,
        "min_count": int(rng.integers(2, 4)) if kind == "crowding" else 1,
        "classes": ("car",) if rng.random() < 0.1 else (),
    }  # fmt: skip
    if kind in ("line_crossing", "wrong_way"):
        values["line"] = (
            [[500, 50], [500, 450]] if rng.random() < 0.5 else rng.uniform(100, 400, (2, 2)).tolist()
        )
    elif kind not in ("stopped", "approach"):
        values["zone"] = (YARD, HORSESHOE)[rng.integers(2)]
    return Rule.model_validate({"name": "a", "kind": kind, **values})


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_finds_what_the_definition_says(kind: str) -> None:
    total = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rule, rows = rule_of(kind, rng), scene(rng)
        engine = RuleEngine((rule,), (WIDTH, HEIGHT), "v")
        tables = [engine.update(pa.Table.from_pylist(rows, TRACKS)), engine.finish()]
        events = pa.concat_tables(tables).to_pylist()
        several = kind in ("occupancy", "crowding")
        found = [
            (e["t_start"], e["t_end"], e["t_peak"], () if several else tuple(e["track_ids"])) for e in events
        ]
        got, want = sorted(found, key=in_order), sorted(KINDS[kind](rows, rule), key=in_order)
        assert [one[3] for one in got] == [one[3] for one in want], seed
        np.testing.assert_allclose([one[:3] for one in got], [one[:3] for one in want], atol=1e-5)
        total += len(got)
    assert total > 5


def in_order(found: Found) -> tuple[Any, ...]:
    return found[3], *(round(t, 2) for t in found[:3])
