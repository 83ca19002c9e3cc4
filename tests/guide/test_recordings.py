"""The door for own recordings: label files find their videos by name, and what does not fit is named."""

import pytest

from surgvista_hf.datasets_scripts.frame_sets.load import load_frame_set
from surgvista_hf.guide.recordings import match_labels, prepare_own
from surgvista_hf.util.errors import InputError

from .recordings import write_recordings


def test_videos_without_labels_are_left_out_and_others_keep_theirs(tmp_path):
    videos, labels = write_recordings(tmp_path, 3)
    (labels / "day1.csv").unlink()
    made = prepare_own(videos, labels, tmp_path / "out")
    frames = load_frame_set(made.name, made.folder, "all")
    assert set(frames["video_id"]) == {"day0", "day2"}
    assert all(cell is not None for cell in frames["phase"])


def test_a_label_file_that_came_later_is_prepared_in_the_same_folder(tmp_path):
    videos, labels = write_recordings(tmp_path, 3)
    (labels / "day2.csv").rename(tmp_path / "later.csv")
    prepare_own(videos, labels, tmp_path / "out")
    (tmp_path / "later.csv").rename(labels / "day2.csv")
    made = prepare_own(videos, labels, tmp_path / "out")
    assert set(load_frame_set(made.name, made.folder, "all")["video_id"]) == {"day0", "day1", "day2"}


def test_labels_that_fit_no_video_are_refused_with_both_names(tmp_path):
    videos, labels = write_recordings(tmp_path, 2)
    for file in list(labels.glob("*.csv")):
        file.rename(file.with_stem(f"other_{file.stem}"))
    with pytest.raises(InputError, match=r"the videos are day0, day1, the files other_day0\.csv"):
        prepare_own(videos, labels, tmp_path / "out")


def test_two_label_files_of_one_video_are_refused(tmp_path):
    (tmp_path / "day0.csv").write_text("")
    (tmp_path / "day0.txt").write_text("")
    with pytest.raises(InputError, match="keep one"):
        match_labels({"day0": None}, tmp_path)


def test_one_table_is_the_labels_of_one_video_and_of_no_more(tmp_path):
    file = tmp_path / "anything.csv"
    file.write_text("")
    assert match_labels({"day0": None}, file) == {"day0": file}
    with pytest.raises(InputError, match="there are 2 videos"):
        match_labels({"day0": None, "day1": None}, file)


def test_a_missing_folder_of_labels_is_named(tmp_path):
    videos, _ = write_recordings(tmp_path, 1)
    with pytest.raises(InputError, match="nowhere"):
        prepare_own(videos, tmp_path / "nowhere", tmp_path / "out")
