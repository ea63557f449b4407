"""Speed of each stage and of the whole, many clips beside one file, marey beside what one would use instead.

`python -m bench [--peers PYTHON] [PART...]`; parts are stages, clips, peers and boxes, all by default. Prints
Markdown, with each bar beside what was measured. All is measured in turn, several times; figures are medians.
Footage is made from the real clips (`bench/speed/footage.py`), once for a folder.
"""

from __future__ import annotations

import argparse
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import peer
from bench.speed import clips, footage, peers
from pipeline.cli.speed import table
from pipeline.config import load
from pipeline.speed import measure

NEAR = 1.10


def _sizes(args: argparse.Namespace) -> list[tuple[int, int]]:
    return [size for size in footage.SIZES if size[1] in args.sizes]


def stages(args: argparse.Namespace) -> None:
    """Every stage alone and the whole, 720p and 1080p."""
    for size in _sizes(args):
        speed = measure([footage.long_file(args.footage, size, args.seconds)], load(), args.rounds)
        print(
            f"\n### Stages, {size[1]}p H.264, {args.seconds} s\n\n{table(speed)} The bar is {NEAR}.",
            flush=True,
        )


def many(args: argparse.Namespace) -> None:
    """Many short clips."""
    print(f"\n### Short clips\n\n{clips.compare(args.footage, args.clips, args.rounds)}", flush=True)


def beside(args: argparse.Namespace) -> None:
    """Peers."""
    for size in _sizes(args):
        video = footage.long_file(args.footage, size, args.seconds)
        print(f"\n### Side by side, {size[1]}p H.264, {args.seconds} s, 10 samples/s\n", flush=True)
        print(peers.compare([video], args.peers, args.rounds), flush=True)


def boxes(args: argparse.Namespace) -> None:
    """Detectors alone."""
    video = footage.long_file(args.footage, (1280, 720), args.seconds)
    print(f"\n### Detectors\n\n{peer.compare(video)}", flush=True)


PARTS = {"stages": stages, "clips": many, "peers": beside, "boxes": boxes}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help="stages, clips, peers, boxes; all by default"
    )
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter with the peers: bench/speed/peers.py")
    parser.add_argument("--footage", type=Path, default=Path("footage"), help="folder for the footage")
    parser.add_argument("--sizes", type=int, nargs="+", default=[720, 1080], help="heights of the long files")
    parser.add_argument("--seconds", type=int, default=600, help="length of the long files")
    parser.add_argument("--clips", type=int, default=200, help="number of short files")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown part {sorted(unknown)[0]}: one of {', '.join(PARTS)}")
    cores = f"{os.cpu_count()} cores {platform.machine()}"
    load_s = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"{datetime.now(UTC):%Y-%m-%d}, {cores}, load {load_s} before, marey {version('marey')}, ", end="")
    print(f"{args.rounds} rounds; process start included", flush=True)
    for part in args.parts or PARTS:
        PARTS[part](args)
    print(f"\nload after: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")


if __name__ == "__main__":
    main()
