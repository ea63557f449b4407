"""MOTChallenge text: reading, refusing, writing."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.motion import ConstantVelocity
from pipeline.errors import InputError, SourceError, StorageError, UsageError
from pipeline.evaluate.tracks import evaluate_motion, evaluate_tracks
from pipeline.lake.schema import TRACKS
from pipeline.mot import MOT, read_mot, read_seqinfo, write_mot
from pipeline.track import track_mot
from pipeline.training_motion import recorded_tracks
from tests.helpers import ROOT, shared_path

WALK = "".join(f"{frame},-1,{10 * frame},50,40,100,0.9,-1,-1,-1\n" for frame in range(1, 31))


def test_rows_are_read_in_order_of_frame(tmp_path: Path) -> None:
    path = tmp_path / "det.txt"
    path.write_text("3,-1,5,6,7,8,0.25,-1,-1,-1\n\n# a remark\n1, -1, 1, 2, 3, 4\n")
    table = read_mot(path)
    assert table.schema.equals(MOT)
    first, second = table.to_pylist()
    assert (first["frame"], first["x1"], first["y1"], first["x2"], first["y2"]) == (1, 1, 2, 4, 6)
    assert (first["score"], first["class"]) == (1.0, None)
    assert (second["frame"], second["id"], second["x2"], second["score"]) == (3, -1, 12, 0.25)


def test_gzip_and_nine_columns(tmp_path: Path) -> None:
    path = tmp_path / "gt.txt.gz"
    path.write_bytes(gzip.compress(b"1,4,1,2,3,4,1,7,0.5\n"))
    row = read_mot(path).to_pylist()[0]
    assert (row["id"], row["class"], row["visibility"]) == (4, 7, 0.5)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("1,-1,nan,2,3,4,0.9", "not finite"),
        ("1,-1,1,2,inf,4,0.9", "not finite"),
        ("1,-1,1,2,-3,4,0.9", "width and height must be above 0"),
        ("1,-1,1,2,3,0,0.9", "width and height must be above 0"),
        ("1,-1,1,2", "4 columns"),
        ("1,-1,one,2,3,4", "not comma-separated numbers"),
        ("1;-1;1;2;3;4", "not comma-separated numbers"),
        ("0,-1,1,2,3,4", "frames from 1"),
        ("1.5,-1,1,2,3,4", "whole numbers"),
        ("1000000000000,-1,1,2,3,4", "frames from 1 to 10000000"),
    ],
)
def test_a_wrong_line_is_named(line: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "det.txt"
    path.write_text(f"1,-1,1,2,3,4,0.9\n{line}\n")
    with pytest.raises(InputError, match=rf"det\.txt:2: .*{text}"):
        read_mot(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        read_mot(tmp_path / "none.txt")
    (tmp_path / "x.gz").write_bytes(b"not gzip")
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
    for name in ("x.gz", "x.txt"):
        with pytest.raises(SourceError, match="cannot be read"):
            read_mot(tmp_path / name)


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "det.txt").touch()
    assert read_mot(tmp_path / "det.txt").equals(MOT.empty_table())
    result = track_mot(tmp_path / "det.txt", tmp_path / "out.txt")
    assert (result.num_rows, (tmp_path / "out.txt").read_text()) == (0, "")


def test_results_are_written_and_read_again(tmp_path: Path) -> None:
    row = {"track_id": 7, "sample": 4, "t": 0.4, "x1": 1.25, "y1": 2.5, "x2": 11.25, "y2": 22.5}
    tracks = pa.Table.from_pylist([{**row, "class": "person", "score": 0.5, "observed": True}], TRACKS)
    write_mot(tmp_path / "out.txt", tracks)
    assert (tmp_path / "out.txt").read_text() == "5,7,1.25,2.50,10.00,20.00,0.5000,-1,-1,-1\n"
    assert read_mot(tmp_path / "out.txt")["x2"].to_pylist() == [11.25]
    with pytest.raises(StorageError, match="cannot be written"):
        write_mot(tmp_path / "missing" / "out.txt", tracks)


def test_seqinfo_is_found_beside_and_above(tmp_path: Path) -> None:
    (tmp_path / "det").mkdir()
    path = tmp_path / "det" / "det.txt"
    assert read_seqinfo(path) is None
    (tmp_path / "seqinfo.ini").write_text(
        "[Sequence]\nframeRate=14\nseqLength=9\nimWidth=640\nimHeight=480\n"
    )
    info = read_seqinfo(path)
    assert info is not None
    assert (info.fps, info.num_frames, info.width_px, info.height_px) == (14, 9, 640, 480)
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nframeRate=fast\n")
    with pytest.raises(InputError, match=r"seqinfo\.ini has no usable"):
        read_seqinfo(path)


def test_frame_rate_is_given_found_or_the_default(tmp_path: Path) -> None:
    path, out = tmp_path / "det.txt", tmp_path / "out.txt"
    path.write_text(WALK)
    assert (track_mot(path, out).fps, track_mot(path, out).fps_source) == (30.0, "default")
    assert track_mot(path, out, fps=12.5).fps_source == "given"
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nframeRate=25\n")
    assert (track_mot(path, out).fps, track_mot(path, out).fps_source) == (25.0, "seqinfo.ini")
    for wrong in (-1, 0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="above 0"):
            track_mot(path, out, fps=wrong)


def test_frames_out_of_order_give_the_same_tracks(tmp_path: Path) -> None:
    lines = WALK.splitlines(keepends=True)
    (tmp_path / "a.txt").write_text("".join(lines))
    (tmp_path / "b.txt").write_text("".join(lines[::-1]))
    first = track_mot(tmp_path / "a.txt", tmp_path / "a.out")
    track_mot(tmp_path / "b.txt", tmp_path / "b.out")
    assert (tmp_path / "a.out").read_bytes() == (tmp_path / "b.out").read_bytes()
    assert (first.num_tracks, first.num_rows, first.num_frames, first.num_detections) == (1, 30, 30, 30)
    table = read_mot(tmp_path / "a.out")
    assert np.allclose(table["x1"].to_numpy(), 10 * np.arange(1, 31), atol=4)


def test_shared_files_have_the_rows_their_readme_counts() -> None:
    base = shared_path("data", "tracking")
    assert read_mot(base / "mot15" / "TUD-Campus" / "det.txt").num_rows == 321
    gt = read_mot(base / "mot17-gt" / "MOT17-11" / "gt.txt.gz")
    counts = (gt["score"].to_numpy() != 0) & (gt["class"].to_numpy() == 1)
    assert (gt.num_rows, int(counts.sum())) == (10617, 9436)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ("1,1,1,2,3,4,1\n1,1,5,5,3,4,1\n", "track 1 twice in frame 1"),
        ("99,1,1,2,3,4,1\n", "beyond the sequence"),
        ("1,-1,1,2,3,4,1\n", "without a track"),
    ],
)
@pytest.mark.parametrize("wrong", ["gt.txt", "res.txt"])
def test_truth_and_results_that_mean_nothing_are_refused(
    wrong: str, rows: str, text: str, tmp_path: Path
) -> None:
    pytest.importorskip("trackeval")
    for name in ("gt.txt", "res.txt"):
        (tmp_path / name).write_text("1,1,1,2,3,4,1,-1,-1,-1\n2,1,1,2,3,4,1,-1,-1,-1\n")
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nframeRate=25\nseqLength=2\n")
    (tmp_path / wrong).write_text(rows)
    with pytest.raises(InputError, match=rf"{wrong} has .*{text}"):
        evaluate_tracks(tmp_path / "gt.txt", tmp_path / "res.txt")


def test_truth_with_a_class_that_its_rules_do_not_have_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("trackeval")
    (tmp_path / "gt.txt").write_text("1,1,1,2,3,4,1,77,1\n")
    (tmp_path / "res.txt").write_text("1,1,1,2,3,4,1\n")
    with pytest.raises(InputError, match=r"gt\.txt cannot be judged by the rules of MOT17.*77"):
        evaluate_tracks(tmp_path / "gt.txt", tmp_path / "res.txt")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("1,3,1", r"MOT17 pedestrians \(class 1\) with flag 1 do"),
        ("0,-1,-1,-1", "MOT15 those with flag 1 do"),
    ],
)
def test_truth_of_which_nothing_counts_is_refused(row: str, text: str, tmp_path: Path) -> None:
    """Truth of cars, by MOT17's numbers, gave a HOTA of 0 for whatever was found."""
    pytest.importorskip("trackeval")
    (tmp_path / "gt.txt").write_text(f"1,1,1,2,3,4,{row}\n")
    (tmp_path / "res.txt").write_text("1,1,1,2,3,4,1\n")
    with pytest.raises(InputError, match=rf"gt\.txt has no box that counts.*{text}"):
        evaluate_tracks(tmp_path / "gt.txt", tmp_path / "res.txt")


