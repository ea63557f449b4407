"""Sampled frames through the CNN in full batches, across segments and videos."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.analyze.outcome import Reporter
from pipeline.analyze.perception import Facts, VideoWork
from pipeline.analyze.tools import Tools
from pipeline.media import Item, JobStart, Letterbox, SampledFrame
from pipeline.perceive import Perceived, to_rows
from pipeline.sources import changed_since

_NO_PICTURE = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class _SegmentEnd:
    work: VideoWork
    first: int
    last: int
    facts: Facts


@dataclass(frozen=True)
class _FrameEntry:
    work: VideoWork
    first: int
    frame: SampledFrame  # without its picture
    letterbox: Letterbox


_Entry = _FrameEntry | _SegmentEnd


class Batcher:
    """Fills batches in the order in which frames come; ends of segments wait for their frames.

    The CNN perceives one batch while the next one comes together and the one before becomes rows.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools, settings = tools, tools.config.perceive
        self._embeddings = settings.embeddings
        shape = (settings.batch_size, settings.input_height, settings.input_width, 3)
        self._pictures, self._others = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        self._count = 0
        self._entries: list[_Entry] = []
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="marey-cnn")
        self._running: tuple[Future[tuple[list[Perceived], float]], list[_Entry]] | None = None

    def close(self) -> None:
        """Wait for the CNN; what it was at is dropped."""
        self._beside.shutdown()

    def take(self, item: Item, work: VideoWork, reporter: Reporter) -> None:
        """Take an item that was decoded for one of the work's segments."""
        first = int(item.job_key.rpartition(":")[2])
        if isinstance(item, JobStart):
            work.begin(first, item)
        elif isinstance(item, SampledFrame):
            reporter.advance(work.seen_anew_s(first, item.t))
            self.add(work, first, item)
        else:
            work.end(first, item, changed_since(work.plan.source))
            last = work.asked[first] - 1
            reporter.segment(work.plan.source.uri, work.plan.name.video_id, first, last)
            self.end(work, first, last, Facts.of(item))

    def add(self, work: VideoWork, first: int, frame: SampledFrame) -> None:
        """Take a frame; its picture is copied, unless the frame is still."""
        bare = replace(frame, picture=_NO_PICTURE)
        self._entries.append(_FrameEntry(work, first, bare, work.letterboxes[first]))
        if frame.still:
            return
        self._pictures[self._count] = frame.picture
        self._count += 1
        if self._count == len(self._pictures):
            self._perceive_beside()

    def end(self, work: VideoWork, first: int, last: int, facts: Facts) -> None:
        """The segment has no more frames."""
        self._entries.append(_SegmentEnd(work, first, last, facts))
        if self._count == 0:
            self.flush()

    def flush(self) -> None:
        """Perceive what has come together, and close the segments that ended with it."""
        self._perceive_beside()
        self._take_in()

    def _perceive_beside(self) -> None:
        """Hand what has come together to the CNN, and take in what it perceived meanwhile."""
        future = self._beside.submit(self._perceive, self._pictures[: self._count])
        entries, self._entries, self._count = self._entries, [], 0
        self._take_in()
        self._running = future, entries
        self._pictures, self._others = self._others, self._pictures

    def _perceive(self, pictures: npt.NDArray[np.uint8]) -> tuple[list[Perceived], float]:
        """What is in the pictures, and the seconds that each of them took."""
        if not len(pictures):
            return [], 0.0
        began = time.perf_counter()
        perceived = self._tools.perceiver(pictures)
        return perceived, (time.perf_counter() - began) / len(pictures)

    def _take_in(self) -> None:
        """Rows of the batch that the CNN was given last, and the segments that ended with it."""
        if self._running is None:
            return
        future, entries = self._running
        self._running = None
        found, share = future.result()
        fresh = iter(found)
        # Segments that are decoded at once take turns frame by frame: the rows of each are made together.
        parts: dict[tuple[int, int], list[tuple[_FrameEntry, Perceived]]] = defaultdict(list)
        for entry in entries:
            if isinstance(entry, _FrameEntry):
                parts[id(entry.work), entry.first].append((entry, self._seen(entry, fresh, share)))
        for part in parts.values():
            self._add_rows(part)
        for entry in entries:
            if isinstance(entry, _SegmentEnd):
                entry.work.open_jobs -= 1
                entry.work.close(entry.first, entry.last, entry.facts)

    def _seen(self, entry: _FrameEntry, fresh: Iterator[Perceived], share: float) -> Perceived:
        """What is in a frame: the next that is fresh or, if it is still, what was perceived before."""
        work, last = entry.work, entry.work.perceived[entry.first]
        if not entry.frame.still:
            last.append(next(fresh))
            work.watch.seconds["perceive"] += share
        return last[-max(1, entry.frame.like)]

    def _add_rows(self, part: list[tuple[_FrameEntry, Perceived]]) -> None:
        """Rows of frames of one segment, in their order."""
        entry = part[0][0]
        frames, seen = [entry.frame for entry, _ in part], [seen for _, seen in part]
        rows = to_rows(frames, seen, entry.letterbox, embeddings=self._embeddings)
        entry.work.buffers[entry.first].append(rows)
