"""VideoMAE and UMT as classifiers on our encoder, as in SurgVISTA's comparison.

| | VideoMAE (InternVideo 1 uses its code) | UMT, stage 1 |
|---|---|---|
| paper | NeurIPS 2022, arXiv 2203.12602 | ICCV 2023, arXiv 2303.16058 |
| weights | github.com/MCG-NJU/VideoMAE | github.com/OpenGVLab/unmasked_teacher |
| license | CC BY-NC 4.0 | look it up |
| key layout | SurgVISTA's names after `encoder.`; `decoder.*` | the same, patches of one frame |
| preprocessing | 16 frames of 224², ImageNet's mean and deviation | the same |
| becomes | classifier, 1-D positions | classifier, 1-D positions, patches inflated in time |

SurgRec-MAE, of the same layout, becomes transformers' own `VideoMAE*`: see `surgrec.py`.
"""

from functools import partial

from ...configuration_surgvista import SurgVistaConfig
from ..family import Family
from .surgvista import PRETRAINING_PARTS, plan_classifier, restore

_plan_videomae = partial(plan_classifier, positions="sincos_1d", prefix="encoder.", ignored=PRETRAINING_PARTS)
_restore = {SurgVistaConfig.model_type: partial(restore, prefix="encoder.")}

FAMILIES = (
    Family(
        "videomae",
        "VideoMAE (and InternVideo 1, which uses its code)",
        "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training, NeurIPS 2022, "
        "arXiv 2203.12602",
        "github.com/MCG-NJU/VideoMAE",
        "cc-by-nc-4.0",
        _plan_videomae,
        _restore,
        input="16 frames of 224×224",
        becomes="SurgVistaForVideoClassification",
        checked="logits of the original program on a tiny model",
    ),
    Family(
        "umt",
        "UMT (unmasked teacher), stage 1",
        "Unmasked Teacher: Towards Training-Efficient Video Foundation Models, ICCV 2023, arXiv 2303.16058",
        "github.com/OpenGVLab/unmasked_teacher",
        "other",
        partial(_plan_videomae, tubelet=2),
        _restore,
        input="16 frames of 224×224",
        becomes="SurgVistaForVideoClassification",
        checked="as videomae, patches of one frame inflated",
    ),
)
