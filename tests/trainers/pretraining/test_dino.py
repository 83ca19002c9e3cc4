"""Self-distillation: a step as written by hand, published schedules, runs that repeat, a result that is a plain encoder."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import AutoImageProcessor, AutoModel, ConvNextModel

from surgvista_hf import ClipDataset, load_frame_set
from surgvista_hf.clips.companions import CompanionDataset
from surgvista_hf.clips.transforms.views import make_views
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.evaluation.probes import knn_probe
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.trainers.common.clip_trainer import end_processes
from surgvista_hf.trainers.common.schedule import cosine
from surgvista_hf.trainers.features.clip_features import extract_features
from surgvista_hf.trainers.pretrain import build_model, pretrain
from surgvista_hf.trainers.pretraining.dino import DinoArguments, DinoPretrainer, clip_each
from surgvista_hf.trainers.pretraining.recipe import load_recipe

from ...modeling.objectives.test_self_distillation import build
from .. import tiny

REPOSITORY = Path(__file__).resolve().parents[3]


def arguments(output: Path, **changes: Any) -> DinoArguments:
    """Return the arguments of a tiny run."""
    usual = {"base_learning_rate": 2e-1, "base_min_learning_rate": 1e-3, "ema_momentum": 0.9}
    views = {"local_size": 32, "local_views": 2, "frozen_last_layer_epochs": 0.2}
    return tiny.arguments(output, DinoArguments, **{**usual, **views, **changes})


def frames(frame_set: Path) -> CompanionDataset:
    """Return frames with companions."""
    return CompanionDataset(load_frame_set("synthetic", frame_set, "all"))


def trainer(frame_set: Path, output: Path, **changes: Any) -> DinoPretrainer:
    """Return a trainer of a tiny model."""
    return DinoPretrainer(build(drop_path_rate=0.5), arguments(output, **changes), frames(frame_set))


# ------------------------------------------------------------------------------------------- the step


@pytest.mark.parametrize("accumulation", [1, 2])
def test_updates_equal_steps_written_by_hand(frame_set, tmp_path, accumulation):
    """Check loss, clipping of every tensor, frozen layer, weight decay, AdamW, the teacher's average and the center."""
    changes = {"per_device_train_batch_size": 6 // accumulation, "gradient_accumulation_steps": accumulation}
    # A threshold that some gradients exceed, and a last layer that is frozen in the first of three updates.
    run = trainer(
        frame_set,
        tmp_path,
        max_steps=3,
        num_train_epochs=1,
        frozen_last_layer_epochs=1 / 3,
        max_tensor_grad_norm=2.0,
        **changes,
    )
    loader = DataLoader(run.train_dataset, batch_size=6, sampler=run.sampler, collate_fn=run.data_collator)
    batches = [batch for batch, _ in zip(loader, range(3), strict=False)]
    run.train()
    rates = [line["learning_rate"] for line in run.state.log_history if "loss" in line]

    model = build(drop_path_rate=0.5).train()
    trained = {name: p for name, p in model.named_parameters() if name.startswith("student")}
    decays = [p for n, p in trained.items() if p.ndim > 1 or n.endswith("layer_scale_parameter")]
    spares = [p for p in trained.values() if id(p) not in {id(q) for q in decays}]
    optimizer = torch.optim.AdamW([{"params": decays}, {"params": spares}], betas=(0.9, 0.999))
    teacher = [p for n, p in model.named_parameters() if not n.startswith("student")]
    center, clipped = torch.zeros(64), []
    for step, batch in enumerate(batches):
        output = model(make_views(run.views, batch["pixel_values"], batch["views"]), batch["views"]["key"])
        output.loss.backward()
        for parameter in trained.values():
            norm = float(parameter.grad.norm())
            clipped.append(norm > 2.0)
            parameter.grad *= min(1.0, 2.0 / (norm + 1e-6))
        last = model.student_head.last_layer.weight
        if step == 0:
            last.grad, before = None, last.detach().clone()
        optimizer.param_groups[0].update(weight_decay=cosine(0.04, 0.4, step / 3), lr=rates[step])
        optimizer.param_groups[1].update(weight_decay=0.0, lr=rates[step])
        optimizer.step()
        assert torch.equal(last, before) == (step == 0)
        optimizer.zero_grad()
        momentum = cosine(0.9, 1.0, step / 3)
        with torch.no_grad():
            for slow, fast in zip(teacher, trained.values(), strict=True):
                slow.mul_(momentum).add_(fast, alpha=1 - momentum)
        center = 0.9 * center + 0.1 * output.teacher_logits.flatten(0, 1).mean(dim=0)
        model.center.copy_(center)
    assert 0.1 < np.mean(clipped) < 0.9
    for (name, ours), theirs in zip(run.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)
    torch.testing.assert_close(run.model.center, center, rtol=1e-4, atol=1e-6)


def test_every_tensor_is_clipped_by_itself():
    model = torch.nn.Linear(2, 1)
    model.weight.grad, model.bias.grad = torch.tensor([[6.0, 8.0]]), torch.tensor([2.0])
    clip_each(model, 3.0)
    torch.testing.assert_close(model.weight.grad, torch.tensor([[1.8, 2.4]]))
    assert float(model.bias.grad) == 2.0


def test_the_defaults_are_the_documented_run():
    """Check peak 6.25e-4, floor 1e-6 for 320 frames, 10 epochs of warm-up; weight decay 0.04 to 0.4; momentum 0.996 to 1."""
    args = DinoArguments("run", per_device_train_batch_size=320, use_cpu=True)
    assert args.peak_learning_rate == pytest.approx(6.25e-4)
    assert args.peak_learning_rate * args.floor == pytest.approx(1e-6)
    assert (args.num_train_epochs, args.warmup_epochs, args.warmup_start) == (100, 10, 0)
    assert (args.weight_decay, args.final_weight_decay, args.schedule_stretch) == (0.04, 0.4, 1)
    assert (args.student_temperature, args.teacher_temperature, args.center_momentum) == (0.1, 0.04, 0.9)
    assert (args.max_tensor_grad_norm, args.frozen_last_layer_epochs) == (3, 1)
    # 0.996 + 0.004 · (1 - cos(π · 0.25)) / 2, and half of the way in the middle
    assert [args.momentum(step, 1000) for step in (0, 500, 1000)] == pytest.approx([0.996, 0.998, 1.0])
    assert args.momentum(250, 1000) == pytest.approx(0.9965857864)


def test_matrices_and_layer_scales_decay_and_biases_and_norms_do_not(frame_set, tmp_path):
    """Expect layer scales to decay, since they are (C, 1, 1) in the published program."""
    run = trainer(frame_set, tmp_path)
    names = {id(parameter): name for name, parameter in run.model.named_parameters()}
    decayed, spared = ({names[id(p)] for p in group["params"]} for group in run.parameter_groups(run.model))
    assert len(decayed) + len(spared) == sum(p.requires_grad for p in run.model.parameters())
    assert all(name.startswith("student") for name in decayed | spared)
    assert all(name.endswith(("weight", "layer_scale_parameter")) for name in decayed)
    assert "student.embeddings.layernorm.weight" in spared
    run.args.decay_layer_scale = False
    again = {names[id(p)] for p in run.parameter_groups(run.model)[0]["params"]}
    assert {name for name in decayed if "layer_scale" in name} == decayed - again
    assert len(decayed - again) == 4


def test_the_teacher_drops_paths_only_on_request(frame_set, tmp_path):
    for requested in (False, True):
        run = trainer(frame_set, tmp_path / str(requested), teacher_drop_path=requested)
        model = run.model.train()
        batch = run.data_collator([run.train_dataset[number] for number in range(4)])
        views, keys = make_views(run.views, batch["pixel_values"], batch["views"]), batch["views"]["key"]
        one, other = (model(views, keys + shift).teacher_logits for shift in (0, 1))
        assert torch.equal(one, other) != requested


# ------------------------------------------------------------------------------------------- the same again


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_weights_teacher_and_center(frame_set, tmp_path):
    def train(folder: Path, stop: int | None = None, workers: int = 0) -> list[dict[str, float]]:
        """Train or resume until a step, and return the log."""
        run = trainer(frame_set, folder, dataloader_num_workers=workers)
        run.add_callback(tiny.stops(stop)[0])
        run.train(resume_from_checkpoint=True)
        return run.state.log_history

    history = train(tmp_path / "whole")
    train(tmp_path / "parts", stop=8)
    torch.manual_seed(99)
    train(tmp_path / "parts", workers=1)
    tiny.assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    saved = tiny.final_weights(tmp_path / "whole")
    assert saved["center"].any()
    assert not torch.equal(saved["convnext.layernorm.weight"], saved["student.layernorm.weight"])
    lines = [line for line in history if "loss" in line]
    assert all(line["feature_std"] > 0 and 0 < line["teacher_entropy"] < np.log(64) for line in lines)


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_whole_batch(frame_set, tmp_path, processes):
    """Gloo on the CPU, teacher and center included; equal up to the order in which numbers are added."""
    for rank in processes.run_ranks(2, 29619, __name__, frame_set, tmp_path / "two"):
        assert rank.returncode == 0, rank.stderr[-2000:]
    trainer(frame_set, tmp_path / "one", max_steps=6, save_steps=6).train()
    two, one = tiny.final_weights(tmp_path / "two"), tiny.final_weights(tmp_path / "one")
    assert one["center"].any()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-5, msg=name)


