"""DICOM files are videos like others, in every coding that can be decoded here; what they say of people stays in them."""

import logging
import subprocess
import sys
import warnings

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
from pydicom import uid  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402

from surgvista_hf import SurgVistaVideoProcessor, VideoReadError  # noqa: E402
from surgvista_hf.cli.main import main  # noqa: E402
from surgvista_hf.inference.batch import deidentify_folder  # noqa: E402
from surgvista_hf.inference.deidentification import Pseudonyms  # noqa: E402
from surgvista_hf.modeling.subprocess_decoding import SubprocessVideo, VideoLimits  # noqa: E402
from surgvista_hf.modeling.video_reading_surgvista import VideoReader  # noqa: E402

from ..videos import read_number, write_numbered_video  # noqa: E402
from .dicom_files import FRAMES, SECRETS, as_jpeg, as_jpeg2000, as_rle, jpeg_dicom, write_dicom, write_stream  # noqa: E402

ALL = np.stack(FRAMES)


def check(source, second: float = 0.1) -> VideoReader:
    """Check that every frame is there, in order, at its time, whichever way it is read."""
    with VideoReader(source) as video:
        times, frames = zip(*video.iterate(None), strict=True)
        assert [read_number(frame) for frame in frames] == list(range(30))
        assert times == pytest.approx([number * second for number in range(30)], abs=2e-3)
        picked = video.frames_at([25 * second, 3 * second, 99.0])
        assert [read_number(frame) for frame in picked] == [25, 3, 29]
        assert video.last_second == pytest.approx(29 * second, abs=2e-3)
        every_fifth = [read_number(frame) for _, frame in video.iterate(5 * second)]
        assert every_fifth == [0, 5, 10, 15, 20, 25]
        assert video.info.duration_seconds == pytest.approx(30 * second, abs=0.1)
        assert video.is_dicom
        return video


@pytest.mark.parametrize(
    ("syntax", "codec", "name", "format_name", "tags", "second"),
    [
        (uid.MPEG4HP41, "libx264", "a.mp4", None, {"FrameTime": 33}, 0.04),  # a container's own times count
        (uid.MPEG2MPML, "mpeg2video", "a.ts", None, {}, 0.04),
        (uid.MPEG2MPML, "mpeg2video", "a.m2v", "mpeg2video", {"FrameTime": 100}, 0.1),
        (uid.MPEG4HP42STEREO, "libx264", "a.h264", "h264", {"CineRate": 20}, 0.05),
        (uid.HEVCMP51, "libx265", "a.hevc", "hevc", {"RecommendedDisplayFrameRate": 10}, 0.1),
    ],
)
@pytest.mark.parametrize("fragments", [1, 4])
def test_an_encapsulated_video_is_read_at_its_times(
    tmp_path, syntax, codec, name, format_name, tags, second, fragments
):
    payload = write_stream(tmp_path / name, codec, format_name)
    pixels = encapsulate([payload], fragments_per_frame=fragments, has_bot=False)
    path = write_dicom(tmp_path / "video.dcm", syntax, pixels, "YBR_PARTIAL_420", **tags)
    check(path, second)
    check(path.read_bytes(), second)


@pytest.mark.parametrize("layout", ["table", "pieces", "pieces without table", "without table"])
def test_frames_in_jpeg_are_found_however_they_are_laid_out(tmp_path, layout):
    pieces = 3 if "pieces" in layout else 1
    pixels = encapsulate(
        [as_jpeg(frame) for frame in FRAMES], fragments_per_frame=pieces, has_bot="without" not in layout
    )
    check(write_dicom(tmp_path / "IM000001", uid.JPEGBaseline8Bit, pixels, "YBR_FULL_422", FrameTime=100))


@pytest.mark.parametrize(
    "tags",
    [
        {"FrameTime": None, "FrameTimeVector": [0, *[100] * 29]},
        {"FrameTime": None, "CineRate": 10},
        {"FrameTime": None, "RecommendedDisplayFrameRate": 10},
        {"FrameTime": "100.0", "CineRate": 30},
    ],
)
def test_the_times_of_frames_are_those_that_the_file_says(tmp_path, tags):
    check(jpeg_dicom(tmp_path / "a.dcm", **tags))


def test_uneven_times_and_unknown_ones(tmp_path):
    steps = [0, *[50, 150] * 14, 50]
    with VideoReader(jpeg_dicom(tmp_path / "a.dcm", FrameTime=None, FrameTimeVector=steps)) as video:
        assert [second for second, _ in video.iterate(None)] == pytest.approx(np.cumsum(steps) / 1000)
        assert read_number(video.frames_at([0.19])[0]) == 1
    with VideoReader(jpeg_dicom(tmp_path / "b.dcm", FrameTime=None)) as video:
        assert video.info.frames_per_second == 25
        assert "does not say how many frames a second" in video.remarks[0]


