"""The value of pre-training: all variants have the same labels and tests, nothing is done twice or claimed without proof."""

import csv
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from transformers import AutoModel

from surgvista_hf import ClipDataset, load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.evaluation.label_efficiency import choose_labeled
from surgvista_hf.trainers.benchmark import value_cells
from surgvista_hf.trainers.benchmark.studies import ProbeSet
from surgvista_hf.trainers.benchmark.value_cells import encoder_features
from surgvista_hf.trainers.benchmark.value_study import ValueStudy
from surgvista_hf.trainers.features.clip_features import extract_features, load_encoder
from surgvista_hf.trainers.features.extraction import VideoFeatureExtractor, as_clips, load_video_features
from surgvista_hf.trainers.features.pixels import PixelFeatureExtractor
from surgvista_hf.trainers.finetuning.recipe import load_finetuning_recipe
from surgvista_hf.trainers.pretrain import pretrain, save_untrained
from surgvista_hf.trainers.pretraining.recipe import load_recipe
from surgvista_hf.util.files import OutputError

from .. import tiny

VARIANTS = ["pixels", "untrained", "pre-trained", "from scratch", "pre-trained and fine-tuned"]
MODELS: dict[str, dict[str, Any]] = {
    "surgvista": {**tiny.SIZES, "image_decoder_num_hidden_layers": 0, "video_decoder_num_hidden_layers": 1},
    "mae": {**tiny.SIZES, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2, "decoder_hidden_size": 32},
    "jepa": {
        "model_type": "vjepa2",
        **{
            name: tiny.SIZES[name]
            for name in ("patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
        },
        "crop_size": 32,
        "frames_per_clip": 4,
        "pred_hidden_size": 24,
        "pred_num_attention_heads": 2,
    },
    "dino": {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 8, 16], "head_output_size": 32, "image_size": 32},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Operations without use of their labels."""
    folder = tmp_path_factory.mktemp("value") / "corpus"
    prepare_frame_set("synthetic", None, folder, settings={**tiny.VIDEOS, "videos": "2", "seed": "50"})
    return folder


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other operations, with labels: 9 for training, 4 for the test."""
    folder = tmp_path_factory.mktemp("value") / "labeled"
    prepare_frame_set("synthetic", None, folder, settings={**tiny.VIDEOS, "videos": "18", "seconds": "16"})
    return folder


def write_recipe(path: Path, corpus: Path, objective: str = "surgvista", **training: Any) -> Path:
    content = {
        "objective": objective,
        "model": MODELS[objective],
        "data": {"frame_stride": 2, "sources": [{"name": "synthetic", "data_dir": str(corpus), "split": "all"}]},
        "training": {**tiny.RECIPE_TRAINING, **training},
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def recipe_file(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("value") / "recipe.yaml", corpus)


def argv(recipe: Path, labeled: Path, output: Path, *more: str, changes: tuple[str, ...] = ()) -> list[str]:
    command = ["study", "value", str(recipe), *changes, "--probe", f"synthetic={labeled}", "--seeds", "1"]
    return [*command, "--labeled", "1,2", "--updates", "2", "--output", str(output), "--json", *more]


@pytest.fixture(scope="module")
def finished(recipe_file: Path, labeled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of one seed, with one and two labeled videos."""
    output = tmp_path_factory.mktemp("value") / "out"
    assert main(argv(recipe_file, labeled, output)) == 0
    return output


def without_times(output: Path) -> Any:
    """Return `value.json` without what differs from run to run."""
    content = json.loads((output / "value.json").read_text())
    content.pop("settings"), content.pop("environment")
    for cell in content["cells"]:
        cell.pop("seconds"), cell.pop("environment")
    return content


def test_all_variants_are_judged_with_the_same_labels_on_the_same_test(finished, labeled):
    content = json.loads((finished / "value.json").read_text())
    cells = [cell for cell in content["cells"] if "labeled" in cell]
    assert [(cell["variant"], cell["labeled"]) for cell in cells] == [(name, n) for name in VARIANTS for n in (1, 2)]
    train, test = (load_frame_set("synthetic", labeled, split) for split in ("train", "test"))
    ids = sorted(set(train["video_id"][:]))
    for cell in cells:
        assert cell["labeled_videos"] == list(choose_labeled(ids, cell["labeled"], 0))
        assert set(cell["by_video"]["balanced_accuracy"]) == {f"synthetic/{video}" for video in test["video_id"][:]}
    for count in (1, 2):  # what fine-tuning really saw
        folder = finished / "cells" / "from_scratch" / f"{count}_0"
        made_from = json.loads((folder / "made_from.json").read_text())
        assert made_from["data"]["content"]["train"].startswith(f"{count} videos ")
    stored = {file.stem for file in (finished / "features" / "untrained_0" / "synthetic").glob("*.arrow")}
    assert stored == {*choose_labeled(ids, 2, 0), *test["video_id"][:]}  # no other training video was encoded


def test_results_are_written_as_json_csv_and_figure_with_a_verdict_that_claims_nothing_of_four_videos(finished):
    content = json.loads((finished / "value.json").read_text())
    assert list(content["curves"]) == content["measures"] == ["balanced_accuracy", "accuracy"]
    assert content["settings"]["fine_tuning"]["training"]["max_steps"] == 2
    assert content["environment"]["versions"]["torch"] == version("torch")
    assert len(content["comparisons"]) == 4 * 2
    assert {entry["verdict"] for entry in content["comparisons"]} == {"not shown"}
    assert "With fewer than 5 test videos" in " ".join(content["verdict"])
    assert any("not shown to be better than 8 x 8 pixels" in line for line in content["verdict"])
    assert any("the loss has not even halved" in line for line in content["verdict"])
    with (finished / "value.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(VARIANTS) * 2 * 2 * 4  # numbers of labeled videos, measures, test videos
    cell = next(cell for cell in content["cells"] if cell.get("labeled") == 2 and cell["variant"] == "pre-trained")
    own = [row for row in rows if (row["variant"], row["labeled"], row["measure"]) == ("pre-trained", "2", "accuracy")]
    assert {row["video"]: float(row["score"]) for row in own} == cell["by_video"]["accuracy"]
    with Image.open(finished / "value.png") as image:
        assert min(image.size) > 300
    assert not list(finished.glob("cells/*/*/model")) + list(finished.glob("cells/*/*/checkpoint-*"))


def test_what_is_finished_is_not_done_again_and_more_labels_can_be_added(
    finished, recipe_file, labeled, capsys, monkeypatch
):
    before = without_times(finished)
    for name in ("pretrain", "finetune", "save_untrained", "linear_probe"):
        monkeypatch.setattr(value_cells, name, lambda *args, **kwargs: pytest.fail("a finished cell is run again"))
    assert main(argv(recipe_file, labeled, finished)) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == before["verdict"]
    assert without_times(finished) == before
    monkeypatch.undo()
    monkeypatch.setattr(value_cells, "pretrain", lambda recipe: pytest.fail("a finished encoder is trained again"))
    command = argv(recipe_file, labeled, finished, "--no-fine-tuning")
    command[command.index("1,2")] = "1,3"
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["labeled"] == [1, 3]
    assert main(argv(recipe_file, labeled, finished)) == 0
    assert without_times(finished) == before


def test_other_settings_are_refused_for_what_they_change(finished, recipe_file, labeled, capsys):
    assert main(argv(recipe_file, labeled, finished, changes=("training.num_train_epochs=2",))) == 1
    assert "pre-trained_0 was begun with other settings" in capsys.readouterr().err
    assert main(argv(recipe_file, labeled, finished, "--updates", "3")) == 1
    assert "from_scratch/1_0 was begun with other settings" in capsys.readouterr().err
    command = argv(recipe_file, labeled, finished)
    at = command.index("--labeled")
    assert main([*command[:1], "data-scale", *command[2:at], *command[at + 4 :]]) == 1
    assert "was begun with other settings" in capsys.readouterr().err


def killed_at(original: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Return a function that does the same until it is called for the last time, by which the process dies."""
    left = [count]

    def call(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    return call


@pytest.mark.slow
def test_a_study_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    finished, recipe_file, labeled, tmp_path, monkeypatch
):
    command, output = argv(recipe_file, labeled, tmp_path / "out"), tmp_path / "out"
    times: dict[Path, int] = {}
    # The first fine-tuning run is trained and its weights are removed when `score_point` is called for it.
    for where, count in (("pretrain", 1), ("linear_probe", 4), ("score_point", 4), ("finetune", 2)):
        with monkeypatch.context() as patch:
            patch.setattr(value_cells, where, killed_at(getattr(value_cells, where), count))
            assert main(command) == 130
        for file, time in times.items():
            assert file.stat().st_mtime_ns == time
        times = {file: file.stat().st_mtime_ns for file in output.glob("*/**/cell.json")}
    assert main(command) == 0
    assert all(file.stat().st_mtime_ns == time for file, time in times.items())
    assert without_times(output) == without_times(finished)


@pytest.mark.slow
def test_several_labels_are_judged_by_average_precision(recipe_file, labeled, tmp_path, capsys):
    command = argv(recipe_file, labeled, tmp_path / "out", "--label", "instruments", "--labeled", "2")
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measures"] == ["mean_average_precision"]
    assert list(found["curves"]["mean_average_precision"]) == VARIANTS
    values = [curve["2"]["value"] for curve in found["curves"]["mean_average_precision"].values()]
    assert all(0 < value < 1 for value in values)


def test_a_corpus_with_videos_of_the_test_is_refused_before_anything_is_trained(
    recipe_file, labeled, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(value_cells, "pretrain", lambda recipe: pytest.fail("trained on test videos"))
    changes = (f"data.sources=[{{name: synthetic, data_dir: {labeled}, split: all}}]",)
    assert main(argv(recipe_file, labeled, tmp_path / "out", changes=changes)) == 1
    assert "test videos in the training data" in capsys.readouterr().err
    changes = (f"data.sources=[{{name: synthetic, data_dir: {labeled}, split: train}}]",)
    assert main(argv(recipe_file, labeled, tmp_path / "out", "--dry-run", changes=changes)) == 0


def test_a_dry_run_tells_every_cell_and_writes_nothing(recipe_file, labeled, tmp_path, capsys):
    assert main(argv(recipe_file, labeled, tmp_path / "out", "--dry-run")) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("to do")]
    assert len(lines) == 2 + len(VARIANTS) * 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--labeled", "1,20"], "rising numbers from 1 to"),
        (["--labeled", "2,1"], "rising numbers from 1 to"),
        (["--labeled", "0"], "rising numbers from 1 to"),
        (["--labeled", "a"], "numbers of videos with commas"),
        (["--updates", "0"], "or --no-fine-tuning"),
        (["--label", "fase"], "needs also ['fase']"),
        (["--seeds", "0"], "at least one run"),
        (["--fine-tuning", "nowhere"], "there is no recipe nowhere"),
        (["--probe", "synthetic=nowhere"], "nowhere"),
        (["--teacher", "endossl-teacher"], "--teacher is an option of `surgvista study distillation`"),
        (["--fractions", "0.5,1"], "--fractions is an option of `surgvista study data-scale`"),
    ],
)
def test_what_cannot_be_studied_is_said_in_one_line(recipe_file, labeled, tmp_path, capsys, more, message):
    assert main(argv(recipe_file, labeled, tmp_path / "out", *more)) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "encoders").exists()


