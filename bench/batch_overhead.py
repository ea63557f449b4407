"""What a batch in shards of a Prefect run costs beside `marey analyze`: `python -m bench.batch_overhead [N]`.

100 clips of a minute. First the plain command, then the same clips by a run of analyze-batch in shards of
the default size on a process worker; each into a lake of its own. A batch takes the default network half an
hour and more, and both ways spend that alike, so the network is a tiny one of random weights, and what the
flow costs besides is set against the time of the default network, measured on one clip.

Prints Markdown: wall and CPU seconds. The CPU seconds of the flow are those of the worker and its children.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil

from flows.submit import SHARD_SIZE
from pipeline.config import load
from pipeline.config_text import to_toml
from pipeline.demo.render import render_demo
from tests.s3 import moto_server
from tests.services.media import tiny_settings, write_weights
from tests.services.stack import Stack, production

CLIPS, CLIP_S = 100, 60.0
PATIENCE_S = 36000.0


def main(clips: int = CLIPS) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name, moto_server() as s3:
        folder = Path(name)
        footage = _footage(folder, clips)
        write_weights(folder / "tiny.safetensors")
        config = folder / "site.toml"
        settings = tiny_settings(folder / "tiny.safetensors") | {"events.models": []}
        config.write_text(to_toml(load(None, settings)))
        with production(folder, s3) as stack:
            plain = _timed(lambda: _plain(stack, footage, folder / "plain", config))
            one = folder / "one"
            one.mkdir()
            (one / "0.mp4").hardlink_to(footage / "000.mp4")
            _plain(stack, one, folder / "warm", None)
            real = _timed(lambda: _plain(stack, one, folder / "real", None))
            start = _timed(lambda: _plain(stack, one, folder / "real", None))  # nothing left to be done
            flow = _flow(stack, footage, folder / "flow", config)
    _tell(clips, plain, flow, real, start)


def _footage(folder: Path, clips: int) -> Path:
    """Clips that differ in their bytes: one is rendered, the others carry another comment."""
    footage = folder / "footage"
    footage.mkdir()
    first = footage / "000.mp4"
    render_demo(first, duration_s=CLIP_S)
    data = first.read_bytes()
    for number in range(1, clips):
        note = f"{number:03}".encode()
        free = (8 + len(note)).to_bytes(4, "big") + b"free" + note
        (footage / f"{number:03}.mp4").write_bytes(data + free)
    return footage


def _plain(stack: Stack, source: Path, lake: Path, config: Path | None) -> None:
    options = ["--config", config] if config is not None else []
    done = stack.marey("analyze", source, "--lake", lake, *options)
    if done.returncode:
        sys.exit(done.stderr)


def _timed(act: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of children that act starts and waits for."""
    began, cpu = time.perf_counter(), _children_s()
    act()
    return time.perf_counter() - began, _children_s() - cpu


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _flow(stack: Stack, source: Path, lake: Path, config: Path) -> dict[str, float]:
    """A batch through the server: seconds from its submission to its end, and CPU of worker and server."""
    done = stack.marey("deploy", "--source", source, "--lake", lake, "--config", config)
    if done.returncode:
        sys.exit(done.stderr)
    stack.start_worker()
    stack.wait_until(lambda: stack.ask("/work_pools/marey-cpu")["status"] == "READY", "a worker")
    worker, server = (psutil.Process(stack.processes[name].pid) for name in ("worker", "server"))
    before = _cpu_s(worker), _cpu_s(server)
    began = time.perf_counter()
    state = stack.ended(stack.submit("analyze-batch", inputs=[str(source)], lake=str(lake)), PATIENCE_S)
    wall = time.perf_counter() - began
    if state["type"] != "COMPLETED":
        sys.exit(json.dumps(state))
    # Seconds of a child count when it has ended, which is a little after its run has.
    stack.wait_until(lambda: not worker.children(recursive=True), "the run's process ends")
    return {"wall": wall, "cpu": _cpu_s(worker) - before[0], "server": _cpu_s(server) - before[1]}


def _cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process and its children, those that ended included."""
    return float(sum(process.cpu_times()[:4]))


def _tell(
    clips: int,
    plain: tuple[float, float],
    flow: dict[str, float],
    real: tuple[float, float],
    start: tuple[float, float],
) -> None:
    shards = -(-clips // SHARD_SIZE)
    what = f"{clips} clips of {CLIP_S:g} s, {shards} shards"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {what}\n")
    print("| | wall s | CPU s |\n|---|---:|---:|")
    print(f"| `marey analyze`, tiny network | {plain[0]:.1f} | {plain[1]:.1f} |")
    print(f"| the same through Prefect, worker and its children | {flow['wall']:.1f} | {flow['cpu']:.1f} |")
    print(f"| the Prefect server meanwhile | | {flow['server']:.1f} |")
    more = flow["wall"] - plain[0], flow["cpu"] - plain[1]
    print(f"| more | {more[0]:.1f} | {more[1]:.1f} |")
    work = [clips * (whole - idle) + idle for whole, idle in zip(real, start, strict=True)]
    what = f"`marey analyze`, default network: {clips} times one clip, a start once"
    print(f"| {what} | {work[0]:.0f} | {work[1]:.0f} |")
    print(f"| more, of the default network's work | {more[0] / work[0]:.1%} | {more[1] / work[1]:.1%} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
