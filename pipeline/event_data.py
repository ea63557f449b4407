"""What event models learn from and are measured on: folders of clips, or videos with a table of events."""

from __future__ import annotations

import csv
import os
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline import ids
from pipeline.config import PerceiveConfig, VideoConfig
from pipeline.errors import InputError, MediaError, UsageError
from pipeline.evaluate.events import TrueEvent
from pipeline.ids import content_id
from pipeline.media.decode import decode_inline
from pipeline.media.items import DecodeJob, JobEnd, SampledFrame
from pipeline.perceive import Perceiver, half, resolved
from pipeline.sources.source import VIDEO_SUFFIXES

SAVE_EVERY_S = 30.0
"""A run that is killed has lost no more of the features that it computed."""

Embedded = tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]  # (T,) seconds, (T, D) embeddings
Embed = Callable[[Path], Embedded]


@dataclass(frozen=True)
class Clip:
    """A short video of one label, None for none of them; clips of one `group` come from one source."""

    path: Path
    label: str | None
    group: str


def load_clips(directory: Path) -> list[Clip]:
    """Clips of DIR/LABEL/*.mp4 (and other videos), sorted by path.

    Folders named `background` or no... hold clips without label. Names that begin with a dot are passed
    over, as macOS leaves some. A groups.csv in the directory or the one above it, with columns clip (path
    from the file) and group, says which clips share a source; each other clip is a source of its own.

    Raises:
        UsageError: no such directory, no folder with videos in it, or a row of groups.csv that is wrong.
    """
    if not directory.is_dir():
        raise UsageError(
            f"{directory} is not a directory", remedy="give a directory with a folder of clips per label"
        )
    groups = _groups(directory)
    clips = [
        Clip(path, label_of_folder(path.parent.name), groups.get(path.resolve(), _place(path, directory)))
        for path in sorted(directory.glob("*/*"))
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and not _hidden(path)
    ]
    if not clips:
        raise UsageError(
            f"{directory} has no folders with videos", remedy="lay the clips out as DIR/LABEL/clip.mp4"
        )
    return clips


def _hidden(clip: Path) -> bool:
    return clip.name.startswith(".") or clip.parent.name.startswith(".")


def _place(path: Path, directory: Path) -> str:
    """What stands for a video in its directory: in another folder the same name is another video."""
    return path.relative_to(directory).as_posix()


def label_of_folder(name: str) -> str | None:
    """The label that a folder stands for; None for `background` and names that begin with `no`."""
    return None if name.lower() == "background" or name.lower().startswith("no") else name


def _groups(directory: Path) -> dict[Path, str]:
    for folder in (directory, directory.resolve().parent):
        table = folder / "groups.csv"
        if table.is_file():
            return dict(_clips_and_groups(table))
    return {}


