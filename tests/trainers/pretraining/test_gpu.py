"""Pre-training on a CUDA device."""

from pathlib import Path

import pytest
import torch
from transformers import ViTConfig, ViTModel

from surgvista_hf.trainers.pretraining.teachers import ImageTeacher

from .. import tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine"),
]


def test_a_step_of_the_trainer_with_its_teacher_never_waits_for_the_device(frame_set: Path, tmp_path: Path):
    """Crop, teach, compute loss and gradients, sum up for the log and update, from a batch that is on the device."""
    trainer = tiny.trainer(frame_set, tmp_path, use_cpu=False)
    items = [{**trainer.train_dataset[number], "epoch": 0} for number in range(6)]
    batch = trainer._prepare_inputs(trainer.data_collator(items))
    optimizer = trainer.create_optimizer()

    def step() -> None:
        trainer.compute_loss(trainer.trained_module, batch).backward()
        optimizer.step()
        optimizer.zero_grad()

    trainer.trained_module.train()
    step()  # warm-up: libraries synchronize when they are first used
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trainer.check_finite()


def test_a_run_in_bf16_lowers_the_loss(frame_set: Path, tmp_path: Path):
    trainer = tiny.trainer(frame_set, tmp_path, use_cpu=False, bf16=True, num_train_epochs=6, save_strategy="no")
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[-1] < 0.9 * losses[0]


def test_the_features_of_a_teacher_in_8_bits_are_near_those_in_bf16():
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this device has no products in 8 bits")
    config = ViTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, image_size=32, patch_size=8
    )
    torch.manual_seed(0)
    models = [ViTModel(config, add_pooling_layer=False) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    half, eighth = (
        ImageTeacher(model, dtype=dtype).cuda()
        for model, dtype in zip(models, (torch.bfloat16, torch.float8_e4m3fn), strict=True)
    )
    clips = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).cuda()
    exact, approximate = half(clips, (2, 4, 4)), eighth(clips, (2, 4, 4))
    assert float((approximate - exact).norm() / exact.norm()) < 0.1
