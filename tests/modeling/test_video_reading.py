"""The reader gives the right frame for every time, or a typed error."""

import io
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from surgvista_hf import VideoReadError
from surgvista_hf.modeling.video_reading_surgvista import VideoReader

from ..videos import numbered_frame, read_number, write_numbered_video

ODD = Path(__file__).resolve().parents[1] / "fixtures" / "odd_videos"
X264 = {"bf": "3", "g": "12", "b-pyramid": "normal"}  # B-frames that refer to each other, a key frame every 12
CONTAINERS = {
    "closed groups, mp4": ("a.mp4", "libx264", X264),
    "open groups, mp4": ("b.mp4", "libx264", {**X264, "x264-params": "open-gop=1"}),
    "no B-frames, avi": ("c.avi", "mpeg4", {}),
    "transport stream": ("d.ts", "libx264", X264),
    "program stream": ("e.mpg", "mpeg2video", {"bf": "2"}),
    "webm": ("f.webm", "libvpx-vp9", {"g": "20", "deadline": "realtime"}),
}


@pytest.fixture(scope="module", params=CONTAINERS)
def numbered(request, tmp_path_factory) -> Path:
    name, codec, options = CONTAINERS[request.param]
    rate = 25 if codec == "mpeg2video" else 10  # MPEG-2 knows only some rates
    return write_numbered_video(tmp_path_factory.mktemp("videos") / name, rate=rate, codec=codec, options=options)


def rate_of(path: Path) -> int:
    return 25 if path.suffix == ".mpg" else 10


def numbers(frames) -> list[int]:
    return [read_number(frame) for frame in frames]


# ------------------------------------------------------------------------------------------------- the right frame


