"""Files that nobody trusts: never a crash, never another file, always an answer, within limits."""

import contextlib
import re
import resource
import struct
import time
from pathlib import Path

import av
import numpy as np
import pytest

from surgvista_hf import VideoReadError
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.subprocess_decoding import SubprocessVideo, VideoLimits
from surgvista_hf.modeling.video_reading_surgvista import VideoReader

from ..videos import read_number, write_numbered_video

ODD = Path(__file__).resolve().parents[1] / "fixtures" / "odd_videos"


def frames(path: Path, **limits) -> list[tuple[float, np.ndarray]]:
    with SubprocessVideo(path, VideoLimits(**limits)) as video:
        return list(video)


def test_the_frames_are_those_of_the_reader(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=100)
    with SubprocessVideo(path) as video, VideoReader(path) as reader:
        assert video.info["width"], video.info["height"] == (160, 64)
        for (second, frame), (expected_second, expected) in zip(video, reader.iterate(1.0), strict=True):
            assert second == expected_second
            assert np.array_equal(frame, expected)


def test_a_part_is_read_at_any_rate_and_a_spread_from_the_middles(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=100)
    with SubprocessVideo(path, interval_seconds=0.5, start=2, stop=4) as video:
        assert [(second, read_number(frame)) for second, frame in video] == [(2, 20), (2.5, 25), (3, 30), (3.5, 35)]
    with SubprocessVideo(path, spread=5) as video:
        assert [read_number(frame) for _, frame in video] == [10, 30, 50, 70, 90]


@pytest.mark.parametrize("wanted", [{"interval_seconds": 0}, {"start": -1}, {"spread": 0}])
def test_wishes_that_make_no_sense_are_refused(wanted, tmp_path):
    with pytest.raises(InputError, match="give positive numbers"):
        SubprocessVideo(write_numbered_video(tmp_path / "a.mp4", count=10), **wanted)


def test_large_frames_are_reduced(tmp_path):
    found = frames(write_numbered_video(tmp_path / "a.mp4", count=30), short_side=32)
    assert [frame.shape for _, frame in found] == [(32, 80, 3)] * 3
    assert [read_number(np.repeat(np.repeat(frame, 2, 0), 2, 1)) for _, frame in found] == [0, 10, 20]


@pytest.fixture(scope="module")
def bomb(tmp_path_factory) -> Path:
    """Write ten hours of one black frame in a few kilobytes."""
    path: Path = tmp_path_factory.mktemp("bomb") / "bomb.mp4"
    black = np.zeros((96, 64), np.uint8)  # planes of one size: luma of 64×64, two of chroma
    black[:64], black[64:] = 16, 128
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(36000):
            frame = av.VideoFrame.from_ndarray(black, format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_long_video_in_a_small_file_is_refused_at_once(bomb):
    assert bomb.stat().st_size < 2e6
    began = time.monotonic()
    with pytest.raises(VideoReadError, match=r"has 600\.0 minutes; at most 15 are allowed"):
        frames(bomb)
    assert time.monotonic() - began < 30


def test_a_length_that_is_a_lie_does_not_help(bomb, tmp_path):
    content = bytearray(bomb.read_bytes())
    for box in (b"mvhd", b"tkhd", b"mdhd"):  # durations of one second
        index = content.index(box) + 4
        offset = {b"mvhd": 16, b"tkhd": 20, b"mdhd": 16}[box]
        content[index + offset : index + offset + 4] = struct.pack(">I", 1000)
    (tmp_path / "lie.mp4").write_bytes(content)
    with pytest.raises(VideoReadError, match=r"minutes"):
        frames(tmp_path / "lie.mp4", minutes=2)


def large_frames(path: Path, width: int, height: int, count: int) -> Path:
    """Write a video with one frame a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(count):
            container.mux(stream.encode(av.VideoFrame(width, height, "yuv420p")))
        container.mux(stream.encode())
    return path


def test_a_huge_frame_is_refused_before_it_is_decoded(tmp_path):
    path = large_frames(tmp_path / "8k.mp4", 7680, 4320, 1)
    with pytest.raises(VideoReadError, match="7680×4320 pixels; at most"):
        frames(path)


def test_too_little_memory_is_an_error_of_the_file_not_of_the_server(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=30)
    with pytest.raises(VideoReadError):
        frames(path, memory_gib=0.05)


def test_too_little_time_of_the_processor_is_an_error_of_the_file(tmp_path):
    path = large_frames(tmp_path / "4k.mp4", 4096, 2160, 40)  # takes several seconds
    with pytest.raises(VideoReadError, match="within the limits"):
        frames(path, cpu_seconds=1)


def test_a_decoder_that_hangs_is_ended(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=30)
    began = time.monotonic()
    with pytest.raises(VideoReadError, match=r"longer than 0\.001 s for one frame"):
        frames(path, silent_seconds=0.001)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.mp4", b""),
        ("text.mp4", b"to be or not to be " * 100),
        ("playlist.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"),
        ("concat.mp4", b"ffconcat version 1.0\nfile '/etc/passwd'\n"),
        ("dash.mp4", b'<?xml version="1.0"?><MPD><BaseURL>file:///etc/passwd</BaseURL></MPD>'),
        ("svg.mp4", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
        ("zip.mp4", b"PK\x03\x04" + bytes(5000)),
    ],
)
def test_what_is_no_video_is_refused_and_no_path_is_told(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoReadError) as caught:
        frames(tmp_path / name)
    assert re.search("is empty|cannot be decoded: ", str(caught.value))
    assert str(tmp_path) not in str(caught.value)
    assert "root:" not in str(caught.value)


def test_a_truncated_video_is_an_error_after_its_good_frames(tmp_path):
    whole = write_numbered_video(tmp_path / "a.mkv", count=200)
    (tmp_path / "b.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    seen = []
    with SubprocessVideo(tmp_path / "b.mkv") as video, pytest.raises(VideoReadError):
        seen.extend(video)
    assert seen


def test_the_size_of_the_file_is_looked_at_first(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=30)
    with pytest.raises(VideoReadError, match=r"at most 0\.0001 MB are allowed"):
        frames(path, megabytes=0.0001)
    with pytest.raises(VideoReadError, match="there is no file"):
        frames(tmp_path / "b.mp4")


def test_no_process_and_no_file_is_left_when_nobody_reads_on(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=300)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with SubprocessVideo(path) as video:
            next(iter(video))
        assert video._process.poll() is not None
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0  # the limits are the other process's


def test_random_bytes_within_a_video_never_do_harm(tmp_path):
    content = write_numbered_video(tmp_path / "a.mp4", count=100).read_bytes()
    random = np.random.default_rng(0)
    for attempt in range(8):
        broken = bytearray(content)
        for index in random.integers(0, len(broken), 40):
            broken[index] = random.integers(256)
        path = tmp_path / f"{attempt}.mp4"
        path.write_bytes(broken)
        with contextlib.suppress(VideoReadError):
            assert all(frame.shape == (64, 160, 3) for _, frame in frames(path))
