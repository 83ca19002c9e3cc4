"""LEMON's tasks from its published layout to the report: procedures and robotic or not, of whole videos."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from surgvista_hf import load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.evaluation.reports.benchmark_report import CellResult
from surgvista_hf.trainers.benchmark.suite import load_suite
from surgvista_hf.trainers.recipes.loading import RecipeError

from .. import tiny

PROCEDURES = ("appendectomy", "colectomy", "hysterectomy")
COLORS = np.array([[200, 60, 40], [40, 180, 60], [60, 60, 200]])
MODEL = {"model_type": "surgvista", **tiny.SIZES, "num_frames": 2}


def raw(folder: Path, count: int = 36) -> Path:
    """Write frames whose colors tell the procedures, bright where a robot is used; some videos have two procedures."""
    entries, generator = [], np.random.default_rng(0)
    for number in range(count):
        own = sorted({number % 3, (number + 1) % 3} if number % 6 == 0 else {number % 3})
        video, robotic = f"video{number:06d}", bool(number // 3 % 2)
        entries.append({"youtubeId": video, "procedureName": [PROCEDURES[each] for each in own], "robotic": robotic})
        (folder / "frames" / video).mkdir(parents=True)
        for frame in range(4):
            pixels = np.zeros((32, 40, 3)) + COLORS[own].mean(axis=0) * (1.2 if robotic else 0.6)
            pixels += generator.normal(size=pixels.shape) * 10
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / "frames" / video / f"{frame + 1:05d}.jpg")
    (folder / "labels.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="module")
def lemon(tmp_path_factory) -> Path:
    """Prepare the frame set."""
    folder = tmp_path_factory.mktemp("lemon")
    prepare_frame_set("lemon", raw(folder / "raw"), folder / "frame_sets" / "lemon")
    return folder / "frame_sets"


def suite(folder: Path, frame_sets: Path) -> Path:
    """Run the suite."""
    training = {"num_train_epochs": 2, "warmup_epochs": 0, "use_cpu": True, "bf16": False, "report_to": "none"}
    training |= {"per_device_train_batch_size": 8, "dataloader_num_workers": 0, "dataloader_persistent_workers": False}
    training |= {"base_learning_rate": 1e-2, "disable_tqdm": True}
    head = {
        "num_train_epochs": 6,
        "warmup_epochs": 0,
        "per_device_train_batch_size": 8,
        "base_learning_rate": 3e-2,
        "use_cpu": True,
    }
    data = {"root": str(frame_sets)}
    content = {
        "models": {"untrained": {"config": MODEL}},
        "data": {
            "procedures": {"recipe": "lemon", "data": data, "training": training},
            "robotic": {"recipe": "lemon", "data": {**data, "label": "robotic"}, "training": training},
        },
        "protocols": {
            "finetune": {},
            "linear": {"kind": "linear"},
            "linear_of_mean": {"kind": "pooled", "head": {"pooling": "mean", "hidden_size": 0, **head}},
            "typicality": {"kind": "pooled", "head": {"num_neighbors": 2, "hidden_size": 16, **head}},
        },
        "baseline": "linear_of_mean",
        "output": str(folder / "results"),
    }
    file = folder / "suite.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.slow
def test_the_tasks_of_whole_videos_run_from_raw_files_to_the_report(lemon, tmp_path):
    file = suite(tmp_path, lemon)
    assert main(["benchmark", str(file)]) == 0
    cells = {
        (cell.data, cell.protocol): cell
        for cell in map(CellResult.load, (tmp_path / "results").glob("*/*/*/*/cell.json"))
    }
    assert len(cells) == 8
    test = load_frame_set("lemon", lemon / "lemon", "test")
    videos = {f"lemon/{video}" for video in test["video_id"]}
    for (data, protocol), cell in cells.items():
        assert cell.task == ("video_multi_label" if data == "procedures" else "video_classification")
        assert set(cell.by_video) == videos
        if protocol != "finetune":  # colors are told by features without training; two epochs say little
            assert cell.metrics[cell.main_metric] > 0.9, (data, protocol)
    procedures = cells["procedures", "typicality"]
    assert {"mean_average_precision", "macro_f1", "micro_f1", "subset_accuracy"} <= set(procedures.metrics)
    assert procedures.results["multi_label"]["ap_cecectomy"] is None  # no such video
    assert cells["robotic", "finetune"].metrics.keys() >= {"accuracy", "macro_f1"}
    table = (tmp_path / "results" / "tables.md").read_text()
    assert "Task: video_multi_label, 35 classes" in table


def test_the_splits_do_not_depend_on_which_videos_are_there(lemon, tmp_path):
    whole = {split: set(load_frame_set("lemon", lemon / "lemon", split)["video_id"]) for split in ("train", "test")}
    folder = raw(tmp_path / "raw")
    gone = sorted(whole["train"])[:3] + sorted(whole["test"])[:1]
    for video in gone:
        for file in (folder / "frames" / video).iterdir():
            file.unlink()
        (folder / "frames" / video).rmdir()
    prepare_frame_set("lemon", folder, tmp_path / "lemon")
    for split, videos in whole.items():
        assert set(load_frame_set("lemon", tmp_path / "lemon", split)["video_id"]) == videos - set(gone)


def test_a_suite_of_lemon_refuses_what_the_head_does_not_know(lemon, tmp_path):
    with pytest.raises(RecipeError, match="did you mean pooling"):
        load_suite(suite(tmp_path, lemon), ["protocols.typicality.head.poling=mean"])
