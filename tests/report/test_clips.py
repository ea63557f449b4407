"""Clips of events: what is cut, where it begins, what the JSON beside it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.cli import run
from pipeline.errors import UsageError
from pipeline.media import scan as scanning
from pipeline.report.cut import cut
from pipeline.sources import find
from tests.cli.run import is_one_line, marey, within
from tests.helpers import shared_path
from tests.report.scenes import FPS, SECONDS, event_id, square, square_lake, square_video


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    square_lake(folder / "lake", square_video(folder / "square.mp4"))
    square_lake(folder / "lake", "/gone/far.mp4", number=2, label="far")
    return folder


def pictures(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(float(f.time), f.to_ndarray(format="gray")) for f in container.decode(video=0)]


def left_edge(picture: np.ndarray) -> int:
    return int(np.flatnonzero((picture > 150).any(axis=0))[0])


def test_a_clip_is_copied_from_the_key_frame_before(place: Path, tmp_path: Path) -> None:
    done = marey(
        "clip", "--where", "label = 'gate' and t_start = 7.0", "--lake", place / "lake", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    path = tmp_path / done.stdout.strip()
    told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert told["clip"]["method"] == "copied"
    assert told["clip"]["t_start"] == 5.0  # a key frame every second, two seconds before 7.0
    assert told["clip"]["event_at"] == 2.0
    assert told["event"]["label"] == "gate"
    assert told["video"]["uri"] == str(place / "square.mp4")
    assert {row["track_id"] for row in told["tracks"]} == {7}
    shown = pictures(path)
    assert shown[0][0] == pytest.approx(0, abs=1e-3)
    whole = dict(zip(range(FPS * SECONDS), pictures(place / "square.mp4"), strict=True))
    for t, picture in shown:
        assert left_edge(picture) == pytest.approx(square(5 + t)[0], abs=1)
        np.testing.assert_array_equal(picture, whole[round((5 + t) * FPS)][1])  # nothing was encoded again
    assert shown[-1][0] >= 9.4 - 5 - 1 / FPS


def test_a_folder_of_footage_may_hold_clips_of_it(place: Path, tmp_path: Path) -> None:
    """They are no footage, or an analysis of the folder would find their events a second time."""
    (tmp_path / "gate.mp4").write_bytes((place / "square.mp4").read_bytes())
    done = marey("clip", event_id(1, 1), "--lake", place / "lake", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    clip = tmp_path / done.stdout.strip()
    for item in (str(tmp_path), f"{tmp_path}/[cg]*", f"{tmp_path}/**/*.mp4"):
        said: list[str] = []
        assert [entry.uri for entry in find([item], say=said.append)] == [str(tmp_path / "gate.mp4")]
        assert said == [f"passed over below {item}: what `marey clip` wrote, as in {tmp_path / 'clips'}"]
    assert [Path(entry.uri) for entry in find([str(clip)])] == [clip]  # who names one means it
    with pytest.raises(UsageError, match="holds no video"):
        find([str(clip.parent)])
    clip.with_suffix(".json").unlink()
    assert [Path(entry.uri) for entry in find([str(clip.parent)])] == [clip]


def test_an_annotated_clip_holds_just_the_stretch_with_boxes_on_it(place: Path, tmp_path: Path) -> None:
    command = ["clip", event_id(1, 3), "--lake", place / "lake", "--annotate", "--around", "0.5", "--json"]
    [told] = json.loads(within(*command, cwd=tmp_path).stdout)
    assert told["clip"]["method"] == "annotated"
    assert told["clip"]["t_start"] == pytest.approx(6.48, abs=1e-3)  # the frame on display at 6.5
    with av.open(str(tmp_path / told["clip"]["file"])) as container:
        frames = [(float(f.time), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    assert len(frames) == 36  # 6.48 to 7.88
    for t, picture in frames[::7]:
        x1, _, _, y2 = square(6.48 + t)
        red, green, blue = np.moveaxis(picture.astype(int), 2, 0)
        orange = (red - blue > 50) & (green - blue > 30)
        columns = np.flatnonzero(orange[int(y2) - 60])
        assert columns[0] == pytest.approx(x1, abs=3)


def test_what_is_not_at_hand_is_said_and_costs_itself_only(place: Path, tmp_path: Path) -> None:
    done = within("clip", "--where", "t_start = 1.0", "--lake", place / "lake", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    assert "/gone/far.mp4 does not exist" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [event_id(1, 1), "--where", "true"],
        ["--where", "nonsense"],
        ["0badc0de"],
        ["0badc0de", "--json"],
        ["--where", "true", "--around", "inf"],
    ],
)
def test_a_wrong_wish_is_one_line(place: Path, tmp_path: Path, arguments: list[str]) -> None:
    done = within("clip", *arguments, "--lake", place / "lake", cwd=tmp_path)
    assert done.returncode == 2
    assert is_one_line(done)


def test_a_condition_that_holds_for_no_event_is_no_failure(place: Path, tmp_path: Path) -> None:
    """As on a night on which nothing happened; JSON is JSON then, too."""
    done = within("clip", "--where", "1 = 0", "--json", "--lake", place / "lake", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    assert done.stderr == f"no event of lake {place / 'lake'} is such: 1 = 0\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    "name",
    ["av1_video.mkv", "exo_sample_with_htc_rotation_track_name.mkv", "fate_hevc_hdr10.mkv", "h265_video.mp4",
     "exo_sample_fragmented.mp4", "nasa_13013_rotated.mp4", "testsrc2_vp8.webm", "psd_counter.mp4"],
)  # fmt: skip
def test_real_formats_are_copied_with_the_pictures_of_the_original(name: str, tmp_path: Path) -> None:
    path = shared_path("data", "videos", "formats", name)
    before = {hashlib.md5(p.tobytes()).digest() for _, p in pictures(path)}
    made = cut(path, tmp_path / "cut", (0.3, 0.9))
    after = pictures(made.path)
    assert made.method == "copied"
    assert made.t_start <= 0.3
    assert after
    assert all(hashlib.md5(p.tobytes()).digest() in before for _, p in after)


@pytest.mark.needs_shared
@pytest.mark.parametrize(
    "name", ["exo_sample_h264_mpeg_audio.ts", "fate_displaymatrix_rotated.mov", "exo_sample.avi"]
)
def test_files_that_cannot_be_entered_in_the_middle_are_encoded(name: str, tmp_path: Path) -> None:
    made = cut(shared_path("data", "videos", "formats", name), tmp_path / "cut", (0.3, 0.9))
    assert made.method == "encoded"
    assert pictures(made.path)


@pytest.mark.parametrize("more", [[], ["--annotate"]])
def test_the_packets_of_a_video_are_looked_through_once_for_all_of_its_clips(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    """A video of two days was read to its end for each of its events."""
    scans, scan = [], scanning._scan

    def counted(path: str, *rest: Any) -> scanning.PacketScan:
        scans.append(path)
        return scan(path, *rest)

    monkeypatch.setattr(scanning, "_scan", counted)
    command = ["clip", "--where", "label = 'gate' and t_start > 4.0", "--around", "0.1", *more]
    assert run([*command, "--lake", str(place / "lake"), "--out", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("*.mp4"))) == 3
    assert scans == [str(place / "square.mp4")]