def test_every_frame_comes_once_and_in_order(numbered):
    with VideoReader(numbered) as video:
        times, frames = zip(*video.iterate(None), strict=True)
    assert numbers(frames) == list(range(60))
    assert times == pytest.approx([i / rate_of(numbered) for i in range(60)], abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(wanted=st.lists(st.integers(-3, 63), min_size=1, max_size=6), late=st.sampled_from([0.0, 0.4, 0.9]))
def test_frames_at_gives_the_frame_that_is_shown_then_in_any_order(numbered, wanted, late):
    rate = rate_of(numbered)
    with VideoReader(numbered) as video:
        frames = video.frames_at([(number + late) / rate for number in wanted])
    assert numbers(frames) == [min(max(number, 0), 59) for number in wanted]


@pytest.mark.parametrize("interval", [0.1, 0.25, 1.0, 2.5])
def test_iterate_samples_at_multiples_of_the_interval(tmp_path, interval):
    path = write_numbered_video(tmp_path / "a.mp4", options=X264)
    with VideoReader(path) as video:
        samples = list(video.iterate(interval))
    times = [second for second, _ in samples]
    assert times == pytest.approx([i * interval for i in range(int(np.ceil(5.96 / interval)))])
    assert [read_number(frame) for _, frame in samples] == [int(time * 10 + 1e-6) for time in times]


def test_a_video_of_whole_seconds_has_one_sample_a_second(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=40, rate=1)
    with VideoReader(path) as video:
        assert [read_number(frame) for _, frame in video.iterate(1.0)] == list(range(40))


def test_times_count_from_the_first_shown_frame(tmp_path):
    path = write_numbered_video(tmp_path / "late.mkv", start=70, options=X264)
    with VideoReader(path) as video:
        assert numbers(video.frames_at([0.0, 1.0])) == [0, 10]
        assert next(iter(video.iterate()))[0] == 0.0


def test_path_bytes_and_file_object_are_the_same_video(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", options=X264)
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        with VideoReader(source) as video:
            assert numbers(video.frames_at([3.0])) == [30]


def test_a_still_image_is_a_video_of_one_frame(tmp_path):
    Image.fromarray(numbered_frame(5)).save(tmp_path / "a.png")
    with VideoReader(tmp_path / "a.png") as video:
        assert numbers(video.frames_at([0, 10])) == [5, 5]
        assert len(list(video.iterate())) == 1


# ------------------------------------------------------------------------------------------------- odd files


def test_rotation_is_applied():
    with VideoReader(ODD / "nasa_13013_rotated.mp4") as video:
        assert (video.info.width, video.info.height, video.info.rotation_degrees) == (270, 480, 90)
        frame = video.frames_at([0])[0]
    assert frame.shape == (480, 270, 3)
    upper, lower = frame[:240].mean(), frame[240:].mean()
    assert (
        upper > 2 * lower
    )  # the bright satellite, at the right of the recorded picture, is at the top of the shown one


def test_frames_cut_by_the_edit_list_are_not_shown():
    with VideoReader(ODD / "discard_first_keyframe.mp4") as video:
        every = [frame for _, frame in video.iterate(None)]
        assert len(every) == 25  # of 30 stored
        assert np.array_equal(video.frames_at([0.0])[0], every[0])


def test_a_start_time_other_than_zero_is_removed():
    with VideoReader(ODD / "test_non_zero_start.mp4") as video:
        times, frames = zip(*video.iterate(None), strict=True)
        assert times[0] == 0.0
        assert np.array_equal(video.frames_at([times[5]])[0], frames[5])


def test_all_odd_files_decode_consistently_or_say_why_not(shared_data):
    refused = set()
    for path in sorted((shared_data / "odd_videos").iterdir()):
        try:
            with VideoReader(path) as video:
                times, frames = zip(*video.iterate(None), strict=True)
                places = np.random.default_rng(0).integers(0, len(frames), 5)
                picked = video.frames_at([times[place] for place in places])
        except VideoReadError:
            refused.add(path.name)
            continue
        for place, frame in zip(places, picked, strict=True):
            assert np.array_equal(frame, frames[place]), path.name
    assert refused == {"audio_only.mp3", "bad_huffman.jpg", "corrupt.jpg"}


# ------------------------------------------------------------------------------------------------- refusals


def refuse(source, match: str | None = None) -> None:
    with pytest.raises(VideoReadError, match=match), VideoReader(source) as video:
        list(video.iterate())


def test_files_that_are_no_videos_are_refused(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    refuse(tmp_path / "empty.mp4", "is empty")
    refuse(tmp_path / "text.mp4", "cannot be decoded")
    refuse(tmp_path / "noise.mp4", "cannot be decoded")
    refuse(tmp_path / "missing.mp4", "No such file")
    refuse(tmp_path, "is a folder")
    refuse(b"", "is empty")
    refuse(ODD / "corrupt.jpg")
    refuse(ODD / "bad_huffman.jpg", "damaged")


@pytest.mark.parametrize("name", ["list.m3u8", "list.txt", "list.mp4", "frames%03d.jpg"])
def test_a_file_that_points_at_another_file_is_never_followed(tmp_path, name):
    write_numbered_video(tmp_path / "secret.mp4")
    playlists = {
        "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "list.txt": "ffconcat version 1.0\nfile secret.mp4\n",
        "list.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "frames%03d.jpg": "no picture",
    }
    Image.fromarray(numbered_frame(1)).save(tmp_path / "frames001.jpg")
    (tmp_path / name).write_text(playlists[name])
    refuse(tmp_path / name, "cannot be decoded")


def test_a_frame_larger_than_allowed_is_refused_before_it_is_decoded(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4")
    with pytest.raises(VideoReadError, match="at most 10000 pixels"):
        VideoReader(path, max_pixels=10_000)


def test_a_truncated_file_gives_the_frames_it_has_and_refuses_the_rest(tmp_path):
    whole = write_numbered_video(tmp_path / "a.mp4", count=200, options={**X264, "movflags": "+faststart"})
    remuxed = tmp_path / "b.mp4"
    with av.open(str(whole)) as source, av.open(str(remuxed), "w", options={"movflags": "+faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    content = remuxed.read_bytes()
    with VideoReader(content[: len(content) // 2]) as video:
        assert numbers(video.frames_at([1.0, 2.0])) == [10, 20]
        with pytest.raises(VideoReadError, match=r"truncated or damaged: 20\.0 s are promised"):
            video.frames_at([19.0])
        with pytest.raises(VideoReadError, match="truncated or damaged"):
            list(video.iterate())


def test_reading_needs_no_more_memory_for_a_longer_video(tmp_path):
    path = write_numbered_video(tmp_path / "long.mp4", count=3000, rate=25)
    program = (
        "import resource, sys\n"
        "from surgvista_hf.modeling.video_reading_surgvista import VideoReader\n"
        "with VideoReader(sys.argv[1]) as video:\n"
        "    frames = video.iterate(None)\n"
        "    for _ in range(200): next(frames)\n"
        "    early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    for _ in frames: pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early)\n"
    )
    grown = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert int(grown.stdout) < 20_000  # kB; the frames together would be 92 MB
