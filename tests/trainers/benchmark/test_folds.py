"""Suites over folds: every fold once, reported one by one and together, and never mixed with other folds."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from surgvista_hf.cli.main import main
from surgvista_hf.evaluation.reports.benchmark_report import CellResult
from surgvista_hf.evaluation.tasks import ClipPredictions
from surgvista_hf.trainers.benchmark.suite import load_suite
from surgvista_hf.trainers.recipes.loading import RecipeError

from .. import tiny

MODEL = {"model_type": "surgvista", **tiny.SIZES}
QUICK = {"num_train_epochs": 1, "warmup_epochs": 0, "use_cpu": True, "per_device_train_batch_size": 16}


def suite(folder: Path, frame_set: Path, **changes: object) -> Path:
    """Write a suite over the folds of a file."""
    data = {
        "root": str(frame_set.parent),
        "data_dir": frame_set.name,
        "split_file": str(folder / "folds.yaml"),
        "frame_stride": 2,
    }
    content = {
        "models": {"untrained": {"config": MODEL}},
        "data": {"phases": {"recipe": "synthetic", "data": {**data, **changes}, "training": QUICK}},
        "protocols": {"linear": {"kind": "linear"}, "knn": {"kind": "knn"}},
        "baseline": "linear",
        "output": str(folder / "results"),
    }
    file = folder / "suite.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def draw(folder: Path, frame_set: Path, *options: str) -> None:
    """Draw three folds."""
    (folder / "folds.yaml").unlink(missing_ok=True)
    words = ["split", f"synthetic={frame_set}", "--folds", "3", "--output", str(folder / "folds.yaml"), *options]
    assert main(words) == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory, frame_set) -> Path:
    """Run a suite."""
    folder = tmp_path_factory.mktemp("folds")
    draw(folder, frame_set)
    assert main(["benchmark", str(suite(folder, frame_set))]) == 0
    return folder


def test_every_fold_is_run_and_tests_its_own_videos(finished, frame_set):
    cells = [CellResult.load(file) for file in sorted((finished / "results").glob("*/*/linear/fold_*/*/cell.json"))]
    assert [cell.fold for cell in cells] == [0, 1, 2]
    tested = [video for cell in cells for video in cell.by_video]
    folds = yaml.safe_load((finished / "folds.yaml").read_text())["folds"]
    assert sorted(tested) == sorted(f"synthetic/{video}" for fold in folds for video in fold["test"])
    assert len(set(tested)) == len(tested)


def test_the_report_has_every_fold_and_all_of_them_together(finished):
    results = finished / "results"
    rows = json.loads((results / "summary.json").read_text())["rows"]
    linear = next(row for row in rows if row["protocol"] == "linear")
    accuracies = [fold["metrics"]["video_accuracy"]["mean"] for fold in linear["folds"]]
    assert linear["metrics"]["video_accuracy"]["mean"] == pytest.approx(sum(accuracies) / 3)
    assert linear["metrics"]["video_accuracy"]["std"] > 0
    assert linear["interval"]["low"] < linear["interval"]["value"] < linear["interval"]["high"]
    assert len(linear["by_video"]) == sum(len(fold["by_video"]) for fold in linear["folds"])
    table = (results / "tables.md").read_text()
    assert "3 folds; mean and ± standard deviation over folds" in table
    assert "Fold by fold:" in table
    assert table.count("| untrained | knn | ") == 1 + 3
    assert list((results / "plots").glob("*confusion*"))


def test_finished_folds_are_not_run_again_whatever_the_file_is_called(finished, frame_set, tmp_path, capsys):
    shutil.copy(finished / "folds.yaml", tmp_path / "renamed.yaml")
    file = suite(finished, frame_set, split_file=str(tmp_path / "renamed.yaml"))
    assert main(["benchmark", str(file), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.count("finished") == 6
    assert "untrained / phases / linear / fold 2 / seed 0" in out


def test_other_folds_are_not_taken_for_these(finished, frame_set, tmp_path, capsys):
    draw(tmp_path, frame_set, "--seed", "5")
    file = suite(finished, frame_set, split_file=str(tmp_path / "folds.yaml"))
    assert main(["benchmark", str(file)]) == 1
    assert "was begun with other settings" in capsys.readouterr().err


def test_one_fold_may_be_chosen_and_an_unreadable_file_is_named(tmp_path, frame_set):
    draw(tmp_path, frame_set)
    assert [cell.fold for cell in load_suite(suite(tmp_path, frame_set, fold=1)).cells()] == [None, None]
    (tmp_path / "folds.yaml").unlink()
    with pytest.raises(RecipeError, match=r"data\.phases\.data\.split_file: .*folds\.yaml cannot be read"):
        load_suite(suite(tmp_path, frame_set))


def test_a_video_that_comes_in_two_folds_is_drawn_once(finished):
    files = sorted((finished / "results/phases/untrained/linear").glob("fold_*/*/predictions.parquet"))
    first, second = (ClipPredictions.load(file) for file in files[:2])
    joined = ClipPredictions.joined([first, second, first])
    assert len(joined.labels) == len(first.labels) + len(second.labels)
    assert joined.by_video(joined.frames).keys() == set(first.videos) | set(second.videos)
