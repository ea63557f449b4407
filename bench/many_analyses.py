"""A million rows of `analyses`: a query, and the planning of a batch: `python -m bench.many_analyses DIR`.

DIR is filled unless it is a lake: 500,000 videos of two rows and a name each. The queries, the look-up of
100,000 known keys and the planning of a batch of 100,000 keys, of which 10,000 are new, are each done by a
fresh process, whose start is not counted. The keys are not listed from a server, and nothing is decoded.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime

import pyarrow as pa

from pipeline.ids import digest, new_run_id, video_id
from pipeline.lake.schema import ANALYSES, VIDEOS
from pipeline.lake.tables import Lake

VIDEOS_IN_ALL, BLOCK, KEYS, NEW_KEYS = 500_000, 50_000, 100_000, 10_000

MEASURED = """
import resource, sys, time
{setup}
began = time.perf_counter()
{work}
print(f"{{time.perf_counter() - began:.2f}} s, {{time.process_time():.2f}} CPU s in all, "
      f"{{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f}} MB")
"""

QUERY = MEASURED.format(
    setup="from pipeline.lake.query import query\nfrom bench.many_analyses import video",
    work="sql = 'SELECT uri, status FROM ' + sys.argv[2] + f\" WHERE video_id = '{video(7)}'\"\n"
    "assert query(sys.argv[1], sql).num_rows == int(sys.argv[3])",
)
LOOK_UP = MEASURED.format(
    setup="from pipeline.lake.tables import Lake\nfrom pipeline.lake.lookup import histories, known_videos\n"
    "from bench.many_analyses import uri",
    work="lake = Lake.open(sys.argv[1], create=False)\n"
    f"known = known_videos(lake, [uri(n) for n in range({KEYS})])\n"
    f"assert len(histories(lake, {{name.video_id for name in known.values()}})) == len(known) == {KEYS}",
)
PLAN = MEASURED.format(
    setup="import pipeline.analyze.job\nfrom bench.many_analyses import plan_batch",
    work="print(plan_batch(sys.argv[1]), end=': ')",
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
    print("a batch of as many planned, ", end="", flush=True)
    _run(PLAN, place)


def uri(number: int) -> str:
    return f"s3://archive/{number:06}.mp4"


def video(number: int) -> str:
    return video_id(digest(number), None, None)


def plan_batch(place: str) -> dict[str, int]:
    """What a dry run does with a listing; how many videos of which step come out."""
    from pipeline.analyze.outcome import Options
    from pipeline.analyze.plan import Planner
    from pipeline.analyze.tools import Tools
    from pipeline.config import Config
    from pipeline.media import Feed
    from pipeline.sources import Source, Spool

    numbers = range(VIDEOS_IN_ALL + NEW_KEYS - KEYS, VIDEOS_IN_ALL + NEW_KEYS)
    at = datetime(2025, 1, 1, tzinfo=UTC)
    sources = [Source(uri(number), None, 1, at, "1") for number in numbers]
    with Feed() as prober, Spool(1) as spool:
        planner = Planner(
            Lake.open(place, create=False), Tools(Config()), Options(dry_run=True), prober, spool
        )
        planner.look_up(sources)
        plans = (planner.plan(source) for source in sources)
        return dict(Counter(plan.step.name if plan else "NEW" for plan in plans))


def _run(code: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)


def _fill(lake: Lake, numbers: range) -> None:
    contents = [digest(number) for number in numbers]
    ids, uris = [video(number) for number in numbers], [uri(number) for number in numbers]
    runs = [new_run_id() for _ in numbers]
    own = {"video_id": ids, "uri": uris, "run_id": runs, "perception_id": ids, "attempt_id": runs}
    same = {"date": date(2025, 1, 1), "tracking_id": "t", "analysis_id": "a", "size_bytes": 1, "etag": "1"}
    sizes = {"width_px": 1280, "height_px": 720}
    now = datetime.now(UTC)
    times = {"committed_at": now, "started_at": now, "seen_at": now}
    for status, revision in (("running", 1), ("ok", 2)):
        named = dict.fromkeys(("perception_run_id", "tracking_run_id", "events_run_id"), runs)
        rows = own | same | times | {"status": status, "revision": revision}
        lake.append("analyses", _table(ANALYSES, rows | (named if status == "ok" else {}), len(ids)))
    lake.append("videos", _table(VIDEOS, own | same | times | {"content_id": contents, **sizes}, len(ids)))


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