def test_where_labels_name_the_classes_all_of_them_count(tmp_path: Path) -> None:
    """Numbers of classes are those of labels.txt then: 1 is no pedestrian, 2 none that is like one."""
    pytest.importorskip("trackeval")
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nframeRate=10\nseqLength=20\n")
    truth = [f"{n},{k},{9 * n},{100 * k},40,80,1,{k},1\n" for n in range(1, 21) for k in (1, 2)]
    truth.append("3,9,500,500,40,80,0,1,1\n")  # a box that does not count
    result = [f"{n},{k},{9 * n},{100 * k},40,80,0.9,-1,-1,-1\n" for n in range(1, 21) for k in (1, 2)]
    gt, res, lost = tmp_path / "gt.txt", tmp_path / "res.txt", tmp_path / "lost.txt"
    gt.write_text("".join(truth))
    res.write_text("".join(result))
    lost.write_text("".join(line for line in result if line.split(",")[1] == "1"))

    assert evaluate_tracks(gt, lost)["FN"] == 0  # by MOT17, where 2 is a person on a vehicle
    boxes = evaluate_motion(gt, ConstantVelocity())["boxes"]
    assert recorded_tracks(gt).present.shape == (1, 20)

    (tmp_path / "labels.txt").write_text("car\nperson\n")
    full = evaluate_tracks(gt, res)
    assert (full["HOTA"], full["gt_boxes"], full["gt_ids"], full["FP"]) == (100, 40, 2, 0)
    assert evaluate_tracks(gt, lost)["FN"] == 20
    assert evaluate_motion(gt, ConstantVelocity())["boxes"] == 2 * boxes
    assert recorded_tracks(gt).present.shape == (2, 20)


