"""Synthetic surgery as a data set: its settings, and that hard operations have the labels that they are drawn from."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from surgvista_hf.clips.dataset import ClipDataset
from surgvista_hf.datasets_scripts.frame_sets.load import load_frame_set
from surgvista_hf.datasets_scripts.frame_sets.prepare import PLAN, prepare_frame_set
from surgvista_hf.datasets_scripts.frame_sets.registry import get_builder
from surgvista_hf.datasets_scripts.schema.info import DatasetError
from surgvista_hf.datasets_scripts.schema.media import PreparationOptions
from surgvista_hf.datasets_scripts.synthetic.hard_surgery import HardOperation
from surgvista_hf.datasets_scripts.synthetic.surgery import PHASES, SyntheticOperation, synthetic_corpus
from surgvista_hf.util.files import OutputError

SMALL = {"videos": "5", "seconds": "14", "seed": "3", "height": "48", "width": "64"}
HARD = {**SMALL, "difficulty": "hard"}


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hard") / "out"
    report = prepare_frame_set("synthetic", None, folder, settings=HARD, options=PreparationOptions(2.5))
    assert not report.failed
    return folder


def test_hard_operations_have_exact_labels_for_every_frame(hard):
    frames = load_frame_set("synthetic", hard, "all")
    assert frames.features["phase"].names == list(PHASES)
    assert {"phase", "triplets", "instruments", "skill"} < set(frames.features)
    assert "cvs" not in frames.features
    assert len(frames) == 5 * 35
    corpus = [
        HardOperation(each.seed, 14, 48, 64)
        for each in synthetic_corpus(5, 3, duration_seconds=14, height=48, width=64)
    ]
    raw = frames.cast_column("image", type(frames.features["image"])(decode=False))
    for row in raw.select(range(0, len(raw), 9)):
        operation = corpus[int(row["video_id"].split("_")[1])]
        labels = operation.labels(row["timestamp"])
        assert row["phase"] == labels.phase
        assert row["instruments"] == np.flatnonzero(labels.instruments).tolist()
        assert row["triplets"] == np.flatnonzero(labels.triplets).tolist()
        assert row["skill"] == labels.skill
        shown = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))).astype(float)
        moment = np.floor((row["timestamp"] + 1e-6) * operation.frames_per_second) / operation.frames_per_second
        assert np.abs(shown - operation.frame(moment)).mean() < 12


def test_clips_with_any_label_can_be_loaded_from_hard_operations(hard):
    frames = load_frame_set("synthetic", hard, "train")
    for label, shape in (("phase", ()), ("triplets", (100,)), ("instruments", (6,)), ("skill", ())):
        clip = ClipDataset(frames, num_frames=4, frame_stride=0.4, label=label)[20]
        assert clip["pixel_values"].shape == (4, 3, 48, 64)
        assert np.shape(clip["labels"]) == shape


def test_operations_are_standard_unless_hard_ones_are_chosen(tmp_path, hard):
    kinds = [
        {type(video.extra) for video in get_builder("synthetic").configured(None, settings).find(None)}
        for settings in ({}, {"difficulty": "standard"}, {"difficulty": "hard"})
    ]
    assert kinds == [{SyntheticOperation}, {SyntheticOperation}, {HardOperation}]
    prepare_frame_set("synthetic", None, tmp_path / "out", settings={**SMALL, "difficulty": "standard"})
    plan = json.loads((tmp_path / "out" / PLAN).read_text())
    assert plan["settings"] == SMALL  # as before there was a difficulty, so that older frame sets are still the same
    assert "cvs" in load_frame_set("synthetic", tmp_path / "out", "all").features
    assert json.loads((hard / PLAN).read_text())["settings"] == HARD


def test_frames_of_both_difficulties_are_not_mixed_in_one_folder(hard):
    with pytest.raises(OutputError, match="'difficulty': 'hard'"):
        prepare_frame_set("synthetic", None, hard, settings=SMALL, options=PreparationOptions(2.5))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "synthetic",
            {"difficulty": "harder"},
            "difficulty of synthetic is 'harder'; it must be one of standard, hard",
        ),
        ("synthetic", {"dificulty": "hard"}, "did you mean difficulty"),
        ("synthetic", {"difficulty": "hard", "seconds": "5"}, "must be a whole number from 14"),
        ("synthetic_views", {"difficulty": "hard"}, "synthetic_views has no setting 'difficulty'"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(tmp_path, name, settings, message):
    with pytest.raises(DatasetError, match=message):
        prepare_frame_set(name, None, tmp_path / "out", settings=settings)
    assert not (tmp_path / "out").exists()
