"""Pages: a video of one hour with 200,000 track rows, and a report over 1,000 videos.

`python -m bench.pages` does both, with `hour` or `report` behind it one. Prints Markdown; needs Chromium.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa

from bench import big_lake
from pipeline.ids import digest, new_run_id
from pipeline.lake import schema
from pipeline.lake.records import Analysis, Place, VideoName, analyses_table, names_table, place_rows
from pipeline.lake.tables import Lake
from pipeline.sources import Source, look

SECONDS, OBJECTS, ROWS = 3600, 1000, 200
"""An hour with 1,000 objects of 200 samples at 10 samples/s each: 200,000 rows."""

WIDTH, HEIGHT, FPS = 1280, 720, 60
POINTS = 12
"""Of a trajectory, after simplification."""

ROUNDS = 3
PLAYED_MS = 5000


def main(what: str) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        if what in ("all", "hour"):
            measure_hour(Path(folder))
        if what in ("all", "report"):
            measure_report(Path(folder))


def measure_hour(folder: Path) -> None:
    """The page of an hour: its size, how soon it draws, how often it draws while it plays."""
    video = _hour_video(folder / "hour.mp4")
    print("| one hour, 200,000 rows | MB | open s | drawings/s |\n|---|---|---|---|")
    for name, path in (
        ("without the video", "s3://archive/hour.mp4"),
        (f"video, {FPS} frames/s", str(video)),
    ):
        lake = folder / f"lake {len(path)}"
        _hour_lake(lake, path)
        out = folder / f"page {len(path)}"
        command = [sys.executable, "-m", "pipeline.cli", "show", path, "--lake", str(lake), "--out", str(out)]
        command += ["--no-copy"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
        opened, rate = _in_browser(out / "index.html")
        print(f"| {name} | {size:.1f} | {opened:.2f} | {rate:.0f} |", flush=True)


def _in_browser(page: Path) -> tuple[float, float]:
    """Best of some rounds: seconds to the first drawing, and drawings per second while playing."""
    found = []
    with _chromium() as browser:
        for _ in range(ROUNDS):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.goto(page.as_uri(), wait_until="commit")
            opened = tab.evaluate(
                """() => new Promise((done) => { const look = () =>
                  typeof marey !== "undefined" && marey.overlay?.drawn?.ready ? done(performance.now())
                    : requestAnimationFrame(look); look(); })"""
            )
            rate = tab.evaluate(
                """(ms) => new Promise((done) => {
                  const draw = marey.overlay.draw; let count = 0;
                  marey.clock.seek(1000);
                  marey.clock.play();
                  setTimeout(() => {
                    marey.overlay.draw = (t) => { count++; draw(t); };
                    setTimeout(() => done(count / ms * 1000), ms);
                  }, 1000);
                })""",
                PLAYED_MS,
            )
            found.append((opened / 1000, rate))
            tab.close()
    return min(s for s, _ in found), max(rate for _, rate in found)


@contextmanager
def _chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


def _hour_video(path: Path) -> Path:
    """A minute of moving noise, encoded once and repeated sixty times."""
    minute = path.with_name("minute.mp4")
    rng = np.random.default_rng(1)
    tile = rng.integers(40, 200, (HEIGHT, 2 * WIDTH, 3), np.uint8)
    tile = np.ascontiguousarray(np.kron(tile[::16, ::16], np.ones((16, 16, 1), np.uint8)))
    with av.open(str(minute), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "120", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for n in range(60 * FPS):
            at = n % WIDTH
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(tile[:, at : at + WIDTH]), format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as out:
        target = None
        for k in range(SECONDS // 60):
            with av.open(str(minute)) as source:
                stream = source.streams.video[0]
                target = target or out.add_stream_from_template(stream)
                length = round(60 / (stream.time_base or 1))
                for packet in source.demux(stream):
                    if packet.pts is not None and packet.dts is not None:
                        packet.pts, packet.dts = packet.pts + k * length, packet.dts + k * length
                        packet.stream = target
                        out.mux(packet)
    return path


def _hour_lake(place: Path, uri: str) -> None:
    """One video with 1,000 objects and 500 events."""
    lake, run, now = Lake.open(str(place)), new_run_id(), datetime.now(UTC)
    rng = np.random.default_rng(2)
    analysis = Analysis(
        video_id=digest(uri), camera="gate", date=date(2025, 3, 1), run_id=run, attempt_id=run, uri=uri,
        status="ok", revision=2, perception_id="p", tracking_id="t", analysis_id="a", perception_run_id=run,
        tracking_run_id=run, events_run_id=run, started_at=now, committed_at=now,
    )  # fmt: skip
    source = look(Path(uri))
    etag, size = (source.etag, source.size_bytes) if isinstance(source, Source) else ("1", 1)
    name = VideoName(
        video_id=analysis.video_id, camera="gate", date=analysis.date, run_id=run, uri=uri, etag=etag,
        size_bytes=size, content_id="c", seen_at=now, duration_s=float(SECONDS), width_px=WIDTH,
        height_px=HEIGHT, codec="h264", fps_mean=float(FPS),
    )  # fmt: skip
    where = Place(analysis.video_id, "gate", analysis.date, run, None)
    for table, rows in _hour_rows(rng).items():
        lake.append(table, place_rows(table, rows, where))
    lake.append("videos", names_table([name]))
    lake.append("analyses", analyses_table([replace(analysis, status="running", revision=1), analysis]))


def _hour_rows(rng: np.random.Generator) -> dict[str, pa.Table]:
    first = np.sort(rng.integers(0, SECONDS * 10 - ROWS, OBJECTS))
    track, step = np.repeat(np.arange(OBJECTS), ROWS), np.tile(np.arange(ROWS), OBJECTS)
    sample = first[track] + step
    x = rng.uniform(0, WIDTH, OBJECTS)[track] + rng.uniform(-6, 6, OBJECTS)[track] * step
    y = rng.uniform(0, HEIGHT, OBJECTS)[track] + rng.normal(0, 1, len(track))
    kinds = np.array(["person", "car", "truck", "cycle"])[np.arange(OBJECTS) % 4]
    tracks = {
        "track_id": track, "sample": sample, "t": sample / 10, "x1": x, "y1": y, "x2": x + 60, "y2": y + 140,
        "class": kinds[track], "score": rng.beta(8, 2, len(track)), "observed": rng.random(len(track)) > 0.1,
    }  # fmt: skip
    objects = [
        {"track_id": n, "class": str(kinds[n]), "score": 0.8, "t_start": begin / 10,
         "t_end": (begin + ROWS - 1) / 10, "num_frames": ROWS, "trajectory": [], "mean_speed": 0.1,
         "top_speed": 0.2, "cut_at_start": False, "cut_at_end": False}
        for n, begin in enumerate(first.tolist())
    ]  # fmt: skip
    events = [
        {"event_id": digest(str(n)), "source": "rule", "label": f"line {n % 6}", "t_start": first[n] / 10 + 5,
         "t_end": first[n] / 10 + 5, "t_peak": first[n] / 10 + 5, "score": 0.8, "track_ids": [n],
         "zone": f"line {n % 6}", "direction": "left_to_right", "details": "{}"}
        for n in range(0, OBJECTS, 2)
    ]  # fmt: skip
    frames = [{"sample": n, "t": n / 10, "reused": False} for n in range(SECONDS * 10)]
    return {
        "tracks": pa.table(tracks).select(schema.TRACKS.names).cast(schema.TRACKS),
        "objects": pa.Table.from_pylist(objects, schema.OBJECTS),
        "events": pa.Table.from_pylist(events, schema.EVENTS),
        "frames": pa.Table.from_pylist(frames, schema.FRAMES),
    }


def measure_report(folder: Path) -> None:
    """The page over 1,000 videos: seconds and memory of a fresh process."""
    place = folder / "many"
    _report_lake(Lake.open(str(place)))
    command = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "report",
        "--lake",
        str(place),
        "--out",
        str(folder / "r"),
    ]
    print("| report, 1,000 videos, 3,000,000 rows | s | CPU s | MB |\n|---|---|---|---|")
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the report failed")
    wall, cpu = time.perf_counter() - began, used.ru_utime + used.ru_stime
    print(f"| | {wall:.1f} | {cpu:.1f} | {used.ru_maxrss / 1e3:.0f} |")


def _report_lake(lake: Lake) -> None:
    """The 1,000 videos of `bench.big_lake`, with frames, ways of objects and directions of events."""
    rng = np.random.default_rng(3)

    def objects(_: np.random.Generator) -> pa.Table:
        rows = big_lake.object_rows(rng).to_pylist()
        for row in rows:
            x, y = rng.uniform(0, WIDTH), rng.uniform(HEIGHT / 3, HEIGHT)
            way = np.cumsum(rng.normal(0, 25, (POINTS, 2)), axis=0) + np.array([x, y])
            row["trajectory"] = [{"t": 3.0 * n, "x": px, "y": py} for n, (px, py) in enumerate(way.tolist())]
        return pa.Table.from_pylist(rows, schema.OBJECTS)

    def events(_: np.random.Generator) -> pa.Table:
        rows = big_lake.event_rows(rng).to_pylist()
        return pa.Table.from_pylist([{**row, "direction": "left_to_right"} for row in rows], schema.EVENTS)

    def frames(_: np.random.Generator) -> pa.Table:
        rows = [{"sample": n, "t": n / 10, "reused": False} for n in range(big_lake.SAMPLES)]
        return pa.Table.from_pylist(rows, schema.FRAMES)

    big_lake.fill(
        lake, 1000, {"frames": frames, "tracks": big_lake.track_rows, "objects": objects, "events": events}
    )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "all")
