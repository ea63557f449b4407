"""Videos that are not on this disk: copied for clips, pages and pictures; or gone, or changed since."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.cli import run
from pipeline.errors import SourceError
from pipeline.ids import content_id
from pipeline.lake.lookup import known_videos
from pipeline.lake.records import names_table
from pipeline.lake.tables import Lake
from pipeline.report.gather import gather
from pipeline.report.originals import Originals
from pipeline.report.overview import camera_part
from pipeline.report.scene import picture_of, scene_of
from pipeline.report.survey import Choice, survey
from pipeline.sources import look_again
from tests.report.scenes import SIDE, event_id, square, square_lake, square_video
from tests.s3 import Server

GB = 1 << 30


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return square_video(tmp_path_factory.mktemp("original") / "square.mp4")


@pytest.fixture
def remote(tmp_path: Path, video: Path, s3_server: Server) -> str:
    """The square on S3, analysed into the lake at `tmp_path / "lake"`; its address."""
    bucket = s3_server.bucket()
    answer = s3_server.client().put_object(Bucket=bucket, Key="in/a+b.mp4", Body=video.read_bytes())
    uri = f"s3://{bucket}/in/a+b.mp4"
    known = {"etag": answer["ETag"].strip('"'), "size_bytes": video.stat().st_size}
    square_lake(tmp_path / "lake", uri, content_id=content_id(video), **known)
    return uri


def command(*arguments: object) -> int:
    """The command within this process."""
    return run([str(argument) for argument in arguments])


def frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_clips_pages_and_pictures_of_a_video_on_s3(
    remote: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = ("--lake", tmp_path / "lake")
    assert command("clip", event_id(1, 3), *lake, "--out", tmp_path / "clips") == 0
    out, err = capsys.readouterr()
    assert frames(Path(out.strip())) > 75
    assert f"copying {remote}" in err

    page = tmp_path / "page"
    assert command("show", remote, *lake, "--out", page) == 0
    assert frames(page / "video.mp4") == 300
    assert '"source": "video.mp4"' in (page / "index.html").read_text()
    assert command("show", remote, *lake, "--out", tmp_path / "bare", "--no-copy") == 0
    assert '"source": null' in (tmp_path / "bare/index.html").read_text()
    assert sorted(path.name for path in (tmp_path / "bare").iterdir()) == ["index.html"]

    boxes = tmp_path / "boxes"
    assert command("export", remote, "--format", "coco", "--pictures", *lake, "--out", boxes) == 0
    assert len(list(boxes.glob("*/frames/*.jpg"))) == 120
    training = tmp_path / "training"
    corrected = boxes / "annotations.json"
    assert command("import", corrected, "--format", "coco", *lake, "--out", training) == 0
    data = json.loads((training / "annotations.json").read_text())
    first = cv2.imread(str(training / data["images"][0]["file_name"]), cv2.IMREAD_GRAYSCALE)
    x, y = (round(v) for v in square(0)[:2])
    assert first[y + SIDE // 2, x + SIDE // 2] > 200


@pytest.mark.parametrize(
    ("change", "told"),
    [("gone", "vanished"), ("longer", "is not what was analysed"), ("other", "is not what was analysed")],
)
def test_what_is_gone_or_changed_is_said(
    remote: str,
    tmp_path: Path,
    video: Path,
    s3_server: Server,
    capsys: pytest.CaptureFixture[str],
    change: str,
    told: str,
) -> None:
    bucket, key = remote.removeprefix("s3://").split("/", 1)
    body = video.read_bytes()
    if change == "gone":
        s3_server.client().delete_object(Bucket=bucket, Key=key)
    else:
        other = body + b"x" if change == "longer" else body[:-1] + bytes([body[-1] ^ 1])
        s3_server.client().put_object(Bucket=bucket, Key=key, Body=other)
    lake = ("--lake", tmp_path / "lake")
    assert command("clip", event_id(1, 3), *lake, "--out", tmp_path / "clips") == 1
    assert told in capsys.readouterr().err
    assert list((tmp_path / "clips").glob("*")) == []
    wanted = ("--format", "cvat", "--pictures", "--out", tmp_path / "boxes")
    assert command("export", remote, *wanted, *lake) == 1
    assert told in capsys.readouterr().err
    assert command("show", remote, *lake, "--out", tmp_path / "page") == 0  # its tracks are there
    err = capsys.readouterr().err
    assert told in err
    assert "the page is without the video" in err


def test_a_video_that_was_moved_is_found_under_its_new_name(
    remote: str, tmp_path: Path, s3_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was analysed under the old name, and met again under the new one."""
    bucket, key = remote.removeprefix("s3://").split("/", 1)
    client = s3_server.client()
    client.copy_object(Bucket=bucket, Key="archive/c.mp4", CopySource={"Bucket": bucket, "Key": key})
    client.delete_object(Bucket=bucket, Key=key)
    moved = look_again(f"s3://{bucket}/archive/c.mp4")
    lake = Lake.open(str(tmp_path / "lake"))
    name = known_videos(lake, [remote])[remote]
    again = replace(name, uri=moved.uri, etag=moved.etag, seen_at=datetime.now(UTC))
    lake.append("videos", names_table([again]))

    options = ("--lake", tmp_path / "lake", "--out")
    assert command("clip", event_id(1, 3), *options, tmp_path / "clips") == 0
    clip = Path(capsys.readouterr().out.strip())
    assert frames(clip) > 75
    assert json.loads(clip.with_name(clip.name.replace(clip.suffix, ".json")).read_text())["video"][
        "uri"
    ] == (moved.uri)
    for named in (moved.uri, remote):
        page = tmp_path / f"page-{Path(named).stem}"
        assert command("show", named, *options, page) == 0
        assert frames(page / "video.mp4") == 300
    assert "without the video" not in capsys.readouterr().err
    boxes = tmp_path / "boxes"
    assert command("export", moved.uri, "--format", "cvat", "--pictures", *options, boxes) == 0
    assert len(list(boxes.glob("c-*/frames/*.jpg"))) == 120
    client.delete_object(Bucket=bucket, Key="archive/c.mp4")
    capsys.readouterr()
    assert command("clip", event_id(1, 3), *options, tmp_path / "none") == 1
    assert f"{remote} vanished" in capsys.readouterr().err


