"""What goes into the page of a video; how it behaves in a browser is in tests/services/test_show.py."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import UsageError
from pipeline.lake.commit import Ending, commit, start_attempts
from pipeline.lake.schema import TRACKS
from pipeline.lake.tables import Lake
from pipeline.report.gather import find, gather
from pipeline.report.packed import pack
from pipeline.report.show import counts, write_show
from tests.cli.run import is_one_line, marey, within
from tests.lake.build import name_of, running
from tests.report.scenes import HOSTILE, SECONDS, event_id, square_lake, square_rows, square_video


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    square_lake(folder / "lake", square_video(folder / "square.mp4"))
    square_lake(folder / "lake", "/archive/a/1.mp4", number=2)
    square_lake(folder / "lake", "/archive/b/1.mp4", number=3)
    return folder / "lake"


def unpacked(text: str, scale: int) -> dict[int, np.ndarray]:
    """Rows (N, 6) of each run: t, box, observed; written from the description in packed.py."""
    raw = gzip.decompress(base64.b64decode(text))
    rows, runs = np.frombuffer(raw, "<u4", 2)
    heads = np.frombuffer(raw, "<u4", 2 * runs, 8).reshape(-1, 2)
    at = 8 + 8 * runs
    t = np.frombuffer(raw, "<f4", rows, at)
    sides = np.frombuffer(raw, "<i2", 4 * rows, at + 4 * rows).reshape(4, rows)
    boxes = np.cumsum(sides, axis=1, dtype=np.int16) / scale
    observed = np.frombuffer(raw, np.uint8, rows, at + 12 * rows)
    table = np.column_stack([t, *boxes, observed])
    ends = np.cumsum(heads[:, 1])
    return {int(k): table[end - n : end] for (k, n), end in zip(heads, ends, strict=True)}


def test_packed_boxes_come_back_to_within_an_eighth_of_a_pixel() -> None:
    rng = np.random.default_rng(3)
    rows = [
        {"track_id": track, "sample": n, "t": n / 10, "class": "car", "score": 0.5, "observed": n % 3 > 0,
         **dict(zip(("x1", "y1", "x2", "y2"), rng.uniform(-300, 3840, 4), strict=True))}
        for track in (3, 9, 11)
        for n in range(track, 1900)
    ]  # fmt: skip
    tracks = pa.Table.from_pylist(rows, TRACKS)
    pieces = pack(tracks, np.array([3, 9, 11]), 190.0)
    assert len(pieces.texts) == 4
    for number, text in enumerate(pieces.texts):
        for slot, got in unpacked(text, pieces.scale).items():
            mine = [r for r in rows if r["track_id"] == (3, 9, 11)[slot]]
            near = [r for r in mine if 60 * number - 3 <= r["t"] < 60 * number + 61]
            want = np.array([[r[k] for k in ("t", "x1", "y1", "x2", "y2", "observed")] for r in near], float)
            want[:, 0] -= 60 * number
            np.testing.assert_allclose(got[:, 0], want[:, 0], atol=1e-4)
            np.testing.assert_allclose(got[:, 1:5], want[:, 1:5], atol=1 / 16)
            np.testing.assert_array_equal(got[:, 5], want[:, 5])


def test_pieces_reach_to_the_samples_on_either_side_of_them() -> None:
    """With a sample every four seconds, too: what is drawn at a piece's ends lies between two of them."""
    rows = [
        {"track_id": 1, "sample": n, "t": 2.0 + 4 * n, "class": "car", "score": 0.5, "observed": True,
         "x1": 0.0, "y1": 0.0, "x2": 9.0, "y2": 9.0}
        for n in range(45)
    ]  # fmt: skip
    pieces = pack(pa.Table.from_pylist(rows, TRACKS), np.array([1]), 180.0, hold_s=6.0)
    times = unpacked(pieces.texts[1], pieces.scale)[0][:, 0]
    assert (times[0], times[-1]) == (-6.0, 62.0)


@pytest.mark.parametrize("sample_fps", [0.4, 0.8, 1.0, 10.0])
def test_counts_hold_between_samples_that_are_far_apart(tmp_path: Path, sample_fps: float) -> None:
    video_id = square_lake(tmp_path / "lake", "/archive/a.mp4", sample_fps=sample_fps)
    page = write_show(gather(str(tmp_path / "lake"), video_id), tmp_path / "page")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8")).group(1))
    [values] = data["counts"]["values"]
    assert set(values) == {1.0}
    assert data["counts"]["seconds"] * len(values) == pytest.approx(SECONDS)


