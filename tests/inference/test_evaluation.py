"""Testing what exists: the same numbers as training reports, from a model or from files."""

import json
import shutil

import numpy as np
import pytest

from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.evaluation.tasks import ClipPredictions

MODEL = (
    "{model_type: surgvista, image_size: 32, patch_size: 16, num_frames: 2, hidden_size: 32, num_hidden_layers: 1, "
)
MODEL += "num_attention_heads: 2}"
SIZES = {"videos": "6", "seconds": "14", "height": "48", "width": "64"}


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    """Frame sets of two hospitals, and a model that was trained in the first and tested in the second."""
    folder = tmp_path_factory.mktemp("hospitals")
    for name, seed in (("here", "0"), ("there", "50")):
        prepare_frame_set("synthetic", None, folder / name, settings={**SIZES, "seed": seed})
    changes = [
        f"model.config={MODEL}",
        f"data.root={folder}",
        "data.data_dir=here",
        "data.frame_stride=2",
        "data.test_on={name: synthetic, data_dir: there, split: all}",
        f"training.output_dir={folder / 'run'}",
        "training.use_cpu=true",
        "training.disable_tqdm=true",
        "training.num_train_epochs=1",
        "training.warmup_epochs=0",
    ]
    assert main(["finetune", "synthetic", *changes]) == 0
    return folder


def read(path):
    return json.loads(path.read_text())


def test_a_model_is_tested_where_it_was_not_trained(hospitals):
    """All six operations of the other hospital, none of the own."""
    predictions = ClipPredictions.load(hospitals / "run/predictions.parquet")
    assert len(set(predictions.videos)) == 6
    assert read(hospitals / "run/results.json")["recipe"]["data"]["test_on"]["data_dir"] == "there"
    assert "of another frame set" in (hospitals / "run/model/README.md").read_text()


def test_the_same_videos_under_another_name_are_no_other_hospital(hospitals, tmp_path, capsys):
    shutil.copytree(hospitals / "here", hospitals / "copy", dirs_exist_ok=True)
    words = [
        "finetune",
        "synthetic",
        f"model.config={MODEL}",
        f"data.root={hospitals}",
        "data.data_dir=here",
        "--check",
    ]
    other = "data.test_on={name: synthetic, data_dir: copy}"
    assert main([*words, other, f"training.output_dir={tmp_path}", "training.use_cpu=true"]) == 1
    assert "6 videos of" in capsys.readouterr().err


def test_evaluate_says_of_a_finished_model_what_training_said(hospitals, capsys):
    words = ["evaluate", str(hospitals / "run/model"), "--data", f"synthetic={hospitals / 'there'}", "--split", "all"]
    assert main([*words, "--output", str(hospitals / "tested"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    trained = read(hospitals / "run/results.json")
    assert said["metrics"] == pytest.approx(trained["metrics"], abs=1e-6)
    assert said["by_video"] == pytest.approx(trained["by_video"])
    assert read(hospitals / "tested/results.json")["metrics"] == said["metrics"]
    assert (hospitals / "tested/tables.md").read_text().startswith("#")
    assert list((hospitals / "tested/plots").glob("*confusion*.png"))


def test_files_of_another_program_get_the_same_numbers_as_the_model(hospitals, tmp_path, capsys):
    predictions = ClipPredictions.load(hospitals / "run/predictions.parquet")
    for video, scores in predictions.by_video(predictions.scores).items():
        np.save(tmp_path / f"{video.partition('/')[2]}.npy", scores)
    words = [
        "evaluate",
        "--predictions",
        str(tmp_path),
        "--data",
        f"synthetic={hospitals / 'there'}",
        "--split",
        "all",
    ]
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["metrics"]
    assert said == pytest.approx(read(hospitals / "run/results.json")["metrics"], abs=1e-6)


def test_label_files_do_without_a_frame_set(tmp_path, capsys):
    for kind, text in (
        ("labels", "start,end,phase\n0,4,cut\n4,10,sew\n"),
        ("said", "start,end,phase\n0,5,cut\n5,10,sew\n"),
    ):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "op1.csv").write_text(text)
    words = ["evaluate", "--predictions", str(tmp_path / "said"), "--labels", str(tmp_path / "labels"), "--json"]
    assert main([*words, "--output", str(tmp_path / "result")]) == 0
    assert "| unknown |" in (tmp_path / "result/tables.md").read_text()  # how much was trained
    said = json.loads(capsys.readouterr().out)
    assert said["metrics"]["image_accuracy"] == pytest.approx(0.9)
    assert "calibration_error" not in said["results"]["classification"]  # there are no probabilities


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "give either a model or --predictions"),
        (["m", "--predictions", "p"], "give either a model or --predictions"),
        (["m"], "give either --data NAME=DIR or --labels FOLDER"),
        (["m", "--labels", "l"], "a model needs a frame set"),
        (["--predictions", "nowhere", "--labels", "nowhere"], "holds no label files"),
        (["m", "--data", "synthetic"], "NAME=DIR is expected"),
    ],
)
def test_bad_arguments_end_in_one_line(words, complaint, capsys):
    assert main(["evaluate", *words]) != 0
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert complaint in error[0]


def test_a_video_without_predictions_is_named(hospitals, tmp_path, capsys):
    np.save(tmp_path / "other.npy", np.zeros(3, int))
    words = [
        "evaluate",
        "--predictions",
        str(tmp_path),
        "--data",
        f"synthetic={hospitals / 'there'}",
        "--split",
        "all",
    ]
    assert main(words) == 1
    assert "holds no predictions of 6 of 6 videos" in capsys.readouterr().err


def test_a_label_column_that_is_not_there_is_named(hospitals, capsys):
    words = [
        "evaluate",
        str(hospitals / "run/model"),
        "--data",
        f"synthetic={hospitals / 'there'}",
        "--label",
        "phaze",
    ]
    assert main(words) == 1
    assert "--label is 'phaze'; the frame set has the columns" in capsys.readouterr().err