def test_a_copy_that_is_another_makes_room_for_the_next_name(
    remote: str, tmp_path: Path, video: Path, s3_server: Server
) -> None:
    bucket, key = remote.removeprefix("s3://").split("/", 1)
    body = video.read_bytes()
    s3_server.client().put_object(Bucket=bucket, Key="archive/c.mp4", Body=body)
    s3_server.client().put_object(Bucket=bucket, Key=key, Body=body[:-1] + bytes([body[-1] ^ 1]))
    record = gather(str(tmp_path / "lake"), f"{1:032x}")
    second = {**record.video, "uri": f"s3://{bucket}/archive/c.mp4"}
    with Originals(len(body) + 1000, lambda told: None) as videos:
        found = videos.at_hand(replace(record, aliases=(second,)))
        assert found.video["uri"] == second["uri"]
        assert found.file is not None
        assert found.file.read_bytes() == body


def test_an_unreachable_bucket_costs_the_video_only(
    tmp_path: Path, video: Path, s3_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    square_lake(tmp_path / "lake", "s3://no-such-bucket-at-all/a.mp4")
    square_lake(tmp_path / "lake", video, number=2)
    wanted = ("--where", "t_start = 1.0", "--lake", tmp_path / "lake", "--out", tmp_path / "clips")
    assert command("clip", *wanted) == 1
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert "no-such-bucket-at-all" in err


def test_a_copy_is_bounded_and_removed(remote: str, tmp_path: Path, video: Path) -> None:
    record = gather(str(tmp_path / "lake"), f"{1:032x}")
    told: list[str] = []
    with Originals(GB, told.append) as videos:
        copy = videos.at_hand(record).file
        assert copy is not None
        assert copy.read_bytes() == video.read_bytes()
        assert videos.at_hand(record).file == copy  # once
        assert len(told) == 1
    assert not copy.exists()
    with Originals(1000, told.append) as videos, pytest.raises(SourceError, match="max_spool_gb"):
        videos.at_hand(record)


def test_a_local_file_is_the_analysed_one_whatever_its_times(tmp_path: Path) -> None:
    path = square_video(tmp_path / "square.mp4")
    square_lake(tmp_path / "lake", path)
    record = gather(str(tmp_path / "lake"), f"{1:032x}")
    path.touch()
    with Originals(0, print) as videos:
        assert videos.at_hand(record).file == path
        body = path.read_bytes()
        path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
        with pytest.raises(SourceError, match="is not what was analysed"):
            videos.at_hand(record)


def test_pages_without_the_video_use_its_thumbnail(tmp_path: Path) -> None:
    red = np.zeros((180, 320, 3), np.uint8)
    red[..., 2] = 220
    jpeg = cv2.imencode(".jpg", red)[1].tobytes()
    lake = str(tmp_path / "lake")
    square_lake(tmp_path / "lake", "s3://bucket/far.mp4", thumbnail=jpeg)
    square_lake(tmp_path / "lake", "s3://bucket/other.mp4", number=2, camera="yard")
    scene = scene_of(gather(lake, f"{1:032x}"))
    assert scene is not None
    np.testing.assert_allclose(scene[90, 160], [220, 0, 0], atol=3)
    assert scene_of(gather(lake, f"{2:032x}")) is None
    assert picture_of(b"no JPEG") is None
    found = survey(lake, Choice())
    assert list(found.thumbnails) == ["gate"]
    assert camera_part(found, "gate")["heat"] != camera_part(found, "yard")["heat"]