def test_by_default_labels_double_up_to_all_and_a_checkpoint_is_not_called_untrained(recipe_file, labeled, tmp_path):
    probe = ProbeSet("synthetic", str(labeled))
    study = ValueStudy(recipe_file, [], probe, tmp_path)
    videos = len(study.train_videos)
    assert study.counts == (1, 2, 4, 8, videos)
    assert study.pairs[0] == ("pre-trained", "untrained")
    folder = save_untrained(study.encoder_recipe("untrained", 0))
    going_on = ValueStudy(recipe_file, [f"model={{from_pretrained: {folder}}}"], probe, tmp_path)
    assert [variant.name for variant in going_on.variants] == [
        "pixels",
        "before pre-training",
        "pre-trained",
        "before pre-training, fine-tuned",
        "pre-trained and fine-tuned",
    ]


def test_fine_tuning_is_the_same_for_both_encoders_and_takes_adapter_and_training_of_a_recipe(
    recipe_file, labeled, tmp_path
):
    file = tmp_path / "finetuning.yaml"
    given = load_finetuning_recipe("synthetic")
    content = {
        "model": {"from_pretrained": "another", "changes": {"classifier_dropout": 0.5}},
        "data": {"name": "cholec80", "data_dir": "elsewhere", "label": "phase", "fraction": 0.5},
        "adapter": {"method": "lora", "rank": 2},
        "training": {**given.training, "base_learning_rate": 0.01, "seed": 7},
    }
    file.write_text(yaml.safe_dump(content))
    study = ValueStudy(recipe_file, [], ProbeSet("synthetic", str(labeled)), tmp_path, fine_tuning=file, updates=20)
    recipes = [study.finetuning_recipe(start, tmp_path / "run", 2, 1) for start in ("untrained", "pre-trained")]
    assert recipes[0].training == recipes[1].training
    assert recipes[0].data == recipes[1].data
    assert [recipe.model.from_pretrained for recipe in recipes] == ["untrained", "pre-trained"]
    (recipe, _) = recipes
    assert (recipe.adapter.method, recipe.model.changes) == ("lora", {"classifier_dropout": 0.5})
    assert recipe.training["base_learning_rate"] == 0.01
    assert (recipe.training["max_steps"], recipe.training["seed"], recipe.training["use_cpu"]) == (20, 1, True)
    assert (recipe.data.name, recipe.data.data_dir, recipe.data.validation) == ("synthetic", str(labeled), None)


