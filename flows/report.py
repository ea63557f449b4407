"""What a flow says of its videos: log lines, results as plain JSON, a table and a page. No Prefect here."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from pipeline.analyze import VideoResult
from pipeline.cli.progress import PlainReporter, clock, result_line
from pipeline.cli.text import printable
from pipeline.lake import Lake
from pipeline.lake.lookup import current_analyses
from pipeline.lake.schema import PARTITIONED

MAX_TABLE_ROWS = 1000  # of a table artifact, which the server stores and a browser shows whole
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|!&~])")

Video = dict[str, Any]
"""A `VideoResult` as plain JSON."""


class LogReporter(PlainReporter):
    """The command's lines, in the log of a Prefect run; failures are warnings. Keeps the results.

    A name may hold anything: what would begin a line of its own, or move a terminal's cursor, is escaped.
    """

    def __init__(self, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        super().__init__()
        self._logger = logger
        self.results: list[VideoResult] = []

    def begin(self, num_videos: int) -> None:
        super().begin(num_videos)
        self._logger.info("inputs: %d", num_videos)

    def video(self, uri: str, duration_s: float | None) -> None:
        super().video(uri, duration_s)
        length = "length unknown" if duration_s is None else clock(duration_s)
        self.note(f"begins   {uri} - {length}")

    def done(self, result: VideoResult) -> None:
        self.results.append(result)
        if result.state == "failed":
            self.meter.num_done += 1
            self._logger.warning("%s", printable(result_line(result)))
        else:
            super().done(result)

    def segment(self, uri: str, video_id: str, first: int, last: int) -> None:
        self.note(f"segment {first}-{last} of video {video_id} decoded ({uri})")

    def note(self, text: str) -> None:
        self._logger.info("%s", printable(text))


def named(inputs: Sequence[str]) -> str:
    """`gate.mp4`, or `gate.mp4 and 2 more`: the name of a run. Of a URL neither user nor query are shown."""
    if not inputs:
        return "nothing"
    first = _path(inputs[0]) if "://" in inputs[0] else inputs[0]
    name = (PurePosixPath(first).name or first or "video")[:100]
    return name if len(inputs) == 1 else f"{name} and {len(inputs) - 1} more"


def _path(address: str) -> str:
    try:
        return urlsplit(address).path
    except ValueError:  # it is no address, which the run will say
        return ""


def plain(results: Iterable[VideoResult]) -> list[Video]:
    """Results as what JSON can say."""
    return [asdict(result) | {"gaps": [dict(gap) for gap in result.gaps]} for result in results]


def with_stored_rows(lake_uri: str, results: Sequence[VideoResult]) -> list[VideoResult]:
    """The results, those of videos that were done before with the counts of their rows in the lake.

    Raises:
        StorageError: the lake cannot be read.
    """
    before = [r.video_id for r in results if r.video_id and r.state in ("current", "other_config")]
    if not before:
        return list(results)
    stored = current_analyses(Lake.open(lake_uri, create=False), before)
    return [replace(r, rows=stored[r.video_id].rows) if r.video_id in stored else r for r in results]


def failed(videos: Iterable[Video]) -> list[Video]:
    """The videos that could not be analysed."""
    return [video for video in videos if video["state"] == "failed"]


def states_text(videos: Iterable[Video]) -> str:
    """`3 videos: 2 ok, 1 failed`."""
    states = Counter(str(video["state"]).replace("_", " ") for video in videos)
    total = states.total()
    counts = ", ".join(f"{n} {state}" for state, n in states.most_common())
    return f"{total} {'video' if total == 1 else 'videos'}: {counts or 'nothing to do'}"


def failure_text(videos: Sequence[Video]) -> str:
    """How many failed, which first, and why: `1 of 3 videos failed, first /a/b.mp4: ...`."""
    lost = failed(videos)
    uri, error = lost[0]["uri"], lost[0]["error"]
    first = error if uri in error else f"{uri}: {error}"
    return f"{len(lost)} of {len(videos)} videos failed, first {first}"


def summary(lake: str, videos: Sequence[Video], elapsed_s: float) -> dict[str, Any]:
    """The result of a flow: what became of how many, their rows, and each failure with its reason."""
    return {
        "lake": lake,
        "num_videos": len(videos),
        "states": dict(Counter(video["state"] for video in videos)),
        "rows": {table: sum(video["rows"].get(table, 0) for video in videos) for table in PARTITIONED},
        "failures": [{key: v[key] for key in ("uri", "error_code", "error")} for v in failed(videos)],
        "elapsed_s": round(elapsed_s, 3),
    }


def result_table(videos: Sequence[Video]) -> list[dict[str, Any]]:
    """A row per video, failures first; of more than MAX_TABLE_ROWS the rest is counted in a last row."""
    ordered = sorted(videos, key=lambda video: video["state"] != "failed")
    rows = [_table_row(video) for video in ordered[:MAX_TABLE_ROWS]]
    if left := len(videos) - len(rows):
        rows.append(dict.fromkeys(rows[0], "") | {"video": f"{left} more, all in the lake's analyses"})
    return rows


def _table_row(video: Video) -> dict[str, Any]:
    rows: Mapping[str, int] = video["rows"]
    return {
        "state": video["state"],
        "video": video["uri"],
        "duration": "" if video["duration_s"] is None else clock(video["duration_s"]),
        **{table: rows.get(table, "") for table in PARTITIONED},
        "frames_failed": video["frames_failed"] or "",
        "reason": " ".join(part for part in (video["error"], video["note"]) if part),
    }


def page(result: Mapping[str, Any], videos: Sequence[Video], stopped: str = "") -> str:
    """A Markdown page: counts, rows by table, failures and losses with their reasons."""
    footage_s = sum(video["duration_s"] or 0.0 for video in videos)
    parts = [
        f"# {states_text(videos)}",
        f"{clock(footage_s)} of footage in {clock(result['elapsed_s'])}, lake {escape(str(result['lake']))}",
    ]
    if stopped:
        parts.append(f"**Stopped:** {escape(stopped)}")
    counts = "\n".join(f"| {table} | {n:,} |" for table, n in result["rows"].items())
    parts.append(f"| table | rows of these videos |\n|---|---:|\n{counts}")
    if lost := failed(videos):
        parts.append(_section("Failed", [(v, " ".join(filter(None, (v["error"], v["note"])))) for v in lost]))
    if partial := [video for video in videos if video["state"] == "partial"]:
        parts.append(_section("Partial", [(v, _loss(v)) for v in partial]))
    return "\n\n".join(parts) + "\n"


def _section(title: str, entries: Sequence[tuple[Video, str]]) -> str:
    lines = [f"- {escape(video['uri'])}: {escape(reason)}" for video, reason in entries[:MAX_TABLE_ROWS]]
    if left := len(entries) - len(lines):
        lines.append(f"- {left} more")
    return f"## {title}\n\n" + "\n".join(lines)


def _loss(video: Video) -> str:
    causes = ", ".join(sorted({str(gap["cause"]) for gap in video["gaps"]})) or "media"
    return f"{video['frames_failed']} frames lost ({causes})"


def address(lake: str) -> str:
    """Where a lake is, as a link."""
    return lake if "://" in lake else Path(lake).absolute().as_uri()


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line; names of files come from others."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
