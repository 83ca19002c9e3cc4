"""Tiny encoders of every family that a classifier can be made of."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

_VIT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "surgvista": {**_VIT, "image_size": 32, "patch_size": 8, "num_frames": 4},
    "videomae": {**_VIT, "image_size": 32, "patch_size": 8, "num_frames": 4, "intermediate_size": 128},
    "vjepa2": {
        **_VIT,
        "crop_size": 32,
        "patch_size": 8,
        "frames_per_clip": 4,
        "pred_hidden_size": 24,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
        "num_pooler_layers": 1,
    },
    "convnext": {"hidden_sizes": [64] * 4, "depths": [1, 1, 2, 1], "image_size": 32},
    "vit": {**_VIT, "image_size": 32, "patch_size": 16, "intermediate_size": 128},
    "dinov2": {**_VIT, "image_size": 28, "patch_size": 14},
}
LABELS = ["Preparation", "Dissection", "Packaging"]
SINGLE = "single_label_classification"


def fields(family: str) -> dict[str, Any]:
    return {"model_type": family, **FAMILIES[family]}


def encoder(family: str, folder: Path) -> Path:
    """A saved encoder with random weights."""
    torch.manual_seed(0)
    config = dict(FAMILIES[family])
    AutoModel.from_config(AutoConfig.for_model(family, **config)).save_pretrained(folder)
    return folder


def clips(family: str, frames: int = 4) -> torch.Tensor:
    """Two clips of its size, always the same."""
    side = FAMILIES[family].get("image_size", 32)
    return torch.randn(2, frames, 3, side, side, generator=torch.Generator().manual_seed(1))