def test_truth_that_no_motion_can_be_judged_by_is_refused(tmp_path: Path) -> None:
    path, model = tmp_path / "gt.txt", ConstantVelocity()
    with pytest.raises(SourceError, match="no such file"):
        evaluate_motion(path, model)
    path.write_text("1,1,1,2,3,4,1,-1,-1,-1\n")
    with pytest.raises(InputError, match="frame rate unknown"):
        evaluate_motion(path, model)
    with pytest.raises(InputError, match="no track of 5 boxes"):
        evaluate_motion(path, model, 25)
    with pytest.raises(UsageError, match="above 0"):
        evaluate_motion(path, model, -25)
    path.write_text("".join(f"{n // 2 + 1},1,{n},2,3,4,1\n" for n in range(20)))
    with pytest.raises(InputError, match="twice"):
        evaluate_motion(path, model, 25)


def test_tracks_too_short_for_a_forecast_have_a_likelihood_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_text("".join(f"{n},1,{n},2,30,40,1\n" for n in range(1, 11)))
    scores = evaluate_motion(path, ConstantVelocity(), 25)
    assert np.isfinite(scores["nll"])
    assert np.isnan(scores["displacement_1s"])
    assert scores["forecasts_1s"] == 0


def test_without_trackeval_the_extra_is_named(tmp_path: Path) -> None:
    """In a process of its own, where the import is made to fail."""
    code = (
        "import sys; sys.modules['trackeval'] = None\n"
        "from pathlib import Path\n"
        "from pipeline.evaluate.tracks import evaluate_tracks\n"
        "from pipeline.errors import UsageError\n"
        "try: evaluate_tracks(Path('a'), Path('b'))\n"
        "except UsageError as exc: print(exc)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert 'pip install "marey[train]" && pip install --no-deps trackeval' in found.stdout
