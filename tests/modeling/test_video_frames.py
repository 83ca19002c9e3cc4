"""Frames are given out as the surgeon saw them: square pixels, upright, one moment; what needs no change is not changed."""

import io
import itertools
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from surgvista_hf import InputError, SurgVistaVideoProcessor, VideoReadError
from surgvista_hf.modeling.subprocess_decoding import SubprocessVideo, VideoLimits
from surgvista_hf.modeling.video_frames_surgvista import shown_size, shows_combing
from surgvista_hf.modeling.video_reading_surgvista import VideoReader

from ..videos import INTERLACED, two_moments, write_numbered_video, write_pictures


def disc(height: int, width: int, aspect: float) -> np.ndarray:
    """Draw a circle as shown, left of and above the middle, stored in pixels that are not square."""
    y, x = np.mgrid[0:height, 0:width]
    radius = 0.35 * min(height, width * aspect)
    inside = ((x - width * 0.45) * aspect) ** 2 + (y - height * 0.45) ** 2 < radius**2
    return np.repeat(inside[..., None].astype(np.uint8) * 255, 3, axis=2)


def extent(frame: np.ndarray) -> tuple[int, int]:
    """Measure width and height of what is bright."""
    bright = frame[..., 0] > 127
    return int(bright.any(axis=0).sum()), int(bright.any(axis=1).sum())


def is_round(frame: np.ndarray) -> bool:
    width, height = extent(frame)
    return abs(width / height - 1) < 0.04


@pytest.mark.parametrize(
    ("suffix", "codec", "size", "aspect", "shown"),
    [
        (".mp4", "libx264", (288, 360), Fraction(64, 45), (512, 288)),  # PAL, 16:9
        (".mkv", "libx264", (240, 360), Fraction(8, 9), (360, 270)),  # NTSC, 4:3
        (".ts", "libx264", (144, 176), Fraction(12, 11), (192, 144)),
        (".mpg", "mpeg2video", (288, 360), Fraction(16, 15), (384, 288)),
        (".mp4", "mpeg4", (144, 352), Fraction(1, 2), (352, 288)),
        (".avi", "mpeg4", (216, 288), Fraction(4, 3), (384, 216)),  # HDV
    ],
)
def test_a_circle_on_the_screen_is_a_circle_in_every_road_to_the_frames(tmp_path, suffix, codec, size, aspect, shown):
    images = [disc(*size, float(aspect))] * 12
    path = write_pictures(tmp_path / f"a{suffix}", images, codec=codec, pixel_aspect=aspect)
    with VideoReader(path) as video:
        assert (video.info.width, video.info.height) == shown
        assert video.info.stored_size == size[::-1]
        assert video.info.pixel_aspect == pytest.approx(float(aspect), abs=1e-3)
        every = [frame for _, frame in video.iterate(None)]
        picked = video.frames_at([0.2])[0]
        assert len(every) == 12
        assert np.array_equal(picked, every[5])
        assert is_round(picked)
    with SubprocessVideo(path, VideoLimits(short_side=4096)) as guarded:
        assert (guarded.info["width"], guarded.info["height"]) == shown
        assert np.array_equal(next(iter(guarded))[1], every[0])


def test_both_backends_of_the_processor_give_the_frames_as_shown(tmp_path):
    pytest.importorskip("torchcodec.decoders")
    pal = write_pictures(tmp_path / "a.mp4", [disc(288, 360, 64 / 45)] * 12, pixel_aspect=Fraction(64, 45))
    interlaced = write_pictures(
        tmp_path / "b.mp4", map(two_moments, range(12)), 25, *INTERLACED[".mp4"][:1], options=INTERLACED[".mp4"][1]
    )
    for path in (pal, interlaced):
        clips = [
            SurgVistaVideoProcessor(
                video_backend=backend, do_sample_frames=False, do_resize=False, do_normalize=False
            )(path)
            for backend in ("pyav", "torchcodec")
        ]
        assert np.array_equal(*(np.asarray(clip["pixel_values"]) for clip in clips))
    assert clips[0]["pixel_values"][0].shape[-2:] == (128, 160)


def test_square_pixels_are_left_to_the_last_bit(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (12, 62, 86, 3), np.uint8)
    for aspect in (None, Fraction(1), Fraction(225, 224)):  # the last would add a third of a pixel
        path = write_pictures(
            tmp_path / "a.mp4", noise, pixel_aspect=aspect, options={"x264-params": "log-level=none"}
        )
        with VideoReader(path) as video, av.open(str(path)) as plain:
            for (_, ours), theirs in zip(video.iterate(None), plain.decode(video=0), strict=True):
                assert np.array_equal(ours, theirs.to_ndarray(format="rgb24"))
            assert video.remarks == []


