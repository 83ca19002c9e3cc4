"""The door for own recordings: label files find their videos by name, and what does not fit is named."""

import shlex
from pathlib import Path

import pytest

from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.load import load_frame_set
from surgvista_hf.guide.first_model import _remove_other_features
from surgvista_hf.guide.recordings import prepare_own
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
    with pytest.raises(InputError, match="other_day0"):
        prepare_own(videos, labels, tmp_path / "out")


def test_one_table_with_a_column_of_videos_is_the_labels_of_all(tmp_path):
    videos, labels = write_recordings(tmp_path, 2)
    rows = [
        f"{file.stem},{line}"
        for file in sorted(labels.glob("*.csv"))
        for number, line in enumerate(file.read_text().splitlines())
        if number
    ]
    header = "video," + next(labels.glob("*.csv")).read_text().splitlines()[0]
    table = tmp_path / "all.csv"
    table.write_text("\n".join([header, *rows]) + "\n")
    made = prepare_own(videos, table, tmp_path / "out")
    one_each = prepare_own(videos, labels, tmp_path / "other")
    frames, others = (load_frame_set(each.name, each.folder, "all") for each in (made, one_each))
    named = [[each.features["phase"].int2str(number) for number in each["phase"]] for each in (frames, others)]
    assert named[0] == named[1]


def test_a_missing_folder_of_labels_is_named(tmp_path):
    videos, _ = write_recordings(tmp_path, 1)
    with pytest.raises(InputError, match="nowhere"):
        prepare_own(videos, tmp_path / "nowhere", tmp_path / "out")


def test_features_of_an_operation_that_left_the_labels_do_not_stay(tmp_path):
    videos, labels = write_recordings(tmp_path, 3)
    made = prepare_own(videos, labels, tmp_path / "out")
    features = tmp_path / "out" / "features" / "encoder" / "own"
    features.mkdir(parents=True)
    for number in range(3):
        (features / f"day{number}.arrow").write_bytes(b"features")
    (labels / "day1.csv").unlink()
    made = prepare_own(videos, labels, tmp_path / "out")
    frames = load_frame_set(made.name, made.folder, "all")
    assert set(frames["video_id"]) == {"day0", "day2"}
    _remove_other_features(tmp_path / "out" / "features", frames)
    assert sorted(file.name for file in features.iterdir()) == ["day0.arrow", "day2.arrow"]


@pytest.mark.slow
def test_the_words_of_the_first_hour_find_the_frame_sets_of_both_kinds_of_labels(tmp_path, monkeypatch, capsys):
    """Typed as they stand in the guide, in a folder that holds `frame_sets/ours` as the guide prepares it."""
    lines = (Path(__file__).parents[2] / "docs/guides/first_hour.md").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("surgvista finetune synthetic"))
    (tmp_path / "ours").mkdir()
    videos, labels = write_recordings(tmp_path / "ours", 10)
    videos.rename(tmp_path / "ours/videos")
    labels.rename(tmp_path / "ours/phases")
    for name, words in {
        "phase_folder": ["--data-dir", "ours"],
        "own": ["--videos", "ours/videos", "--labels", "ours/phases"],
    }.items():
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        (tmp_path / name / "ours").symlink_to(tmp_path / "ours")
        assert main(["prepare", name, *words, "--output", "frame_sets/ours"]) == 0
        typed = shlex.split(line.replace("phase_folder", name))[1:]
        assert main([*typed, "training.use_cpu=true", "--check"]) == 0
        assert f"classes from {name}" in capsys.readouterr().out