# ------------------------------------------------------------------------------------------- encoders and features


@pytest.mark.parametrize("objective", MODELS)
def test_the_untrained_encoder_is_exactly_what_pre_training_starts_from(objective, corpus, tmp_path):
    file = write_recipe(
        tmp_path / "recipe.yaml",
        corpus,
        objective,
        max_steps=1,
        seed=3,
        base_learning_rate=1e-30,
        base_min_learning_rate=1e-30,
    )
    untrained = save_untrained(load_recipe(file, [f"training.output_dir={tmp_path / 'untrained'}"]))
    # Its only update is next to nothing.
    started = pretrain(load_recipe(file, [f"training.output_dir={tmp_path / 'started'}"]))
    first, second = (AutoModel.from_pretrained(folder) for folder in (untrained, started))
    for name, weight in first.state_dict().items():
        torch.testing.assert_close(weight, second.state_dict()[name], rtol=0, atol=1e-29, msg=name)
    assert {file.name for file in untrained.iterdir()} <= {file.name for file in started.iterdir()}
    other = save_untrained(load_recipe(file, [f"training.output_dir={tmp_path / 'other'}", "training.seed=4"]))
    weights = AutoModel.from_pretrained(other).state_dict()
    assert any(not torch.equal(weight, weights[name]) for name, weight in first.state_dict().items())


