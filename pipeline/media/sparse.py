"""Which packets have to be decoded so that all frames on display at the ticks come out, and no others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.media.nal import DISPOSABLE, START
from pipeline.media.sampling import Grid
from pipeline.media.scan import PacketScan

_MOST_DECODED = 0.9
"""Share of the packets from which on nothing is left out: it would gain little, and damage is seen better."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What of a file is decoded.

    In order of presentation: `stamps` and `durations` of all frames in the stream's time base, whether each
    is `shown` at a tick, its `place` among the packets. In the order of the packets: their times (`order`),
    which are `fed` to the decoder, and which can be `starts` of decoding.
    """

    stamps: NDArray[np.int64]
    durations: NDArray[np.int64]
    shown: NDArray[np.bool_]
    place: NDArray[np.int64]
    order: NDArray[np.int64]
    fed: NDArray[np.bool_]
    starts: NDArray[np.bool_]

    def start_before(self, pts: int) -> int:
        """Time of the last packet at or before `pts` with which decoding can start; else of the first one."""
        places = np.flatnonzero(self.starts & (self.order <= pts))
        return int(self.order[places[-1] if len(places) else 0])

    def start_at(self, pts: int | None) -> int | None:
        """Place of the packet of this time, if decoding can start with it."""
        if pts is None:
            return None
        places = np.flatnonzero(self.starts & (self.order == pts))
        return int(places[0]) if len(places) else None


def plan_for(packets: PacketScan, grid: Grid, origin: int | None) -> Plan | None:
    """The plan for a file whose first displayed frame is at `origin`; None where all is to be decoded.

    Its frames are those on display by `pipeline.media.sampling.Display`. Between two IDR pictures with
    nothing of one before the first shown behind it, all is fed up to the last frame that is shown, except for
    disposable pictures that are not.
    """
    if packets.unsafe is not None or packets.dependent is not None or not len(packets.order):
        return None
    stamps, order, kinds = packets.stamps, packets.order, packets.kinds
    starts = (kinds == START) & _parts(order)
    if origin != stamps[0] or not starts[0]:
        return None
    samples = grid.first_samples(stamps - stamps[0])
    shown = np.append(samples[:-1] < samples[1:], grid.on_instant(int(stamps[-1] - stamps[0])))
    place = np.argsort(order, kind="stable")
    shown_here = np.empty_like(shown)
    shown_here[place] = shown
    group = np.cumsum(starts) - 1
    last = np.full(group[-1] + 1, -1)
    np.maximum.at(last, group[shown_here], np.flatnonzero(shown_here))
    fed = (np.arange(len(order)) <= last[group]) & (shown_here | (kinds < DISPOSABLE))
    if fed.mean() > _MOST_DECODED:
        return None
    return Plan(stamps, packets.durations, shown, place, order, fed, starts)


def _parts(order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether all packets before are shown before this one, and none after it is."""
    before = np.maximum.accumulate(order)
    after = np.minimum.accumulate(order[::-1])[::-1]
    parts: NDArray[np.bool_] = (before == order) & (after == order)
    return parts
