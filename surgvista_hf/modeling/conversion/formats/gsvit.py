"""GSViT, an EfficientViT-M5 (Microsoft's, ICCV 2023) pre-trained on surgical video, which becomes `TimmWrapperModel`.

| | |
|---|---|
| paper | General surgery vision transformer, arXiv 2403.05949 |
| weights | github.com/SamuelSchmidgall/GSViT names them; where they lie was not checked |
| license | none found; look it up |
| key layout | `evit.<n>.`: 0 is `patch_embed` of EfficientViT's authors, 1 to 3 are `blocks1` to `blocks3`; a flat file |
| preprocessing | 224² squeezed, ImageNet's mean and deviation as downstream programs use it; the release's own is not stated |
| feature | mean over places, 384 numbers |
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import TimmWrapperConfig

from ..family import Blueprint, Family, Tensors
from ..mapping import Naming, Source, unmap_tensors
from ..reading import CONTAINERS, CheckpointError
from .timm_models import plan_timm

_EFFICIENT_VITS = tuple(f"efficientvit_m{size}" for size in (5, 4, 3, 2, 1, 0))
_PARTS_OF_DOWNSAMPLING = {"res1": "0", "patchmerge": "1", "res2": "2"}


def _plan(tensors: Tensors, said: Mapping[str, Any]) -> Blueprint:
    numbered = any(name.startswith("evit.") for name in tensors)
    if not numbered and "patch_embed.0.c.weight" not in tensors:
        raise CheckpointError("the checkpoint has neither evit.… nor patch_embed.0.c.weight: it is not of this family")
    ignored = (
        (r".*attention_bias_idxs", "computed from the size of a window"),
        (r"(evit\.4|head|head_dist|decoder)\b", "only used in pre-training, or a classifier"),
    )
    return plan_timm(_EFFICIENT_VITS, tensors, said, _naming("evit." if numbered else "blocks"), ignored)


def _naming(stem: str) -> Naming:
    """The names of EfficientViT's authors, with the parts numbered after a stem, for those of timm.

    The authors' stages are lists: the three steps that reduce the picture come first, then the blocks.
    """
    patches = f"{stem}0." if stem == "evit." else "patch_embed."

    def source(target: str) -> Source:
        name = re.sub(r"\.conv\.weight$", ".c.weight", target.removeprefix("timm_model."))
        if match := re.fullmatch(r"patch_embed\.conv(\d)\.(.+)", name):  # activations have numbers too
            return Source(f"{patches}{2 * int(match[1]) - 2}.{match[2]}")
        if match := re.fullmatch(r"stages\.(\d)\.downsample\.(res1|patchmerge|res2)\.(.+)", name):
            return Source(f"{stem}{int(match[1]) + 1}.{_PARTS_OF_DOWNSAMPLING[match[2]]}.{match[3]}")
        if match := re.fullmatch(r"stages\.(\d)\.blocks\.(\d+)\.(.+)", name):
            stage, block = int(match[1]), int(match[2])
            return Source(f"{stem}{stage + 1}.{block + 3 * (stage > 0)}.{match[3]}")
        return Source(name)

    return source


def _restore(tensors: Tensors, config: TimmWrapperConfig) -> dict[str, torch.Tensor]:
    return unmap_tensors(tensors, _naming("evit."))


FAMILIES = (
    Family(
        "gsvit",
        "GSViT (general surgery vision transformer)",
        "General surgery vision transformer: A video pre-trained foundation model for general surgery, arXiv 2403.05949",
        "github.com/SamuelSchmidgall/GSViT",
        "other",
        _plan,
        {TimmWrapperConfig.model_type: _restore},
        input="224×224",
        becomes="TimmWrapperModel",
        checked="features of timm's EfficientViT in the layout of its authors under the release's numbering",
        unknown="the released file, its normalization and its license",
        containers=CONTAINERS,
        image_teacher=True,
    ),
)
