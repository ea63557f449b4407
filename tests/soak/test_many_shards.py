"""2,000 tiny videos in shards through a Prefect server on PostgreSQL: none is lost, the server stays small.

MAREY_SOAK_VIDEOS sets another number.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from flows.submit import SHARD_SIZE
from pipeline.config import load
from pipeline.config_text import to_toml
from pipeline.lake.query import query
from tests.s3 import Server
from tests.services.media import SAMPLE_FPS, tiny_settings, write_clip, write_weights
from tests.services.stack import FINAL, Stack, production

VIDEOS = int(os.environ.get("MAREY_SOAK_VIDEOS", "2000"))
SHARDS = -(-VIDEOS // SHARD_SIZE)
CLIP_S = 1.0
PATIENCE_S = 6 * 3600.0


def footage(folder: Path) -> Path:
    """Videos whose bytes differ by a box that says nothing; all hold the same picture."""
    folder.mkdir()
    write_clip(folder / "0.mp4", CLIP_S, shade=60)
    data = (folder / "0.mp4").read_bytes()
    for number in range(1, VIDEOS):
        note = f"{number:08}".encode()
        box = (8 + len(note)).to_bytes(4, "big") + b"free" + note
        (folder / f"{number}.mp4").write_bytes(data + box)
    return folder


def memory_bytes(stack: Stack) -> int:
    """Resident memory of the Prefect server and its children."""
    server = psutil.Process(stack.processes["server"].pid)
    return sum(process.memory_info().rss for process in (server, *server.children(recursive=True)))


def test_none_is_lost(tmp_path: Path, moto: Server) -> None:
    source, lake = footage(tmp_path / "in"), tmp_path / "lake"
    write_weights(tmp_path / "tiny.safetensors")
    site = tmp_path / "site.toml"
    site.write_text(to_toml(load(None, tiny_settings(tmp_path / "tiny.safetensors"))))
    with production(tmp_path, moto) as stack:
        options = ("--source", source, "--lake", lake, "--config", site)
        done = stack.marey("deploy", *options)
        assert done.returncode == 0, done.stderr
        stack.start_worker()
        before, peak = memory_bytes(stack), 0
        run = stack.submit("analyze-batch", inputs=[str(source)])

        def ended() -> bool:
            nonlocal peak
            peak = max(peak, memory_bytes(stack))
            time.sleep(1.0)
            return stack.ask(f"/flow_runs/{run}")["state_type"] in FINAL

        began = time.monotonic()
        stack.wait_until(ended, "the batch ends", PATIENCE_S)
        seconds = time.monotonic() - began
        state = stack.ask(f"/flow_runs/{run}")["state"]
        wanted = {"flow_runs": {"id": {"any_": [run]}}}
        stack.wait_until(lambda: stack.ask("/task_runs/count", wanted) == SHARDS, "all shards are known")
    assert (state["type"], state["message"]) == ("COMPLETED", f"{VIDEOS} videos: {VIDEOS} ok")
    print(f"\n{VIDEOS} videos in {SHARDS} shards in {seconds:.0f} s, {seconds / VIDEOS:.3f} s each")
    print(f"the server had {before / 1e6:.0f} MB before and {peak / 1e6:.0f} MB at most")
    sql = "SELECT count(*) AS rows, count(DISTINCT {key}) AS n FROM {view} {where}"
    [done_rows] = query(
        lake, sql.format(key="video_id", view="analyses", where="WHERE status = 'ok'")
    ).to_pylist()
    assert done_rows == {"rows": VIDEOS, "n": VIDEOS}
    [frames] = query(lake, sql.format(key="video_id", view="frames", where="")).to_pylist()
    assert frames == {"rows": VIDEOS * round(CLIP_S * SAMPLE_FPS), "n": VIDEOS}