@pytest.mark.parametrize(
    ("syntax", "pixels", "photometric", "samples", "tags"),
    [
        (uid.ExplicitVRLittleEndian, ALL.tobytes(), "RGB", 3, {}),
        (uid.ImplicitVRLittleEndian, ALL.tobytes(), "RGB", 3, {}),
        (
            uid.ExplicitVRLittleEndian,
            np.ascontiguousarray(ALL.transpose(0, 3, 1, 2)).tobytes(),
            "RGB",
            3,
            {"PlanarConfiguration": 1},
        ),
        (uid.ExplicitVRLittleEndian, ALL[..., 0].tobytes(), "MONOCHROME2", 1, {}),
        (uid.ExplicitVRLittleEndian, (255 - ALL[..., 0]).tobytes(), "MONOCHROME1", 1, {}),
        (
            uid.ExplicitVRLittleEndian,
            (ALL[..., 0].astype(np.uint16) * 4 + 100).tobytes(),
            "MONOCHROME2",
            1,
            {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "WindowCenter": 610, "WindowWidth": 1020},
        ),
        (uid.RLELossless, encapsulate([as_rle(frame) for frame in FRAMES]), "RGB", 3, {}),
        (uid.JPEG2000Lossless, encapsulate([as_jpeg2000(frame) for frame in FRAMES]), "YBR_RCT", 3, {}),
        (uid.JPEGBaseline8Bit, encapsulate([as_jpeg(frame[..., 0]) for frame in FRAMES]), "MONOCHROME2", 1, {}),
    ],
    ids=["rgb", "implicit", "planar", "mono2", "mono1", "12 bits", "rle", "jpeg2000", "gray jpeg"],
)
def test_other_codings_show_the_same_frames(tmp_path, syntax, pixels, photometric, samples, tags):
    path = write_dicom(tmp_path / "a.dcm", syntax, pixels, photometric, samples, FrameTime=100, **tags)
    check(path)
    with VideoReader(path) as video:
        frame = video.frames_at([0.7])[0]
        assert np.abs(frame.astype(int) - FRAMES[7]).max() <= (20 if "JPEG Baseline" in uid.UID(syntax).name else 1)


def test_colors_are_those_that_were_stored(tmp_path):
    colors = np.zeros((30, 64, 160, 3), np.uint8)
    colors[..., :] = (200, 60, 40)
    jpeg = encapsulate([as_jpeg(frame) for frame in colors])
    full = np.full((30, 64, 160, 3), (0.299 * 200 + 0.587 * 60 + 0.114 * 40, 94, 200), np.uint8)  # YCbCr of this color
    for path in (
        write_dicom(tmp_path / "a.dcm", uid.JPEGBaseline8Bit, jpeg, "YBR_FULL_422", FrameTime=100),
        write_dicom(tmp_path / "b.dcm", uid.ExplicitVRLittleEndian, colors.tobytes(), FrameTime=100),
        write_dicom(tmp_path / "c.dcm", uid.ExplicitVRLittleEndian, full.tobytes(), "YBR_FULL", FrameTime=100),
    ):
        with VideoReader(path) as video:
            assert np.abs(video.frames_at([0.5])[0].astype(int) - (200, 60, 40)).max() <= 4, path.name


def test_pixels_that_are_not_square_are_shown_as_they_are_meant(tmp_path):
    for tags in ({"PixelAspectRatio": ["1", "2"]}, {"PixelSpacing": ["0.1", "0.2"]}):  # height first
        with VideoReader(jpeg_dicom(tmp_path / "a.dcm", **tags)) as video:
            assert (video.info.width, video.info.height) == (320, 64)
            assert read_number(video.frames_at([1.3])[0]) == 13
    with pytest.raises(VideoReadError, match="320×64 pixels; at most 15000"):
        VideoReader(jpeg_dicom(tmp_path / "a.dcm", PixelAspectRatio=["1", "2"]), max_pixels=15_000)


def test_a_damaged_frame_is_refused_or_left_out_and_the_others_stay(tmp_path):
    images = [as_jpeg(frame) for frame in FRAMES]
    images[12] = images[12][:700] + bytes(len(images[12]) - 700)
    path = write_dicom(tmp_path / "a.dcm", uid.JPEGBaseline8Bit, encapsulate(images), "YBR_FULL_422", FrameTime=100)
    with VideoReader(path) as video:
        assert read_number(video.frames_at([1.1])[0]) == 11
        with pytest.raises(VideoReadError, match=r"damaged at second 1\.20"):
            list(video.iterate(None))
    with VideoReader(path, damaged="skip") as video:
        assert [read_number(frame) for _, frame in video.iterate(None)] == [*range(12), *range(13, 30)]
        assert video.lost == [(pytest.approx(1.2), pytest.approx(1.3))]
        assert read_number(video.frames_at([1.25])[0]) in (11, 13)


def test_a_truncated_file_gives_the_frames_it_has(tmp_path):
    content = jpeg_dicom(tmp_path / "a.dcm").read_bytes()
    cut = content[: int(len(content) * 0.7)]
    with VideoReader(cut) as video, pytest.raises(VideoReadError, match="damaged"):
        list(video.iterate(0.5))
    with VideoReader(cut, damaged="skip") as video:
        found = [read_number(frame) for _, frame in video.iterate(None)]
        assert found == list(range(len(found)))
        assert 15 < len(found) < 25


