"""The reader gives the right frame for every time, or a typed error."""

import contextlib
import io
import struct
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from surgvista_hf import InputError, VideoReadError
from surgvista_hf.modeling.video_reading_surgvista import VideoInfo, VideoReader

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
    "open groups, mkv": ("g.mkv", "libx264", {**X264, "x264-params": "open-gop=1"}),
    "no key frames but the first": ("h.mkv", "libx264", {"g": "12", "x264-params": "intra-refresh=1"}),
    "open groups, hevc": ("i.mp4", "libx265", {"x265-params": "keyint=8:bframes=3:open-gop=1:log-level=none"}),
    "fragments": ("j.mp4", "libx264", {**X264, "movflags": "frag_keyframe+empty_moov"}),
}


@pytest.fixture(scope="module", params=CONTAINERS)
def numbered(request, tmp_path_factory) -> Path:
    name, codec, options = CONTAINERS[request.param]
    rate = 25 if codec == "mpeg2video" else 10  # MPEG-2 knows only some rates
    return write_numbered_video(tmp_path_factory.mktemp("videos") / name, rate=rate, codec=codec, options=options)


def write_video(path: Path, frames: list[np.ndarray], options: dict[str, str] | None = None) -> Path:
    """Write frames of any size, ten a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options=options or {})
        (stream.height, stream.width, _), stream.pix_fmt = frames[0].shape, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


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


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1, 6, allow_nan=False), min_size=1, max_size=8))
def test_frames_at_equals_selection_from_a_full_decode_to_the_last_bit(noisy, times):
    path, stamps, decoded = noisy
    with VideoReader(path) as video:
        frames = video.frames_at(times)
    for time, frame in zip(times, frames, strict=True):
        shown = max(int(np.searchsorted(stamps, time + 1.5e-3, side="right")) - 1, 0)
        assert np.array_equal(frame, decoded[shown])


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> tuple[Path, np.ndarray, list[np.ndarray]]:
    """Write a moving texture; return it and what PyAV makes of it from start to end."""
    path = tmp_path_factory.mktemp("noisy") / "a.mp4"
    texture = np.random.default_rng(0).integers(0, 256, (64, 400, 3), dtype=np.uint8)
    frames = [np.ascontiguousarray(texture[:, 3 * i : 3 * i + 96]) for i in range(60)]
    write_video(path, frames, options={**X264, "x264-params": "open-gop=1"})
    with av.open(str(path)) as container:
        decoded = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return path, np.array([time for time, _ in decoded]), [pixels for _, pixels in decoded]


class CountingReader(VideoReader):
    """Counts the frames that it decodes."""

    decoded = 0

    def _decode(self, *arguments):
        for item in super()._decode(*arguments):
            self.decoded += 1
            yield item


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_only_the_groups_of_frames_that_are_needed_are_decoded_and_each_once(tmp_path, name):
    path = write_numbered_video(tmp_path / name, count=600, options=X264)
    with CountingReader(path) as video:
        video.decoded = 0
        assert numbers(video.frames_at([58.0, 30.3, 30.1, 58.0, 30.2])) == [580, 303, 301, 580, 302]
        assert video.decoded <= 2 * (12 + 1)
        video.decoded = 0
        assert video.last_second == pytest.approx(59.9, abs=1e-3)
        assert [read_number(frame) for _, frame in video.iterate(0.5, start=40, stop=41)] == [400, 405]
        assert video.decoded <= 2 * 12 + 12


def test_a_file_can_be_read_at_different_times_at_once(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", options=X264)
    with VideoReader(io.BytesIO(path.read_bytes())) as video:
        for one, other in zip(video.iterate(None), video.iterate(None, start=2.0), strict=False):
            assert read_number(other[1]) == read_number(one[1]) + 20
            assert numbers(video.frames_at([5.0])) == [50]


def test_iterate_begins_and_stops_where_it_is_told(numbered):
    rate = rate_of(numbered)
    with VideoReader(numbered) as video:
        chosen = list(video.iterate(4 / rate, start=21 / rate, stop=34 / rate))
        every = list(video.iterate(None, start=21 / rate, stop=24 / rate))
    assert [read_number(frame) for _, frame in chosen] == [21, 25, 29, 33]
    assert [time for time, _ in chosen] == pytest.approx([n / rate for n in (21, 25, 29, 33)])
    assert [read_number(frame) for _, frame in every] == [21, 22, 23]


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


def test_images_of_any_kind_become_rgb(tmp_path):
    gray = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(gray).save(tmp_path / "sixteen_bits.png")
    with VideoReader(tmp_path / "sixteen_bits.png") as video:
        assert np.array_equal(video.frames_at([0])[0, ..., 1], gray >> 8)
    turned = Image.fromarray(numbered_frame(5)).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise when shown
    turned.convert("CMYK").save(tmp_path / "a.jpg", exif=exif, quality=95)
    with VideoReader(tmp_path / "a.jpg") as video:
        assert (video.info.width, video.info.height, video.info.num_frames) == (160, 64, 1)
        assert numbers(video.frames_at([0])) == [5]


def test_the_facts_of_a_video_are_told(tmp_path):
    with VideoReader(write_numbered_video(tmp_path / "a.mp4", options=X264)) as video:
        assert video.info == VideoInfo(160, 64, 6.0, 10.0, 60, "h264", 0)


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("full_range", [False, True])
def test_colors_follow_the_matrix_and_range_that_the_stream_names(tmp_path, matrix, full_range):
    red_weight, blue_weight = {1: (0.2126, 0.0722), 6: (0.299, 0.114)}[matrix]  # BT.709, BT.601
    red, green, blue = np.array([200, 60, 40]) / 255
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    chroma = np.array([(blue - luma) / (1 - blue_weight), (red - luma) / (1 - red_weight)]) / 2
    scaled = [255 * luma, *(255 * chroma + 128)] if full_range else [219 * luma + 16, *(224 * chroma + 128)]
    planes = np.round(scaled).astype(np.uint8)[:, None, None] * np.ones((1, 48, 64), np.uint8)

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 1 + full_range
        frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
        frame.colorspace, frame.color_range = matrix, 1 + full_range
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with VideoReader(path) as video:
        assert np.abs(video.frames_at([0])[0].astype(int) - [200, 60, 40]).max() <= 2


# ------------------------------------------------------------------------------------------------- odd files


def test_rotation_is_applied():
    with VideoReader(ODD / "nasa_13013_rotated.mp4") as video:
        assert (video.info.width, video.info.height, video.info.rotation_degrees) == (270, 480, 90)
        frame = video.frames_at([0])[0]
    assert frame.shape == (480, 270, 3)
    upper, lower = frame[:240].mean(), frame[240:].mean()
    assert (
        upper > 1.5 * lower
    )  # the bright satellite, at the right of the recorded frame, is at the top of the shown one


def test_real_and_rotated_videos_look_as_opencv_shows_them(shared_data):
    for path in [ODD / "nasa_13013_rotated.mp4", ODD / "test_non_zero_start.mp4", *(shared_data / "clips").iterdir()]:
        capture = cv2.VideoCapture(str(path))
        with VideoReader(path) as video:
            for _, (_, frame) in zip(range(12), video.iterate(None), strict=False):
                theirs = capture.read()[1][..., ::-1]
                assert np.abs(frame.astype(int) - theirs).mean() < 3, path.name  # versions of swscale differ


def test_recordings_joined_end_to_end_are_one_video(tmp_path):
    part = write_numbered_video(tmp_path / "a.ts", options=X264).read_bytes()
    with VideoReader(part + part) as video:
        times, frames = zip(*video.iterate(None), strict=True)
        assert numbers(frames) == [*range(60), *range(60)]
        assert times == pytest.approx([i / 10 for i in range(120)], abs=1e-3)
        assert numbers(video.frames_at([7.0])) == [10]


def test_sound_that_outlasts_the_frames_is_no_sign_of_truncation(tmp_path):
    path = write_video_with_sound(tmp_path / "a.mkv", seconds=8)
    with VideoReader(path) as video:
        assert video.info.duration_seconds == pytest.approx(8, abs=0.1)
        assert len(list(video.iterate(0.1))) == 20
        assert numbers(video.frames_at([7.5])) == [19]
    content = write_video_with_sound(tmp_path / "b.mkv", seconds=2.0, count=200).read_bytes()
    with (
        VideoReader(content[: len(content) // 2]) as video,
        pytest.raises(VideoReadError, match=r"20\.0 s are promised"),
    ):
        list(video.iterate())


def write_video_with_sound(path: Path, seconds: float, count: int = 20) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options=X264)
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")))
        container.mux(stream.encode())
        for start in range(0, int(seconds * 8000), 800):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            silence.pts, silence.sample_rate = start, 8000
            container.mux(sound.encode(silence))
        container.mux(sound.encode())
    return path


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


def test_a_matroska_file_that_begins_late_is_not_taken_for_truncated(tmp_path):
    path = write_numbered_video(tmp_path / "a.mkv", count=20, start=50)  # it says that it ends at second 7
    with VideoReader(path) as video:
        assert video.info.duration_seconds == pytest.approx(2, abs=0.15)
        assert numbers(frame for _, frame in video.iterate(None)) == list(range(20))
        assert numbers(video.frames_at([1.5])) == [15]


@pytest.mark.slow
def test_all_odd_files_decode_consistently_or_say_why_not(shared_data):
    refused = set()
    for path in sorted((shared_data / "odd_videos").iterdir()):
        try:
            with VideoReader(path) as video:
                times, frames = zip(*video.iterate(None), strict=True)
                indices = np.random.default_rng(0).integers(0, len(frames), 5)
                picked = video.frames_at([times[index] for index in indices])
        except VideoReadError:
            refused.add(path.name)
            continue
        for index, frame in zip(indices, picked, strict=True):
            assert np.array_equal(frame, frames[index]), path.name
    assert refused == {"audio_only.mp3", "bad_huffman.jpg", "corrupt.jpg", "recorder_02_corrupted_h264.mp4"}


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
        "frames%03d.jpg": "no image",
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
        with pytest.raises(VideoReadError, match=r"truncated or damaged|cannot be decoded"):
            video.frames_at([19.0])
        with pytest.raises(VideoReadError, match=r"truncated or damaged|cannot be decoded"):
            list(video.iterate())


def test_damaged_frames_are_refused_and_those_of_other_groups_are_not(noisy, tmp_path):
    path, _, decoded = noisy
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = {packet.pts: (packet.pos, packet.size) for packet in container.demux(video=0) if packet.size}
    stamps = sorted(packets)
    index, size = packets[stamps[27]]  # the third frame of the third group
    content[index + size // 2 : index + size] = bytes(size - size // 2)
    with VideoReader(bytes(content)) as video:
        frames = video.frames_at([0.5, 1.7, 5.9])
        assert all(np.array_equal(frame, decoded[n]) for frame, n in zip(frames, (5, 17, 59), strict=True))
        for second in (2.7, 3.2):
            with pytest.raises(VideoReadError, match="is damaged at second"):
                video.frames_at([second])
        with pytest.raises(VideoReadError, match="is damaged at second"):
            list(video.iterate(0.1))


def test_a_change_of_frame_size_is_refused(tmp_path):
    small = write_numbered_video(tmp_path / "a.ts").read_bytes()
    large = write_video(tmp_path / "b.ts", [numbered_frame(n, height=80) for n in range(20)]).read_bytes()
    with VideoReader(small + large) as video:
        with pytest.raises(VideoReadError, match="changes from 160×64 to 160×80 pixels"):
            list(video.iterate())
        assert numbers(video.frames_at([3.0])) == [30]


def test_a_few_bytes_that_promise_a_gigantic_frame_are_refused():
    header = b"GIF89a" + struct.pack("<HH", 16000, 16000) + b"\x80\0\0" + bytes(3) + b"\xff" * 3
    frame = b"!\xf9\x04\0\x0a\0\0\0," + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\x02\x02D\x01\0;"
    refuse(header + frame, "16000×16000 pixels; at most 67108864")


@pytest.mark.parametrize("path", sorted(ODD.glob("*.*[!d]")), ids=lambda path: path.name)
def test_mutilated_files_give_frames_or_the_typed_error(path):
    random = np.random.default_rng(0)
    for _ in range(12):
        content = bytearray(path.read_bytes())
        for index in random.integers(0, min(len(content), 4000), 4):
            content[index] = random.integers(0, 256)
        del content[random.integers(len(content) // 2, len(content)) :]
        with contextlib.suppress(VideoReadError), VideoReader(bytes(content)) as video:
            video.frames_at([0, 0.3, 100])


def test_damaged_hevc_parameters_do_not_hang_the_program(tmp_path):
    content = bytearray((ODD / "h265_video.mp4").read_bytes())
    content[14992], content[15001] = 221, 59  # within the picture parameter set
    (tmp_path / "a.mp4").write_bytes(content)
    program = (
        "import sys\n"
        "from surgvista_hf import VideoReadError\n"
        "from surgvista_hf.modeling.video_reading_surgvista import VideoReader\n"
        "try:\n"
        "    VideoReader(sys.argv[1]).frames_at([0, 0.5])\n"
        "except VideoReadError as error:\n"
        "    print(error)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.mp4")], check=True, timeout=120)


def test_times_that_are_no_times_are_refused(tmp_path):
    with VideoReader(write_numbered_video(tmp_path / "a.mp4")) as video:
        assert video.frames_at([]).shape == (0, 64, 160, 3)
        for times in ([float("nan")], [[1.0]]):
            with pytest.raises(InputError, match="sequence of numbers of seconds"):
                video.frames_at(times)
        for arguments in ({"interval_seconds": 0}, {"start": -1}):
            with pytest.raises(InputError, match="positive"):
                next(video.iterate(**arguments))


def test_without_pyav_the_error_says_what_to_install(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4")
    program = (
        "import sys\n"
        "sys.modules['av'] = None\n"
        "from surgvista_hf.modeling.video_reading_surgvista import VideoReader\n"
        "VideoReader(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert "VideoReadError: reading videos needs PyAV: pip install av" in done.stderr


@pytest.mark.slow
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
