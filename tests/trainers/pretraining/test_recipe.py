"""Recipes: what is misspelled is an error with a suggestion, what is published is reproduced, what is run is what was read."""

import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, AutoVideoProcessor

from surgvista_hf import ClipDataset, load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.clips import ClipMasking, Draw, RandomResizedCrop
from surgvista_hf.datasets_scripts.frame_sets.overlap import OverlapError
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.frame_sets.registry import get_builder
from surgvista_hf.trainers.pretrain import build_clips, build_model, build_sampler, pretrain
from surgvista_hf.trainers.pretraining.objectives import OBJECTIVES
from surgvista_hf.trainers.pretraining.recipe import DataRecipe, HeldOutBenchmark, SourceRecipe, load_recipe
from surgvista_hf.trainers.pretraining.trainer import PretrainingCollator
from surgvista_hf.trainers.recipes.loading import RecipeError, bundled_recipes
from tests.datasets_scripts.raw_layouts import write_frames
from tests.modeling.test_auto import run_python

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def recipe_file(frame_set: Path, tmp_path: Path) -> Path:
    """Write a recipe."""
    content = {
        "model": {
            "image_size": 32,
            "patch_size": 8,
            "num_frames": 4,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_decoder_num_hidden_layers": 0,
            "video_decoder_hidden_size": 32,
            "video_decoder_num_hidden_layers": 1,
            "video_decoder_num_attention_heads": 2,
        },
        "data": {"frame_stride": 2, "sources": [{"name": "synthetic", "data_dir": str(frame_set), "split": "all"}]},
        "training": {
            "output_dir": str(tmp_path / "run"),
            "num_train_epochs": 1,
            "warmup_epochs": 0,
            "per_device_train_batch_size": 10,
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
        },
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


# ------------------------------------------------------------------------------------------- the package's recipes


@cache
def weightless(name: str) -> Any:
    """Build the model of a recipe of the package on no device; VideoMAE's table of positions takes seconds."""
    with torch.device("meta"):
        return build_model(load_recipe(name))


@pytest.mark.parametrize("name", bundled_recipes())
def test_every_recipe_of_the_package_is_sound(name, tmp_path):
    recipe, model = load_recipe(name), weightless(name)
    training = {**recipe.training, "output_dir": str(tmp_path), "bf16": False, "use_cpu": True}
    args = OBJECTIVES[recipe.objective].arguments_class(**training)
    assert OBJECTIVES[recipe.objective].processor_for(model.config, recipe.data.frame_stride)
    for source in recipe.data.sources:
        info = get_builder(source.name).info
        assert source.split in info.protocol(source.protocol)[1].names
    if name in ("surgvista_base", "surgvista_one_gpu"):
        assert args.floor == pytest.approx(2 / 3)
        assert (args.num_train_epochs, args.warmup_epochs, args.weight_decay, args.adam_beta2) == (201, 40, 0.05, 0.95)


def test_the_base_recipe_has_the_published_batch_and_rates(tmp_path):
    training = load_recipe("surgvista_base").training
    assert training["per_device_train_batch_size"] * training["gradient_accumulation_steps"] * 8 == 2048
    assert training["base_learning_rate"] * 2048 / 256 == pytest.approx(1.2e-3)
    assert training["base_min_learning_rate"] * 2048 / 256 == pytest.approx(8e-4)


@pytest.mark.parametrize("name", ["surgrec_mae", "surgrec_mae_one_gpu"])
def test_the_surgrec_mae_recipe_is_videomae_with_the_stated_epochs(name, tmp_path):
    recipe, config = load_recipe(name), weightless(name).config
    assert (config.hidden_size, config.num_hidden_layers, config.decoder_num_hidden_layers) == (768, 12, 4)
    batch = recipe.training["per_device_train_batch_size"] * recipe.training["gradient_accumulation_steps"]
    assert batch * (1 if name.endswith("one_gpu") else 8) == 2048
    assert recipe.training["num_train_epochs"] == 150


@pytest.mark.parametrize("name", ["surgrec_jepa", "surgrec_jepa_one_gpu"])
def test_the_surgrec_jepa_recipe_has_the_sizes_that_the_released_file_implies(name):
    """Count 304 M parameters in the encoder, 22 M in the predictor, and 1568 tokens."""
    recipe, model = load_recipe(name), weightless(name)
    assert round(sum(p.numel() for p in model.surgvista.parameters()) / 1e6) in (303, 304)
    assert round(sum(p.numel() for p in model.predictor.parameters()) / 1e6) == 22
    assert model.config.num_tokens == 1568
    batch = recipe.training["per_device_train_batch_size"] * recipe.training["gradient_accumulation_steps"]
    assert batch * (1 if name.endswith("one_gpu") else 8) == 3072


def test_the_base_corpus_is_the_published_one_and_holds_no_test_video():
    recipe = load_recipe("surgvista_base")
    assert len(recipe.data.sources) == 9
    from surgvista_hf.datasets_scripts.frame_sets.overlap import find_overlaps, videos_of

    corpus = {
        source.name: get_builder(source.name).info.protocol(source.protocol)[1].splits.get("train", ())
        for source in recipe.data.sources
    }
    assert len(corpus["cholec80"]) == 40
    assert len(corpus["m2cai16_workflow"]) == 27
    assert len(corpus["autolaparo"]) == 10
    for test in recipe.data.tested_on:
        assert find_overlaps(corpus, videos_of(test.name, test.protocol)) == []


# ------------------------------------------------------------------------------------------- reading


def test_values_are_changed_from_the_command_line(recipe_file):
    argv = [
        "training.seed=7",
        "teacher.name=somewhere",
        "data.sources.0.split=train",
        "model.mask_ratio=0.5",
        "data.balance=null",
    ]
    recipe = load_recipe(recipe_file, argv)
    assert recipe.training["seed"] == 7
    assert recipe.teacher.name == "somewhere"
    assert recipe.data.sources[0].split == "train"
    assert recipe.model["mask_ratio"] == 0.5
    assert load_recipe("surgvista_base", ["teacher=null"]).teacher is None


def test_no_is_a_word_true_is_a_truth_value_and_1e_3_is_a_number(recipe_file):
    argv = [
        "training.save_strategy=no",
        "training.report_to=off",
        "training.bf16=true",
        "training.base_learning_rate=1e-3",
    ]
    training = load_recipe(recipe_file, argv).training
    assert [training[word.split("=")[0][9:]] for word in argv] == ["no", "off", True, 0.001]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trainin.seed=1", "no key 'trainin'; did you mean training"),
        ("training.lerning_rate=1", "did you mean learning_rate"),
        ("model.hidden_sise=1", "did you mean hidden_size"),
        ("data.frame_strid=1", "did you mean frame_stride"),
        ("teacher.nam=1", "did you mean name"),
        ("data.sources.0.protocl=1", "did you mean protocol"),
        ("data.sources.4.name=x", "does not lead to a value"),
        ("data.sources=[]", r"data\.sources is missing"),
        ("data.sources=[{name: x}]", "missing 1 required positional argument: 'data_dir'"),
        ("training.output_dir.x=1", "does not lead to a value"),
        ("model=3", "a mapping is expected"),
        ("objective=jepp", "did you mean jepa"),
        ("model.model_type=vit", "trains models of type surgvista, not 'vit'"),
        ("objective=mae", "no key 'image_decoder_num_hidden_layers'"),
        ("training.ema_momentum=1", "no key 'ema_momentum'"),
        ("seed", "is not of the form"),
        ("training.seed=[", "is not YAML"),
        ("training.seed=\udcff", "is not YAML"),  # a byte of the command line that is no text
    ],
)
def test_what_is_misspelled_is_an_error_with_a_suggestion(recipe_file, word, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe_file, [word])


