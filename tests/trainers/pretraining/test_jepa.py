"""Joint-embedding pre-training: a step as written by hand, the published schedules, and runs that repeat."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from surgvista_hf.clips import BlockMasking
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.trainers.common.clip_trainer import end_processes
from surgvista_hf.trainers.common.schedule import cosine, parameter_groups
from surgvista_hf.trainers.pretraining.jepa import JepaArguments, JepaPretrainer

from ...modeling.objectives.test_joint_embedding import KINDS, build
from .. import tiny

REPOSITORY = Path(__file__).resolve().parents[3]


def arguments(output: Path, **changes: Any) -> JepaArguments:
    """Return the arguments of a tiny run."""
    rates = {"base_learning_rate": 2e-2, "base_min_learning_rate": 1e-3, "ema_momentum": 0.9}
    return tiny.arguments(output, JepaArguments, **{**rates, **changes})


def trainer(frame_set: Path, output: Path, kind: str, **changes: Any) -> JepaPretrainer:
    """Return a trainer of a tiny model."""
    return JepaPretrainer(build(kind), arguments(output, **changes), tiny.clips(frame_set))


@pytest.mark.parametrize("kind", KINDS)
def test_updates_equal_steps_written_by_hand(frame_set, tmp_path, kind):
    """Check learning rate, weight decay, clipping of both parts, AdamW, then the target encoder's average."""
    # A threshold that all gradients exceed, and a warm-up of one update after which it counts.
    run = trainer(
        frame_set, tmp_path, kind, max_steps=3, max_part_grad_norm=0.01, warmup_epochs=1 / 3, num_train_epochs=1
    )
    loader = DataLoader(run.train_dataset, batch_size=6, sampler=run.sampler, collate_fn=run.data_collator)
    batches = [batch for batch, _ in zip(loader, range(3), strict=False)]
    run.train()
    rates = [line["learning_rate"] for line in run.state.log_history if "loss" in line]

    model = build(kind).train()
    optimizer = torch.optim.AdamW(parameter_groups(model.named_parameters(), 0.04), lr=1.0, betas=(0.9, 0.999))
    encoder = list(model.online_encoder.parameters())
    predictor = [p for n, p in model.named_parameters() if "predictor" in n]
    assert sum(p.requires_grad for p in model.parameters()) == len(encoder) + len(predictor)
    for step, batch in enumerate(batches):
        model(run.prepare_pixels(batch), **batch["masks"]).loss.backward()
        if step >= 1:
            torch.nn.utils.clip_grad_norm_(encoder, 0.01)
            torch.nn.utils.clip_grad_norm_(predictor, 0.01)
        optimizer.param_groups[0]["weight_decay"] = cosine(0.04, 0.4, step / (3 * 1.25))
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        optimizer.step()
        optimizer.zero_grad()
        momentum = 0.9 + 0.1 * step / (3 * 1.25)
        with torch.no_grad():
            for target, online in zip(model.target_encoder.parameters(), encoder, strict=True):
                target.mul_(momentum).add_(online, alpha=1 - momentum)
    for (name, ours), theirs in zip(run.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_goes_on_to_the_same_weights_and_the_same_target_encoder(frame_set, tmp_path, kind):
    def train(folder: Path, stop: int | None = None, workers: int = 0) -> list[dict[str, float]]:
        """Train or resume until a step, and return the log."""
        run = trainer(frame_set, folder, kind, dataloader_num_workers=workers)
        run.add_callback(tiny.stops(stop)[0])
        run.train(resume_from_checkpoint=True)
        return run.state.log_history

    history = train(tmp_path / "whole")
    train(tmp_path / "parts", stop=8)
    train(tmp_path / "parts", workers=1)
    tiny.assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    assert any(name.startswith("target_encoder.") for name in tiny.final_weights(tmp_path / "whole"))
    lines = [line for line in history if "loss" in line]
    assert all(0 < line["feature_std"] < 2 for line in lines)


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_whole_batch(frame_set, tmp_path, processes):
    """Gloo on the CPU, target encoder included; equal up to the order in which gradients are added."""
    for rank in processes.run_ranks(2, 29613, __name__, frame_set, tmp_path / "two"):
        assert rank.returncode == 0, rank.stderr[-2000:]
    trainer(frame_set, tmp_path / "one", "vjepa2", max_steps=6, save_steps=6).train()
    two, one = tiny.final_weights(tmp_path / "two"), tiny.final_weights(tmp_path / "one")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_activation_checkpointing_changes_no_gradient(kind):
    clips = torch.randn(2, 4, 3, 32, 32)
    gradients = []
    for checkpointing in (False, True):
        model = build(kind).train()
        if checkpointing:
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable()
        model(clips, **BlockMasking((2, 4, 4))(0, range(2))).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_defaults_are_those_published_for_v_jepa():
    """Check peak 6.25e-4 and floor 1e-6 for 3072 clips, from 2e-4; weight decay 0.04 to 0.4; momentum 0.998 to 1."""
    args = JepaArguments("run", per_device_train_batch_size=3072, use_cpu=True)
    assert args.peak_learning_rate == pytest.approx(6.25e-4, rel=1e-4)
    assert args.peak_learning_rate * args.floor == pytest.approx(1e-6, rel=1e-3)
    assert args.peak_learning_rate * args.warmup_start == pytest.approx(2e-4, rel=1e-4)
    assert (args.weight_decay, args.final_weight_decay, args.schedule_stretch) == (0.04, 0.4, 1.25)
    assert args.momentum(0, 1000) == 0.998
    assert args.momentum(1250, 1000) == pytest.approx(1.0)


def test_crops_are_those_of_v_jepa_and_masks_come_in_two_sets(frame_set, tmp_path):
    run = trainer(frame_set, tmp_path, "vjepa2")
    batch = run.data_collator([run.train_dataset[index] for index in range(40)])
    assert len({tuple(box) for box in batch["boxes"]}) > 30
    assert {box[4] for box in batch["boxes"]} == {False, True}
    assert [len(ids) for ids in batch["masks"].values()] == [2, 2]
    assert run.prepare_pixels(batch).shape == (40, 4, 3, 32, 32)


def test_what_would_not_repeat_or_makes_no_sense_is_refused(frame_set, tmp_path):
    with pytest.raises(InputError, match="drop_path_rate"):
        JepaPretrainer(build("vjepa2", drop_path_rate=0.1), arguments(tmp_path), tiny.clips(frame_set))
    with pytest.raises(InputError, match="momentum"):
        arguments(tmp_path, ema_momentum=0.9, final_ema_momentum=0.5)
    with pytest.raises(InputError, match="frames"):
        JepaPretrainer(build("vjepa2", frames_per_clip=8), arguments(tmp_path), tiny.clips(frame_set))


if __name__ == "__main__":  # one of several processes
    trainer(
        Path(sys.argv[1]), Path(sys.argv[2]), "vjepa2", max_steps=6, save_steps=6, per_device_train_batch_size=3
    ).train()
    end_processes()