def turned(path: Path, a: int, b: int, c: int, d: int) -> bytes:
    """Return the content of an MP4 file with another display matrix."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    values = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    content[start : start + 36] = struct.pack(">9i", *values)
    return bytes(content)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), lambda shown: shown),
        ((0, 1, -1, 0), lambda shown: np.rot90(shown, -1)),
        ((0, -1, 1, 0), lambda shown: np.rot90(shown, 1)),
        ((-1, 0, 0, -1), lambda shown: np.rot90(shown, 2)),
        ((-1, 0, 0, 1), lambda shown: shown[:, ::-1]),
        ((1, 0, 0, -1), lambda shown: shown[::-1]),
        ((0, 1, 1, 0), lambda shown: shown.swapaxes(0, 1)),
    ],
)
def test_turned_and_mirrored_frames_are_upright_whatever_the_shape_of_their_pixels(tmp_path, matrix, expected):
    path = write_pictures(tmp_path / "a.mp4", [disc(288, 360, 64 / 45)] * 5, pixel_aspect=Fraction(64, 45))
    with VideoReader(path) as plain, VideoReader(turned(path, *matrix)) as video:
        frame, upright = video.frames_at([0.0])[0], expected(plain.frames_at([0.0])[0])
        assert np.array_equal(frame, upright)
        assert (video.info.width, video.info.height) == (upright.shape[1], upright.shape[0])
        assert is_round(frame)


@pytest.mark.parametrize("aspect", [(1, 1000), (1000, 1), (9, 2)])
def test_an_absurd_pixel_aspect_is_ignored_with_a_remark(tmp_path, aspect):
    path = write_pictures(tmp_path / "a.mp4", [disc(64, 96, 1.0)] * 5, pixel_aspect=Fraction(4, 3))
    content = bytearray(path.read_bytes())
    start = content.index(b"pasp") + 4
    content[start : start + 8] = struct.pack(">2I", *aspect)
    with VideoReader(bytes(content)) as video:
        assert video.frames_at([0.0]).shape == (1, 64, 96, 3)
        assert "pixel aspect" in " ".join(video.remarks)


def test_limits_count_the_size_as_shown(tmp_path):
    path = write_pictures(tmp_path / "a.mp4", [disc(64, 96, 4.0)] * 5, pixel_aspect=Fraction(4, 1))
    with pytest.raises(VideoReadError, match="384×64 pixels; at most 20000"):
        VideoReader(path, max_pixels=20_000)
    with pytest.raises(VideoReadError, match="384×64"):
        SubprocessVideo(path, VideoLimits(pixels=20_000))


def test_where_the_pixel_aspect_changes_circles_stay_circles_and_the_size_stays(tmp_path):
    parts = [
        write_pictures(tmp_path / f"{n}.ts", [disc(144, 180, float(aspect))] * 12, pixel_aspect=aspect).read_bytes()
        for n, aspect in enumerate((Fraction(16, 15), Fraction(64, 45)))
    ]
    with VideoReader(parts[0] + parts[1]) as video:
        frames = [frame for _, frame in video.iterate(None)]
        assert len(frames) == 24
        assert {frame.shape for frame in frames} == {(144, 192, 3)}
        assert all(is_round(frame) for frame in frames)
        assert np.array_equal(video.frames_at([0.8])[0], frames[20])
        assert "aspect changes" in " ".join(video.remarks)


@pytest.mark.parametrize(
    ("stored", "aspect", "shown"),
    [
        ((720, 576), 64 / 45, (1024, 576)),
        ((720, 480), 8 / 9, (720, 540)),
        ((1440, 1080), 4 / 3, (1920, 1080)),
        ((121, 81), 1.004, (121, 81)),
    ],
)
def test_the_shorter_side_of_a_pixel_is_enlarged_and_nothing_else(stored, aspect, shown):
    assert shown_size(*stored, aspect) == shown


# ------------------------------------------------------------------------------------------------- interlaced


def combing(frame: np.ndarray) -> float:
    """Measure how much more a line differs from its neighbors than from the lines of its own moment."""
    lines = frame[..., 1].astype(int)
    return np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) // 2).mean() / (np.abs(lines[2:] - lines[:-2]).mean() + 0.5)


def write_interlaced(folder: Path, suffix: str, count: int = 40) -> Path:
    codec, options = INTERLACED[suffix]
    return write_pictures(folder / f"a{suffix}", map(two_moments, range(count)), codec=codec, options=options)


@pytest.mark.parametrize("suffix", INTERLACED)
def test_interlaced_frames_show_one_moment_each_and_keep_number_and_time(tmp_path, suffix):
    path = write_interlaced(tmp_path, suffix)
    with VideoReader(path) as video, VideoReader(path, deinterlace="off") as as_stored:
        assert video.info.interlaced
        shown, stored = list(video.iterate(None)), list(as_stored.iterate(None))
        assert [second for second, _ in shown] == [second for second, _ in stored]
        assert len(shown) == 40
        assert min(combing(frame) for _, frame in stored) > 10
        assert max(combing(frame) for _, frame in shown) < 4
        for number, (_, frame) in enumerate(shown):  # the bar is as wide as at one moment, and where it was then
            left = (number * 8) % 120
            bright = np.flatnonzero(frame[:, :, 0].mean(axis=0) > 127)
            assert min(abs(int(bright[0]) - each) for each in (left, left + 12)) <= 1
            assert len(bright) <= 22
        assert "deinterlaced" in " ".join(video.remarks)
        assert "left as they are stored" in " ".join(as_stored.remarks)


@pytest.mark.parametrize("suffix", INTERLACED)
def test_an_interlaced_frame_is_the_same_wherever_reading_began(tmp_path, suffix):
    path = write_interlaced(tmp_path, suffix)
    with VideoReader(path) as video:
        times, frames = zip(*video.iterate(None), strict=True)
        for number in (0, 1, 9, 10, 11, 20, 25, 39):  # key frames among them
            with VideoReader(path) as fresh:
                assert np.array_equal(fresh.frames_at([times[number]])[0], frames[number]), number
                begun = next(frame for _, frame in fresh.iterate(None, start=times[number]))
                assert np.array_equal(begun, frames[number]), number
        picked = video.frames_at([times[number] for number in (30, 10, 21)])
        assert all(np.array_equal(frame, frames[number]) for frame, number in zip(picked, (30, 10, 21), strict=True))


def test_progressive_frames_that_a_recorder_calls_interlaced_are_left(tmp_path, shared_data):
    codec, options = INTERLACED[".mp4"]
    real = next(iter(sorted((shared_data / "clips").glob("0*.mp4"))))
    with VideoReader(real) as source:
        images = [frame for _, frame in source.iterate(None, stop=1.5)]
    path = write_pictures(tmp_path / "a.mp4", images, codec=codec, options=options)
    with VideoReader(path) as video, VideoReader(path, deinterlace="off") as as_stored:
        assert video.info.interlaced
        for (_, ours), (_, theirs) in zip(video.iterate(None), as_stored.iterate(None), strict=True):
            assert np.array_equal(ours, theirs)
        assert video.remarks == []


def test_no_frame_of_real_progressive_surgery_shows_combing(shared_data):
    for path in sorted((shared_data / "clips").iterdir()):
        with VideoReader(path) as video:
            assert not any(shows_combing(frame[..., 1]) for _, frame in video.iterate(0.3)), path.name


def test_damage_never_enters_a_frame_through_its_neighbor(tmp_path):
    path = write_interlaced(tmp_path, ".mp4")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = {packet.pts: (packet.pos, packet.size) for packet in container.demux(video=0) if packet.size}
    start, size = packets[sorted(packets)[25]]
    content[start + 6 : start + size] = np.random.default_rng(0).bytes(size - 6)
    with VideoReader(path) as whole, VideoReader(bytes(content), damaged="skip") as video:
        clean = {round(second, 3): frame for second, frame in whole.iterate(None)}
        found = {round(second, 3): frame for second, frame in video.iterate(None)}
        assert 30 <= len(found) < 40
        # Frames beside the damage have no neighbor there and are taken apart without one.
        bordering = {round(second, 3) for start, end in video.lost for second in (start - 1 / 25, end)}
        for second, frame in found.items():
            assert second in bordering or np.array_equal(frame, clean[second]), second
        assert all(combing(frame) < 4 for frame in found.values())


def test_an_unknown_way_to_deinterlace_is_refused(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4")
    for options in ({"deinterlace": "yes"}, {"damaged": "maybe"}):
        with pytest.raises(InputError, match="must be"):
            VideoReader(path, **options)


def test_a_real_interlaced_recording_of_oblong_pixels(shared_data):
    path = shared_data / "odd_videos" / "recorder_09_mpeg2_ps_480i.mpeg"
    with VideoReader(path) as video, VideoReader(path, deinterlace="off") as as_stored:
        assert (video.info.width, video.info.height, video.info.stored_size) == (720, 540, (720, 480))
        shown, stored = list(video.iterate(None)), list(as_stored.iterate(None))
        assert [second for second, _ in shown] == [second for second, _ in stored]
        assert len(shown) == 78  # as many as FFmpeg decodes
        changed = sum(not np.array_equal(a, b) for (_, a), (_, b) in zip(shown, stored, strict=True))
        assert changed > 40
        for number in (0, 31, 77):
            assert np.array_equal(video.frames_at([shown[number][0]])[0], shown[number][1])


def test_real_recordings_have_the_size_and_number_that_players_show(shared_data):
    expected = {
        "recorder_03_no_duration.webm": (1280, 720, 74),
        "recorder_04_failing_audio.mp4": (640, 360, 280),
        "recorder_06_h263_vfr_sar.3gp": (192, 144, 222),
        "recorder_15_unordered_50x50.mov": (50, 50, 4),
    }
    for name, (width, height, count) in expected.items():
        content = (shared_data / "odd_videos" / name).read_bytes()
        with VideoReader(io.BytesIO(content)) as video:
            frames = list(video.iterate(None))
            assert (video.info.width, video.info.height, len(frames)) == (width, height, count), name
            assert frames[0][1].shape == (height, width, 3), name
            assert all(a < b for (a, _), (b, _) in itertools.pairwise(frames)), name
