"""Exports read back by the formats' own readers, and corrected boxes back as training data."""

from __future__ import annotations

import configparser
import csv
import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pyarrow as pa
import pytest

from models.training.coco import load_images
from pipeline.cli import run
from pipeline.exchange.export import export
from pipeline.lake import schema
from pipeline.lake.commit import Ending, commit, start_attempts
from pipeline.lake.tables import Lake
from pipeline.report.gather import gather
from tests.lake.build import analyse, name_of, running
from tests.report.scenes import (
    HEIGHT,
    HOSTILE,
    SECONDS,
    WIDTH,
    shown_at,
    square,
    square_lake,
    square_rows,
    square_video,
)

SAMPLES = SECONDS * 10


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exchange")
    square_lake(folder / "lake", square_video(folder / "square.mp4"))
    square_lake(folder / "lake", "/archive/other.mp4", number=2, kind=HOSTILE[2])
    return folder


def command(*arguments: object) -> int:
    """The command within this process."""
    return run([str(argument) for argument in arguments])


def exported(place: Path, form: str, *videos: str, more: tuple[str, ...] = ()) -> Path:
    out = place / f"{form}{len(videos)}{len(more)}"
    if not out.exists():
        lake = place / "lake"
        assert command("export", *videos, "--format", form, "--lake", lake, "--out", out, *more) == 0
        assert len([path for path in out.iterdir() if path.is_dir()]) == len(videos)
    return out


def folder_of(out: Path, number: int = 1) -> Path:
    [folder] = out.glob(f"*-{number:032x}")
    return folder


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def truth(k: int) -> list[float]:
    """Box of the k-th sampled frame as the tables hold it, xyxy in float32."""
    return [float(np.float32(v)) for v in square(shown_at(k))]


@pytest.mark.parametrize("form", ["mot", "coco", "cvat", "csv"])
def test_every_export_says_when_each_frame_is_shown(place: Path, form: str) -> None:
    folder = folder_of(exported(place, form, "square.mp4"))
    rows = read_csv(folder / "frames.csv")
    assert [int(row["frame"]) for row in rows] == list(range(SAMPLES))
    assert [float(row["t"]) for row in rows] == [shown_at(k) for k in range(SAMPLES)]
    assert rows[10]["time_utc"].startswith("2025-03-01 22:30:01")


def test_a_stream_slower_than_the_grid_keeps_its_rate(place: Path, tmp_path: Path) -> None:
    """Each of its frames is sampled once: MOT numbers them, and 10 a second they are not."""
    record = gather(str(place / "lake"), f"{1:032x}")
    for fps, told in ((4.0, "4"), (10.0, "10"), (25.0, "10"), (None, "10")):
        slow = replace(record, video={**record.video, "fps_mean": fps})
        [folder] = export(str(place / "lake"), [slow], "mot", tmp_path)
        assert f"frameRate={told}\n" in (folder / "seqinfo.ini").read_text()


def test_mot_is_read_by_trackeval(place: Path) -> None:
    """The truth against the result of the same tracks: every box is matched, with its id."""
    trackeval = pytest.importorskip("trackeval")
    out = exported(place, "mot", "square.mp4")
    folder = folder_of(out)
    info = configparser.ConfigParser()
    info.read(folder / "seqinfo.ini")
    assert (info["Sequence"]["seqLength"], info["Sequence"]["frameRate"]) == (str(SAMPLES), "10")
    results = place / "results/ours/data"
    results.mkdir(parents=True)
    (results / f"{folder.name}.txt").write_bytes((folder / "tracks.txt").read_bytes())
    data = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(out), "TRACKERS_FOLDER": str(place / "results"), "BENCHMARK": "MOT15",
            "SEQ_INFO": {folder.name: SAMPLES}, "SKIP_SPLIT_FOL": True, "PRINT_CONFIG": False,
            "DO_PREPROC": False, "TRACKERS_TO_EVAL": ["ours"],
        }
    )  # fmt: skip
    raw = data.get_raw_seq_data("ours", folder.name)
    assert raw["num_timesteps"] == SAMPLES
    for k in range(SAMPLES):
        x1, y1, x2, y2 = truth(k)
        np.testing.assert_allclose(raw["gt_dets"][k], [[x1, y1, x2 - x1, y2 - y1]], rtol=1e-7)
        np.testing.assert_allclose(raw["tracker_dets"][k], raw["gt_dets"][k])
        assert raw["gt_ids"][k].tolist() == raw["tracker_ids"][k].tolist() == [7]
        assert raw["gt_classes"][k].tolist() == [1]
        assert raw["tracker_confidences"][k].tolist() == [pytest.approx(0.9)]
    assert (folder / "gt/labels.txt").read_text() == "person\n"


