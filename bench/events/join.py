"""Untrimmed videos joined from short clips, and what happens in them when.

The clips are letterboxed to the CNN's input (544 x 320) and encoded again, one after the other, with the
times that their frames have. Neighbouring clips of one label are one event.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from pipeline.event_data import Clip
from pipeline.media import DecodeJob, JobEnd, SampledFrame, decode_inline

WIDTH, HEIGHT = 544, 320
CLOCK = Fraction(1, 90000)
OF_A_KIND = 5
"""A video has one to so many clips with a label, and one to so many without."""

Span = tuple[str, float, float]  # label, start and end in seconds


def drawn(clips: Sequence[Clip], random: np.random.Generator) -> list[list[Clip]]:
    """The clips of each video in their order; each clip at most once, until a kind is used up."""
    kinds = [[clip for clip in clips if (clip.label is None) == none] for none in (False, True)]
    for kind in kinds:
        random.shuffle(kind)  # type: ignore[arg-type]
    videos = []
    while all(kinds):
        chosen = [kind.pop() for kind in kinds for _ in range(min(len(kind), _number(random)))]
        videos.append([chosen[n] for n in random.permutation(len(chosen))])
    return videos


def _number(random: np.random.Generator) -> int:
    return int(random.integers(1, OF_A_KIND + 1))


def join(clips: Sequence[Clip], out: Path) -> list[Span]:
    """Write one video of these clips; the events in it."""
    spans: list[Span] = []
    unfinished = out.with_suffix(".part")
    begin = Fraction(0)
    with av.open(str(unfinished), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=15, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = stream.time_base = CLOCK
        stream.codec_context.thread_count = 1
        for clip in clips:
            times, pictures = _frames(clip.path)
            for t, picture in zip(times, pictures, strict=True):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = round((begin + t) / CLOCK), CLOCK
                container.mux(stream.encode(frame))
            end = begin + times[-1] + Fraction(float(np.median(np.diff(np.array(times, float)))))
            if clip.label is not None:
                _extend(spans, clip.label, float(begin), float(end))
            begin = end
        container.mux(stream.encode(None))
    os.replace(unfinished, out)
    return spans


def _extend(spans: list[Span], label: str, begin: float, end: float) -> None:
    if spans and (spans[-1][0], spans[-1][2]) == (label, begin):
        label, begin, _ = spans.pop()
    spans.append((label, begin, end))


def _frames(path: Path) -> tuple[list[Fraction], list[npt.NDArray[np.uint8]]]:
    """Times and pictures of every frame."""
    found = list(_every(path))
    return [Fraction(t).limit_denominator(90000) for t, _ in found], [picture for _, picture in found]


def _every(path: Path) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
    for item in decode_inline(DecodeJob(str(path), str(path), sample_fps=0, width=WIDTH, height=HEIGHT)):
        if isinstance(item, SampledFrame):
            yield item.t, item.picture.copy()
        elif isinstance(item, JobEnd) and item.error is not None:
            raise item.error


def join_all(clips: Sequence[Clip], folder: Path, seed: int) -> Path:
    """Videos of these clips and a table of their events (see `load_annotated`), unless they are there."""
    table = folder / "events.csv"
    if table.exists():
        return table
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[object, ...]] = []
    for number, chosen in enumerate(drawn(clips, np.random.default_rng(seed))):
        name = f"{number:02}.mp4"
        spans = join(chosen, folder / name)
        rows += [(name, label, f"{begin:.6f}", f"{end:.6f}") for label, begin, end in spans]
    unfinished = table.with_suffix(".part")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("video", "label", "start_s", "end_s"), *rows])
    os.replace(unfinished, table)
    return table