def test_files_that_are_no_recipes_are_refused(tmp_path):
    with pytest.raises(
        RecipeError, match=r"there is no recipe nowhere; give a YAML file or one of surgfm_large, surgfm_one_gpu"
    ):
        load_recipe("nowhere")
    (tmp_path / "a.yaml").write_text("model: [")
    with pytest.raises(RecipeError, match="is not YAML"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("just text")
    with pytest.raises(RecipeError, match="does not hold the sections"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("data: {sources: [{name: x, data_dir: y}]}")
    with pytest.raises(RecipeError, match=r"training\.output_dir is missing"):
        load_recipe(tmp_path / "a.yaml")


# ------------------------------------------------------------------------------------------- running


def test_a_recipe_trains_a_model_that_loads_with_its_processor(recipe_file, tmp_path):
    folder = pretrain(load_recipe(recipe_file))
    assert folder == tmp_path / "run" / "model"
    assert AutoModelForPreTraining.from_pretrained(folder).config.num_frames == 4
    assert AutoVideoProcessor.from_pretrained(folder).size == {"height": 32, "width": 32}


def test_with_code_a_pre_trained_model_loads_where_this_package_is_not_installed(libraries, recipe_file, tmp_path):
    assert main(["pretrain", str(recipe_file), "training.max_steps=1", "--with-code"]) == 0
    program = (
        "from transformers import AutoModel, AutoModelForPreTraining, AutoVideoProcessor\n"
        "for auto in (AutoModel, AutoModelForPreTraining, AutoVideoProcessor):\n"
        "    print(type(auto.from_pretrained('run/model', trust_remote_code=True)).__name__)\n"
    )
    done = run_python(libraries, program, tmp_path, with_package=False)
    expected = ["SurgVistaModel", "SurgVistaForPreTraining", "SurgVistaVideoProcessor"]
    assert done.stdout.splitlines() == expected, done.stderr


@pytest.mark.slow
def test_training_goes_on_from_a_trained_model(recipe_file, tmp_path):
    first = pretrain(load_recipe(recipe_file))
    argv = [f"model={{from_pretrained: {first}}}", f"training.output_dir={tmp_path / 'second'}"]
    assert (pretrain(load_recipe(recipe_file, argv)) / "model.safetensors").exists()


def test_test_videos_in_the_corpus_stop_the_run(tmp_path):
    write_frames(tmp_path / "raw/frames/video41", ["0.jpg"], [0])
    (tmp_path / "raw/phase_annotations").mkdir()
    (tmp_path / "raw/phase_annotations/video41-phase.txt").write_text(
        "Frame\tPhase\n" + "".join(f"{n}\tPreparation\n" for n in range(25))
    )
    prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "cholec80")
    data = DataRecipe(
        (SourceRecipe("cholec80", "cholec80", "all"),), root=str(tmp_path), tested_on=(HeldOutBenchmark("cholec80"),)
    )
    with pytest.raises(OverlapError, match=r"cholec80/video41"):
        build_clips(data, 4, 0)


def test_sources_are_balanced_on_request(tmp_path):
    for name, frames in (("large", 90), ("small", 10)):
        write_frames(tmp_path / f"{name}-raw/x", [f"{n:03d}.jpg" for n in range(frames)], [0] * frames)
        prepare_frame_set("folder", tmp_path / f"{name}-raw", tmp_path / name, settings={"source": name})
    sources = (SourceRecipe("folder", "large"), SourceRecipe("folder", "small"))
    data = DataRecipe(sources, root=str(tmp_path), balance=0.0)
    clips = build_clips(data, 2, 0)

    def fraction(data: DataRecipe) -> float:
        """Return the fraction of draws from the second source."""
        drawn = [clips.sources[draw.sample] for draw in build_sampler(data, clips, 0)]
        return sum(drawn) / len(drawn)

    assert 0.3 < fraction(data) < 0.7
    assert build_sampler(DataRecipe(sources), clips, 0) is None
    weighted = replace(data, balance={"large": 0, "small": 1}, clips_per_epoch=30)
    assert fraction(weighted) == 1
    assert len(build_sampler(weighted, clips, 0)) == 30
    with pytest.raises(RecipeError, match="the sources are large, small"):
        build_sampler(replace(data, balance={"large": 1}), clips, 0)


def test_a_clip_that_is_drawn_twice_in_an_epoch_comes_in_two_crops(frame_set, recipe_file):
    clips = ClipDataset(load_frame_set("synthetic", frame_set, "all"), num_frames=4, frame_stride=2)
    collator = PretrainingCollator(ClipMasking((2, 4, 4), 0.5), RandomResizedCrop(32))
    batch = collator([clips[Draw(5, 0)], clips[Draw(5, 1)], clips[5]])
    assert batch["index"].tolist() == [5, 5, 5]
    assert batch["boxes"][0] == batch["boxes"][2] != batch["boxes"][1]
    masks = batch["masks"]["bool_masked_pos"]
    assert torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], masks[1])
    assert batch["drop_path_keys"].unique().numel() == 2


