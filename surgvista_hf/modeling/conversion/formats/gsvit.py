"""GSViT, an EfficientViT-M5 (Microsoft's, ICCV 2023) pre-trained on surgical video, which becomes `TimmWrapperModel`.

| | |
|---|---|
| paper | General surgery vision transformer, arXiv 2403.05949 |
| weights | github.com/SamuelSchmidgall/GSViT names them; where they lie was not checked |
| license | none found for the weights (the network's code is MIT); look it up |
| key layout | `evit.<n>.`: 0 is `patch_embed` of EfficientViT's authors, 1 to 3 are `blocks1` to `blocks3`; flat |
| prefixes | any, such as `gsvit.` or `gsvit.evit.` |
| preprocessing | blue, green, red in 0-1 without mean and deviation, 224² squeezed, bilinear without antialiasing |
| feature | mean over places, 384 numbers |
"""

import re

import torch
from transformers import TimmWrapperConfig

from ..family import Blueprint, Family, Tensors, Values, plain_image_processor, prefix_of
from ..mapping import Naming, Source, unmap_tensors
from ..reading import CONTAINERS, CheckpointError
from .timm_models import plan_timm

_EFFICIENT_VITS = tuple(f"efficientvit_m{size}" for size in (5, 4, 3, 2, 1, 0))
_SIDE = 224
_PARTS_OF_DOWNSAMPLING = {"res1": "0", "patchmerge": "1", "res2": "2"}


def _plan(tensors: Tensors, overrides: Values) -> Blueprint:
    prefix, stem = _layout(tensors)
    before = re.escape(prefix)
    ignored = (
        (rf"{before}.*attention_bias_idxs", "computed from the size of a window"),
        (rf"{before}(evit\.)?4\.", "only used in pre-training, or a classifier"),
        (r"(.*\.)?(head|head_dist|decoder)\b", "only used in pre-training, or a classifier"),
    )
    # No mean and deviation are subtracted; 0 and 1 say so to whatever reads them.
    processor = plain_image_processor(_SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), arithmetic="float", blue_first=True)
    return plan_timm(_EFFICIENT_VITS, tensors, overrides, _naming(stem, prefix), ignored, processor)


def _layout(tensors: Tensors) -> tuple[str, str]:
    """Return what stands before all names, and what stands before the numbers of the parts.

    The parts are numbered from 0 behind `evit.`, `gsvit.` or any prefix, or are called as by EfficientViT's authors.
    """
    for name in ("evit.0.0.c.weight", "patch_embed.0.c.weight", "0.0.c.weight"):
        try:
            prefix = prefix_of(tensors, name)
        except CheckpointError:
            continue
        return prefix, {"evit": "evit.", "patch_embed": "blocks", "0": ""}[name.split(".")[0]]
    raise CheckpointError(
        "the checkpoint has neither evit.0.0.c.weight nor patch_embed.0.c.weight, with or without a prefix: it is not of this "
        "family"
    )


def _naming(stem: str, prefix: str = "") -> Naming:
    """Return the names of EfficientViT's authors, with the parts numbered after a stem, for those of timm.

    The authors' stages are lists: the three steps that reduce the image come first, then the blocks.
    """
    patches = "patch_embed." if stem == "blocks" else f"{stem}0."

    def _name(target: str) -> str:
        name = re.sub(r"\.conv\.weight$", ".c.weight", target.removeprefix("timm_model."))
        if match := re.fullmatch(r"patch_embed\.conv(\d)\.(.+)", name):  # activations have numbers too
            return f"{patches}{2 * int(match[1]) - 2}.{match[2]}"
        if match := re.fullmatch(r"stages\.(\d)\.downsample\.(res1|patchmerge|res2)\.(.+)", name):
            return f"{stem}{int(match[1]) + 1}.{_PARTS_OF_DOWNSAMPLING[match[2]]}.{match[3]}"
        if match := re.fullmatch(r"stages\.(\d)\.blocks\.(\d+)\.(.+)", name):
            stage, block = int(match[1]), int(match[2])
            return f"{stem}{stage + 1}.{block + 3 * (stage > 0)}.{match[3]}"
        return name

    return lambda target: Source(prefix + _name(target))


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
        checked="GSViT's network and data loader: features and pixels, under every prefix that its programs may write",
        preparation="blue, green, red; squeezed, bilinear without antialiasing; 0-1, neither mean nor deviation",
        unknown="the released file and its license",
        containers=CONTAINERS,
        image_teacher=True,
    ),
)
