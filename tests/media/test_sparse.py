"""Decoding only what is on display gives what decoding everything gives, and costs less."""

from __future__ import annotations

import random
import tempfile
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.media import DecodeJob, JobEnd, decode_inline
from pipeline.media.nal import DISPOSABLE, REFERENCE, START, PacketKinds, UnknownStructure
from pipeline.media.pyav_reader import PyavReader
from pipeline.media.readers import Readers
from pipeline.media.sampling import Grid
from pipeline.media.scan import PacketScan
from pipeline.media.sparse import Plan, plan_for
from tests.helpers import shared_path
from tests.media.make import write_video
from tests.media.mutate import mutated
from tests.media.test_decode import facts
from tests.media.test_formats import names

JOB = DecodeJob("job", "", width=64, height=48, seek_after_s=0)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans by which files were read sparsely."""
    found: list[Plan] = []
    read = PyavReader.read_sparsely
    monkeypatch.setattr(
        PyavReader, "read_sparsely", lambda self, plan: (found.append(plan), read(self, plan))[1]
    )
    return found


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why files that were read sparsely were then read in full."""
    found: list[str] = []
    give_up = Readers.give_up

    def note(self: Readers, job: DecodeJob, reason: Exception) -> None:
        found.append(str(reason))
        give_up(self, job, reason)  # type: ignore[arg-type]

    monkeypatch.setattr(Readers, "give_up", note)
    return found


def run(job: DecodeJob) -> tuple[list[tuple[object, ...]], JobEnd]:
    items = list(decode_inline(job))
    assert isinstance(items[-1], JobEnd)
    return facts(items), items[-1]


def assert_equal(job: DecodeJob, *, ends: bool = True) -> None:
    """Sparsely or in full: the same frames and, where nothing is damaged, the same end."""
    frames, end = run(job)
    whole_frames, whole_end = run(replace(job, sparse=False))
    assert frames == whole_frames
    if ends:
        assert replace(end, error=None) == replace(whole_end, error=None)
        assert str(end.error) == str(whole_end.error)


