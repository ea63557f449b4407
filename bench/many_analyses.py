"""A million rows of `analyses`: a query, and what a batch looks up: `python -m bench.many_analyses DIR`.

DIR is filled unless it is a lake: 500,000 videos of two rows and a name each. The query and the look-up of
100,000 known keys are each done by a fresh process, whose start is not counted.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime

import pyarrow as pa

from pipeline.ids import digest, new_run_id
from pipeline.lake.schema import ANALYSES, VIDEOS
from pipeline.lake.tables import Lake

VIDEOS_IN_ALL, BLOCK, KEYS = 500_000, 50_000, 100_000

MEASURED = """
import resource, sys, time
{setup}
began = time.perf_counter()
{work}
print(f"{{time.perf_counter() - began:.2f}} s, {{time.process_time():.2f}} CPU s in all, "
      f"{{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f}} MB")
"""

QUERY = MEASURED.format(
    setup="from pipeline.lake.query import query\nfrom pipeline.ids import digest",
    work="sql = 'SELECT uri, status FROM ' + sys.argv[2] + f\" WHERE video_id = '{digest('7')}'\"\n"
    "assert query(sys.argv[1], sql).num_rows == int(sys.argv[3])",
)
LOOK_UP = MEASURED.format(
    setup="from pipeline.lake.tables import Lake\nfrom pipeline.lake.lookup import histories, known_videos",
    work="lake = Lake.open(sys.argv[1], create=False)\n"
    f"known = known_videos(lake, [f'/archive/{{n:06}}.mp4' for n in range({KEYS})])\n"
    "assert len(histories(lake, {name.video_id for name in known.values()})) == len(known)",
)


def main(place: str) -> None:
    """Fill, then measure."""
    lake = Lake.open(place)
    if not lake.table("analyses").count():
        for begin in range(0, VIDEOS_IN_ALL, BLOCK):
            _fill(lake, range(begin, begin + BLOCK))
    for view, rows in (("analyses", 2), ("analyses_current", 1)):
        print(f"{view} of one video: ", end="", flush=True)
        _run(QUERY, place, view, str(rows))
    print(f"names and histories of {KEYS} keys: ", end="", flush=True)
    _run(LOOK_UP, place)


def _run(code: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)


def _fill(lake: Lake, numbers: range) -> None:
    ids = [digest(str(number)) for number in numbers]
    uris = [f"/archive/{number:06}.mp4" for number in numbers]
    runs = [new_run_id() for _ in numbers]
    own = {"video_id": ids, "uri": uris, "run_id": runs, "perception_id": ids, "attempt_id": runs}
    same = {"date": date(2025, 1, 1), "tracking_id": "t", "analysis_id": "a", "size_bytes": 1, "etag": "1"}
    now = datetime.now(UTC)
    times = {"committed_at": now, "started_at": now, "seen_at": now}
    for status, revision in (("running", 1), ("ok", 2)):
        named = dict.fromkeys(("perception_run_id", "tracking_run_id", "events_run_id"), runs)
        rows = own | same | times | {"status": status, "revision": revision}
        lake.append("analyses", _table(ANALYSES, rows | (named if status == "ok" else {}), len(ids)))
    lake.append("videos", _table(VIDEOS, own | same | times | {"content_id": ids}, len(ids)))


def _table(schema: pa.Schema, values: dict[str, object], number: int) -> pa.Table:
    """Columns by name: a list, one value for all rows, or nothing, which is null."""
    columns = []
    for field in schema:
        value = values.get(field.name)
        columns.append(
            pa.array(value, field.type)
            if isinstance(value, list)
            else pa.repeat(pa.scalar(value, field.type), number)
        )
    return pa.table(columns, schema=schema)


if __name__ == "__main__":
    main(sys.argv[1])
