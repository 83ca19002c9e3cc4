"""Image transformers of timm as classifiers over frames, as in SurgVISTA's comparison.

| | `mae` | `dino` | `supervised` |
|---|---|---|---|
| paper | CVPR 2022, arXiv 2111.06377 | ICCV 2021, arXiv 2104.14294 | TMLR 2022, arXiv 2106.10270 |
| weights (timm/vit_base_patch16_224.…) | `mae` | `dino` | `augreg_in1k` |
| license | CC BY-NC 4.0 | Apache-2.0 | Apache-2.0 |

| all three | |
|---|---|
| key layout | timm's: `blocks.<i>.attn.qkv` with bias, `cls_token`, learned `pos_embed`, `norm`, `head` |
| preprocessing | 8 frames of 224², ImageNet's mean and deviation |
| becomes | classifier with tubelet 1, 1-D positions over time and space, without class token |
"""

from functools import partial

from ...configuration_surgvista import SurgVistaConfig
from ..family import Blueprint, CheckpointError, Family, Tensors, Values, shape_of
from .surgvista import PRETRAINING_PARTS, plan_classifier, restore


def _plan(tensors: Tensors, overrides: Values, *, has_head: bool) -> Blueprint:
    """Plan a classifier over frames from the weights of one of timm's image transformers."""
    shape_of(tensors, "blocks.0.attn.qkv.bias")
    fine_tuned = "fc_norm.weight" in tensors
    if any(
        name.startswith(("decoder", "mask_token", "register_tokens", "rope_embed")) or ".ls1." in name
        for name in tensors
    ):
        raise CheckpointError(
            "the checkpoint has a decoder, registers or layer scales, which timm's networks have not"
        )
    if not fine_tuned and ("head.weight" in tensors) != has_head:
        raise CheckpointError(
            f"the checkpoint has {'no' if has_head else 'a'} classifier over the class token: it is not of this family"
        )
    return plan_classifier(
        tensors,
        overrides,
        positions="sincos_1d",
        tubelet=1,
        defaults={"num_frames": 8},
        ignored=PRETRAINING_PARTS,
        twins=("mae", "dino", "supervised") if fine_tuned else () if has_head else ("mae", "dino", "surgenet-dino"),
    )


_image_family = partial(
    Family,
    restore={SurgVistaConfig.model_type: restore},
    input="8 frames of 224×224",
    becomes="SurgVistaForVideoClassification",
    checked="logits of SurgVISTA's comparison with these weights on a tiny model",
    preparation="squeezed, bilinear without antialiasing; ImageNet's mean and deviation",
)

FAMILIES = (
    _image_family(
        "mae",
        "MAE image ViT (timm's vit_base_patch16_224.mae)",
        "Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, arXiv 2111.06377",
        "huggingface.co/timm/vit_base_patch16_224.mae",
        "cc-by-nc-4.0",
        partial(_plan, has_head=False),
    ),
    _image_family(
        "dino",
        "DINO image ViT (timm's vit_base_patch16_224.dino)",
        "Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021, arXiv 2104.14294",
        "huggingface.co/timm/vit_base_patch16_224.dino",
        "apache-2.0",
        partial(_plan, has_head=False),
    ),
    _image_family(
        "supervised",
        "supervised image ViT (timm's vit_base_patch16_224.augreg_in1k)",
        "How to train your ViT? Data, Augmentation, and Regularization in Vision Transformers, TMLR 2022, "
        "arXiv 2106.10270",
        "huggingface.co/timm/vit_base_patch16_224.augreg_in1k",
        "apache-2.0",
        partial(_plan, has_head=True),
    ),
)
