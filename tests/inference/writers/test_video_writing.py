"""Frames are written once, in order, whatever their times; who cannot write says whose fault it is."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from surgvista_hf.inference import deidentification
from surgvista_hf.inference.batch import deidentify_folder
from surgvista_hf.inference.deidentification import Pseudonyms, deidentify_video
from surgvista_hf.inference.writers import video_writing
from surgvista_hf.inference.writers.video_writing import VideoWriteError, video_writer
from surgvista_hf.modeling.video_reading_surgvista import VideoReader
from surgvista_hf.util.files import OutputError

from ...videos import numbered_frame, read_number, write_numbered_video


@contextmanager
def full_disk(path):
    """Instead of `atomic_file`: the device on which every write finds the disk full."""
    yield Path("/dev/full")


def test_equal_and_backward_times_lose_no_frame_and_keep_the_order(tmp_path):
    times = [0.0, 0.1, 0.1, 0.1, 0.05, 0.1 + 1 / 90_000, 0.2, 0.2, 5.0, 4.9, 5.1]
    with video_writer(tmp_path / "a.mp4", 160, 64, 10.0) as write:
        for number, time in enumerate(times):
            write(numbered_frame(number), time)
    with VideoReader(tmp_path / "a.mp4") as reader:
        written, frames = zip(*reader.iterate(None), strict=True)
    assert [read_number(frame) for frame in frames] == list(range(len(times)))
    assert (np.diff(written) > 0).all()
    assert np.abs(np.array(written) - np.maximum.accumulate(times)).max() < 1e-3


def test_recordings_that_overlap_are_written_frame_by_frame(tmp_path):
    first = write_numbered_video(tmp_path / "1.ts", count=20, options={"bf": "0"}).read_bytes()
    second = write_numbered_video(tmp_path / "2.ts", count=20, start=18, options={"bf": "0"}).read_bytes()
    (tmp_path / "both.ts").write_bytes(first + second)
    done = deidentify_video(tmp_path / "both.ts", tmp_path / "out.mp4", None)
    with VideoReader(tmp_path / "out.mp4") as reader:
        numbers = [read_number(frame) for _, frame in reader.iterate(None)]
    assert numbers == [*range(20), *range(20)]
    assert done.frames == 40


def test_what_the_encoder_refuses_is_told_with_the_name_of_the_video_and_leaves_nothing(tmp_path):
    with (
        pytest.raises(VideoWriteError, match=r"op7 can be read, but not be written as a\.mp4: "),
        video_writer(tmp_path / "a.mp4", 161, 64, 10.0, source="op7") as write,
    ):
        write(np.zeros((64, 161, 3), np.uint8), 0.0)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_not_taken_for_a_bad_video(tmp_path, monkeypatch):
    monkeypatch.setattr(video_writing, "atomic_file", full_disk)
    with (
        pytest.raises(OutputError, match=r"a\.mp4 cannot be written: No space left"),
        video_writer(tmp_path / "a.mp4", 160, 64, 10.0) as write,
    ):
        write(numbered_frame(1), 0.0)


def test_of_a_folder_the_others_go_on_unless_the_disk_is_full(tmp_path, monkeypatch):
    (tmp_path / "videos").mkdir()
    for count, name in enumerate(("a", "b", "c"), start=5):
        write_numbered_video(tmp_path / f"videos/{name}.mp4", count=count)
    names = Pseudonyms(tmp_path / "names.json")
    called = {name: names.of(tmp_path / f"videos/{name}.mp4", tmp_path / "videos") for name in "abc"}

    def picky(path, width, height, *others, source):
        return video_writer(path, width - (Path(source).stem == "b"), height, *others, source=source)

    monkeypatch.setattr(deidentification, "video_writer", picky)
    with pytest.raises(VideoWriteError, match=r"b\.mp4 can be read"):
        deidentify_folder(tmp_path / "videos", tmp_path / "strict", None, names)
    report = deidentify_folder(tmp_path / "videos", tmp_path / "out", None, names, skip_unreadable=True)
    assert report.done == [called["a"], called["c"]]
    (reason,) = report.unreadable.values()
    assert "can be read, but not be written" in reason
    assert "b.mp4 " not in reason  # the folder may be shared
    assert not list((tmp_path / "out").glob(f"*{called['b']}*"))
    monkeypatch.setattr(video_writing, "atomic_file", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        deidentify_folder(tmp_path / "videos", tmp_path / "full", None, names, skip_unreadable=True)
