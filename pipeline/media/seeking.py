"""Where in the middle of a file a job may begin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.media.container import Limits
from pipeline.media.items import DecodeJob
from pipeline.media.reader import Reader
from pipeline.media.sampling import Grid, shown_at
from pipeline.media.scan import PacketScan, Scanner

_LEAD_S = 1
"""Seconds by which a job in the middle of a file begins before its first sample, at least."""


@dataclass(frozen=True)
class SeekPoint:
    """A key frame near a job's first sample. Times are in the file, in the stream's time base.

    `key` is the key frame, `before` the frame sampled before the job's first one: it must not come later
    than the first frame that is decoded.
    """

    key: int
    before: int
    packets: PacketScan

    def allows(self, pts: int | None) -> bool:
        """Whether decoding that begins with a frame of this time is early enough, and of this file."""
        return pts is not None and pts <= self.before and shown_at(self.packets.stamps, pts) == pts


def seek_point(
    reader: Reader, job: DecodeJob, scanner: Scanner, progress: Callable[[], None]
) -> SeekPoint | None:
    """Where to begin so that the job gets the same items as from the file's start; None: only there.

    Safe is a file whose packets all have their own time, so that the frame sampled before the first one is
    known.
    """
    if not job.sample_fps or job.seek_after_s is None:
        return None
    if job.first_sample <= job.seek_after_s * job.sample_fps:
        return None
    packets = scanner.scan(job.path, Limits(job.max_pixels, job.max_streams), progress)
    if packets.unsafe is not None or reader.origin is None or packets.stamps[0] != reader.origin:
        return None
    grid = Grid.of(job.sample_fps, reader.info.time_base)
    before = shown_at(packets.stamps, reader.origin + grid.last_ticks(job.first_sample - 1))
    early = reader.origin + grid.last_ticks(job.first_sample) - round(_LEAD_S / grid.time_base)
    key = None if before is None else shown_at(packets.keys, min(before, early))
    if before is None or key is None or key == packets.keys[0]:
        return None
    return SeekPoint(key, before, packets)