def moving(count: int, seed: int = 0) -> list[np.ndarray]:
    """Pictures of a moving pattern with noise, each telling its number, so that no two frames are alike."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:48, :64]
    pictures = []
    for index in range(count):
        waves = 128 + 60 * np.sin((columns + 3 * index) / 7) + 40 * np.cos((rows - 2 * index) / 5)
        grey = waves + rng.normal(0, 4, waves.shape)
        grey[:8, :8] = 16 * (index % 16)
        pictures.append(np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return pictures


structures = st.fixed_dictionaries(
    {
        "g": st.integers(1, 40),
        "bf": st.integers(0, 4),
        "refs": st.integers(1, 4),
        "b-pyramid": st.sampled_from(["none", "strict", "normal"]),
        "open-gop": st.integers(0, 1),
        "b-adapt": st.integers(0, 2),
        "scenecut": st.sampled_from([0, 40]),
        "slices": st.sampled_from([1, 3]),
        "intra-refresh": st.sampled_from([0, 0, 0, 1]),
        "interlaced": st.sampled_from([0, 0, 0, 1]),
        "repeat-headers": st.sampled_from([0, 0, 1]),
    }
)
steps_ms = st.one_of(
    st.just([40] * 80),
    st.lists(st.sampled_from([1, 20, 33, 40, 41, 400, 1300]), min_size=20, max_size=80),
)


@settings(max_examples=25, derandomize=True)
@given(
    structures,
    steps_ms,
    st.sampled_from(["v.mp4", "v.mkv"]),
    st.sampled_from([0.3, 1.0, 2.5, 7.0, 10.0, 29.97]),
    st.lists(st.integers(1, 30), max_size=3),
)
def test_any_structure_gives_the_same_frames(
    structure: dict[str, object], steps: list[int], name: str, sample_fps: float, segments: list[int]
) -> None:
    times = list(accumulate(steps, initial=0))
    g, bf = structure["g"], structure["bf"]
    rest = ":".join(f"{k}={v}" for k, v in structure.items() if k not in ("g", "bf"))
    with tempfile.TemporaryDirectory() as folder:
        path = write_video(
            Path(folder) / name,
            times,
            pictures=moving(len(times)),
            options={"g": str(g), "bf": str(bf), "x264-params": rest, "preset": "veryfast"},
        )
        job = replace(JOB, path=str(path), sample_fps=sample_fps)
        assert_equal(job)
        for first, end in zip(cuts := list(accumulate(segments)), [*cuts[1:], None], strict=False):
            assert_equal(replace(job, first_sample=first, end_sample=end))


@pytest.mark.parametrize(
    "options", ["", "temporal-layers=3", "open-gop=0:bframes=4:b-pyramid=1", "bframes=0"]
)
def test_hevc_gives_the_same_frames(tmp_path: Path, options: str, plans: list[Plan]) -> None:
    path = write_video(
        tmp_path / "v.mp4",
        range(0, 4000, 40),
        pictures=moving(100),
        codec="libx265",
        options={"x265-params": f"keyint=20:log-level=none:{options}".rstrip(":")},
    )
    for sample_fps in (0.7, 3.0, 10.0):
        assert_equal(replace(JOB, path=str(path), sample_fps=sample_fps))
    assert plans


@pytest.mark.parametrize("name", names(damaged=False) + [f"damaged/{n}" for n in names(damaged=True)])
def test_every_shared_file_gives_the_same_frames(name: str) -> None:
    path = shared_path("data", "videos", "formats", *name.split("/"))
    for sample_fps in (1.0, 7.0):
        assert_equal(replace(JOB, path=str(path), sample_fps=sample_fps), ends=not name.startswith("damaged"))


def test_a_second_apart_a_third_is_decoded(tmp_path: Path, plans: list[Plan]) -> None:
    path = write_video(
        tmp_path / "v.mp4",
        range(0, 20_000, 40),
        pictures=moving(500),
        options={"g": "50", "bf": "3", "preset": "fast"},
    )
    frames, end = run(replace(JOB, path=str(path), sample_fps=1.0))
    assert (len(frames), end.frames_decoded, end.frames_failed, end.gaps) == (20, 500, 0, ())
    [plan] = plans
    assert plan.fed.sum() <= len(plan.fed) / 3
    assert plan.shown.sum() == 20


def test_far_ticks_leave_out_whole_groups(tmp_path: Path, plans: list[Plan]) -> None:
    path = write_video(
        tmp_path / "v.mp4", range(0, 20_000, 40), pictures=moving(500), options={"g": "25", "bf": "0"}
    )
    assert_equal(replace(JOB, path=str(path), sample_fps=0.2))
    [plan] = plans
    # Of 20 groups those in which a tick lies: at 0, 5, 10 and 15 s, with a key frame each.
    assert np.flatnonzero(plan.fed).tolist() == [0, 125, 250, 375]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("v.mp4", {"sample_fps": 0.0}),
        ("v.mp4", {"sample_fps": 25.0}),
        ("v.mp4", {"sparse": False}),
        ("v.ts", {}),
        ("v.avi", {}),
    ],
)
def test_what_is_not_plain_is_decoded_in_full(
    tmp_path: Path, plans: list[Plan], name: str, values: dict[str, object]
) -> None:
    path = write_video(tmp_path / name, range(0, 2000, 40), options={"bf": "0", "g": "5"})
    frames, _ = run(replace(JOB, path=str(path), **{"sample_fps": 1.0, **values}))  # type: ignore[arg-type]
    assert frames
    assert plans == []


def test_open_groups_are_not_left_out(tmp_path: Path, plans: list[Plan]) -> None:
    params = "open-gop=1:b-adapt=0:scenecut=0"
    path = write_video(
        tmp_path / "v.mp4",
        range(0, 10_000, 40),
        pictures=moving(250),
        options={"g": "25", "bf": "2", "x264-params": params},
    )
    assert_equal(replace(JOB, path=str(path), sample_fps=0.2))
    [plan] = plans
    # One IDR picture, all later key frames lean on what comes before: only disposable pictures are left out.
    assert plan.starts.sum() == 1
    assert plan.fed[: np.flatnonzero(plan.fed)[-1]].mean() > 0.3


def damage(path: Path, places: list[int], plan: Plan, feed: bool) -> None:
    """Destroy a packet that is, or is not, fed to the decoder."""
    import av

    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for place in places:
        position, size = packets[np.flatnonzero(plan.fed == feed)[place]]
        data[position + 8 : position + size] = random.Random(place).randbytes(size - 8)
    path.write_bytes(data)


def test_damage_to_what_is_shown_is_told_as_ever(
    tmp_path: Path, plans: list[Plan], given_up: list[str]
) -> None:
    path = write_video(
        tmp_path / "v.mp4", range(0, 8000, 40), pictures=moving(200), options={"g": "50", "bf": "3"}
    )
    job = replace(JOB, path=str(path), sample_fps=1.0)
    run(job)
    damage(path, [7, 9, 20], plans[0], feed=True)
    assert_equal(job)
    assert len(given_up) == 1


def test_damage_to_what_nobody_sees_is_not_seen(
    tmp_path: Path, plans: list[Plan], given_up: list[str]
) -> None:
    path = write_video(
        tmp_path / "v.mp4", range(0, 8000, 40), pictures=moving(200), options={"g": "50", "bf": "3"}
    )
    job = replace(JOB, path=str(path), sample_fps=1.0)
    before = run(job)
    damage(path, [3, 40, 80], plans[0], feed=False)
    assert run(job) == before
    assert given_up == []
    assert run(replace(job, sparse=False))[0] == before[0]


def test_random_damage_gives_the_same_frames(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "v.mp4",
        range(0, 4000, 40),
        pictures=moving(100),
        options={"g": "25", "bf": "3"},
        container={"movflags": "faststart"},
    )
    data, other = path.read_bytes(), b"\x00\x00\x00\x01\x67" * 5000
    for seed in range(40):
        path.write_bytes(mutated(seed, data, other))
        assert_equal(replace(JOB, path=str(path), sample_fps=2.0), ends=False)


def test_instants_of_many_times_are_those_of_each() -> None:
    ticks = np.array([0, 1, 3003, 10**6, 10**12], np.int64)
    for fps in (0.333333333333, 1.0, 29.97, 10.0):
        grid = Grid.of(fps, Fraction(1, 90_000))
        assert grid.first_samples(ticks).tolist() == [grid.first_sample(int(t)) for t in ticks]


def test_an_idr_picture_with_one_before_it_on_display_parts_nothing() -> None:
    order = np.arange(9) * 250
    order[5], order[6] = order[6], order[5]  # what leads the third group is shown before its first picture
    kinds = np.zeros(9, np.uint8)
    kinds[[0, 3, 5]] = START
    kinds[[4, 7]] = DISPOSABLE
    stamps, none = np.sort(order), np.zeros(9, np.int64)
    packets = PacketScan(None, stamps, stamps, none, order, None, kinds)
    plan = plan_for(packets, Grid.of(1, Fraction(1, 1000)), 0)
    assert plan is not None
    assert np.flatnonzero(plan.starts).tolist() == [0, 3]
    assert stamps[plan.shown].tolist() == [0, 1000, 2000]
    assert order[plan.fed].tolist() == [0, 750, 1000, 1500, 1250, 2000]


AVCC = bytes([1, 100, 0, 31, 0xFF])
HVCC = bytes([1, *[0] * 20, 0xFF])


def packet(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def test_kinds_of_h264_packets() -> None:
    kinds = PacketKinds("h264", AVCC)
    sets = (b"\x67abc", b"\x68de")
    assert kinds.kind(packet(*sets, b"\x65x", b"\x65y")) == (START, 0)
    assert kinds.kind(packet(b"\x09\xf0", b"\x06s", b"\x01x", b"\x01y")) == (DISPOSABLE, 0)
    assert kinds.kind(packet(b"\x01x", b"\x41y")) == (REFERENCE, 0)  # one field is needed
    assert kinds.kind(packet(b"\x41x")) == (REFERENCE, 0)
    assert kinds.kind(packet(b"\x02x")) == (REFERENCE, 0)  # a data partition
    assert kinds.kind(packet(b"\x01x", b"\x0b0")) == (REFERENCE, 0)  # the sequence ends
    assert kinds.kind(packet(b"\x06s")) == (REFERENCE, 0)
    assert kinds.kind(packet(*sets, b"\x65x")) == (START, 0)
    for bad in (packet(b"\x65x"), packet(*sets, b"\x01x"), packet(b"\x67other", b"\x65x")):
        with pytest.raises(UnknownStructure, match="parameter sets"):
            kinds.kind(bad)
    for bad in (b"\x00\x00\x00\x09\x65x", packet(b"\x65x") + b"\x00", packet(b"\x65x") + b"\x00\x00\x00\x00"):
        with pytest.raises(UnknownStructure, match="fill"):
            kinds.kind(bad)


def test_kinds_of_hevc_packets() -> None:
    kinds = PacketKinds("hevc", HVCC)
    assert kinds.kind(packet(b"\x26\x01x")) == (START, 0)  # IDR_W_RADL
    assert kinds.kind(packet(b"\x02\x01x")) == (REFERENCE, 0)  # TRAIL_R
    assert kinds.kind(packet(b"\x00\x01x")) == (DISPOSABLE, 0)  # TRAIL_N
    assert kinds.kind(packet(b"\x2a\x01x")) == (REFERENCE, 0)  # CRA_NUT
    assert kinds.highest_layer == 0
    assert kinds.kind(packet(b"\x00\x03x")) == (DISPOSABLE, 2)
    assert kinds.highest_layer == 2


@pytest.mark.parametrize(
    ("codec", "extradata"), [("vp9", b""), ("h264", b""), ("h264", b"\x00\x00\x00\x01g"), ("hevc", HVCC[:21])]
)
def test_streams_of_another_layout_are_not_understood(codec: str, extradata: bytes) -> None:
    with pytest.raises(UnknownStructure):
        PacketKinds(codec, extradata)