def _clips_and_groups(table: Path) -> Iterator[tuple[Path, str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # as spreadsheets write it
            reader = csv.DictReader(file)
            if lacking := [name for name in ("clip", "group") if name not in (reader.fieldnames or ())]:
                raise UsageError(f"{table} lacks a column", got=lacking[0], remedy="it needs clip and group")
            for row in reader:
                if not row["clip"] or not row["group"]:
                    raise UsageError(f"{table}, line {reader.line_num}: no clip, or no group of it")
                clip = table.parent / row["clip"]
                if not clip.is_file():
                    raise UsageError(
                        f"{table}, line {reader.line_num}: no such clip",
                        got=row["clip"],
                        remedy="give its path from the folder of the table, or leave it out",
                    )
                yield clip.resolve(), row["group"]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise UsageError(f"{table} cannot be read", remedy=str(exc)) from exc


def motion_of(path: Path) -> Embedded:
    """The motion part of the frame embeddings alone, without a CNN.

    Raises:
        InputError: the file cannot be decoded.
    """
    frames = [(frame.t, frame.motion_grid) for frame in _sampled(path, VideoConfig(), (544, 320))]
    return _stacked(path, frames)


def perceived_by(settings: PerceiveConfig, video: VideoConfig | None = None) -> Embed:
    """Gives the whole frame embeddings, as `marey analyze` stores them; loads the CNN when first asked.

    Raises:
        ModelError: (when asked) the weights cannot be used.
    """
    load = cache(lambda: Perceiver(settings))

    def embed(path: Path) -> Embedded:
        perceiver = load()
        ready = perceiver.settings
        size, stretch = (ready.input_width, ready.input_height), ready.fit == "stretch"
        frames = []
        pictures = _sampled(path, video or VideoConfig(), size, stretch=stretch)
        while batch := list(islice(pictures, perceiver.batch_size)):
            seen = perceiver(np.stack([frame.picture for frame in batch]))
            frames += [
                (frame.t, np.concatenate([one.embedding, frame.motion_grid]))
                for frame, one in zip(batch, seen, strict=True)
            ]
        return _stacked(path, frames)

    return embed


def _sampled(
    path: Path, video: VideoConfig, size: tuple[int, int], *, stretch: bool = False
) -> Iterator[SampledFrame]:
    """Frames of one file, their pictures their own."""
    job = DecodeJob(
        key=str(path),
        path=str(path),
        sample_fps=video.sample_fps,
        width=size[0],
        height=size[1],
        stretch=stretch,
        max_pixels=video.max_pixels,
        max_streams=video.max_streams,
    )
    for item in decode_inline(job):
        if isinstance(item, SampledFrame):
            yield replace(item, picture=item.picture.copy())
        elif isinstance(item, JobEnd) and item.error is not None:
            raise item.error


def _stacked(path: Path, frames: Sequence[tuple[float, npt.NDArray[np.float32]]]) -> Embedded:
    if not frames:
        raise MediaError(f"{path.name} has no frames", remedy="leave it out")
    # As the lake keeps them: a model must see the same in training.
    return np.asarray([t for t, _ in frames]), half(np.stack([vector for _, vector in frames]))


def clip_features(
    clips: Sequence[Clip],
    embed: Embed,
    cache: Path | None = None,
    digest: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> list[Embedded]:
    """Frame embeddings of every clip.

    Args:
        clips: what to embed.
        embed: gives times and embeddings of a file.
        cache: .npz file that is read, and extended now and then; entries are known by the file's content,
            `digest`, the program's version of perceptions and this machine's number format.
        digest: stands for what else can change what `embed` gives (weights, sampling, input size).
        progress: called with the number of clips done and in all.
    """
    known, setup = _read_cache(cache), f"{ids.PERCEPTION_VERSION}-{resolved(PerceiveConfig()).precision}"
    found: list[Embedded] = []
    unsaved, saved_at = 0, time.monotonic()
    for number, clip in enumerate(clips, start=1):
        key = f"{content_id(clip.path)}-{digest}-{setup}"
        if f"{key}:t" not in known:
            known[f"{key}:t"], known[f"{key}:x"] = embed(clip.path)
            unsaved += 1
        found.append((known[f"{key}:t"], known[f"{key}:x"]))
        if progress is not None:
            progress(number, len(clips))
        late = time.monotonic() - saved_at > SAVE_EVERY_S
        if cache is not None and unsaved and (late or number == len(clips)):
            _write_cache(cache, known)
            unsaved, saved_at = 0, time.monotonic()
    return found


def _write_cache(cache: Path, known: Mapping[str, npt.NDArray[Any]]) -> None:
    temporary = cache.with_suffix(f".{os.getpid()}.tmp.npz")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(temporary, allow_pickle=False, **known)
        temporary.replace(cache)
    except OSError as exc:
        raise InputError(
            f"feature cache {cache} cannot be written", got=str(exc), remedy="name another with --cache"
        ) from exc


def _read_cache(cache: Path | None) -> dict[str, npt.NDArray[Any]]:
    if cache is None or not cache.exists():
        return {}
    try:
        with cache.open("rb") as handle:
            file = np.load(handle, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is no .npz file")
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as exc:
        raise InputError(f"feature cache {cache} cannot be read", got=str(exc), remedy="delete it") from exc


@dataclass(frozen=True)
class Annotated:
    """Untrimmed videos, what happens in them, and the group (source) of each video.

    `rows` are the numbers, from 1, of the events' rows in the table.
    """

    videos: tuple[Path, ...]
    events: tuple[TrueEvent, ...]
    groups: tuple[str, ...]
    rows: tuple[int, ...]

    def of(self, video: Path) -> list[TrueEvent]:
        return [event for event in self.events if event.video == str(video)]


_COLUMNS = ("video", "label", "start_s", "end_s")
_NAMES = ("video", "label", "group")
_TEXT = pa.csv.ConvertOptions(column_types=dict.fromkeys(_NAMES, pa.string()))  # 007 is no number


def load_annotated(table: Path) -> Annotated:
    """Videos and events of a CSV or Parquet file with columns video, label, start_s and end_s, and group.

    A row is an event; paths are relative to the table's folder. A row without label (or with `background`,
    or no...) only names a video, in which other rows' events happen, or none. A video without a group is a
    source of its own. An event may be a moment (start_s = end_s), to be spotted: it can be
    measured, but see `examples` for what can be learned.

    Raises:
        UsageError: the table cannot be read, lacks a column, or a row is wrong; the row is named.
    """
    rows = _read_table(table)
    names: dict[Path, str] = {}
    groups: dict[Path, str] = {}
    events: list[TrueEvent] = []
    numbers: list[int] = []
    for number, row in enumerate(rows, start=1):
        video = table.parent / str(row["video"])
        if not row["video"] or not video.is_file():
            raise UsageError(f"{table}, row {number}: no video", got=str(video), remedy="correct its path")
        names.setdefault(video, Path(row["video"]).as_posix())
        group = (row.get("group") or "").strip()
        if group and groups.setdefault(video, group) != group:
            raise UsageError(
                f"{table}, row {number}: {row['video']} is of another group above",
                got=group,
                remedy="a video is of one source, which is held out as a whole",
            )
        label = label_of_folder((row["label"] or "").strip() or "none")
        if label is not None:
            start, end = row["start_s"], row["end_s"]
            if start is None or end is None or not 0 <= start <= end < np.inf:
                raise UsageError(
                    f"{table}, row {number}: start_s and end_s are no stretch of time",
                    got=f"{start}, {end}",
                    remedy="give seconds, 0 <= start_s <= end_s",
                )
            events.append(TrueEvent(str(video), label, start, end))
            numbers.append(number)
    if not events:
        raise UsageError(f"{table} has no events", remedy="give rows of video,label,start_s,end_s")
    sources = (groups.get(video, name) for video, name in names.items())
    return Annotated(tuple(names), tuple(events), tuple(sources), tuple(numbers))


def _read_table(path: Path) -> list[dict[str, Any]]:
    try:
        table = (
            pq.read_table(path) if path.suffix == ".parquet" else pa.csv.read_csv(path, convert_options=_TEXT)
        )
        lacking = [name for name in _COLUMNS if name not in table.column_names]
        if lacking:
            raise UsageError(
                f"{path} lacks a column", got=lacking[0], remedy=f"it needs {', '.join(_COLUMNS)}"
            )
        text = {name: pc.cast(table[name], pa.string()) for name in _NAMES if name in table.column_names}
        times = {name: pc.cast(table[name], pa.float64()) for name in ("start_s", "end_s")}
    except (OSError, KeyError, pa.ArrowException) as exc:  # KeyError: a column that is there twice
        raise UsageError(f"{path} cannot be read as a table of events", remedy=str(exc)) from exc
    rows: list[dict[str, Any]] = pa.table({**text, **times}).to_pylist()
    return rows


def pieces(
    embedded: Embedded, events: Sequence[TrueEvent], window_s: float
) -> list[tuple[npt.NDArray[np.float32], str | None]]:
    """Stretches of one video with the label that holds throughout, None between the events.

    Stretches are cut into equal parts of at most `window_s` seconds; a part of one frame is left out. So is
    a frame in events of several labels: it would teach of each that the other is absent.
    """
    t, x = embedded
    found: list[tuple[npt.NDArray[np.float32], str | None]] = []
    free = np.ones(len(t), bool)
    for event in events:
        free &= ~_within(t, event)
        for run in _alone(t, event, events):
            found += [(part, event.label) for part in _parts(t, x, run, window_s)]
    return found + [(part, None) for run in _stretches(free) for part in _parts(t, x, run, window_s)]


def _stretches(chosen: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """Numbers of the chosen frames, stretch by stretch."""
    runs = np.split(np.arange(len(chosen)), np.flatnonzero(np.diff(chosen)) + 1)
    return [run for run in runs if len(run) and chosen[run[0]]]


def _alone(
    t: npt.NDArray[np.float64], event: TrueEvent, events: Sequence[TrueEvent]
) -> list[npt.NDArray[np.int64]]:
    """Stretches of two frames and more in an event of a video, and in none of another label."""
    chosen = _within(t, event)
    for other in events:
        if other.video == event.video and other.label != event.label:
            chosen &= ~_within(t, other)
    return [run for run in _stretches(chosen) if len(run) > 1]


def _within(t: npt.NDArray[np.float64], event: TrueEvent) -> npt.NDArray[np.bool_]:
    return np.asarray((t >= event.t_start) & (t <= event.t_end))


def _parts(
    t: npt.NDArray[np.float64], x: npt.NDArray[np.float32], run: npt.NDArray[np.int64], window_s: float
) -> list[npt.NDArray[np.float32]]:
    num_parts = max(1, int(np.ceil((t[run[-1]] - t[run[0]]) / window_s)))
    return [x[part] for part in np.array_split(run, num_parts) if len(part) > 1]


def examples(
    data: Path,
    window_s: float,
    embed: Embed,
    cache: Path | None = None,
    digest: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[npt.NDArray[np.float32]], list[str | None], list[str]]:
    """What to learn from, each of one label or none: features (T, D), labels and groups.

    Args:
        data: a folder of clips, see `load_clips`, or a table of events, see `load_annotated`.
        window_s: untrimmed videos, and clips without label, are cut into pieces of at most so many seconds.
        embed: see `clip_features`, as are the others.
        cache: where features are kept between runs.
        digest: stands for `embed` in the cache.
        progress: called with the number of videos embedded and in all.

    Raises:
        UsageError: the data cannot be used, or fewer than two frames show an event alone; its row is named.
        InputError: a video cannot be decoded.
    """
    if not data.is_file():
        clips = load_clips(data)
        embedded = clip_features(clips, embed, cache, digest, progress)
        found = [
            (x, clip.label, clip.group)
            for clip, one in zip(clips, embedded, strict=True)
            # Background may be long footage. Training pads clips to the longest, and learns of windows only.
            for x in ([one[1]] if clip.label else [x for x, _ in pieces(one, (), window_s)])
        ]
        return _unzipped(found)
    known = load_annotated(data)
    _check_shown(data, known, lambda event: event.t_start < event.t_end)  # known before the long work
    embedded = video_features(known, embed, cache, digest, progress)
    times = {str(video): t for video, (t, _) in zip(known.videos, embedded, strict=True)}
    _check_shown(data, known, lambda event: int(_within(times[event.video], event).sum()) > 1)
    alone = " without one of another label"
    _check_shown(data, known, lambda event: _alone(times[event.video], event, known.events), alone)
    found = [
        (x, label, group)
        for video, group, one in zip(known.videos, known.groups, embedded, strict=True)
        for x, label in pieces(one, known.of(video), window_s)
    ]
    return _unzipped(found)


def _unzipped(
    found: Sequence[tuple[npt.NDArray[np.float32], str | None, str]],
) -> tuple[list[npt.NDArray[np.float32]], list[str | None], list[str]]:
    return [x for x, _, _ in found], [label for _, label, _ in found], [group for _, _, group in found]


def _check_shown(
    table: Path, known: Annotated, shown: Callable[[TrueEvent], object], alone: str = ""
) -> None:
    for number, event in zip(known.rows, known.events, strict=True):
        if not shown(event):
            raise UsageError(
                f"{table}, row {number}: fewer than two sampled frames show this event{alone}",
                got=f"{event.t_start:g} to {event.t_end:g} s",
                remedy="let start_s and end_s say from when to when it can be seen, within its video"
                + ("; labels that only come together want a table and a model each" if alone else ""),
            )


def video_features(
    known: Annotated,
    embed: Embed,
    cache: Path | None = None,
    digest: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> list[Embedded]:
    """Frame embeddings of every video, in their order; arguments as of `clip_features`."""
    clips = [Clip(video, None, group) for video, group in zip(known.videos, known.groups, strict=True)]
    return clip_features(clips, embed, cache, digest, progress)