def test_coco_of_two_videos_is_read_by_pycocotools(place: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    out = exported(place, "coco", "square.mp4", "other.mp4")
    read = coco.COCO(str(out / "annotations.json"))
    assert len(read.getImgIds()) == 2 * SAMPLES
    assert {c["name"] for c in read.loadCats(read.getCatIds())} == {"person", HOSTILE[2]}
    [person] = read.getCatIds(catNms=["person"])
    annotations = read.loadAnns(read.getAnnIds(catIds=[person]))
    assert len(annotations) == SAMPLES
    for annotation in annotations:
        image = read.loadImgs(annotation["image_id"])[0]
        x1, y1, x2, y2 = truth(image["frame_id"])
        assert annotation["bbox"] == [x1, y1, x2 - x1, y2 - y1]
        assert (image["width"], image["height"]) == (WIDTH, HEIGHT)
        assert image["t"] == shown_at(image["frame_id"])
        assert (annotation["track_id"], annotation["observed"]) == (7, image["frame_id"] % 7 != 3)


def test_cvat_has_the_documented_structure_and_all_that_the_tracks_say(place: Path) -> None:
    """Elements and attributes as CVAT's manual lists them for "CVAT for video 1.1"."""
    out = exported(place, "cvat", "square.mp4", "other.mp4")
    root = ET.parse(folder_of(out) / "annotations.xml").getroot()
    assert (root.tag, root.findtext("version")) == ("annotations", "1.1")
    task = root.find("meta/task")
    assert task is not None
    assert (task.findtext("size"), task.findtext("mode")) == (str(SAMPLES), "interpolation")
    assert task.findtext("labels/label/name") == "person"
    assert task.findtext("labels/label/attributes/attribute/name") == "score"
    assert (task.findtext("original_size/width"), task.findtext("original_size/height")) == (
        str(WIDTH),
        str(HEIGHT),
    )
    [track] = root.findall("track")
    assert track.attrib == {"id": "7", "label": "person", "source": "automatic"}
    boxes = track.findall("box")
    assert [int(box.attrib["frame"]) for box in boxes] == list(range(SAMPLES))
    for k, box in enumerate(boxes):
        assert [float(box.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr")] == truth(k)
        assert (box.attrib["outside"], box.attrib["keyframe"]) == ("0", "1")
        assert box.attrib["occluded"] == ("1" if k % 7 == 3 else "0")
        assert float(box.findtext("attribute") or 0) == pytest.approx(0.9)
    other = ET.parse(folder_of(out, 2) / "annotations.xml").getroot()
    assert other.find("track").attrib["label"] == HOSTILE[2]


def test_csv_holds_the_rows_of_the_tables(place: Path) -> None:
    folder = folder_of(exported(place, "csv", "square.mp4"))
    rows = read_csv(folder / "tracks.csv")
    for k, row in enumerate(rows):
        assert [float(np.float32(row[name])) for name in ("x1", "y1", "x2", "y2")] == truth(k)
    event = read_csv(folder / "events.csv")[0]
    assert json.loads(event["track_ids"]) == [7]
    [thing] = read_csv(folder / "objects.csv")
    assert len(json.loads(thing["trajectory"])) == 2


def test_csv_has_the_times_of_the_tables_in_utc(place: Path, tmp_path: Path) -> None:
    """A line that is crossed between two frames has its time nowhere else."""
    record = gather(str(place / "lake"), f"{1:032x}")
    at = record.video["recorded_at"]
    folder = folder_of(exported(place, "csv", "square.mp4"))
    for name, first in (("tracks", {"time_utc": 0.0}), ("events", {"start_utc": 1.0, "end_utc": 1.4})):
        row = read_csv(folder / f"{name}.csv")[0]
        told = {key: datetime.fromisoformat(row[key]) for key in first}
        assert told == {key: at + timedelta(seconds=t) for key, t in first.items()}
    unknown = replace(record, video={**record.video, "recorded_at": None})
    [folder] = export(str(place / "lake"), [unknown], "csv", tmp_path)
    assert read_csv(folder / "objects.csv")[0]["start_utc"] == ""


def test_the_pictures_of_mot_count_as_its_rows_do(place: Path) -> None:
    folder = folder_of(exported(place, "mot", "square.mp4", more=("--pictures",)))
    assert "imDir=img1\n" in (folder / "seqinfo.ini").read_text()
    assert sorted(path.name for path in (folder / "img1").iterdir()) == [
        f"{number:06}.jpg" for number in range(1, SAMPLES + 1)
    ]
    for line in (folder / "gt/gt.txt").read_text().splitlines():
        number, _, left, top = line.split(",")[:4]
        picture = cv2.imread(str(folder / f"img1/{int(number):06}.jpg"), cv2.IMREAD_GRAYSCALE)
        y, x = np.argwhere(picture > 150).min(axis=0)
        np.testing.assert_allclose([x, y], [float(left), float(top)], atol=1.5)


def test_truth_of_several_classes_is_judged_with_all_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of MOT17 the first class in the alphabet would count, and the second be passed over."""
    pytest.importorskip("trackeval")
    lake = square_lake_of_two(tmp_path / "lake")
    assert command("export", "two.mp4", "--format", "mot", "--lake", lake, "--out", tmp_path / "mot") == 0
    folder = folder_of(tmp_path / "mot")
    assert (folder / "gt/labels.txt").read_text() == "car\nperson\n"
    result = (folder / "tracks.txt").read_text().splitlines(keepends=True)
    (tmp_path / "persons.txt").write_text("".join(line for line in result if line.split(",")[1] == "7"))
    for found, missed in ((folder / "tracks.txt", 0), (tmp_path / "persons.txt", SAMPLES)):
        capsys.readouterr()
        assert command("evaluate", "tracks", "--gt", folder / "gt/gt.txt", "--result", found, "--json") == 0
        scores = json.loads(capsys.readouterr().out)
        assert (scores["gt_boxes"], scores["FN"], scores["FP"]) == (2 * SAMPLES, missed, 0)


def square_lake_of_two(place: Path) -> Path:
    """The square as a person, and 100 pixels beside it a car; of both the first rows say truck."""
    rows = square_rows()
    second = [
        {**row, "track_id": 8, "x1": row["x1"] + 100, "x2": row["x2"] + 100}
        for row in rows["tracks"].to_pylist()
    ]
    tracks = sorted([*rows["tracks"].to_pylist(), *second], key=lambda row: row["sample"])
    early = [{**row, "class": "truck" if row["sample"] < 9 else "person"} for row in tracks]
    [first] = rows["objects"].to_pylist()
    objects = [first, {**first, "track_id": 8, "class": "car"}]
    changed = {
        "tracks": pa.Table.from_pylist(early, schema.TRACKS),
        "objects": pa.Table.from_pylist(objects, schema.OBJECTS),
    }
    lake = Lake.open(str(place))
    size = {"width_px": WIDTH, "height_px": HEIGHT}
    analyse(lake, f"{1:032x}", uri="/archive/two.mp4", name=size, rows=rows | changed)
    return place


def test_an_exported_object_has_one_class(tmp_path: Path) -> None:
    """The object's; a track's rows say what was known by then."""
    lake = square_lake_of_two(tmp_path / "lake")
    for form in ("coco", "cvat", "mot"):
        assert command("export", "two.mp4", "--format", form, "--lake", lake, "--out", tmp_path / form) == 0
    wanted = {7: "person", 8: "car"}
    data = json.loads((tmp_path / "coco/annotations.json").read_text())
    names = {category["id"]: category["name"] for category in data["categories"]}
    assert {(a["track_id"], names[a["category_id"]]) for a in data["annotations"]} == set(wanted.items())
    root = ET.parse(folder_of(tmp_path / "cvat") / "annotations.xml").getroot()
    assert {(int(track.attrib["id"]), track.attrib["label"]) for track in root.iter("track")} == set(
        wanted.items()
    )
    gt = (folder_of(tmp_path / "mot") / "gt/gt.txt").read_text().splitlines()
    assert {(line.split(",")[1], line.split(",")[7]) for line in gt} == {("7", "2"), ("8", "1")}


def test_what_never_succeeded_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    [attempt] = start_attempts(lake, [running("broken")])
    failed = attempt.ended("failed", error_code="media", error="no pictures")
    commit(lake, [Ending(analysis=failed, names=(name_of(failed),))])
    wanted = ("--format", "mot", "--lake", tmp_path / "lake", "--out", tmp_path / "mot")
    assert command("export", "broken.mp4", *wanted) == 1
    assert (
        "/archive/broken.mp4 was never analysed with success (got 'no pictures')" in capsys.readouterr().err
    )
    assert not (tmp_path / "mot").exists()


def check_training_data(out: Path, moved: int) -> None:
    """The square is in the picture where its box is; frame `moved` has the corrected one."""
    images = load_images(out / "annotations.json", out, ["car", "person"])
    assert len(images) == SAMPLES
    for k, image in enumerate(images):
        wanted = [truth(k)] if k != moved else [[5, 6, 25, 46]]
        np.testing.assert_allclose(image.boxes, wanted, atol=1e-3)
        assert image.classes.tolist() == [1]
        assert (image.width, image.height) == (WIDTH, HEIGHT)
        white = np.argwhere(cv2.cvtColor(image.pixels(), cv2.COLOR_RGB2GRAY) > 150)
        x1, y1, x2, y2 = square(shown_at(k))
        np.testing.assert_allclose([*white.min(axis=0), *white.max(axis=0) + 1], [y1, x1, y2, x2], atol=1.5)


def test_boxes_corrected_in_coco_become_training_data(place: Path, tmp_path: Path) -> None:
    out = exported(place, "coco", "square.mp4", more=("--pictures",))
    assert len(list(folder_of(out).glob("frames/*.jpg"))) == SAMPLES
    data = json.loads((out / "annotations.json").read_text())
    data["annotations"][17]["bbox"] = [5, 6, 20, 40]
    (tmp_path / "corrected.json").write_text(json.dumps(data))
    corrected, training = tmp_path / "corrected.json", tmp_path / "training"
    wanted = ("--format", "coco", "--lake", place / "lake", "--out", training)
    assert command("import", corrected, *wanted) == 0
    check_training_data(tmp_path / "training", 17)


def test_boxes_corrected_in_cvat_become_training_data(place: Path, tmp_path: Path) -> None:
    """Also where the tool kept key frames only: what lies between is interpolated, as CVAT does."""
    tree = ET.parse(folder_of(exported(place, "cvat", "square.mp4")) / "annotations.xml")
    track = tree.getroot().find("track")
    assert track is not None
    for box in track.findall("box"):
        frame = int(box.attrib["frame"])
        if frame == 17:
            box.attrib |= {"xtl": "5", "ytl": "6", "xbr": "25", "ybr": "46"}
        elif frame % 5 == 1 and frame > 20:  # shown 0.4 frames from the straight line: times are not even
            track.remove(box)
    tree.write(tmp_path / "corrected.xml")
    wanted = ("--format", "cvat", "--video", "square.mp4", "--lake", place / "lake")
    assert command("import", tmp_path / "corrected.xml", *wanted, "--out", tmp_path / "training") == 0
    images = load_images(tmp_path / "training/annotations.json", tmp_path / "training", ["person"])
    assert len(images) == SAMPLES
    for k, image in enumerate(images):
        np.testing.assert_allclose(
            image.boxes, [[5, 6, 25, 46] if k == 17 else truth(k)], atol=1.0 if k != 17 else 0
        )


def test_pictures_of_a_cvat_task_are_the_frames_that_their_names_say(place: Path, tmp_path: Path) -> None:
    """A task of some pictures counts them from 0; what is not in it is no background."""
    numbers = (50, 51, 59)
    images = [
        f'<image id="{k}" name="square-{1:032x}/frames/{n:06}.jpg" width="{WIDTH}" height="{HEIGHT}">'
        '<box label="person" xtl="{}" ytl="{}" xbr="{}" ybr="{}"/></image>'.format(*truth(n))
        for k, n in enumerate(numbers)
    ]
    size = "<meta><task><size>3</size></task></meta>"
    (tmp_path / "part.xml").write_text(f"<annotations>{size}{''.join(images)}</annotations>")
    out = tmp_path / "training"
    assert command("import", tmp_path / "part.xml", *CVAT, "--lake", place / "lake", "--out", out) == 0
    found = load_images(out / "annotations.json", out, ["person"])
    assert len(found) == len(numbers)
    for n, image in zip(numbers, found, strict=True):
        np.testing.assert_allclose(image.boxes, [truth(n)], atol=1e-3)
        white = np.argwhere(cv2.cvtColor(image.pixels(), cv2.COLOR_RGB2GRAY) > 150).min(axis=0)
        np.testing.assert_allclose(white[::-1], truth(n)[:2], atol=1.5)


def test_crowds_and_what_is_to_be_ignored_stay_so(place: Path, tmp_path: Path) -> None:
    data = json.loads((exported(place, "coco", "square.mp4") / "annotations.json").read_text())
    for number, annotation in enumerate(data["annotations"]):
        annotation |= {"iscrowd": int(number < 10), "ignore": int(10 <= number < 15)}
    (tmp_path / "crowd.json").write_text(json.dumps(data))
    out = tmp_path / "training"
    assert command("import", tmp_path / "crowd.json", *COCO, "--lake", place / "lake", "--out", out) == 0
    images = load_images(out / "annotations.json", out, ["person"])
    assert [len(image.ignore_boxes) for image in images] == [int(k < 15) for k in range(SAMPLES)]
    assert [len(image.boxes) for image in images] == [int(k >= 15) for k in range(SAMPLES)]


def changed_export(place: Path, change: str) -> str:
    """A COCO export of the square after a change that makes its boxes wrong."""
    data = json.loads((exported(place, "coco", "square.mp4") / "annotations.json").read_text())
    image = data["images"][3]
    if change == "scaled":
        image |= {"width": WIDTH // 2, "height": HEIGHT // 2}
    elif change == "other times":
        image["t"] += 0.1
    elif change == "turned":
        data["annotations"][3]["attributes"] = {"occluded": False, "rotation": 30.0}
    else:
        data["annotations"][3]["bbox"][2] = -4
    return json.dumps(data)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("scaled", f"frame 3 is {WIDTH // 2} x {HEIGHT // 2} pixels there"),
        ("other times", "frame 3 was shown at 0.380 s when it was exported"),
        ("inverted", "frame 3 has a 'person' that is no box"),
        ("turned", "a box is turned by 30.0 degrees"),
    ],
)
def test_boxes_that_are_not_of_the_frames_are_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, told: str
) -> None:
    (tmp_path / "file").write_text(changed_export(place, change))
    out = tmp_path / "training"
    assert command("import", tmp_path / "file", *COCO, "--lake", place / "lake", "--out", out) == 1
    said = capsys.readouterr().err
    assert (told in said, said.count("\n")) == (True, 1), said
    assert not out.exists()


def test_nothing_is_written_over_what_somebody_may_have_corrected(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = ("--lake", place / "lake", "--out", tmp_path / "boxes")
    data = tmp_path / "boxes/annotations.json"
    assert command("export", "square.mp4", *COCO, *lake) == 0
    data.write_text(corrected := data.read_text() + "\n")
    capsys.readouterr()
    for again in (("export", "square.mp4"), ("import", data)):
        assert command(*again, *COCO, *lake) == 2
        said = capsys.readouterr().err
        assert (f"{data} is there already" in said, said.count("\n")) == (True, 1)
        assert data.read_text() == corrected


@pytest.mark.parametrize(
    ("form", "name"), [("mot", "gt/gt.txt"), ("cvat", "annotations.xml"), ("csv", "events.csv")]
)
def test_nor_is_an_export_of_another_format(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, name: str
) -> None:
    """Whatever else is asked for: nothing is begun. Another format, and another video, may lie beside it."""
    to = ("--lake", place / "lake", "--out", tmp_path)
    assert command("export", "square.mp4", "--format", form, *to) == 0
    data = folder_of(tmp_path) / name
    data.write_text(corrected := data.read_text() + "\n")
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert command("export", "other.mp4", "square.mp4", "--format", form, *to) == 2
    said = capsys.readouterr().err
    assert said == f"marey: {data} is there already: give another --out, or remove it\n"
    assert (data.read_text(), sorted(tmp_path.rglob("*"))) == (corrected, before)
    assert command("export", "other.mp4", "--format", form, *to) == 0
    assert command("export", "square.mp4", "--format", {"mot": "cvat"}.get(form, "mot"), *to) == 0


CVAT = ("--format", "cvat", "--video", "square.mp4")
COCO = ("--format", "coco")
STRANGE = '{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [], "annotations": []}'
SIDES = 'xtl="1" ytl="1" xbr="5" ybr="6"'
TASK = (
    "<meta><task><size>{}</size>"
    "<original_size><width>{}</width><height>360</height></original_size></task></meta>"
)


THINNED = (
    "<meta><task><size>120</size><start_frame>{}</start_frame><frame_filter>{}</frame_filter></task></meta>"
)
PICTURE = (
    "<annotations><meta><task><size>10</size></task></meta>"
    f'<image id="3" name="{{}}"><box label="a" {SIDES}/></image></annotations>'
)


def boxed(meta: str, box: str) -> str:
    return f'<annotations>{meta}<track label="a">{box}</track></annotations>'


NO_FRAME = '<annotations><track label="a"><box frame="x"/></track></annotations>'


@pytest.mark.parametrize(
    ("text", "arguments", "told"),
    [
        ("{", COCO, "is no COCO file"),
        (STRANGE, COCO, "of no video"),
        ("<annotations>", CVAT, "is no XML"),
        ("<html/>", CVAT, "is no CVAT file"),
        ("<annotations/>", CVAT[:2], "needs --video"),
        ("<annotations/>", CVAT, "holds no box"),
        (NO_FRAME, CVAT, "cannot be read"),
        (boxed("", f'<box frame="-1" {SIDES}/>'), CVAT, "frame -1 is not one of the video's 120"),
        (boxed("", f'<box frame="999999999999" {SIDES}/>'), CVAT, "is not one of the video's 120"),
        (
            boxed("", '<box frame="3" xtl="nan" ytl="1" xbr="5" ybr="inf"/>'),
            CVAT,
            "frame 3 has a 'a' that is",
        ),
        (boxed("", '<box frame="3" xtl="9" ytl="1" xbr="5" ybr="2"/>'), CVAT, "frame 3 has a 'a' that is no"),
        (boxed("", f'<box frame="3" {SIDES} rotation="30"/>'), CVAT, "turned by 30 degrees"),
        (boxed("", '<polygon frame="3" points="1,1;2,2;3,1"/>'), CVAT, "a polygon: only boxes are read"),
        (boxed(TASK.format(60, 640), f'<box frame="3" {SIDES}/>'), CVAT, "is of a task of 60 frames"),
        (boxed(TASK.format(120, 320), f'<box frame="3" {SIDES}/>'), CVAT, "is 320 x 360 pixels there"),
        (boxed(THINNED.format(0, "step=3"), f'<box frame="3" {SIDES}/>'), CVAT, "start frame 0, step 3"),
        (boxed(THINNED.format(6, ""), f'<box frame="7" {SIDES}/>'), CVAT, "start frame 6, step 1"),
        (PICTURE.format("front.jpg"), CVAT, "says no frame"),
        (PICTURE.format(f"other-{2:032x}/frames/000003.jpg"), CVAT, "is of another video"),
        (PICTURE.format("frame_000003"), CVAT, "is of a task of 10 frames"),
    ],
)
def test_a_wrong_file_is_one_line(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    arguments: tuple[str, ...],
    told: str,
) -> None:
    (tmp_path / "file").write_text(text)
    wanted = (*arguments, "--lake", place / "lake", "--out", tmp_path / "out")
    assert command("import", tmp_path / "file", *wanted) in (1, 2)
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert told in said.err