# ------------------------------------------------------------------------------------------- recipes and results


@pytest.mark.slow
@pytest.mark.parametrize("family", ["convnext", "convnextv2"])
def test_a_recipe_ends_with_the_teacher_as_a_plain_encoder(frame_set, tmp_path, family):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"""
objective: dino
model: {{model_type: {family}, image_size: 64, depths: [1, 1, 1, 1], hidden_sizes: [8, 8, 16, 16], drop_path_rate: 0.3,
        head_hidden_size: 32, head_bottleneck_size: 16, head_output_size: 64}}
data: {{sources: [{{name: synthetic, data_dir: '{frame_set}', split: all}}]}}
training: {{output_dir: '{tmp_path / "run"}', max_steps: 2, warmup_epochs: 0, per_device_train_batch_size: 6, save_steps: 2,
            local_size: 32, local_views: 1, use_cpu: true, report_to: none, disable_tqdm: true}}
"""
    )
    folder = pretrain(load_recipe(recipe))
    encoder, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert isinstance(encoder, ConvNextModel) == (family == "convnext")
    assert encoder.config.drop_path_rate == 0.0
    assert encoder.config.layer_norm_eps == 1e-6
    assert not any(name.startswith("head") for name in encoder.config.to_dict())
    pixels = AutoImageProcessor.from_pretrained(folder)(np.zeros((40, 50, 3), np.uint8), return_tensors="pt")
    assert pixels["pixel_values"].shape == (1, 3, 64, 64)
    assert float(pixels["pixel_values"][0, 0, 0, 0]) == pytest.approx(-0.485 / 0.229, rel=1e-5)
    checkpoint = AutoModel.from_pretrained(tmp_path / "run" / "checkpoint-2")
    same = zip(encoder.parameters(), checkpoint.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    argv = [f"model={{model_type: {family}, from_pretrained: {folder}}}", f"training.output_dir={tmp_path / 'again'}"]
    assert (pretrain(load_recipe(recipe, argv)) / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["surgfm_large", "surgfm_one_gpu"])
def test_the_surgfm_recipes_are_the_documented_run(name):
    """Check ConvNeXt-L of 196 M parameters, 65,536 outputs, stochastic depth 0.5, 320 frames an update, 100 epochs."""
    recipe = load_recipe(name)
    with torch.device("meta"):
        model = build_model(recipe)
    assert round(sum(p.numel() for p in model.teacher.parameters()) / 1e6) == 196
    assert model.config.hidden_sizes[-1] == 1536
    assert (model.config.head_output_size, model.config.drop_path_rate) == (65536, 0.5)
    batch = recipe.training["per_device_train_batch_size"] * recipe.training.get("gradient_accumulation_steps", 1)
    assert batch * (1 if name.endswith("one_gpu") else 8) == 320
    assert recipe.training["num_train_epochs"] == 100
    assert recipe.training["seed"] == 30


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ema_momentum": 1.5}, "ema_momentum is 1.5"),
        ({"ema_momentum": 0.99, "final_ema_momentum": 0.9}, "must rise"),
        ({"center_momentum": -1}, "center_momentum is -1"),
        ({"teacher_temperature": 0.0}, "teacher_temperature is 0.0; it must be greater than 0"),
        ({"local_scale": [0.4, 0.05]}, "local_scale is"),
        ({"blur_deviation": [2.0, 0.1]}, "blur_deviation is .*; the smaller deviation comes first"),
        ({"global_scale": [0.4]}, "global_scale is"),
        ({"max_tensor_grad_norm": -1.0}, "max_tensor_grad_norm is -1.0"),
        ({"local_size": 16}, "no images below 32 pixels; views have 64 and 16"),
    ],
)
def test_what_makes_no_sense_is_refused(frame_set, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        trainer(frame_set, tmp_path, **changes)


def test_the_blur_of_small_views_can_be_reduced(frame_set, tmp_path):
    pretrainer = trainer(frame_set, tmp_path, blur_deviation=[0.02, 0.3])
    batch = pretrainer.data_collator([pretrainer.train_dataset[number] for number in range(4)])
    blur = batch["views"]["effects"][..., 1]
    assert blur[blur > 0].min() > 0
    assert blur.max() <= 0.3


def test_clips_are_not_frames_with_companions(frame_set, tmp_path):
    with pytest.raises(InputError, match="needs a CompanionDataset, not a ClipDataset"):
        DinoPretrainer(build(), arguments(tmp_path), tiny.clips(frame_set))


def test_the_loss_of_a_batch_is_that_of_its_samples(frame_set, tmp_path):
    """Verify that no sample depends on another: the mean of two losses is the loss of both."""
    run = trainer(frame_set, tmp_path)
    model = run.model.train()
    items = [run.train_dataset[number] for number in (3, 41)]
    losses = [
        float(run.clip_loss(model, run.data_collator(part))[0].detach()) for part in (items, items[:1], items[1:])
    ]
    assert losses[0] == pytest.approx((losses[1] + losses[2]) / 2, rel=1e-5)
    assert functional.l1_loss(torch.tensor(losses[1]), torch.tensor(losses[2])) > 1e-6


# ------------------------------------------------------------------------------------------- whether it learns


def neighbors_know_phases(encoder: Any, folder: Path) -> float:
    """Return the accuracy of the nearest frames of every other operation."""
    frames = load_frame_set("synthetic", folder, "all")
    half = np.array([int(video[-1]) % 2 for video in frames["video_id"]])
    processor = DinoPretrainer.processor_for(encoder.config, 1)
    parts = [
        extract_features(
            encoder, processor, ClipDataset(frames.select(np.flatnonzero(half == n)), num_frames=1, label="phase")
        )
        for n in (0, 1)
    ]
    return float((knn_probe(*parts, 7).argmax(axis=1) == parts[1].labels).mean())


@pytest.mark.slow
def test_a_short_run_makes_nearest_neighbors_better_than_random_weights_do(tmp_path):
    """Predict phases of operations that the run has not seen, without labels. More in benchmarks/surgfm_quality.py."""
    for name, videos, seconds, seed in (("corpus", 16, 40, 21), ("others", 24, 20, 22)):
        numbers = {"videos": videos, "seconds": seconds, "seed": seed, "height": 48, "width": 64}
        settings = {key: str(number) for key, number in numbers.items()}
        prepare_frame_set("synthetic", None, tmp_path / name, settings=settings)
    recipe = load_recipe(
        "surgfm_synthetic",
        [
            f"data.sources=[{{name: synthetic, data_dir: '{tmp_path / 'corpus'}', split: all}}]",
            "model.image_size=32",
            "model.patch_size=4",
            "training.local_size=16",
            "training.max_steps=100",
            "training.num_train_epochs=5",
            "training.save_strategy=no",
            "training.use_cpu=true",
            "training.disable_tqdm=true",
            f"training.output_dir={tmp_path / 'run'}",
        ],
    )
    torch.manual_seed(0)
    before = neighbors_know_phases(build_model(recipe).plain_teacher(), tmp_path / "others")
    after = neighbors_know_phases(AutoModel.from_pretrained(pretrain(recipe)), tmp_path / "others")
    assert after > before + 0.02


if __name__ == "__main__":  # one of several processes
    trainer(Path(sys.argv[1]), Path(sys.argv[2]), max_steps=6, save_steps=6, per_device_train_batch_size=3).train()
    end_processes()
