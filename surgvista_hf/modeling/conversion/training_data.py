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
_SURGENET = "README of TimJaspers0801/SurgeNet, table of the data sets"
_ENDOVIT = "README of DominikBatic/EndoViT, table of Endo700k"
_ENDOVIT_SPLITS = "datasets/Cholec80/prepare_cholec80.py of DominikBatic/EndoViT"
_ENDO_FM = "DATASETS.md of med-air/Endo-FM, pre-training"
_LEMON = "LEMON's paper, arXiv 2503.19740"
_V_JEPA = "configs/pretrain/vitl16.yaml of facebookresearch/jepa"
_VIDEOMAE = "MODEL_ZOO.md of MCG-NJU/VideoMAE"
_TIMM = "the names of the released files, such as mae_base_imagenet1k.bin"
_WEB = "videos of the web, of which nobody has published whether they repeat those of other data sets"
_NATURAL = "no surgical data set is named"

_SURGENET_CHOLEC = (
    TrainingData("cholec80", "some", f"{_SURGENET}: 76 of the 80 videos"),
    TrainingData("heichole", "some", f"{_SURGENET}: 30 videos"),
    TrainingData("hSDB-Chole", "some", f"{_SURGENET}: 24 videos"),
)
_SURGENET_RAMIE = (TrainingData("RAMIE-UMCU, which is private", "some", f"{_SURGENET}: 28 videos"),)
_SURGENET_RARP = (
    TrainingData("psi_ava", "all", f"{_SURGENET}: 8 videos"),
    TrainingData("ESAD", "some", f"{_SURGENET}: 28 videos"),
    TrainingData("RARP-AvL, which is private", "some", f"{_SURGENET}: 8 videos"),
)
_SURGENET_OTHERS = (
    TrainingData("multibypass140", "all", f"{_SURGENET}: all 140 videos"),
    *(
        TrainingData(name, "some", _SURGENET)
        for name in ("DSAD", "GLENDA", "LapGyn4", "hSDB-Gastric", "SurgToolLoc2022")
    ),
)
_SURGENET_YOUTUBE = (
    TrainingData("SurgeNetYoutube", "some", f"{_SURGENET}: 3,253 videos of YouTube"),
    TrainingData(
        "gensurgery", "some", "README of TimJaspers0801/SurgeNet: its YouTube videos were found with GSViT's code"
    ),
)
_SURGENET_DATA = (*_SURGENET_CHOLEC, *_SURGENET_RAMIE, *_SURGENET_RARP, *_SURGENET_OTHERS)
_SURGENET_XL = FamilyTrainingData(
    (*_SURGENET_DATA, *_SURGENET_YOUTUBE), is_complete=True, remark=f"SurgeNetXL adds {_WEB}"
)
_ENDOVIT_DATA = (
    TrainingData("psi_ava", "all", f"{_ENDOVIT}: 73,618 images, as many as the eight videos have in SurgeNet's table"),
    *(
        TrainingData(name, "some", _ENDOVIT)
        for name in ("surgicalactions160", "HeiCo", "ESAD", "LapGyn4", "hSDB-instrument", "DSAD", "GLENDA")
    ),
)


