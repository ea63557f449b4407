from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from pipeline.errors import MareyError, MediaError, SourceError
from pipeline.media.probe import probe
from tests.helpers import shared_path
from tests.media.make import write_audio, write_video

_IN_OPEN = 0x20
_IN_NONBLOCK = os.O_NONBLOCK


def opens_of(path: Path, action: Callable[[], None]) -> int:
    """How often anything opens `path` while `action` runs, as the kernel's inotify reports."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(_IN_NONBLOCK)
    assert libc.inotify_add_watch(fd, os.fsencode(path), _IN_OPEN) >= 0
    try:
        action()
        try:
            return len(os.read(fd, 4096)) // struct.calcsize("iIII")
        except BlockingIOError:
            return 0
    finally:
        os.close(fd)


def refused(path: Path, code: str) -> MareyError:
    with pytest.raises(MareyError) as caught:
        probe(path)
    assert caught.value.code == code
    assert str(path) in str(caught.value)
    return caught.value


HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\ncanary.ts\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
    '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>canary.ts</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>"
)
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
SCRIPTS = {
    "concat.mp4": "ffconcat version 1.0\nfile canary.ts\n",
    "list.m3u8": HLS,
    "hls.mp4": HLS,
    "manifest.mpd": DASH,
    "sdp.mp4": SDP + "a=rtpmap:96 H264/90000\n",
    "text.mp4": "canary.ts\n" * 50,
}


@pytest.mark.parametrize("name", list(SCRIPTS))
def test_a_script_opens_no_other_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    canary = write_video(tmp_path / "canary.ts", [0, 40], format="mpegts")
    script = tmp_path / name
    script.write_text(SCRIPTS[name])
    assert opens_of(canary, lambda: refused(script, "media_format")) == 0


def test_without_the_lists_the_canary_is_opened(tmp_path: Path) -> None:
    # Shows that the test above can fail.
    canary = write_video(tmp_path / "canary.ts", [0, 40], format="mpegts")
    script = tmp_path / "concat.mp4"
    script.write_text(SCRIPTS["concat.mp4"])

    def open_unguarded() -> None:
        with contextlib.suppress(av.FFmpegError):
            av.open(str(script)).close()

    assert opens_of(canary, open_unguarded) > 0


@pytest.mark.parametrize(
    "name", ["concat:canary.ts|canary.ts", "subfile,,start,0,end,9,,:canary.ts", "http:x"]
)
def test_a_file_name_is_no_url(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    canary = write_video(tmp_path / "canary.ts", [0, 40], format="mpegts")

    def try_it() -> None:
        with pytest.raises(SourceError, match="No such file"):
            probe(name)

    assert opens_of(canary, try_it) == 0
    write_video(tmp_path / "a:b|c.mp4", [0, 40])
    assert probe("a:b|c.mp4").codec == "h264"


def test_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    assert isinstance(refused(path, "media_empty"), MediaError)


def test_missing_directory_and_pipe(tmp_path: Path) -> None:
    refused(tmp_path / "no.mp4", "source")
    refused(tmp_path, "source")
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    refused(pipe, "source")


def test_audio_only(tmp_path: Path) -> None:
    error = refused(write_audio(tmp_path / "sound.mp4"), "media_no_video")
    assert "no video stream (got 'audio')" in str(error)


def test_too_many_pixels(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [0], size=(64, 48))
    assert probe(path, max_pixels=64 * 48).width_px == 64
    with pytest.raises(MediaError, match=r"larger than max_pixels = 3071 \(got '64x48'\)") as caught:
        probe(path, max_pixels=64 * 48 - 1)
    assert caught.value.code == "media_pixels"


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_too_many_streams(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"v{suffix}", [0], audio_streams=4)
    assert len(probe(path, max_streams=5).streams) == 5
    for limit in (1, 4):
        with pytest.raises(MediaError, match=f"more streams than max_streams = {limit}") as caught:
            probe(path, max_streams=limit)
        assert caught.value.code == "media_streams"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("damaged/exo_encrypted_clearkey.mp4", "media_encrypted"),
        ("damaged/exo_invalid-bitstream.webm", "media_undecodable"),
        ("damaged/fate_pmtchange_no_parameters.ts", "media_undecodable"),
        ("damaged/made_cut_no_moov.mp4", "media_format"),
        ("damaged/made_empty.mp4", "media_empty"),
        ("damaged/made_text.mp4", "media_format"),
        ("audio_only_nasa.mp3", "media_no_video"),
        ("exo_sample.text.mp4", "media_no_video"),
        ("exo_sample_opus.mp4", "media_no_video"),
    ],
)
def test_refusals_of_shared_files(name: str, code: str) -> None:
    refused(shared_path("data", "videos", "formats", *name.split("/")), code)


def test_two_video_streams_the_larger_is_read() -> None:
    info = probe(shared_path("data", "videos", "formats", "nasa_13013.mp4"))
    assert (info.stream_index, info.width_px, info.height_px) == (3, 480, 270)


def test_lying_durations_are_no_hint() -> None:
    assert probe(shared_path("data", "videos", "formats", "no_duration.webm")).duration_s is None
    info = probe(shared_path("data", "videos", "formats", "exo_sample_fragmented.mp4"))
    assert info.duration_s is None or info.duration_s < 14 * 86400
