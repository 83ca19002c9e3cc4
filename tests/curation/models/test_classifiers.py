"""Ensembles of transformers models: means of logits, pooled boxes, fingerprints, and errors that say what is wrong."""

import json

import numpy as np
import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    ViTImageProcessor,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessor,
)

from surgvista_hf.curation.models.classifiers import FrameClassifier, RegionDetector, _parts, _tight
from surgvista_hf.modeling.errors_surgvista import InputError

NAMES = ("surgical", "non-surgical")


def classifier(folder, seed=0, names=NAMES, side=64, mean=0.5):
    torch.manual_seed(seed)
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    ResNetForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": side, "width": side}, image_mean=[mean] * 3).save_pretrained(folder)
    return folder


def detector(folder, seed=0):
    torch.manual_seed(seed)
    config = YolosConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[32, 32],
        patch_size=16,
        num_detection_tokens=12,
        num_labels=2,
    )
    YolosForObjectDetection(config).save_pretrained(folder)
    YolosImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def frames():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (48 + 8 * (n % 3), 80, 3), dtype=np.uint8) for n in range(7)]


# ------------------------------------------------------------------------------------- classifiers


def test_an_ensemble_is_the_softmax_of_the_mean_of_the_logits(tmp_path, frames):
    folders = [classifier(tmp_path / "a", 1, mean=0.4), classifier(tmp_path / "b", 2, mean=0.6, side=32)]
    expected = []
    for frame in frames:
        logits = []
        for folder in folders:
            pixels = AutoImageProcessor.from_pretrained(folder)(images=frame, return_tensors="pt")["pixel_values"]
            with torch.no_grad():
                logits.append(AutoModelForImageClassification.from_pretrained(folder).eval()(pixels).logits[0])
        expected.append(torch.stack(logits).mean(0).softmax(0).numpy())
    classify = FrameClassifier.from_pretrained(folders, batch_size=3)
    found = classify(frames)
    assert classify.names == NAMES
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    assert classify([]).shape == (0, 2)


def test_the_fingerprint_is_of_the_files_and_their_order(tmp_path):
    first, second = classifier(tmp_path / "a", 1), classifier(tmp_path / "b", 2)
    copy = classifier(tmp_path / "elsewhere", 1)
    of = {
        name: FrameClassifier.from_pretrained(folders).fingerprint
        for name, folders in {"a": [first], "copy": [copy], "b": [second], "ab": [first, second]}.items()
    }
    assert of["a"] == of["copy"]
    assert len({of["a"], of["b"], of["ab"]}) == 3
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps({**settings, "image_mean": [0.1, 0.2, 0.3]}))
    assert FrameClassifier.from_pretrained([copy]).fingerprint != of["a"]


def test_members_with_other_classes_are_refused(tmp_path):
    folders = [classifier(tmp_path / "a"), classifier(tmp_path / "b", names=NAMES[::-1])]
    with pytest.raises(InputError, match=r"surgical, non-surgical, another non-surgical, surgical"):
        FrameClassifier.from_pretrained(folders)


@pytest.mark.parametrize("kind", [FrameClassifier, RegionDetector])
def test_folders_without_a_model_are_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    for folders, reason in (
        ([tmp_path / "empty"], "empty"),
        ([tmp_path / "not" / "there" / "at-all"], "there is no folder"),
        ([], "at least one model"),
        (str(tmp_path), "give a list"),
    ):
        with pytest.raises(InputError, match=reason):
            kind.from_pretrained(folders)


def test_a_pickle_is_not_loaded(tmp_path):
    folder = classifier(tmp_path / "a")
    tensors = AutoModelForImageClassification.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors weights"):
        FrameClassifier.from_pretrained([folder])


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), "frame.jpg"]
)
def test_what_is_no_frame_is_refused(wrong, tmp_path):
    classify = FrameClassifier.from_pretrained([classifier(tmp_path / "a")])
    with pytest.raises(InputError, match="arrays"):
        classify([wrong])


def test_a_batch_holds_at_least_one(tmp_path):
    with pytest.raises(InputError, match="batch_size"):
        FrameClassifier.from_pretrained([classifier(tmp_path / "a")], batch_size=0)


# ------------------------------------------------------------------------------------- regions


def overlap(a, b):
    size = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return size / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - size)


