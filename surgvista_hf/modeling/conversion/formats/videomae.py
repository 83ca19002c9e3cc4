"""VideoMAE and UMT as classifiers on our encoder, as in SurgVISTA's comparison.

| | VideoMAE (InternVideo 1 uses its code) | UMT, stage 1 |
|---|---|---|
| paper | NeurIPS 2022, arXiv 2203.12602 | ICCV 2023, arXiv 2303.16058 |
| weights | github.com/MCG-NJU/VideoMAE | github.com/OpenGVLab/unmasked_teacher |
| license | CC BY-NC 4.0 | MIT |
| key layout | SurgVISTA's names after `encoder.`; `decoder.*` | the same, patches of one frame |
| preprocessing | 16 frames; short side 224 (OpenCV, bilinear), middle 224²; ImageNet's mean and deviation | 8 frames there |
| becomes | classifier, 1-D positions | classifier, 1-D positions, patches inflated in time |

SurgRec-MAE, of the same layout, becomes transformers' own `VideoMAE*`: see `surgrec.py`.
"""

from functools import partial
from typing import Any

from ...configuration_surgvista import SurgVistaConfig
from ..family import (
    Blueprint,
    CheckpointError,
    Family,
    Tensors,
    Values,
    prefix_of,
    refuse_class_token,
    short_side_processor,
    tubelet_of,
)
from .surgvista import PRETRAINING_PARTS, plan_classifier, restore

_TWO_FRAMES = ("videomae", "surgrec-mae", "umt")  # UMT's where its patches were inflated already


def _plan(tensors: Tensors, overrides: Values, *, frames_of_patch: tuple[int, ...], **options: Any) -> Blueprint:
    """Plan a classifier, if the patches of the file span as many frames as those of its family can."""
    prefix = prefix_of(tensors, "patch_embed.proj.weight")
    refuse_class_token({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})
    found = tubelet_of(tensors, prefix)
    if found not in frames_of_patch:
        raise CheckpointError(
            f"the patches of the checkpoint span {found} frames, not {frames_of_patch[0]}: it is not of this family"
        )
    if found > 1:
        options["twins"] = _TWO_FRAMES
    return plan_classifier(
        tensors,
        overrides,
        positions="sincos_1d",
        prefix="encoder.",
        ignored=PRETRAINING_PARTS,
        make=short_side_processor,
        **options,
    )


_restore = {SurgVistaConfig.model_type: partial(restore, prefix="encoder.")}

FAMILIES = (
    Family(
        "videomae",
        "VideoMAE (and InternVideo 1, which uses its code)",
        "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training, NeurIPS 2022, "
        "arXiv 2203.12602",
        "github.com/MCG-NJU/VideoMAE",
        "cc-by-nc-4.0",
        partial(_plan, frames_of_patch=(2,)),
        _restore,
        input="16 frames of 224×224",
        becomes="SurgVistaForVideoClassification",
        checked="VideoMAE's networks and validation transform: features, logits and pixels",
        preparation="short side 224 (bilinear without antialiasing), middle 224×224; ImageNet's mean and deviation",
    ),
    Family(
        "umt",
        "UMT (unmasked teacher), stage 1",
        "Unmasked Teacher: Towards Training-Efficient Video Foundation Models, ICCV 2023, arXiv 2303.16058",
        "github.com/OpenGVLab/unmasked_teacher",
        "mit",
        partial(_plan, frames_of_patch=(1, 2), tubelet=2),
        _restore,
        input="16 frames of 224×224",
        becomes="SurgVistaForVideoClassification",
        checked="UMT's fine-tuning network, 8 frames, each given twice here (patches of one frame are inflated)",
        preparation="short side 224 (bilinear without antialiasing), middle 224×224; ImageNet's mean and deviation",
    ),
)
