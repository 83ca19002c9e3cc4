"""The golden numbers, and checkpoints made of them in the original layout."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from surgvista_hf import SurgVistaConfig

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "golden"
CLASSIFIERS = {  # fixture -> (family it belongs to, what the tensors do not tell)
    "tiny_classify_video_3d_sincos": ("surgvista", {}),
    "tiny_classify_video_1d_sincos": ("videomae", {}),
    "tiny_classify_image_2d": ("mae", {"num_frames": 4}),
}
UNREADABLE_SIZES = {
    "image_size": 32,
    "num_frames": 4,
    "num_attention_heads": 4,
}  # the tiny model is no published width
UNREADABLE_DECODER_SIZES = {"video_decoder_num_attention_heads": 2, "image_decoder_num_attention_heads": 3}


def load(name: str) -> dict[str, torch.Tensor]:
    return load_file(FOLDER / f"{name}.safetensors")


def part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def pretraining_config(**changes: Any) -> SurgVistaConfig:
    sizes = json.loads((FOLDER / "tiny_pretraining.json").read_text())
    teacher = sizes.pop("teacher")
    sizes.pop("teacher_layer_norm_eps")
    return SurgVistaConfig(**{**sizes, "image_target_size": teacher["hidden_size"], **changes})


def training_checkpoint(file: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """Write a file as the original program does: weights beside an optimizer, a scaler and a namespace."""
    torch.save(
        {
            "model": tensors,
            "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-3, "lr_scale": 1.0}]},
            "epoch": 199,
            "scaler": {"scale": 65536.0, "growth_interval": 2000, "_growth_tracker": 3},
            "args": argparse.Namespace(window_size=(2, 4, 4), patch_size=(8, 8)),
        },
        file,
    )
    return file


def differences(ours: torch.Tensor, golden: torch.Tensor) -> float:
    """Return the largest absolute difference."""
    assert ours.shape == golden.shape, f"{tuple(ours.shape)} is not {tuple(golden.shape)}"
    return float((ours.detach() - golden).abs().max())
