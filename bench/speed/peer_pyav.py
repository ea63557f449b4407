"""PyAV alone, the limit of decoding: `python peer_pyav.py FPS SIDE VIDEO...`.

Every frame is decoded by FFmpeg's own threads; sampled ones become RGB pictures of SIDE x SIDE. Prints the
number of sampled frames.
"""

from __future__ import annotations

import sys

import av


def main() -> None:
    """Decode, shrink, forget."""
    fps, side, videos = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    frames = 0
    for video in videos:
        tick = 0
        with av.open(video) as container:
            container.streams.video[0].thread_type = "AUTO"
            for frame in container.decode(video=0):
                if frame.time * fps >= tick - 1e-6:
                    frame.to_ndarray(width=side, height=side, format="rgb24")
                    frames += 1
                    tick = int(frame.time * fps + 1e-6) + 1
    sys.stdout.write(f"{frames}\n")


if __name__ == "__main__":
    main()
