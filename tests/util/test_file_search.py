"""Every verb finds the same videos: through links, once each, under recorders' suffixes, without leftovers of downloads."""

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from surgvista_hf.datasets_scripts.corpora.folder import BUILDERS
from surgvista_hf.inference.batch import find_videos
from surgvista_hf.modeling import video_reading_surgvista
from surgvista_hf.modeling.errors_surgvista import InputError, VideoReadError
from surgvista_hf.modeling.subprocess_decoding import SubprocessVideo
from surgvista_hf.modeling.video_reading_surgvista import VideoReader
from surgvista_hf.util import file_search

CODECS = {"avi": "mpeg4", "mpeg": "mpeg2video", "mxf": "mpeg2video", "asf": "wmv2", "flv": "flv1", "dv": "dvvideo"}
MUXERS = {".mov": "mov", ".qt": "mov", ".3gp": "3gp", ".3g2": "3g2", ".f4v": "f4v", ".webm": "webm", ".vob": "vob"}
GUARDED = {".mts", ".vob", ".mxf", ".3gp", ".ogv", ".dv"}  # a process each: one a container that recorders write


def write_container(path: Path) -> Path:
    """Write ten frames in the container that belongs to the suffix."""
    container = file_search.VIDEO_CONTAINERS[path.suffix.lower()]
    if container == "dicom":
        return write_dicom_frames(path)
    muxer = MUXERS.get(path.suffix.lower(), {"mov": "mp4"}.get(container, container))
    codec = "libvpx" if muxer in ("webm", "ogg") else CODECS.get(container, "libx264")
    height, width = (576, 720) if codec == "dvvideo" else (64, 160)
    with av.open(str(path), "w", format=muxer) as output:
        stream = output.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 20 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def write_dicom_frames(path: Path) -> Path:
    """Write ten gray frames, 25 a second, in a DICOM file."""
    pytest.importorskip("pydicom")
    from ..modeling.dicom_files import write_dicom  # needs pydicom

    frames = np.zeros((10, 64, 160), np.uint8) + 20 * np.arange(10, dtype=np.uint8)[:, None, None]
    tags = {"NumberOfFrames": 10, "FrameTime": 40}
    return write_dicom(path, "1.2.840.10008.1.2.1", frames.tobytes(), "MONOCHROME2", 1, **tags)


def prepared(folder: Path) -> list[str]:
    """Return what `prepare folder` finds."""
    return sorted(BUILDERS[0].videos(folder))


def names(folder: Path) -> list[str]:
    """Return what `predict` and `deidentify` find."""
    return [path.relative_to(folder).as_posix() for path in find_videos(folder)]


@pytest.fixture
def remarks(caplog):
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("suffix", file_search.VIDEO_SUFFIXES)
def test_what_is_found_by_its_suffix_can_be_read(suffix, tmp_path):
    video = write_container(tmp_path / f"CASE 7{suffix.upper()}")
    assert names(tmp_path) == [video.name]
    assert prepared(tmp_path) == ["CASE 7"]
    with VideoReader(video) as reader:
        assert len(list(reader.iterate(None))) == 10
    if suffix in GUARDED:
        with SubprocessVideo(video, interval_seconds=0.2) as guarded:
            assert len(list(guarded)) == 2


def test_the_reader_opens_every_container_of_the_list():
    assert set(file_search.VIDEO_CONTAINERS.values()) - {"dicom"} <= set(video_reading_surgvista._FORMATS.split(","))


def test_dicom_files_are_found_whatever_an_archive_called_them(tmp_path):
    (tmp_path / "DICOM").mkdir()
    files = [write_dicom_frames(tmp_path / "DICOM" / name) for name in ("IM000001", "1.2.840.7", "1.2.840.8")]
    (tmp_path / "DICOMDIR").write_bytes(files[0].read_bytes())
    (tmp_path / "README").write_bytes(b"no video")
    assert names(tmp_path) == ["DICOM/1.2.840.7", "DICOM/1.2.840.8", "DICOM/IM000001"]
    assert prepared(tmp_path) == ["DICOM/1.2.840.7", "DICOM/1.2.840.8", "DICOM/IM000001"]


