"""What the weights of a converted model have seen is compared with a test, and what nobody lists is said."""

import warnings

import pytest
from transformers import ViTConfig

from surgvista_hf import SurgVistaConfig
from surgvista_hf.datasets_scripts.frame_sets.overlap import (
    OverlapWarning,
    SeenVideos,
    seen_by,
    warn_of_unlisted,
)
from surgvista_hf.datasets_scripts.frame_sets.registry import get_builder
from surgvista_hf.modeling.configuration_surgical_encoder import SurgicalEncoderConfig
from surgvista_hf.modeling.conversion import FAMILIES
from surgvista_hf.modeling.conversion.training_data import TRAINING_DATA, VARIANTS

TEST = {"cholec80": tuple(f"video{number:02d}" for number in range(41, 81))}


def converted(family: str, file: str = "") -> ViTConfig:
    config = ViTConfig()
    config.converted_from, config.converted_file = family, file
    return config


def verdict(family: str, test: dict[str, tuple[str, ...]], file: str = "") -> str:
    seen = seen_by(converted(family, file))
    assert seen is not None
    return seen.verdict(test)


def test_every_family_has_an_entry_and_every_entry_a_source():
    assert set(TRAINING_DATA) >= set(FAMILIES)
    for known in (*TRAINING_DATA.values(), *(each for group in VARIANTS.values() for each in group.values())):
        assert all(entry.source for entry in known.data)
        assert known.is_complete or known.remark, "what is unknown is said to be unknown, with what is known of it"


@pytest.mark.parametrize("family", TRAINING_DATA)
def test_listed_videos_are_videos_of_their_data_set(family):
    for entry in (
        *TRAINING_DATA[family].data,
        *(e for known in VARIANTS.get(family, {}).values() for e in known.data),
    ):
        if isinstance(entry.videos, tuple):
            assert set(entry.videos) <= set(get_builder(entry.dataset).info.video_ids), entry.dataset


@pytest.mark.parametrize(
    ("family", "test", "file", "expected"),
    [
        ("surgvista", {"cholec80": ("video41",)}, "", ""),
        ("surgvista", TEST, "", "maybe seen"),  # five of them may be in M2CAI16-workflow
        ("surgvista", {"cholect50": ("VID06",)}, "", "seen"),  # video 6 of Cholec80 under another name
        ("surgvista", {"prostate21": ("psiv01",)}, "", "seen"),
        ("selfsupsurg", TEST, "", ""),
        ("selfsupsurg", {"cholec80": ("video01",)}, "", "seen"),
        ("surgenet", TEST, "", "maybe seen"),  # 76 of the 80, nobody says which
        ("surgenet-dino", {"cholect45": ("VID01",)}, "", "maybe seen"),
        ("surgenet", {"autolaparo": ("15",)}, "", ""),
        ("surgenet", {"multibypass140": ("BBP01",)}, "surgenet/SurgeNetXL_checkpoint_epoch0050_teacher.pth", "seen"),
        (
            "surgenet",
            {"multibypass140": ("BBP01",)},
            "surgenet/SurgeNetSmall_checkpoint_epoch0050_teacher.pth",
            "maybe seen",
        ),
        ("surgenet", {"multibypass140": ("BBP01",)}, "surgenet/CHOLEC_checkpoint_epoch0050_teacher.pth", ""),
        ("surgenet", {"psi_ava": ("CASE001",)}, "surgenet/RARP_checkpoint_epoch0050_teacher.pth", "seen"),
        ("surgenet", TEST, "surgenet/RAMIE_checkpoint_epoch0050_teacher.pth", ""),
        ("endovit", TEST, "EndoViT/pytorch_model.bin", "seen"),
        ("endovit", TEST, "EndoViT_SPR/pytorch_model.bin", ""),
        ("endovit", TEST, "EndoViT_ATD/pytorch_model.bin", "seen"),
        ("endovit", {"cholect45": ("VID78", "VID43")}, "EndoViT_ATD/pytorch_model.bin", ""),
        ("endovit", {"cholec80": ("video12", "video52")}, "x/endovit_seg.pth", ""),
        ("endo-fm", {"cholect45": ("VID78",)}, "", "maybe seen"),
        ("endossl-teacher", TEST, "", ""),
        ("gsvit", {"gensurgery": ("a",)}, "", "maybe seen"),  # its own data, of which this package has no list
        ("lemonfm", TEST, "", ""),
        ("pl-stitch", TEST, "PL-Stitch/pl_gtea.pth", "unknown"),
        ("mvd", TEST, "", "unknown"),
        ("vjepa", TEST, "", ""),
        ("vjepa2", TEST, "", "unknown"),
        ("surgmotion", TEST, "", "unknown"),
        ("surgrec-mae", TEST, "", "unknown"),
        ("videomae", TEST, "", ""),
    ],
)
def test_a_test_is_compared_with_what_is_published(family, test, file, expected):
    assert verdict(family, test, file) == expected


def test_a_classifier_is_known_by_its_encoder_and_other_models_by_nothing():
    wrapped = SurgicalEncoderConfig(encoder_config=converted("selfsupsurg"))
    assert seen_by(wrapped).verdict({"cholec80": ("video01",)}) == "seen"
    assert seen_by(SurgVistaConfig()) is None


def test_what_nobody_lists_is_said_and_what_was_not_seen_is_not():
    with pytest.warns(
        OverlapWarning,
        match="videos of the test: its weights were trained on cholec80, and nobody lists which",
    ):
        warn_of_unlisted(seen_by(converted("surgenet")), TEST, "my-surgenet")
    with pytest.warns(OverlapWarning, match="whether they saw videos of the test is unknown"):
        warn_of_unlisted(seen_by(converted("surgrec-mae")), TEST, "my-surgrec")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unlisted(seen_by(converted("videomae")), TEST, "my-videomae")
        warn_of_unlisted(SeenVideos({"cholec80": ("video01",)}, {}, True), {"cholec80": ("video01",)}, "listed")