def test_boxes_of_all_detectors_are_pooled_and_thinned_by_confidence(tmp_path, frames):
    folders = [detector(tmp_path / "a", 1), detector(tmp_path / "b", 2)]
    single = [RegionDetector.from_pretrained([folder], overlap=1.0)(frames) for folder in folders]
    both = RegionDetector.from_pretrained(folders, overlap=0.7, batch_size=2)(frames)
    assert sum(len(boxes) for boxes in both) > 0
    for number, boxes in enumerate(both):
        assert boxes.dtype == np.float32
        known = np.concatenate([single[0][number], single[1][number]])
        for place, box in enumerate(boxes):
            assert np.abs(known - box).sum(axis=1).min() < 1e-2
            assert all(overlap(box, other) <= 0.7 for other in boxes[place + 1 :])
        for box in known:
            assert any(overlap(box, kept) > 0.7 or np.abs(box - kept).sum() < 1e-2 for kept in boxes)


def test_a_threshold_leaves_only_sure_boxes(tmp_path, frames):
    folder = detector(tmp_path / "a", 1)
    counts = [
        sum(len(boxes) for boxes in RegionDetector.from_pretrained([folder], threshold=threshold, overlap=1)(frames))
        for threshold in (0.0, 0.3, 0.999)
    ]
    assert counts[0] == 12 * len(frames) >= counts[1] >= counts[2] == 0
    with pytest.raises(InputError, match="0-1"):
        RegionDetector.from_pretrained([folder], threshold=1.5)


def test_a_segmentation_model_finds_regions_in_pixels_of_the_frame(tmp_path):
    """Its answer is set by hand: the brightness of a pixel."""
    torch.manual_seed(0)
    config = SegformerConfig(
        num_encoder_blocks=1,
        hidden_sizes=[8],
        depths=[1],
        num_attention_heads=[1],
        sr_ratios=[1],
        patch_sizes=[7],
        strides=[4],
        mlp_ratios=[1],
        decoder_hidden_size=8,
        num_labels=2,
    )
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "s")
    ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "s")
    find = RegionDetector.from_pretrained([tmp_path / "s"])
    model, _ = find.members[0]

    def answer(pixel_values):
        bright = torch.nn.functional.avg_pool2d(pixel_values.mean(1, keepdim=True), 4)
        return type(model(pixel_values))(logits=torch.cat([-9 * bright, 9 * bright], dim=1))

    find.members = (
        (
            type(
                "Model",
                (),
                {
                    "__call__": lambda _, **inputs: answer(**inputs),
                    "device": torch.device("cpu"),
                    "dtype": torch.float32,
                },
            )(),
            find.members[0][1],
        ),
    )
    frame = np.zeros((128, 256, 3), np.uint8)
    frame[16:32, 64:128] = frame[64:120, 200:240] = 255
    boxes = find([frame])[0]
    expected = np.array([[64, 16, 128, 32], [200, 64, 240, 120]])
    assert len(boxes) == 2
    assert np.abs(boxes[np.argsort(boxes[:, 0])] - expected).max() <= 16


def test_regions_that_touch_get_boxes_of_their_own():
    part = np.zeros((20, 30), bool)
    part[15:] = True  # a bar
    part[10:15, 22:28] = True  # a logo on it
    assert sorted(_tight(part)) == [(10, 22, 15, 28), (15, 0, 20, 30)]
    assert _tight(np.ones((3, 4), bool)) == [(0, 0, 3, 4)]
    rows, columns = np.mgrid[:21, :21]
    assert _tight((rows - 10) ** 2 + (columns - 10) ** 2 <= 100) == [(0, 0, 21, 21)]


def test_boxes_around_any_part_hold_all_of_it():
    random = np.random.default_rng(0)
    for _ in range(40):
        fraction = (random.random((12, 17)) < random.uniform(0.1, 0.9)).astype(np.float32)
        boxes, scores = _parts(fraction, (24, 51), 0.25)
        covered = np.zeros((24, 51), bool)
        for x1, y1, x2, y2 in boxes.numpy().astype(int):
            covered[y1:y2, x1:x2] = True
        assert covered[np.kron(fraction, np.ones((2, 3))) > 0].all()
        assert scores.tolist() == [1.0] * len(boxes)
