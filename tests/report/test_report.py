"""Annotated clips and timelines, made from tables written here."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest

from pipeline.config import Rule
from pipeline.errors import MediaError, SourceError, StorageError
from pipeline.lake.schema import EVENTS, OBJECTS, TRACKS
from pipeline.report import annotate, timeline_picture
from pipeline.report.motion import Path as Way
from pipeline.report.motion import hold_s, paths
from pipeline.report.overlay import captions
from pipeline.report.palette import CLASS_COLOURS, EVENT_COLOUR, OTHER_COLOURS, RULE_COLOUR, class_colour
from tests.helpers import shared_path

TIMES_MS = [0, 40, 80, 120, 200, 240, 280, 360, 400, 520, 560, 600]
"""Frame times of the test video: not evenly spaced."""

WIDTH, HEIGHT = 160, 96


def grey_video(path: Path, start_ms: int = 0) -> Path:
    """A grey H.264 video whose frames are shown at TIMES_MS, with B-frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "2", "crf": "12"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for ms in TIMES_MS:
            frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 128, np.uint8), format="rgb24")
            frame.pts, frame.time_base = start_ms + ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> tuple[list[float], list[np.ndarray]]:
    with av.open(str(path)) as container:
        shown = [(float(f.time), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    return [t for t, _ in shown], [picture for _, picture in shown]


def tracks(observed: bool = True) -> pa.Table:
    """One person that moves 60 px to the right in 0.6 s, sampled at 0, 0.2, 0.4 and 0.6 s."""
    rows = [
        {
            "track_id": 7, "sample": k, "t": k * 0.2, "x1": 20.0 + 20 * k, "y1": 30.0, "x2": 50.0 + 20 * k,
            "y2": 80.0, "class": "person", "score": 0.9, "observed": observed,
        }
        for k in range(4)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=TRACKS)


def events(*rows: dict[str, object]) -> pa.Table:
    plain = {
        "event_id": "e", "source": "rule", "label": "gate", "t_start": 0.2, "t_end": 0.2, "t_peak": 0.2,
        "score": 0.9, "track_ids": [7], "zone": "gate", "direction": "left_to_right", "details": "{}",
    }  # fmt: skip
    return pa.Table.from_pylist([plain | row for row in rows], schema=EVENTS)


def objects() -> pa.Table:
    rows = [
        {"track_id": 7, "class": "person", "score": 0.9, "t_start": 2.0, "t_end": 6.0, "num_frames": 40},
        {"track_id": 9, "class": "car", "score": 0.8, "t_start": 5.0, "t_end": 9.0, "num_frames": 40},
    ]
    return pa.Table.from_pylist(rows, schema=OBJECTS)


def near(picture: np.ndarray, colour: tuple[int, int, int], tolerance: int = 60) -> np.ndarray:
    return np.abs(picture.astype(int) - np.array(colour)).max(axis=2) <= tolerance


GATE = Rule(name="gate", kind="line_crossing", line=((0.5, 0.1), (0.5, 0.95)))


def test_every_frame_keeps_its_time(tmp_path: Path) -> None:
    source, out = grey_video(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    assert annotate(source, out, tracks(), events({}), [GATE]).frames == len(TIMES_MS)
    times, pictures = read(out)
    assert times == pytest.approx([ms / 1000 for ms in TIMES_MS], abs=1e-6)
    assert {picture.shape for picture in pictures} == {(HEIGHT, WIDTH, 3)}
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_boxes_are_where_the_tracks_say_also_between_samples(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    annotate(grey_video(tmp_path / "in.mp4"), out, tracks(), events(), trail_s=0.0)
    times, pictures = read(out)
    for t, picture in zip(times, pictures, strict=True):
        left = 20 + 100 * t  # 100 px/s
        column = near(picture, CLASS_COLOURS["person"], 80)[50:76].mean(axis=0)
        assert column[round(left) - 1 : round(left) + 2].max() > 0.8, t
        assert column[round(left) + 5 : round(left) + 24].max() < 0.2, t


@pytest.mark.parametrize(
    "fps", [Fraction(25), Fraction(30000, 1001), Fraction(25, 2), Fraction(6, 5), Fraction(1, 2)]
)
@pytest.mark.parametrize("sample_fps", [0, 0.4, 1, 2, 2.5, 3, 10])
def test_a_box_stays_between_samples_however_far_apart_they_are(fps: Fraction, sample_fps: float) -> None:
    """The frame on display at each tick is sampled; of a stream slower than the grid each frame once."""
    shown = np.array([float(n / fps) for n in range(int(60 * fps))])
    ticks = np.arange(0, 59, 1 / sample_fps) if sample_fps else shown
    times = np.unique(shown[np.searchsorted(shown, ticks + 1e-9, side="right") - 1])
    boxes, observed = np.zeros((len(times), 4)), np.ones(len(times), bool)
    way = Way(1, "person", times, boxes, observed, hold_s(sample_fps, float(fps)))
    assert all(way.at(t) is not None for t in shown[shown <= times[-1]])
    gone = np.delete(np.arange(len(times)), range(len(times) // 3, 2 * len(times) // 3))  # unseen for long
    way = Way(1, "person", times[gone], boxes[gone], observed[gone], hold_s(sample_fps, float(fps)))
    assert way.at((times[len(times) // 2] + times[len(times) // 2 - 1]) / 2) is None


def test_a_clip_of_a_slow_grid_has_its_boxes_in_every_frame(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    ends = tracks().take([0, 3])  # at 0 and 0.6 s
    annotate(grey_video(tmp_path / "in.mp4"), out, ends, events(), trail_s=0.0, hold_s=hold_s(1.0, 25.0))
    for t, picture in zip(*read(out), strict=True):
        left = round(20 + 100 * t)
        assert (
            near(picture, CLASS_COLOURS["person"], 80)[50:76, left - 1 : left + 2].mean(axis=0).max() > 0.8
        ), t


def test_a_box_has_the_colour_of_its_object_however_that_was_called_before(tmp_path: Path) -> None:
    out, at = tmp_path / "out.mp4", TRACKS.get_field_index("class")
    rows = tracks().set_column(at, "class", pa.array(["truck", "truck", "person", "person"]))
    annotate(grey_video(tmp_path / "in.mp4"), out, rows, events(), trail_s=0.0)
    for t, picture in zip(*read(out), strict=True):
        left = round(20 + 100 * t)
        edge = near(picture, CLASS_COLOURS["person"], 80)[50:76, left - 1 : left + 2]
        assert edge.mean(axis=0).max() > 0.8, t


def test_filled_boxes_show_corners_only(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    annotate(grey_video(tmp_path / "in.mp4"), out, tracks(observed=False), events(), trail_s=0.0)
    side = near(read(out)[1][0], CLASS_COLOURS["person"], 80)[30:81, 19:22].any(axis=1)
    assert side[-8:].any() and not side[18:36].any()


def test_rule_lines_flash_when_something_happens(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    empty = tracks().slice(0, 0)
    annotate(grey_video(tmp_path / "in.mp4"), out, empty, events({}), [GATE])
    _, pictures = read(out)
    quiet, flash = pictures[1][60:75, 79:82], pictures[6][60:75, 79:82]
    assert near(quiet, RULE_COLOUR, 90).any(axis=1).mean() > 0.9
    assert near(flash, EVENT_COLOUR, 90).any(axis=1).mean() > 0.9
    caption = near(pictures[6][84:94, 6:60], EVENT_COLOUR, 60)
    assert caption.mean() > 0.25 and near(pictures[1][84:94, 6:60], EVENT_COLOUR, 60).mean() == 0


def test_pixel_rules_are_not_scaled(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    zone = Rule(
        name="z",
        kind="dwell",
        min_duration_s=1,
        units="pixels",
        zone=((100, 40), (150, 40), (150, 90), (100, 90)),
    )
    annotate(grey_video(tmp_path / "in.mp4"), out, tracks().slice(0, 0), events(), [zone])
    picture = read(out)[1][0].astype(int)
    inside, outside = picture[50:80, 110:140].mean(axis=(0, 1)), picture[50:80, 20:80].mean(axis=(0, 1))
    assert inside[0] < outside[0] - 15 and inside[1] > outside[1] + 8


def test_pictures_stand_upright(tmp_path: Path) -> None:
    source = shared_path("data", "videos", "formats", "nasa_13013_rotated.mp4")
    from pipeline.media import probe

    info = probe(source)
    out = tmp_path / "out.mp4"
    assert annotate(source, out, tracks().slice(0, 0), events()).frames > 0
    assert read(out)[1][0].shape[:2] == (info.height_px & ~1, info.width_px & ~1)


def test_unreadable_input_and_output_are_told_apart(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video at all")
    with pytest.raises(MediaError):
        annotate(text, tmp_path / "out.mp4", tracks(), events())
    with pytest.raises(SourceError):
        annotate(tmp_path / "missing.mp4", tmp_path / "out.mp4", tracks(), events())
    with pytest.raises(StorageError, match="cannot be written"):
        annotate(grey_video(tmp_path / "in.mp4"), tmp_path / "no" / "out.mp4", tracks(), events())
    assert not (tmp_path / "out.mp4").exists()


def test_between_far_samples_nothing_is_claimed() -> None:
    table = tracks().take([0, 3]).set_column(2, TRACKS.field("t"), pa.array([0.0, 3.0]))
    (path,) = paths(table)
    assert (
        path.at(0.0) is not None
        and path.at(1.5) is None
        and path.at(3.0) is not None
        and path.at(3.1) is None
    )
    assert paths(table.slice(0, 0)) == []


def test_captions_tell_what_where_and_how_long() -> None:
    first, second = captions(events({"label": "stands", "t_start": 4.0, "t_end": 9.5, "direction": None}, {}))
    assert (first.text, first.start, first.end) == ("0.2 s  gate  #7  left to right", 0.2, 2.2)
    assert (second.text, second.end) == ("4.0 s  stands  #7  for 5.5 s", 9.5)


def test_timeline_has_bars_and_marks_where_they_belong(tmp_path: Path) -> None:
    out = tmp_path / "timeline.png"
    told = events(
        {"t_start": 4.0, "t_end": 4.0}, {"label": "stands", "t_start": 6.0, "t_end": 8.0, "track_ids": [9]}
    )
    layout = timeline_picture(out, objects(), told, tracks().slice(0, 0), 10.0)
    picture = cv2.imread(str(out))[..., ::-1]
    assert picture.shape == (layout.height, layout.width, 3)

    def at(t: float, row: int) -> tuple[int, ...]:
        top, bottom = layout.row(row)
        return tuple(int(v) for v in picture[(top + bottom) // 2, layout.x(t)])

    assert at(3.0, 0) == pytest.approx(CLASS_COLOURS["person"], abs=3)
    assert at(7.0, 1) == pytest.approx(CLASS_COLOURS["car"], abs=3)
    for t, row in ((1.5, 0), (6.5, 0), (4.5, 1), (9.5, 1)):
        assert min(at(t, row)) > 200, (t, row)
    for t, row in ((4.0, 0), (6.0, 1), (4.0, 2), (6.0, 3)):
        assert at(t, row) == pytest.approx(EVENT_COLOUR, abs=12), (t, row)
    assert at(7.2, 3) == pytest.approx((255, 190, 208), abs=12)


def test_timeline_shows_the_scene_with_paths(tmp_path: Path) -> None:
    scene = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    out = tmp_path / "timeline.png"
    timeline_picture(out, objects(), events({}), tracks(), 10.0, thumbnail=scene, title="cam é")
    picture = cv2.imread(str(out))[..., ::-1]
    shown = picture[64 : 64 + 288, 24 : 24 + 480]
    assert near(shown, (90, 90, 90), 4).mean() > 0.9
    foot = shown[(80 * 3) - 4 : (80 * 3) + 5, (60 * 3)]
    assert near(foot[:, None], CLASS_COLOURS["person"], 50).any()
    assert (scene == 90).all()


def test_timelines_of_nothing_and_of_much(tmp_path: Path) -> None:
    empty = timeline_picture(tmp_path / "a.png", objects().slice(0, 0), events(), tracks().slice(0, 0), 5.0)
    many = pa.concat_tables([objects()] * 60)
    full = timeline_picture(tmp_path / "b.png", many, events(), tracks().slice(0, 0), 5000.0)
    assert empty.num_objects == 0 and full.num_objects == 60
    assert (tmp_path / "a.png").stat().st_size > 500
    with pytest.raises(ValueError, match="above 0"):
        timeline_picture(tmp_path / "c.png", objects(), events(), tracks(), 0.0)


def test_timeline_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        timeline_picture(tmp_path / "no" / "t.png", objects(), events(), tracks(), 10.0)


def test_own_classes_have_a_steady_colour() -> None:
    assert class_colour("forklift") == OTHER_COLOURS[4]  # in every process
    assert class_colour("person") == CLASS_COLOURS["person"]