@pytest.mark.parametrize(
    ("argv", "model_class"),
    [
        (["objective=mae", "model={use_mean_pooling: false, SIZES}"], "VideoMAEForPreTraining"),
        (["objective=jepa", "model={model_type: vjepa2, VJEPA}"], "VJEPA2ForJointEmbedding"),
        (["objective=jepa", "data.balance=0.5"], "SurgVistaForJointEmbedding"),
    ],
)
def test_every_objective_runs_by_recipe_and_gives_a_model_that_auto_classes_load(recipe_file, argv, model_class):
    sizes = "patch_size: 8, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2"
    videomae = f"{sizes}, image_size: 32, num_frames: 4, decoder_num_attention_heads: 2, decoder_hidden_size: 32"
    vjepa = f"{sizes}, crop_size: 32, frames_per_clip: 4, pred_hidden_size: 24, pred_num_attention_heads: 2"
    argv = [word.replace("SIZES", videomae).replace("VJEPA", vjepa) for word in argv]
    folder = pretrain(load_recipe(recipe_file, argv))
    assert AutoConfig.from_pretrained(folder).architectures == [model_class]
    assert AutoModel.from_pretrained(folder).config.hidden_size == 32
    frames = list(np.zeros((4, 40, 50, 3), np.uint8))
    pixels = AutoVideoProcessor.from_pretrained(folder)(frames, return_tensors="pt")
    assert next(iter(pixels.values())).shape == (1, 4, 3, 32, 32)


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["--list"], 0, "surgvista_base"),
        ([], 1, "give a YAML file or a name"),
        (["--show", "surgrec_mae"], 0, "objective: mae"),
        (["--show", "slurm_4x8"], 0, "#SBATCH --nodes=4"),
        (["--show", "ddp_9"], 1, "there is no ddp_9 in the package; there are ddp_8, deepspeed_zero2_8"),
        (
            ["surgvista_base", "training.use_cpu=true", "training.bf16=false", "teacher=null", "--check"],
            1,
            "frame_sets/",
        ),
        (["surgvista_base", "training.sede=1"], 1, "did you mean seed"),
        (
            ["surgvista_synthetic", "data.root=nowhere", "training.use_cpu=true"],
            1,
            "there is no folder nowhere/synthetic",
        ),
        (["surgvista_synthetic", "training.optim=none"], 1, "training.optim is 'none'; it must be one of"),
    ],
)
def test_the_verb_answers_in_one_line(argv, status, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", *argv]) == status
    printed = capsys.readouterr()
    assert message in (printed.err if status else printed.out)


@pytest.mark.slow
def test_accelerate_launches_two_processes(recipe_file, tmp_path):
    options = ["--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, "--main_process_port=29617"]
    command += ["-m", "surgvista_hf.trainers.pretrain", str(recipe_file), "training.per_device_train_batch_size=5"]
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HOME": str(tmp_path)}
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
