"""Fine-tuning by recipe, as a user runs it: every task and method, tested once, refused before it costs anything."""

import json
import warnings
from pathlib import Path

import datasets
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from transformers import AutoModelForVideoClassification

from surgvista_hf import SurgicalVideoPredictor, load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.frame_sets.registry import get_builder
from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation, write_video
from surgvista_hf.evaluation.tasks import ClipPredictions
from surgvista_hf.modeling.adapters import load_adapted
from surgvista_hf.trainers.finetune import build_arguments, task_of
from surgvista_hf.trainers.finetuning.recipe import LabeledData, load_finetuning_recipe
from surgvista_hf.trainers.recipes.loading import FINETUNING, RecipeError, bundled_recipes

from ..modeling.conversion.families import encoder
from ..modeling.test_auto import run_python
from . import tiny

SMALL = [
    "training.use_cpu=true",
    "training.disable_tqdm=true",
    "training.num_train_epochs=2",
    "training.warmup_epochs=0.5",
]
MODEL = "{model_type: surgvista, image_size: 32, patch_size: 8, num_frames: 4, hidden_size: 32, num_hidden_layers: 2, "
MODEL += "num_attention_heads: 2}"


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepare ten operations: six to train on, two each for validation and test."""
    folder = tmp_path_factory.mktemp("finetune") / "operations"
    prepare_frame_set("synthetic", None, folder, settings={**tiny.VIDEOS, "videos": "10", "seconds": "16"})
    return folder


def argv(operations: Path, output: Path, *changes: str) -> list[str]:
    """Return the command line of a fine-tuning run."""
    data = [f"data.root={operations.parent}", f"data.data_dir={operations.name}", f"training.output_dir={output}"]
    return ["finetune", "synthetic", f"model.config={MODEL}", *data, *SMALL, *changes]


# ------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", bundled_recipes(FINETUNING))
def test_the_recipes_of_the_package_fit_their_data_sets(name, tmp_path):
    recipe = load_finetuning_recipe(
        name, [f"training.output_dir={tmp_path}", "training.bf16=false", "training.use_cpu=true"]
    )
    info = get_builder(recipe.data.name).info
    label = info.labels[recipe.data.label]
    protocol = info.protocol(recipe.data.protocol)[1]
    assert {recipe.data.train, recipe.data.validation, recipe.data.test} <= set(protocol.names)
    assert label.kind in ("class", "classes", "numbers")
    if protocol.splits:
        shared = set(protocol.splits["validation"]) & set(protocol.splits["test"])
        assert bool(shared) == recipe.data.select_on_test


PUBLISHED = {  # epochs, warm-up, peak learning rate with two GPUs of so many clips
    "cholec80": (50, 5, 32, 5e-4),
    "m2cai16_workflow": (50, 5, 32, 1e-4),
    "cholect50": (20, 5, 32, 5e-4),
    "endoscapes": (20, 2, 16, 2.5e-5),
    "cholec80_cvs": (500, 50, 32, 5e-4),
    "surgicalactions160": (500, 50, 32, 1e-4),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_recipes_have_the_published_numbers(name, tmp_path):
    epochs, warmup, clips, rate = PUBLISHED[name]
    changes = [
        "training.bf16=false",
        "training.use_cpu=true",
        "training.gradient_accumulation_steps=2",
    ]  # for the second GPU
    recipe = load_finetuning_recipe(name, changes)
    feature = recipe.data.label
    names = get_builder(recipe.data.name).info.labels[feature].names
    from surgvista_hf.evaluation.tasks import Task

    kind = "triplet" if feature == "triplets" else "workflow"
    args = build_arguments(recipe, Task(kind, names, recipe.data.name if kind == "triplet" else "cholect50"))
    assert (args.num_train_epochs, args.warmup_epochs, args.per_device_train_batch_size) == (epochs, warmup, clips)
    assert args.peak_learning_rate == pytest.approx(rate)
    assert (args.layer_decay, args.weight_decay) == (0.75, 0.05)
    mixed = kind != "triplet"
    assert bool(args.mixup_alpha) == bool(args.cutmix_alpha) == bool(args.label_smoothing_factor) == mixed
    assert args.metric_for_best_model == ("ap_ivt" if kind == "triplet" else "image_accuracy")


# ------------------------------------------------------------------------------------------- runs


def test_a_model_is_trained_tested_once_written_up_and_used(operations, tmp_path, capsys):
    assert main([*argv(operations, tmp_path / "run"), "--json"]) == 0
    printed = capsys.readouterr()
    printed, lines = json.loads(printed.out), [line for line in printed.err.splitlines() if not line.startswith("  ")]
    assert [line.partition(" ")[0] for line in lines] == ["1/3", "log:", "2/3", "3/3"]
    assert ", loss " in lines[2]
    assert "eval_image_accuracy" in (tmp_path / "run" / "surgvista.log").read_text()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["metrics"] == printed["metrics"]
    assert set(results["by_video"]) == set(printed["by_video"])
    assert len(results["by_video"]) == 2
    found = ClipPredictions.load(tmp_path / "run" / "predictions.parquet")
    assert len(found.labels) == 32
    accuracy = float((found.scores.argmax(axis=1) == found.labels).mean())
    assert results["metrics"]["image_accuracy"] == pytest.approx(accuracy)
    card = ModelCard.load(tmp_path / "run" / "model" / "README.md")
    listed = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert listed["image_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert "not a medical device" in card.text
    write_video(SyntheticOperation(seed=9, duration_seconds=14, height=48, width=64), tmp_path / "operation.mp4")
    prediction = SurgicalVideoPredictor(tmp_path / "run" / "model").predict(tmp_path / "operation.mp4")
    assert prediction.class_names == list(load_frame_set("synthetic", operations).features["phase"].names)


@pytest.mark.parametrize(
    ("label", "metric"), [("triplets", "ap_ivt"), ("cvs", "mean_average_precision"), ("skill", "accuracy")]
)
def test_every_kind_of_label_can_be_learned(label, metric, operations, tmp_path, capsys):
    changes = [f"data.label={label}", "training.num_train_epochs=1"]
    if label == "skill":
        changes += ["data.sampling=uniform", "training.per_device_train_batch_size=2", "data.task=classification"]
    if label == "triplets":
        changes += ["training.component_weight=0.5"]
    assert main([*argv(operations, tmp_path / "run", *changes), "--json"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["metrics"][metric] <= 1


@pytest.mark.parametrize("family", ["videomae", "vjepa2", "convnext", "vit"])
def test_every_family_is_fine_tuned_and_loaded_as_transformers_does(family, operations, tmp_path, capsys):
    start = encoder(family, tmp_path / "encoder")
    changes = ["model.config=null", f"model.from_pretrained={start}", "model.num_frames=4", "training.max_steps=3"]
    assert main([*argv(operations, tmp_path / "run", *changes), "--json"]) == 0
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "run" / "model")
    assert model.config.num_labels == 7
    assert json.loads(capsys.readouterr().out)["metrics"]["image_accuracy"] > 0


def test_a_4_bit_base_is_fine_tuned_with_lora_merged_and_used(operations, tmp_path, capsys):
    """Go the whole way on the CPU: train, load exactly, merge, predict."""
    pytest.importorskip("bitsandbytes")
    start = encoder("surgvista", tmp_path / "encoder")
    changes = [
        "model.config=null",
        f"model.from_pretrained={start}",
        "adapter.method=lora",
        "adapter.bits=4",
        "adapter.rank=2",
    ]
    assert main(argv(operations, tmp_path / "run", *changes)) == 0
    assert "parameters (" in capsys.readouterr().out
    folder = tmp_path / "run" / "model"
    clip = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        adapted = load_adapted(folder)(pixel_values=clip).logits
    assert main(["merge", str(folder), "--output", str(tmp_path / "merged")]) == 0
    with torch.no_grad():
        merged = AutoModelForVideoClassification.from_pretrained(tmp_path / "merged").eval()(pixel_values=clip).logits
    torch.testing.assert_close(merged, adapted, rtol=1e-5, atol=1e-5)
    assert SurgicalVideoPredictor(folder).num_frames == SurgicalVideoPredictor(tmp_path / "merged").num_frames == 4
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["parameters"]["trained"] < 0.1 * results["parameters"]["all"]


@pytest.mark.slow
def test_with_code_trained_and_merged_models_load_where_this_package_is_not_installed(libraries, operations, tmp_path):
    short = ["training.max_steps=2", "data.validation=null"]
    assert main([*argv(operations, tmp_path / "full", *short), "--with-code"]) == 0
    assert main(argv(operations, tmp_path / "plain", *short)) == 0
    assert not list((tmp_path / "plain" / "model").glob("*.py"))
    assert main(argv(operations, tmp_path / "lora", *short, "adapter.method=lora", "adapter.rank=2")) == 0
    adapter, merged = str(tmp_path / "lora" / "model"), str(tmp_path / "merged")
    assert main(["merge", adapter, "--output", merged, "--with-code"]) == 0
    attentive = [*short, "model.pooling=attentive"]
    assert main([*argv(operations, tmp_path / "attentive", *attentive), "--with-code"]) == 0
    folders = [str(tmp_path / "full" / "model"), merged, str(tmp_path / "attentive" / "model")]
    program = (
        "import numpy\nfrom transformers import AutoModelForVideoClassification, AutoVideoProcessor\n"
        f"for folder in {folders!r}:\n"
        "    model = AutoModelForVideoClassification.from_pretrained(folder, trust_remote_code=True)\n"
        "    processor = AutoVideoProcessor.from_pretrained(folder, trust_remote_code=True)\n"
        "    clip = processor(numpy.zeros((4, 40, 50, 3), numpy.uint8), return_tensors='pt')\n"
        "    print(type(model).__name__, tuple(model(**clip).logits.shape))\n"
    )
    done = run_python(libraries, program, tmp_path, with_package=False)
    own = "SurgVistaForVideoClassification (1, 7)"
    assert done.stdout.splitlines() == [own, own, "SurgicalEncoderForVideoClassification (1, 7)"], done.stderr


def test_a_run_that_computes_activations_again_is_the_same_run(operations, tmp_path):
    start = encoder("surgvista", tmp_path / "encoder")
    fixed = ["model.config=null", f"model.from_pretrained={start}", "adapter.method=lora", "training.max_steps=6"]
    scores = []
    for again in ("false", "true"):
        folder = tmp_path / again
        assert main(argv(operations, folder, *fixed, f"training.gradient_checkpointing={again}")) == 0
        scores.append(torch.tensor(ClipPredictions.load(folder / "predictions.parquet").scores))
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_same_command_goes_on_with_a_run_that_was_stopped(operations, tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fixed = ["adapter.method=lora", "adapter.rank=2"]
    assert main([*argv(operations, whole, *fixed), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["metrics"]
    from surgvista_hf.trainers import finetune as module
    from surgvista_hf.trainers.finetuning.trainer import SurgicalFinetuner

    recipe = load_finetuning_recipe("synthetic", argv(operations, parts, *fixed)[2:])
    original = SurgicalFinetuner.train

    def stopped(self, *args, **kwargs):
        """Stop the run after a step."""
        self.add_callback(tiny.stops(4)[0])
        original(self, *args, **kwargs)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SurgicalFinetuner, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            module.finetune(recipe)
    capsys.readouterr()
    assert main([*argv(operations, parts, *fixed), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == expected


# ------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["training.layer_decy=0.5"], "did you mean layer_decay?"),
        (["data.label=step"], "data.label is 'step'"),
        (["data.task=triplet"], "has 100 triplets; the labels have 7"),
        (["data.data_dir=nowhere"], "nowhere"),
        (["adapter.method=lorra"], "adapter.method is 'lorra'"),
        (["adapter.bits=4"], "cannot be trained"),
        (["model.from_pretrained=somewhere"], "model has both from_pretrained and config"),
        (["data.test=train"], "test videos in the training data"),
        (["data.validation=test"], "chosen on the test"),
        (
            ["training.per_device_train_batch_size=200", "training.dataloader_drop_last=true"],
            "one update needs 200 clips",
        ),
        (["training.eval_strategy=sometimes"], "training.eval_strategy is 'sometimes'; it must be"),
        (["model.changes={drop_path: 0.1}"], "has no drop_path"),
        (["data.label=triplets", "training.class_balance=0.5"], "need one class a clip"),
    ],
)
def test_what_cannot_be_fine_tuned_is_refused_in_one_line_before_training(
    changes, message, operations, tmp_path, capsys
):
    assert main(argv(operations, tmp_path / "run", *changes)) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("surgvista finetune: error:")
    assert message in error


def test_check_says_what_would_be_done(operations, tmp_path, capsys):
    assert main([*argv(operations, tmp_path / "run", "adapter.method=lora"), "--check"]) == 0
    printed = capsys.readouterr().out
    assert "workflow of 7 classes from synthetic; train: 96 clips; validation: 32 clips; test: 32 clips" in printed
    assert "chosen by image_accuracy" in printed
    assert not (tmp_path / "run").exists()


def test_a_validation_with_test_videos_must_be_allowed_and_is_noted(operations, tmp_path, capsys):
    changes = ["data.validation=test", "data.select_on_test=true", "training.max_steps=2"]
    assert main(argv(operations, tmp_path / "run", *changes)) == 0
    assert "too good" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "results.json").read_text())["selected_on_test"]


def test_without_a_validation_the_last_weights_are_tested(operations, tmp_path):
    assert main(argv(operations, tmp_path / "run", "data.validation=null", "training.max_steps=2")) == 0
    state = json.loads((tmp_path / "run" / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["best_metric"] is None


def test_videos_of_the_pre_training_are_not_tested_on(tmp_path):
    """Refuse to test on video60 of Cholec80 with an encoder that was trained on it."""
    from surgvista_hf.datasets_scripts.frame_sets.overlap import OverlapError
    from surgvista_hf.trainers.finetune import check_splits

    start = encoder("surgvista", tmp_path / "encoder")
    (start / "pretraining_videos.json").write_text(json.dumps({"cholec80": ["video60"]}))

    def videos(*names):
        """Return the published videos of a split."""
        return datasets.Dataset.from_dict({"source": ["cholec80"] * len(names), "video_id": list(names)})

    recipe = load_finetuning_recipe("cholec80", [f"model.from_pretrained={start}"])
    splits = {"train": videos("video01"), "validation": videos("video33"), "test": videos("video60")}
    with pytest.raises(OverlapError, match="cholec80/video60"):
        check_splits(recipe, splits)


def test_videos_that_converted_weights_were_trained_on_are_not_tested_on(tmp_path):
    """Refuse to test EndoViT's file on Cholec80, and allow the videos that EndoViT_ATD left out."""
    from surgvista_hf import convert_checkpoint
    from surgvista_hf.datasets_scripts.frame_sets.overlap import OverlapError, OverlapWarning
    from surgvista_hf.trainers.finetune import check_splits

    from ..modeling.conversion.originals import endovit

    original = endovit()
    for name in ("EndoViT", "EndoViT_ATD"):
        (tmp_path / name).mkdir()
        torch.save(original.checkpoint, tmp_path / name / "pytorch_model.bin")
        convert_checkpoint(
            tmp_path / name, tmp_path / f"{name}-converted", family="endovit", config=original.overrides
        )

    def videos(*names):
        """Return the published videos of a split."""
        return datasets.Dataset.from_dict({"source": ["cholec80"] * len(names), "video_id": list(names)})

    splits = {"train": videos("video02"), "validation": videos("video33"), "test": videos("video78")}
    recipe = load_finetuning_recipe("cholec80", [f"model.from_pretrained={tmp_path / 'EndoViT-converted'}"])
    with pytest.raises(OverlapError, match="cholec80/video78"):
        check_splits(recipe, splits)
    recipe = load_finetuning_recipe("cholec80", [f"model.from_pretrained={tmp_path / 'EndoViT_ATD-converted'}"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", OverlapWarning)
        assert not check_splits(recipe, splits)


def test_labels_decide_the_task(operations):
    frames = load_frame_set("synthetic", operations)
    kinds = {
        label: task_of(LabeledData("synthetic", str(operations), label), frames).kind
        for label in ("phase", "triplets", "instruments", "cvs")
    }
    assert kinds == {"phase": "workflow", "triplets": "triplet", "instruments": "multi_label", "cvs": "multi_label"}
    assert task_of(LabeledData("synthetic", "", "skill", sampling="uniform"), frames).kind == "classification"


def test_a_recipe_without_a_folder_or_model_is_refused(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({"data": {"name": "synthetic", "data_dir": "x", "label": "phase"}}))
    with pytest.raises(RecipeError, match="model needs from_pretrained"):
        load_finetuning_recipe(file)
    with pytest.raises(RecipeError, match=r"training\.output_dir is missing"):
        load_finetuning_recipe(file, ["model.from_pretrained=x"])