@pytest.mark.parametrize("objective", MODELS)
def test_features_of_tubelets_are_those_of_the_clips_one_by_one(objective, corpus, tmp_path):
    file = write_recipe(tmp_path / "recipe.yaml", corpus, objective)
    folder = save_untrained(load_recipe(file, [f"training.output_dir={tmp_path / 'run'}"]))
    frames = load_frame_set("synthetic", corpus, "all")
    extractor = encoder_features(folder, 2, "cpu")
    extractor.extract(frames, tmp_path / "features", label="phase", progress=False)
    found = as_clips(load_video_features(tmp_path / "features"))
    clips = ClipDataset(frames, num_frames=extractor.num_frames, frame_stride=2, label="phase")
    expected = extract_features(*load_encoder(folder), clips)
    assert found.labels.tolist() == expected.labels.tolist()
    np.testing.assert_allclose(found.values, expected.values, atol=1e-4)
    with pytest.raises(OutputError, match="begun with other settings"):
        VideoFeatureExtractor(folder, frame_stride=2, device="cpu").extract(
            frames, tmp_path / "features", label="phase"
        )


def test_pixels_are_mean_colors_of_the_second_and_the_last_frame(corpus, tmp_path):
    frames = load_frame_set("synthetic", corpus, "all")
    PixelFeatureExtractor(4, 2).extract(frames, tmp_path / "pixels", label="phase", progress=False)
    found = as_clips(load_video_features(tmp_path / "pixels"))
    clips = ClipDataset(frames, num_frames=4, frame_stride=2, label="phase")
    assert found.values.shape == (40, 2 * 3 * 8 * 8)
    assert found.labels.tolist() == clips.sample_labels().tolist()
    for number in (0, 3, 25, 39):
        both = clips[number]["pixel_values"][[1, 3]].float() / 255  # (2, 3, 48, 64)
        blocks = both.unflatten(3, (8, 8)).unflatten(2, (8, 6)).mean(dim=(3, 5))
        np.testing.assert_allclose(found.values[number], blocks.flatten().numpy(), atol=1e-5)
    assert PixelFeatureExtractor(1, 2).features(torch.zeros(2, 1, 3, 8, 8)).shape == (2, 3 * 8 * 8)


@pytest.mark.slow
def test_the_recipe_of_the_package_is_studied_from_end_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = {"seconds": "20", "height": "64", "width": "80"}
    prepare_frame_set(
        "synthetic", None, Path("frame_sets/synthetic"), settings={**sizes, "videos": "6", "seed": "500"}
    )
    prepare_frame_set("synthetic", None, Path("frame_sets/labeled"), settings={**sizes, "videos": "28"})
    command = [
        *("study", "value", "surgvista_synthetic", "training.num_train_epochs=2", "training.use_cpu=true"),
        *("--probe", "synthetic=frame_sets/labeled", "--seeds", "1", "--labeled", "4", "--updates", "60"),
        *("--output", "value"),
    ]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "'pre-trained' against 'untrained'" in printed
    assert "written: value/value.json" in printed
    content = json.loads(Path("value/value.json").read_text())
    assert content["seeds"] == [0]
    assert len(content["test_videos"]) >= 5
    scratch = content["curves"]["balanced_accuracy"]["from scratch"]
    assert scratch["4"]["value"] > 1 / 7  # sixty updates teach something, so it is a fair opponent
