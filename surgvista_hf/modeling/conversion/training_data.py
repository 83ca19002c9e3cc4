"""Which surgical data the published weights of each family were trained on, as far as their authors say.

One entry for each data set, under the name that this package has for it, or its own. The overlap guard
(`datasets_scripts.frame_sets.overlap`) compares them with the videos of a test. What nobody has
published is said to be unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainingData:
    """A data set that weights were trained on.

    Args:
        dataset: Its name in this package, or its published name.
        videos: `"all"`, the video ids, or `"some"` where nobody lists which.
        source: The publication that says so.
    """

    dataset: str
    videos: Literal["all", "some"] | tuple[str, ...]
    source: str


@dataclass(frozen=True)
class FamilyTrainingData:
    """The published facts on the training data of a family or of some of its files.

    Args:
        data: The data sets.
        is_complete: Whether the authors' list is complete; if not, the weights may have seen more.
        remark: A further remark.
    """

    data: tuple[TrainingData, ...] = ()
    is_complete: bool = False
    remark: str = ""


def _cholec80(*numbers: int) -> tuple[str, ...]:
    return tuple(f"video{number:02d}" for number in numbers)


_FIRST_HALF = _cholec80(*range(1, 41))
_SURGVISTA = "SurgVISTA's paper, arXiv 2506.02692"
_SURGENET = "SurgeNetXL's paper, arXiv 2501.09436"
_ENDOVIT = "EndoViT's paper (Endo700k), doi 10.1007/s11548-024-03091-5, and its page on the Hub"
_ENDO_FM = "Endo-FM's paper, arXiv 2306.16741"
_NATURAL = "images or videos of everyday life; no surgical data set is named"
_WEB = "videos of the web, of which nobody has published whether they repeat those of other data sets"

_SURGENET_DATA = (
    TrainingData("cholec80", "some", f"{_SURGENET}: 76 of the 80 videos"),
    TrainingData("heichole", "all", f"{_SURGENET}: 30 videos"),
    TrainingData("psi_ava", "all", f"{_SURGENET}: 8 videos"),
    TrainingData("multibypass140", "all", f"{_SURGENET}: all 140 videos"),
)
_ENDOVIT_DATA = tuple(
    TrainingData(name, "some", _ENDOVIT)
    for name in ("psi_ava", "surgicalactions160", "HeiCo", "ESAD", "LapGyn4", "hSDB-instrument", "DSAD", "GLENDA")
)

TRAINING_DATA: Mapping[str, FamilyTrainingData] = {
    "surgvista": FamilyTrainingData(
        (
            TrainingData("cholec80", _FIRST_HALF, _SURGVISTA),
            TrainingData("m2cai16_workflow", tuple(f"video_{number:02d}" for number in range(1, 28)), _SURGVISTA),
            TrainingData("heichole", "all", _SURGVISTA),
            TrainingData("pitvis", "all", _SURGVISTA),
            TrainingData("psi_ava", "all", _SURGVISTA),
            TrainingData("autolaparo", tuple(f"{number:02d}" for number in range(1, 11)), _SURGVISTA),
            TrainingData("bernbypass70", "all", _SURGVISTA),
            TrainingData("strasbypass70", "all", _SURGVISTA),
            TrainingData("gensurgery", "all", _SURGVISTA),
        ),
        is_complete=True,
    ),
    "surgenet": FamilyTrainingData(
        _SURGENET_DATA, remark="SurgeNetXL adds videos of the web; files named CHOLEC or RAMIE saw one procedure only"
    ),
    "surgenet-dino": FamilyTrainingData(_SURGENET_DATA, remark="SurgeNetXL adds videos of the web"),
    "selfsupsurg": FamilyTrainingData(
        (TrainingData("cholec80", _FIRST_HALF, "SelfSupSurg's paper, arXiv 2207.00449: the training videos"),),
        is_complete=True,
    ),
    "endovit": FamilyTrainingData(
        (
            TrainingData("cholec80", "all", f"{_ENDOVIT}: the file of the main repository"),
            TrainingData("CholecSeg8k", "all", f"{_ENDOVIT}: the file of the main repository"),
            *_ENDOVIT_DATA,
        ),
        remark="EndoViT_Seg, EndoViT_ATD and EndoViT_SPR leave the test videos of one task out",
    ),
    "lemonfm": FamilyTrainingData(
        (TrainingData("lemon", "all", "LEMON's paper, arXiv 2503.19740"),), is_complete=True, remark=f"LEMON is {_WEB}"
    ),
    "pl-stitch": FamilyTrainingData(
        (TrainingData("lemon", "some", "PL-Stitch's page on the Hub: pl_lemon.pth"),), remark=f"LEMON is {_WEB}"
    ),
    "lemon-storyboards": FamilyTrainingData(remark=_WEB),
    "lemon-frames": FamilyTrainingData(remark=_WEB),
    "endo-fm": FamilyTrainingData(
        (
            TrainingData("cholect45", "some", f"{_ENDO_FM}: CholecTriplet"),
            *(
                TrainingData(name, "some", _ENDO_FM)
                for name in (
                    "Colonoscopic",
                    "SUN-SEG",
                    "LDPolypVideo",
                    "Hyper-Kvasir",
                    "Kvasir-Capsule",
                    "a private set",
                )
            ),
        ),
        is_complete=True,
    ),
    "surgrec-mae": FamilyTrainingData(remark="10,535 videos; the release has no list of them"),
    "surgrec-jepa": FamilyTrainingData(remark="10,535 videos; the release has no list of them"),
    "surgmotion": FamilyTrainingData(),
    "gsvit": FamilyTrainingData(),
    **{
        name: FamilyTrainingData(
            (TrainingData("SVL", "all", source),), remark=f"SVL, surgical video lectures, is {_WEB}"
        )
        for name, source in (
            ("surgvlp", "SurgVLP's paper, arXiv 2307.15220"),
            ("hecvl", "HecVL's paper, arXiv 2405.10075"),
            ("peskavlp", "PeskaVLP's paper, arXiv 2410.00263"),
        )
    },
    "surgclip-b": FamilyTrainingData(),
    "endossl-teacher": FamilyTrainingData(remark="laparoscopies that are not public"),
    **{
        name: FamilyTrainingData((), is_complete=True, remark=_NATURAL)
        for name in ("mvd", "videomae", "umt", "mae", "dino", "supervised")
    },
    "vjepa": FamilyTrainingData(remark=_WEB),
    "vjepa2": FamilyTrainingData(remark=_WEB),
}
# Files of a family that saw less than its main one: a part of the file's or folder's name -> what they saw.
VARIANTS: Mapping[str, Mapping[str, FamilyTrainingData]] = {
    "endovit": {
        name: FamilyTrainingData(
            (
                *(TrainingData(data, "some", f"{_ENDOVIT}: without the test videos of {task}") for data in seen),
                *_ENDOVIT_DATA,
            ),
            remark=f"trained without the test videos of {task}",
        )
        for name, task, seen in (
            ("endovit_seg", "segmentation (CholecSeg8k)", ("cholec80", "CholecSeg8k")),
            ("endovit_atd", "action triplets (CholecT45)", ("cholec80",)),
            ("endovit_spr", "phases (Cholec80)", ("cholec80",)),
        )
    }
}


def training_data_of(family: str, variant: str = "") -> FamilyTrainingData | None:
    """Return what is known of the data that a family's weights were trained on, or `None` for an unknown family.

    Args:
        family: The name of a family.
        variant: The name of the file or folder that was converted, which may tell which variant it is.

    Example:
        >>> [entry.dataset for entry in training_data_of("selfsupsurg").data]
        ['cholec80']
        >>> training_data_of("endovit", "EndoViT_SPR").remark
        'trained without the test videos of phases (Cholec80)'
    """
    for name, known in VARIANTS.get(family, {}).items():
        if name in variant.lower():
            return known
    return TRAINING_DATA.get(family)
