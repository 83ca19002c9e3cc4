"""Splits of frame sets: drawn, written, loaded again, of prepared and of published data."""

import json
import warnings

import pytest

from surgvista_hf import load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.draw_splits import SplitOptions, draw_splits
from surgvista_hf.datasets_scripts.frame_sets.load import FrameSetWarning
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.frame_sets.publish import publish_frame_set
from surgvista_hf.datasets_scripts.schema.info import DatasetError
from surgvista_hf.datasets_scripts.schema.split_files import SplitFileError, read_split_file
from tests.videos import write_numbered_video

SIZES = {"videos": "6", "seconds": "14", "height": "48", "width": "64"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Prepare six operations, and tell their patients and hospitals in a table."""
    folder = tmp_path_factory.mktemp("drawn")
    prepare_frame_set("synthetic", None, folder / "set", settings=SIZES)
    names = videos(load_frame_set("synthetic", folder / "set", "all"))
    rows = [f"{name},p{number // 2},{'Bern' if number < 4 else 'Paris'}" for number, name in enumerate(names)]
    (folder / "patients.csv").write_text("\n".join(["video,patient,hospital", *rows]))
    return folder


def videos(frames) -> list[str]:
    """Return the ids of a frame set in its order."""
    return list(dict.fromkeys(frames["video_id"]))


def split(data, output, *options: str) -> int:
    """Run the command."""
    return main(["split", f"synthetic={data / 'set'}", "--output", str(output), *options])


def test_folds_by_patient_are_written_with_what_they_are_made_of_and_loaded(data, tmp_path):
    table = ["--table", str(data / "patients.csv"), "--group", "patient"]
    assert split(data, tmp_path / "folds.yaml", "--folds", "3", "--stratify", "phase", *table) == 0
    text = " ".join((tmp_path / "folds.yaml").read_text().split())
    assert "3 folds, every video is tested once" in text
    assert "no patient is in two splits; stratified by phase; columns from patients.csv" in text
    file = read_split_file(tmp_path / "folds.yaml")
    everything = load_frame_set("synthetic", data / "set", "all")
    loaded = []
    for fold in range(3):
        parts = {
            name: load_frame_set("synthetic", data / "set", name, split_file=tmp_path / "folds.yaml", fold=fold)
            for name in ("train", "validation", "test")
        }
        assert [len(videos(part)) for part in parts.values()] == [2, 2, 2]
        patients = [{file.groups[video] for video in videos(part)} for part in parts.values()]
        assert sum(map(len, patients)) == len(set.union(*patients)) == 3
        loaded += videos(parts["test"])
        assert f"folds.yaml, fold {fold}" in parts["test"].info.description
    assert sorted(loaded) == videos(everything)


def test_the_counts_in_the_file_are_those_of_the_frames(data, tmp_path):
    assert split(data, tmp_path / "split.json", "--stratify", "phase") == 0
    content = json.loads((tmp_path / "split.json").read_text())
    for name, counts in content["counts"].items():
        frames = load_frame_set("synthetic", data / "set", name, split_file=tmp_path / "split.json")
        names = [frames.features["phase"].names[number] for number in frames["phase"] if number is not None]
        assert counts["frames"] == len(frames)
        assert counts["videos"] == len(content["splits"][name])
        assert counts["phase"] == {name: names.count(name) for name in sorted(set(names))}
    assert content["seed"] == 0
    assert content["data"]["name"] == "synthetic"
    assert content["data"]["videos"] == 6


def test_the_same_command_writes_the_same_file_and_another_seed_does_not_replace_it(data, tmp_path, capsys):
    for name in ("a.yaml", "b.yaml"):
        assert split(data, tmp_path / name, "--folds", "2") == 0
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()
    assert split(data, tmp_path / "a.yaml", "--folds", "2") == 0
    assert "a.yaml (unchanged)" in capsys.readouterr().out
    assert split(data, tmp_path / "a.yaml", "--folds", "2", "--seed", "1") == 1
    assert "holds other splits" in capsys.readouterr().err


def test_a_hospital_is_held_out(data, tmp_path, capsys):
    table = ["--table", str(data / "patients.csv")]
    assert split(data, tmp_path / "hospitals.yaml", "--hold-out", "hospital", *table, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert [len(fold["test"]) for fold in content["folds"]] == [4, 2]
    assert split(data, tmp_path / "paris.yaml", "--hold-out", "hospital=Paris", "--validation", "0", *table) == 0
    paris = read_split_file(tmp_path / "paris.yaml")
    assert paris.splits()["test"] == tuple(content["folds"][1]["test"])
    assert "validation" not in paris.splits()
    assert split(data, tmp_path / "one.yaml", "--hold-out", "video") == 0
    assert len(read_split_file(tmp_path / "one.yaml").folds) == 6


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--folds", "3", "--hold-out", "hospital"], "give either a number of folds or a column to hold out"),
        (["--folds", "7"], "7 folds of 6 groups"),
        (["--folds", "1"], "1 folds of 6 groups"),
        (["--group", "hospital"], "there is no column 'hospital' with classes"),
        (["--group", "phase"], "the column 'phase' has no single value for 6 of 6 videos"),
        (["--stratify", "timestamp"], "there is no column 'timestamp' with classes"),
        (["--test", "0.9", "--validation", "0.2"], "leave no training"),
        (["--table", "{data}/patients.csv", "--hold-out", "hospitl"], "did you mean hospital?"),
        (
            ["--table", "{data}/patients.csv", "--group", "hospital", "--hold-out", "patient"],
            "training and test: Bern",
        ),
        (["--check", "x.yaml"], "give either --output FILE to draw splits or --check FILE"),
    ],
)
def test_what_cannot_be_drawn_ends_in_one_line(data, tmp_path, capsys, options, complaint):
    assert split(data, tmp_path / "x.yaml", *(text.format(data=data) for text in options)) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert complaint in error[0]
    assert not (tmp_path / "x.yaml").exists()


def test_a_file_by_hand_is_checked_and_says_what_it_leaves_out(data, tmp_path, capsys):
    names = videos(load_frame_set("synthetic", data / "set", "all"))
    (tmp_path / "hand.yaml").write_text(f"train: [{names[0]}, {names[1]}]\ntest: [{names[2]}]\n")
    words = ["split", f"synthetic={data / 'set'}", "--check", str(tmp_path / "hand.yaml")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "train 2 videos, 28 frames; test 1 videos, 14 frames" in out
    assert f"in no split: {names[3]}, {names[4]}, {names[5]}" in out
    (tmp_path / "hand.yaml").write_text(f"train: [{names[0]}]\ntest: [nobody]\n")
    assert main(words) == 1
    assert "names 1 videos that are not in the frame set: nobody" in capsys.readouterr().err


def test_a_file_by_hand_that_divides_a_patient_is_refused_and_warns_when_loaded(tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    for name in ("op1", "op2", "op3"):
        write_numbered_video(tmp_path / f"videos/{name}.mp4", count=40, rate=10)
    rows = [
        f"op{number},{'anna' if number < 3 else 'ben'},{second},cut" for number in (1, 2, 3) for second in range(4)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["video,patient,second,phase", *rows]))
    prepare_frame_set("own", tmp_path / "videos", tmp_path / "set", settings={"labels": str(tmp_path / "labels.csv")})
    file = tmp_path / "hand.yaml"
    words = ["split", f"own={tmp_path / 'set'}", "--check", str(file)]
    file.write_text("train: [op1]\ntest: [op2, op3]\n")
    assert main(words) == 1
    assert "1 patient in two splits" in (error := capsys.readouterr().err)
    assert "anna (train op1, test op2)" in error
    with pytest.warns(FrameSetWarning, match="1 patient in two splits"):
        load_frame_set("own", tmp_path / "set", "test", split_file=file)
    file.write_text("folds:\n- train: [op1, op2]\n  test: [op3]\n- train: [op1, op3]\n  test: [op2]\n")
    assert main(words) == 1
    assert "hand.yaml, fold 1 has 1 patient" in capsys.readouterr().err
    load_frame_set("own", tmp_path / "set", "test", split_file=file, fold=0)
    file.write_text("train: [op1, op2]\ntest: [op3]\n")
    assert main(words) == 0


def test_splits_of_other_data_are_refused_and_of_another_preparation_remarked(data, tmp_path):
    drawn = draw_splits("synthetic", data / "set", SplitOptions())
    other = {**drawn.content, "data": {"name": "cholec80"}}
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(DatasetError, match="has splits of cholec80, not of synthetic"):
        load_frame_set("synthetic", data / "set", split_file=tmp_path / "other.json")
    again = {**drawn.content, "data": {"name": "synthetic", "fingerprint": "0" * 16}}
    (tmp_path / "again.json").write_text(json.dumps(again))
    with pytest.warns(FrameSetWarning, match="drawn from another preparation"):
        load_frame_set("synthetic", data / "set", split_file=tmp_path / "again.json")
    (tmp_path / "own.json").write_text(json.dumps(drawn.content))
    frames = load_frame_set("synthetic", data / "set", protocol="of_another_recipe", split_file=tmp_path / "own.json")
    assert videos(frames) == drawn.content["splits"]["train"]  # the file stands in place of the protocol
    with pytest.raises(DatasetError, match="fold 0 of what"):
        load_frame_set("synthetic", data / "set", fold=0)


def test_a_published_frame_set_is_split_by_a_file_too_and_streamed(data, tmp_path):
    publish_frame_set(data / "set", tmp_path / "published")
    names = videos(load_frame_set("synthetic", tmp_path / "published", "all"))
    assert names == videos(load_frame_set("synthetic", data / "set", "all"))
    assert (
        main(["split", f"synthetic={tmp_path / 'published'}", "--folds", "3", "--output", str(tmp_path / "f.yaml")])
        == 0
    )
    file = tmp_path / "f.yaml"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FrameSetWarning)  # drawn from the published copy
        stored = load_frame_set("synthetic", data / "set", "test", split_file=file, fold=1)
    published = load_frame_set("synthetic", tmp_path / "published", "test", split_file=file, fold=1)
    assert published["phase"] == stored["phase"]
    assert videos(published) == videos(stored)
    assert published.features == stored.features
    streamed = load_frame_set("synthetic", tmp_path / "published", "test", split_file=file, fold=1, streaming=True)
    assert [row["timestamp"] for row in streamed] == published["timestamp"][:]
    with pytest.raises(SplitFileError, match="there is no split 'pool'"):
        load_frame_set("synthetic", tmp_path / "published", "pool", split_file=file, fold=1)


def test_clips_of_one_operation_stay_together_without_a_table(tmp_path, monkeypatch):
    """Take operations as groups where videos are parts of them."""
    from surgvista_hf.datasets_scripts.frame_sets import draw_splits as module

    prepare_frame_set("synthetic", None, tmp_path / "set", settings=SIZES)
    monkeypatch.setattr(module, "operation_of", lambda dataset, video: f"op{int(video[-1]) // 2}")
    drawn = draw_splits("synthetic", tmp_path / "set", SplitOptions(folds=2))
    assert len(drawn.content["groups"]) < 6
    read = [{drawn.groups[video] for video in fold["test"]} for fold in drawn.folds]
    assert not set.intersection(*read)