def test_files_that_hold_no_frames_or_are_damaged_are_refused_in_one_line_without_their_tags(tmp_path, caplog):
    path = jpeg_dicom(tmp_path / "a.dcm")
    data = pydicom.dcmread(path)
    del data.PixelData
    data.save_as(tmp_path / "b.dcm")
    with pytest.raises(VideoReadError, match="DICOM file without images"):
        VideoReader(tmp_path / "b.dcm")
    random, content = np.random.default_rng(0), path.read_bytes()
    caplog.set_level(logging.DEBUG)
    refusals = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(60):
            broken = bytearray(content)
            for index in random.integers(128, 1500, 8):
                broken[index] = random.integers(0, 256)
            try:
                with VideoReader(bytes(broken), damaged="any") as video:
                    video.frames_at([0.0, 1.0])
            except VideoReadError as error:
                refusals.append(str(error))
    output = caplog.text + "".join(str(warning.message) for warning in warned) + "".join(refusals)
    assert not any(secret in output for secret in SECRETS)
    assert "\n" not in "".join(refusals)
    assert 5 < len(refusals) < 60


def test_a_deflated_file_is_refused_before_it_is_unpacked(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", uid.DeflatedExplicitVRLittleEndian, ALL.tobytes(), FrameTime=100)
    with pytest.raises(VideoReadError, match="deflated"):
        VideoReader(path)


def test_untrusted_files_are_read_in_a_process_with_limits(tmp_path):
    path = jpeg_dicom(tmp_path / "IM000001")
    with SubprocessVideo(path, interval_seconds=0.5) as video:
        assert [read_number(frame) for _, frame in video] == [0, 5, 10, 15, 20, 25]
    with pytest.raises(VideoReadError, match="pixels"):
        SubprocessVideo(path, VideoLimits(pixels=1000))


def test_the_processor_reads_them_with_either_backend(tmp_path):
    path = jpeg_dicom(tmp_path / "a.dcm")
    for backend in ("pyav", "torchcodec"):
        processor = SurgVistaVideoProcessor(num_frames=4, size={"height": 32, "width": 80}, video_backend=backend)
        assert processor(path, frame_sampling="uniform")["pixel_values"][0].shape == (4, 3, 32, 80)


def test_without_pydicom_the_error_names_the_extra(tmp_path):
    program = (
        "import sys\n"
        "sys.modules['pydicom'] = None\n"
        "from surgvista_hf.modeling.video_reading_surgvista import VideoReader\n"
        "VideoReader(sys.argv[1])\n"
    )
    path = str(jpeg_dicom(tmp_path / "a.dcm"))
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True)
    assert "reading it needs pydicom: pip install 'surgvista-hf[dicom]'" in done.stderr.splitlines()[-1]


def everything_in(folder) -> bytes:
    """Return the names and contents of all files below a folder."""
    return b"".join(str(path).encode() + (path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*"))


def test_nothing_that_a_file_says_of_a_person_is_in_a_copy_a_result_or_a_message(tmp_path, model_folder, capfd):
    (tmp_path / "in").mkdir()
    jpeg_dicom(tmp_path / "in" / f"{SECRETS[0]}.dcm")
    payload = write_numbered_video(tmp_path / "a.mp4", count=30).read_bytes()
    write_dicom(tmp_path / "in" / f"{SECRETS[3]}.dcm", uid.MPEG4HP41, encapsulate([payload]), "YBR_PARTIAL_420")
    names = Pseudonyms(tmp_path / "names.json")
    for file in sorted((tmp_path / "in").iterdir()):
        deidentify_folder(file, tmp_path / "copies", None, names)
        options = [
            "--model",
            str(model_folder),
            "--mapping",
            str(tmp_path / "names.json"),
            "--formats",
            "csv,json,png,vtt,eaf,html,mp4",
        ]
        assert main(["predict", str(file), *options, "--output", str(tmp_path / "results" / file.stem[:2])]) in (
            0,
            None,
        )
    assert len(list((tmp_path / "copies").glob("*.mp4"))) == 2
    content = everything_in(tmp_path / "copies") + everything_in(tmp_path / "results")
    output = "".join(capfd.readouterr())
    for secret in SECRETS:
        assert secret.encode() not in content, secret
        assert secret not in output, secret
    for copy in (tmp_path / "copies").glob("*.mp4"):
        with VideoReader(copy) as video:
            assert [read_number(frame) for _, frame in video.iterate(None)] == list(range(30))


def test_a_real_angiogram(shared_data):
    path = shared_data / "odd_videos" / "recorder_14_dicom_xa_96frames_jpeg.dcm"
    with VideoReader(path) as video:
        times, frames = zip(*video.iterate(None), strict=True)
        assert len(frames) == 96
        assert frames[0].shape == (512, 512, 3)
        assert times[-1] == pytest.approx(95 * 0.033)
        assert np.array_equal(video.frames_at([1.0])[0], frames[30])
        theirs = pydicom.dcmread(path).pixel_array
        assert all(np.array_equal(ours[..., 0], other) for ours, other in zip(frames, theirs, strict=True))