def test_an_object_counts_by_its_class_however_it_was_called_before(lake: Path) -> None:
    record = gather(str(lake), f"{2:032x}")
    at = record.tracks.schema.get_field_index("class")
    called = ["truck"] * 50 + ["person"] * (record.tracks.num_rows - 50)
    tracks = record.tracks.set_column(at, "class", pa.array(called))
    assert set(counts(replace(record, tracks=tracks), ["person"])["values"][0]) == {1.0}


def test_a_video_is_found_by_path_end_of_path_and_id(lake: Path) -> None:
    first = f"{1:032x}"
    for name in (str(lake.parent / "square.mp4"), "square.mp4", first):
        assert find(str(lake), name) == (first, None)
    assert find(str(lake), "a/1.mp4")[0] == f"{2:032x}"


def test_a_video_is_found_by_its_signed_address(tmp_path: Path) -> None:
    """It is known without what stands behind `?`, which no error tells either."""
    video_id = square_lake(tmp_path / "lake", "https://cams.example/a.mp4")
    assert find(str(tmp_path / "lake"), "https://me:word@cams.example/a.mp4?key=word") == (video_id, None)
    with pytest.raises(UsageError, match=r"is called https://cams\.example/b\.mp4: see") as caught:
        find(str(tmp_path / "lake"), "https://me:word@cams.example/b.mp4?key=word")
    assert "word" not in str(caught.value)


def test_an_event_is_found_by_its_id(tmp_path: Path) -> None:
    square_lake(tmp_path / "lake", "/a.mp4")
    video_id, event = find(str(tmp_path / "lake"), event_id(1, 3))
    assert video_id == f"{1:032x}"
    assert event is not None
    assert event["t_start"] == 7.0


@pytest.mark.parametrize(("name", "told"), [("nothing.mp4", "no video or event"), ("1.mp4", "2 are called")])
def test_what_is_not_found_or_not_one_is_said(lake: Path, name: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        find(str(lake), name)


def test_the_page_holds_rules_counts_and_what_was_lost(lake: Path, tmp_path: Path) -> None:
    record = gather(str(lake), f"{1:032x}")
    assert record.analysis is not None
    gap = {"t_start": 2.0, "t_end": 3.5, "frames": 37, "cause": "media"}
    failed = {"started_at": "2025-03-02", "error_code": "timeout", "error": "it hung"}
    analysis = {**record.analysis, "gaps": [gap], "status": "partial"}
    page = write_show(replace(record, analysis=analysis, failures=(failed,)), tmp_path / "page", copy=True)
    html = page.read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', html).group(1))
    assert data["shapes"] == [{"points": [[320, 36], [320, 324]], "closed": False, "names": ["gate"]}]
    assert data["counts"] == {"seconds": 1.0, "values": [[1.0] * SECONDS]}
    assert data["gaps"] == [[2.0, 3.5]]
    assert "37 frames are lost (media)" in html
    assert "timeout: it hung" in html
    assert data["source"] == "video.mp4"
    assert (tmp_path / "page/video.mp4").stat().st_size > 0


@pytest.mark.parametrize("name", HOSTILE)
def test_names_do_not_break_out_of_the_page(tmp_path: Path, name: str) -> None:
    video_id = square_lake(tmp_path / "lake", f"/archive/{name}.mp4", label=name, kind=name, camera=name)
    html = write_show(gather(str(tmp_path / "lake"), video_id), tmp_path / "page").read_text(encoding="utf-8")
    scripts = len(re.findall("<script", html))
    assert len(re.findall("</script", html)) == scripts
    assert html.count("<script>") == 7  # our own; the policy names their hashes
    assert html.count("sha256-") == 7
    assert "<svg" not in html
    assert "<img src=x" not in html
    data = json.loads(re.search(r'id="data">(.*?)</script>', html).group(1))
    assert {event["label"] for event in data["events"]} == {name}


def test_a_video_that_only_failed_has_a_page_that_says_why(tmp_path: Path) -> None:
    lake = Lake.open(tmp_path / "lake")
    [attempt] = start_attempts(lake, [running("v1")])
    failed = attempt.ended("failed", error_code="media_codec", error="no decoder")
    commit(lake, [Ending(analysis=failed, names=(name_of(attempt),))])
    record = gather(str(tmp_path / "lake"), find(str(tmp_path / "lake"), "v1.mp4")[0])
    html = write_show(record, tmp_path / "page").read_text(encoding="utf-8")
    assert "media_codec: no decoder" in html
    assert "never analysed with success" in html


def test_the_command_writes_a_page_and_says_where(lake: Path, tmp_path: Path) -> None:
    done = marey("show", "square.mp4", "--lake", lake, "--out", "here", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "here/index.html\n")
    assert square_rows()["tracks"].num_rows == SECONDS * 10
    refused = within("show", "nothing.mp4", "--lake", lake, cwd=tmp_path)
    assert refused.returncode == 2
    assert is_one_line(refused)