def test_a_bare_video_stream_is_named_and_not_taken_because_its_times_would_be_guessed(tmp_path, remarks):
    with av.open(str(tmp_path / "a.264"), "w", format="h264") as output:
        stream = output.add_stream("libx264", rate=50)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        output.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        output.mux(stream.encode())
    with pytest.raises(InputError, match=r"holds no videos .*passed over: 1 bare video streams, .*ffmpeg .*a\.264"):
        find_videos(tmp_path)


def test_a_file_that_only_has_the_suffix_is_found_and_unreadable_by_name(tmp_path):
    (tmp_path / "module.ts").write_text("export const a = 1;\n" * 50)
    assert names(tmp_path) == ["module.ts"]
    with pytest.raises(VideoReadError, match=r"module\.ts"):
        VideoReader(tmp_path / "module.ts")


def test_linked_folders_are_followed_and_every_video_comes_once(tmp_path, remarks):
    store, data = tmp_path / "store", tmp_path / "data"
    (store / "deep").mkdir(parents=True)
    data.mkdir()
    write_container(store / "a.mp4")
    write_container(store / "deep/b.mp4")
    (data / "hospital").symlink_to(store, target_is_directory=True)
    (data / "again").symlink_to(store / "deep", target_is_directory=True)
    (data / "zero.mp4").symlink_to(store / "a.mp4")
    (store / "deep" / "up").symlink_to(store, target_is_directory=True)  # a circle
    (data / "circle").symlink_to(data / "circle")
    (data / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")
    assert names(data) == ["again/b.mp4", "hospital/a.mp4"]
    assert prepared(data) == ["again/b", "hospital/a"]
    assert any("links that lead nowhere (gone.mp4)" in each for each in remarks())
    assert any("links to what is there anyway" in each for each in remarks())


def test_the_name_without_links_is_kept(tmp_path):
    (tmp_path / "real").mkdir()
    write_container(tmp_path / "real/z.mp4")
    (tmp_path / "latest").symlink_to("real")
    assert names(tmp_path) == ["real/z.mp4"]
    assert prepared(tmp_path) == ["real/z"]


def test_folders_that_all_link_to_each_other_end(tmp_path):
    for one in range(9):
        (tmp_path / f"{one}").mkdir()
        (tmp_path / f"{one}" / f"{one}.mp4").write_bytes(b"x")
        for other in range(9):
            (tmp_path / f"{one}" / f"to {other}").symlink_to(tmp_path / f"{other}", target_is_directory=True)
    assert names(tmp_path) == [f"{one}/{one}.mp4" for one in range(9)]
    assert sum(1 for _ in file_search.walk(tmp_path)) <= 100


def test_leftovers_of_downloads_and_empty_files_are_passed_over_and_named(tmp_path, remarks):
    write_container(tmp_path / "op.mp4")
    for name in ("op.f137.mp4.part", "op.mp4.part-Frag3", "b.mkv.crdownload", "c.mp4.ytdl", "d.temp.mp4", "e.mp4~"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "f.mp4").write_bytes(bytes(1000))
    (tmp_path / "f.mp4.aria2").write_bytes(b"not all")
    (tmp_path / "safari.mp4.download").mkdir()
    (tmp_path / "safari.mp4.download/safari.mp4").write_bytes(b"half")
    (tmp_path / "part 2.of 3.mp4").write_bytes(b"a name like others")
    assert names(tmp_path) == ["op.mp4", "part 2.of 3.mp4"]
    assert prepared(tmp_path) == ["op", "part 2.of 3"]
    (remark, _) = remarks()
    assert "10 leftovers of unfinished downloads or empty files" in remark


def test_other_files_are_named_by_kind_and_hidden_ones_are_not(tmp_path, remarks):
    write_container(tmp_path / "op.mp4")
    for name in ("op.srt", "notes.TXT", "more.txt", ".hidden.mp4", "._op.mp4"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "@eaDir/op.mp4").mkdir(parents=True)
    (tmp_path / "@eaDir/op.mp4/SHOT.jpg").write_bytes(b"x")
    assert names(tmp_path) == ["op.mp4"]
    assert remarks() == ["passed over: 3 files that are no videos (.srt, .txt)"]
    assert prepared(tmp_path) == ["op"]