def _known(source: str, *names: str, remark: str = _NATURAL) -> FamilyTrainingData:
    """Return an entry of data sets that one source names and whose videos nobody lists."""
    return FamilyTrainingData(tuple(TrainingData(name, "some", source) for name in names), True, remark)


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
    "surgenet": _SURGENET_XL,
    "surgenet-dino": _SURGENET_XL,
    "selfsupsurg": FamilyTrainingData(
        (
            TrainingData(
                "cholec80",
                _FIRST_HALF,
                "README of CAMMA-public/SelfSupSurg: frames/train, video 41 is the first of val",
            ),
        ),
        is_complete=True,
    ),
    "endovit": FamilyTrainingData(
        (
            TrainingData(
                "cholec80", "all", f"{_ENDOVIT}: 184,498 images; the page egeozsoy/EndoViT on the Hub names it"
            ),
            TrainingData("CholecSeg8k", "all", "the page egeozsoy/EndoViT on the Hub names it"),
            *_ENDOVIT_DATA,
        ),
        is_complete=True,
        remark="which videos of Cholec80 the file on the Hub left out, if any, is not said there; all are taken as seen. "
        "EndoViT_Seg, EndoViT_ATD and EndoViT_SPR leave the validation and test videos of one task out",
    ),
    "lemonfm": FamilyTrainingData(
        (TrainingData("lemon", "all", _LEMON),), is_complete=True, remark=f"LEMON is {_WEB}"
    ),
    "pl-stitch": FamilyTrainingData(
        (TrainingData("lemon", "all", "README of visurg-ai/PL-Stitch: the pre-training data set"),),
        is_complete=True,
        remark=f"LEMON is {_WEB}",
    ),
    "lemon-storyboards": FamilyTrainingData(
        remark="no list of the videos that LEMON's curation models learned from was found"
    ),
    "lemon-frames": FamilyTrainingData(
        remark="no list of the videos that LEMON's curation models learned from was found"
    ),
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
                    "a private set of Renji Hospital",
                )
            ),
        ),
        is_complete=True,
        remark="its paper, arXiv 2306.16741, counts nine public data sets, the three of its downstream tasks included",
    ),
    "surgrec-mae": FamilyTrainingData(remark="10,535 videos, arXiv 2603.29966; the release has no list of them"),
    "surgrec-jepa": FamilyTrainingData(remark="10,535 videos, arXiv 2603.29966; the release has no list of them"),
    "surgmotion": FamilyTrainingData(
        remark="SurgMotion-15M, 3,658 hours of 50 sources, arXiv 2602.05638; no list of the sources was found"
    ),
    "gsvit": FamilyTrainingData(
        (TrainingData("gensurgery", "all", "GSViT's paper, arXiv 2403.05949: 680 hours of 28 procedures"),),
        is_complete=True,
        remark=f"GenSurgery is {_WEB}",
    ),
    "endossl-teacher": _known(
        "README of RoyHirsch/endossl, table of the pre-trained models",
        "a private set of laparoscopies",
        remark="the release is meant; nobody has published what a conversion by others was trained on beside it",
    ),
    "videomae": _known(_VIDEOMAE, "Kinetics-400", "Something-Something V2"),
    "umt": _known("single_modality/MODEL_ZOO.md of OpenGVLab/unmasked_teacher", "Kinetics-710"),
    "mvd": FamilyTrainingData(
        (TrainingData("Kinetics-400", "some", "the name of the released file, mvd_base_k400_400e.pth"),),
        remark="what its teachers saw was not looked up",
    ),
    "mae": _known(_TIMM, "ImageNet-1k"),
    "dino": _known(_TIMM, "ImageNet-1k"),
    "supervised": _known(_TIMM, "ImageNet-1k"),
    "vjepa": _known(
        _V_JEPA, "Kinetics-710", "Something-Something V2", "HowTo100M", remark=f"{_NATURAL}; HowTo100M is {_WEB}"
    ),
    "vjepa2": FamilyTrainingData(
        remark="more than a million hours of videos of the web, arXiv 2506.09985, of which no list of videos exists"
    ),
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
    "surgclip-b": FamilyTrainingData(
        (
            TrainingData(
                "SurgLaVi-beta", "all", "SurgLaVi's paper, arXiv 2509.10555: an open set made of public data only"
            ),
        ),
        remark="its videos were not compared with those of other data sets",
    ),
}


def _endovit_without(task: str, *left_out: int, videos: tuple[str, ...] | None = None) -> FamilyTrainingData:
    seen = videos or _cholec80(*(number for number in range(1, 81) if number not in left_out))
    cholec80 = TrainingData("cholec80", seen, f"{_ENDOVIT_SPLITS}: what remains for {task}")
    remark = f"trained without the validation and test videos of {task}"
    return FamilyTrainingData((cholec80, *_ENDOVIT_DATA), is_complete=True, remark=remark)


def _surgenet(*data: TrainingData, remark: str = "") -> FamilyTrainingData:
    return FamilyTrainingData(data, is_complete=True, remark=remark)


_NO_RECIPE = FamilyTrainingData(remark="named after a data set of cooking; nobody says what it was trained on")
_SMALL = "a tenth of the frames, of which nobody lists which"
# Files of a family that saw other data than its main one: a part of the file's or folder's name -> what they saw.
VARIANTS: Mapping[str, Mapping[str, FamilyTrainingData]] = {
    "endovit": {
        "endovit_seg": _endovit_without("segmentation (CholecSeg8k)", 12, 17, 27, 52),
        "endovit_atd": _endovit_without("action triplets (CholecT45)", 78, 43, 62, 35, 74, 1, 56, 4, 13),
        "endovit_spr": _endovit_without("phases (Cholec80)", videos=_FIRST_HALF),
    },
    "surgenet": {
        "cholec_checkpoint": _surgenet(*_SURGENET_CHOLEC),
        "ramie_checkpoint": _surgenet(*_SURGENET_RAMIE),
        "rarp_checkpoint": _surgenet(*_SURGENET_RARP),
        "public_checkpoint": _surgenet(*(entry for entry in _SURGENET_DATA if "private" not in entry.dataset)),
        "surgenetsmall": _surgenet(
            *(TrainingData(entry.dataset, "some", entry.source) for entry in _SURGENET_DATA), remark=_SMALL
        ),
        "surgenetxl": _SURGENET_XL,
        **dict.fromkeys(("surgenet_checkpoint", "surgenet_convnextv2", "surgenet_pvtv2"), _surgenet(*_SURGENET_DATA)),
    },
    "pl-stitch": {"pl_breakfast": _NO_RECIPE, "pl_gtea": _NO_RECIPE},
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
        'trained without the validation and test videos of phases (Cholec80)'
    """
    for name, known in VARIANTS.get(family, {}).items():
        if name in variant.lower():
            return known
    return TRAINING_DATA.get(family)
