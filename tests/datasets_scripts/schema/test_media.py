"""Which frames are taken, at which second, and how they are stored."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from surgvista_hf.datasets_scripts.schema.media import (
    FrameFolder,
    PreparationOptions,
    VideoFile,
    crop_black_border,
    frame_selector,
    numbered_files,
)
from surgvista_hf.modeling.errors_surgvista import InputError, VideoReadError
from tests.datasets_scripts.raw_layouts import number_of, numbered_image, write_frames, write_video
from tests.videos import write_numbered_video

ONE_A_SECOND = PreparationOptions()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def taken(
    options: PreparationOptions, times: list[float], start: float = 0.0, stop: float = float("inf")
) -> list[int]:
    choose = frame_selector(options, start, stop)
    return [number for number, time in enumerate(times) if choose(number, time)]


# ------------------------------------------------------------------------------------------- which frames


def test_the_first_frame_at_or_after_each_second_is_taken():
    ntsc = [number * 1001 / 30000 for number in range(200)]
    assert taken(ONE_A_SECOND, ntsc) == [0, 30, 60, 90, 120, 150, 180]
    assert taken(ONE_A_SECOND, [number / 25 for number in range(101)]) == [0, 25, 50, 75, 100]


def test_time_stamps_rounded_to_milliseconds_change_nothing():
    rounded = [round(number / 30, 3) for number in range(91)]
    assert taken(ONE_A_SECOND, rounded) == [0, 30, 60, 90]


def test_every_frame_and_every_nth_frame():
    times = [number / 25 for number in range(60)]
    assert taken(PreparationOptions(frames_per_second=None), times) == list(range(60))
    assert taken(PreparationOptions(every=25), times) == [0, 25, 50]
    assert taken(PreparationOptions(every=30), [number * 1001 / 30000 for number in range(91)]) == [0, 30, 60, 90]


def test_a_rate_above_that_of_the_video_takes_each_frame_once():
    assert taken(PreparationOptions(frames_per_second=100), [0.0, 0.04, 0.08]) == [0, 1, 2]


def test_after_a_pause_the_clock_goes_on():
    assert taken(ONE_A_SECOND, [0.0, 0.5, 7.3, 7.5, 8.0, 8.2]) == [0, 2, 4]


def test_a_part_is_taken_from_its_start_to_before_its_stop():
    times = [number / 25 for number in range(200)]
    assert taken(ONE_A_SECOND, times, start=2.0, stop=5.0) == [50, 75, 100]


@given(
    rate=st.sampled_from([23.976, 24, 25, 29.97, 30, 50, 59.94]),
    wanted=st.sampled_from([0.2, 0.5, 1, 2, 5]),
    frames=st.integers(1, 800),
)
@settings(max_examples=60, deadline=None)
def test_taken_frames_are_as_many_as_the_video_is_long(rate, wanted, frames):
    times = [number / rate for number in range(frames)]
    numbers = taken(PreparationOptions(frames_per_second=wanted), times)
    assert numbers == sorted(set(numbers))
    assert len(numbers) == int(times[-1] * wanted + 2e-3 * wanted) + 1
    for k, number in enumerate(numbers):
        assert k / wanted - 2e-3 <= times[number] < k / wanted + 1 / rate


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames_per_second": 0},
        {"every": -1},
        {"short_side": 0},
        {"quality": 0},
        {"unlabeled": "x"},
        {"tolerance_seconds": -1},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(InputError):
        PreparationOptions(**wrong)


# ------------------------------------------------------------------------------------------- videos


def test_frames_of_a_video_are_those_shown_at_their_seconds(tmp_path):
    write_video(tmp_path / "v.mp4", frames=60)
    frames = list(VideoFile(tmp_path / "v.mp4").frames(ONE_A_SECOND))
    assert [number_of(pixels(frame.data)) for frame in frames] == [0, 25, 50]
    assert [frame.second for frame in frames] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libvpx-vp9"])
def test_a_part_of_a_video_is_found_by_time_whatever_the_container(tmp_path, codec):
    suffix = {"libx264": "mp4", "mpeg4": "avi", "libvpx-vp9": "webm"}[codec]
    path = write_numbered_video(tmp_path / f"v.{suffix}", count=60, rate=10, codec=codec)
    frames = list(VideoFile(path, start=2.0, stop=4.0).frames(ONE_A_SECOND))
    assert [frame.second for frame in frames] == pytest.approx([2.0, 3.0], abs=2e-3)


def test_a_video_that_does_not_start_at_zero_counts_from_its_first_frame(tmp_path):
    path = write_numbered_video(tmp_path / "v.mp4", count=25, rate=10, start=13)
    assert [frame.second for frame in VideoFile(path).frames(ONE_A_SECOND)] == pytest.approx([0.0, 1.0, 2.0])


def test_large_frames_are_reduced_and_small_ones_kept(tmp_path):
    write_video(tmp_path / "v.mp4", frames=1)
    (small,) = VideoFile(tmp_path / "v.mp4").frames(PreparationOptions(short_side=48))
    (same,) = VideoFile(tmp_path / "v.mp4").frames(ONE_A_SECOND)
    assert (small.size, same.size) == ((80, 48), (160, 96))
    assert pixels(small.data).shape == (48, 80, 3)


# ------------------------------------------------------------------------------------------- folders


@pytest.mark.parametrize(
    ("names", "seconds"),
    [
        (["00000.png", "00001.png", "00002.png"], [0, 1, 2]),
        (["000001.jpg", "000002.jpg", "000003.jpg"], [0, 1, 2]),  # ffmpeg counts from 1
        (["video01_000000.jpg", "video01_000025.jpg", "video01_000050.jpg"], [0, 1, 2]),  # source frames
        (["0.jpg", "30.jpg", "60.jpg"], [0, 1, 2]),
        (["frame-8.png", "frame-9.png", "frame-10.png"], [8, 9, 10]),  # not in the order of the text
        (["img 1.JPG", "img 2.JPG", "img 4.JPG"], [0, 1, 3]),  # one is missing
    ],
)
def test_names_of_extracted_frames_are_understood(tmp_path, names, seconds):
    write_frames(tmp_path / "f", names, [0, 25, 50])
    (tmp_path / "f" / ".DS_Store").write_bytes(b"")
    (tmp_path / "f" / "notes.txt").write_text("no image")
    frames = list(FrameFolder(numbered_files(tmp_path / "f"), None).frames(ONE_A_SECOND))
    assert [frame.second for frame in frames] == seconds
    assert [number_of(pixels(frame.data)) for frame in frames] == [0, 25, 50]


def test_a_folder_at_another_rate_is_thinned_out(tmp_path):
    write_frames(tmp_path / "f", [f"{number:05d}.jpg" for number in range(10)], range(10))
    folder = FrameFolder(numbered_files(tmp_path / "f"), None, folder_rate=5.0)
    assert [number_of(pixels(frame.data)) for frame in folder.frames(ONE_A_SECOND)] == [0, 5]
    assert folder.seconds == 2.0


def test_small_jpegs_are_kept_byte_for_byte(tmp_path):
    write_frames(tmp_path / "f", ["0.jpg"], [3])
    (frame,) = FrameFolder(numbered_files(tmp_path / "f"), None).frames(ONE_A_SECOND)
    assert frame.data == (tmp_path / "f" / "0.jpg").read_bytes()


@pytest.mark.parametrize("reason", ["large", "png", "turned", "cmyk"])
def test_other_frames_are_coded_once_and_upright(tmp_path, reason):
    path = tmp_path / "f" / ("0.png" if reason == "png" else "0.jpg")
    path.parent.mkdir()
    image = Image.fromarray(numbered_image(3))
    exif = Image.Exif()
    if reason == "turned":
        exif[0x0112] = 6  # to be shown turned to the right
        image = image.transpose(Image.Transpose.ROTATE_90)
    if reason == "large":
        image = image.resize((1600, 960))
    if reason == "cmyk":
        image = image.convert("CMYK")
    image.save(path, exif=exif) if reason == "turned" else image.save(path)
    (frame,) = FrameFolder(numbered_files(tmp_path / "f"), None).frames(ONE_A_SECOND)
    assert frame.data != path.read_bytes()
    assert frame.data.startswith(b"\xff\xd8\xff")
    shown = Image.fromarray(pixels(frame.data)).resize((160, 96))
    assert number_of(np.asarray(shown)) == 3
    assert frame.size == ((427, 256) if reason == "large" else (160, 96))


def test_folders_that_cannot_be_told_apart_are_refused(tmp_path):
    with pytest.raises(VideoReadError, match="holds no images"):
        numbered_files(tmp_path)
    write_frames(tmp_path, ["a1.jpg", "b01.jpg"], [0, 1])
    with pytest.raises(VideoReadError, match="have the same number"):
        numbered_files(tmp_path)
    (tmp_path / "a1.jpg").rename(tmp_path / "first.jpg")
    with pytest.raises(VideoReadError, match="no number at the end"):
        numbered_files(tmp_path)


def test_a_broken_frame_names_its_file(tmp_path):
    (tmp_path / "7.jpg").write_bytes(b"\xff\xd8\xff not an image")
    with pytest.raises(VideoReadError, match=r"7\.jpg cannot be decoded"):
        list(FrameFolder(numbered_files(tmp_path), None).frames(ONE_A_SECOND))


# ------------------------------------------------------------------------------------------- border


def endoscopic(width: int, height: int, radius: float, seed: int = 0) -> Image.Image:
    """A noisy disc on black, with a bright speck outside it that must not count."""
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(x - width * 0.55, y - height / 2) < radius * height
    noise = np.random.default_rng(seed).integers(40, 200, (height, width, 3))
    image = np.where(inside[..., None], noise, 3)
    image[10:14, 30:34] = 255
    return Image.fromarray(image.astype(np.uint8))


@pytest.mark.parametrize(("width", "height", "radius"), [(854, 480, 0.45), (1920, 1080, 0.4), (400, 300, 0.2)])
def test_the_border_cut_equals_that_of_opencv(width, height, radius):
    """The published steps, with OpenCV's median; the reduction itself is ours."""
    cv2 = pytest.importorskip("cv2")
    image = endoscopic(width, height, radius)
    reduced = image.resize((int(width * 300 / height), 300), Image.Resampling.BILINEAR)
    gray = np.asarray(reduced.convert("L"))
    content = cv2.medianBlur(np.where(gray > 15, 255, 0).astype(np.uint8), 19)
    content[:, :10] = content[:, -10:] = 0
    rows, columns = np.nonzero(content)
    expected = np.asarray(reduced)[rows.min() : rows.max(), columns.min() : columns.max()]
    np.testing.assert_array_equal(np.asarray(crop_black_border(image)), expected)


def test_a_black_frame_is_only_reduced():
    assert crop_black_border(Image.new("RGB", (854, 480))).size == (533, 300)
