"""Training on one's own labels: models that learn, the same from the same seed, and labels that cannot be read."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    AutoModelForObjectDetection,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessor,
    RTDetrResNetConfig,
)

from surgvista_hf.clips.sampling.randomness import keyed_generator
from surgvista_hf.curation.models.classifiers import FrameClassifier, RegionDetector
from surgvista_hf.curation.models.training import (
    Schedule,
    _augmented,
    class_scores,
    read_labeled_images,
    read_regions,
    region_scores,
    train_classifier,
    train_region_detector,
)
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.util.files import OutputError

NAMES = ("surgical", "non-surgical")
SHORT = Schedule(epochs=5, batch_size=8, learning_rate=3e-3)


def image(number, red):
    """Reddish texture, or bluish with a bar."""
    random = np.random.default_rng(number)
    base = (170, 70, 60) if red else (60, 90, 180)
    frame = np.clip(random.normal(base, 20, (48, 64, 3)), 0, 255).astype(np.uint8)
    return frame


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    for number in range(32):
        place = folder / NAMES[number % 2] / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(image(number, number % 2 == 0)).save(place)
    return folder


def region_image(number):
    random = np.random.default_rng([number, 7])
    frame = image(number, True)
    box = np.zeros((0, 4), np.float32)
    if number % 4:
        left, top = random.integers(0, 36), random.integers(0, 30)
        width, height = random.integers(14, 28), random.integers(10, 18)
        frame[top : top + height, left : left + width] = random.integers(0, 256, 3) // 2 + (0, 120, 120)
        box = np.array([[left, top, left + width, top + height]], np.float32)
    return frame, box


def write_regions(folder, numbers):
    folder.mkdir()
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "logo"}]}
    for number in numbers:
        frame, boxes = region_image(number)
        Image.fromarray(frame).save(folder / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png"})
        for x1, y1, x2, y2 in boxes.tolist():
            content["annotations"].append({"image_id": number, "bbox": [x1, y1, x2 - x1, y2 - y1], "category_id": 1})
    (folder / "regions.json").write_text(json.dumps(content))
    return folder / "regions.json"


# ------------------------------------------------------------------------------------- classifiers


def test_a_classifier_learns_and_is_loaded_like_any_other(labeled, tmp_path):
    report = train_classifier(labeled, tmp_path / "m", classes=NAMES, validation=labeled, side=32, schedule=SHORT)
    assert report["examples"] == {"surgical": 16, "non-surgical": 16}
    assert report["validation"]["accuracy"] >= 0.95
    assert json.loads((tmp_path / "m" / "training.json").read_text()) == report
    classify = FrameClassifier.from_pretrained([tmp_path / "m"])
    assert classify.names == NAMES
    unseen = [image(number, number % 2 == 0) for number in range(100, 110)]
    assert classify(unseen).argmax(axis=1).tolist() == [0, 1] * 5


def test_the_same_seed_gives_the_same_weights_and_global_randomness_stays(labeled, tmp_path):
    quick = Schedule(epochs=2, batch_size=8, seed=3)
    torch.manual_seed(11)
    expected = torch.rand(3)
    weights = []
    for name, schedule in (("a", quick), ("b", quick), ("c", Schedule(epochs=2, batch_size=8, seed=4))):
        torch.manual_seed(11)
        train_classifier(labeled, tmp_path / name, side=32, schedule=schedule)
        assert torch.equal(torch.rand(3), expected)
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_training_goes_on_from_a_model_with_other_classes(labeled, tmp_path):
    train_classifier(labeled, tmp_path / "a", classes=NAMES, side=32, schedule=SHORT)
    table = tmp_path / "three.csv"
    rows = [f"{labeled / NAMES[n % 2] / f'{n}.png'},{('x', 'y', 'z')[n % 3]}" for n in range(12)]
    table.write_text("\n".join(["image,label", *rows]) + "\n")
    quick = Schedule(epochs=1, batch_size=8, learning_rate=1e-4)
    report = train_classifier(table, tmp_path / "b", model=tmp_path / "a", schedule=quick)
    assert report["model"] == str(tmp_path / "a")
    assert FrameClassifier.from_pretrained([tmp_path / "b"]).names == ("x", "y", "z")


def test_labels_that_do_not_fit_are_refused(labeled, tmp_path):
    for classes in (["surgical", "other"], ["surgical", "non-surgical", "other"], ["surgical"]):
        with pytest.raises(InputError, match="the labels are non-surgical, surgical"):
            train_classifier(labeled, tmp_path / "m", classes=classes)
    assert not (tmp_path / "m").exists()


def test_nothing_is_overwritten(labeled, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine").touch()
    with pytest.raises(OutputError, match="exists already"):
        train_classifier(labeled, tmp_path / "m")
    with pytest.raises(OutputError, match="exists already"):
        train_region_detector("regions.json", tmp_path / "m")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no labeled images"),
        ("file,class\na.png,x\n", "columns image and label"),
        ("image,label\nmissing.png,x\n", "1 images that do not exist: .*missing.png"),
        ("image,label\n", "holds no images"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(content, reason, tmp_path):
    if content is not None:
        (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=reason):
        read_labeled_images(tmp_path / "a.csv")


def test_a_file_that_is_no_image_is_named(labeled, tmp_path):
    for name in NAMES:
        (tmp_path / "l" / name).mkdir(parents=True)
        (tmp_path / "l" / name / "a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.png is no image"):
        train_classifier(tmp_path / "l", tmp_path / "m", schedule=SHORT)
    with pytest.raises(InputError, match="holds no images"):
        read_labeled_images(tmp_path / "l" / NAMES[0])


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0}, {"seed": -1}])
def test_a_schedule_needs_positive_numbers(wrong):
    with pytest.raises(InputError, match="positive"):
        Schedule(**wrong)


# ------------------------------------------------------------------------------------- regions


def test_regions_are_learned_and_found_in_unseen_images(tmp_path):
    examples, unseen = write_regions(tmp_path / "r", range(48)), write_regions(tmp_path / "v", range(100, 116))
    schedule = Schedule(epochs=10, batch_size=8, learning_rate=3e-3)
    report = train_region_detector(examples, tmp_path / "m", validation=unseen, side=64, schedule=schedule)
    assert report["examples"] == {"images": 48, "regions": 36}
    assert report["validation"]["coverage"] > 0.85
    assert report["validation"]["precision"] > 0.7
    find = RegionDetector.from_pretrained([tmp_path / "m"])
    truth = [region_image(number) for number in range(100, 116)]
    found = find([frame for frame, _ in truth])
    again = region_scores([boxes for _, boxes in truth], found, [frame.shape[:2] for frame, _ in truth])
    assert again["coverage"] == pytest.approx(report["validation"]["coverage"], abs=0.02)


def test_a_last_image_alone_does_not_stop_the_training_and_a_single_one_is_refused(tmp_path):
    examples, one = write_regions(tmp_path / "r", range(9)), write_regions(tmp_path / "one", [1])
    schedule = Schedule(epochs=1, batch_size=8)
    assert train_region_detector(examples, tmp_path / "m", side=64, schedule=schedule)["examples"]["images"] == 9
    with pytest.raises(InputError, match="one image is not enough"):
        train_region_detector(one, tmp_path / "n", side=64, schedule=schedule)
    assert not (tmp_path / "n").exists()


def test_a_detector_of_transformers_is_trained_on_as_it_is(tmp_path):
    """A tiny RT-DETR: too small to find anything, but its loss falls and its boxes have the right form."""
    torch.manual_seed(0)
    config = RTDetrConfig(
        backbone_config=RTDetrResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 8, 8, 8],
            depths=[1, 1, 1, 1],
            out_features=["stage2", "stage3", "stage4"],
        ),
        encoder_hidden_dim=16,
        encoder_in_channels=[8, 8, 8],
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        d_model=16,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16,
        decoder_attention_heads=2,
        decoder_layers=1,
        num_queries=10,
        num_denoising=0,
        num_labels=5,
    )
    RTDetrForObjectDetection(config).save_pretrained(tmp_path / "start")
    RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "start")
    examples = write_regions(tmp_path / "r", range(12))
    quick = Schedule(epochs=1, batch_size=6, learning_rate=1e-3)
    report = train_region_detector(
        examples, tmp_path / "m", model=tmp_path / "start", validation=examples, schedule=quick
    )
    assert set(report["validation"]) == {"coverage", "precision"}
    model = AutoModelForObjectDetection.from_pretrained(tmp_path / "m")
    assert model.config.id2label == {0: "region"}
    before = load_file(tmp_path / "start" / "model.safetensors")
    after = load_file(tmp_path / "m" / "model.safetensors")
    assert any(not torch.equal(after[name], before[name]) for name in after if after[name].shape == before[name].shape)
    assert RegionDetector.from_pretrained([tmp_path / "m"])([region_image(0)[0]])[0].shape[1] == 4


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no file of regions"),
        ("[]", "COCO"),
        ("{", "COCO"),
        ('{"images": [{"id": 1, "file_name": "a.png"}], "annotations": []}', "do not exist: .*a.png"),
        ('{"images": [], "annotations": [{"image_id": 5, "bbox": [0, 0, 1, 1]}]}', "COCO"),
        ('{"images": [], "annotations": []}', "names no images"),
    ],
)
def test_regions_that_cannot_be_read_are_refused(content, reason, tmp_path):
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=reason):
        read_regions(tmp_path / "a.json")


def test_boxes_follow_their_images_through_augmentation():
    frame = np.full((60, 90, 3), (160, 60, 60), np.uint8)
    frame[20:40, 30:70] = (20, 220, 30)
    for index in range(40):
        seen, boxes = _augmented(
            frame, np.array([[30, 20, 70, 40]], np.float32), keyed_generator(0, 0, index, "picture")
        )
        green = seen[..., 1].astype(int) - seen[..., 0] > 60
        rows, columns = np.flatnonzero(green.any(1)), np.flatnonzero(green.any(0))
        assert boxes.tolist() == [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]]


def test_scores_are_fractions_of_pixels_and_of_images():
    truth, found = (
        [np.array([[0, 0, 10, 10]]), np.zeros((0, 4))],
        [np.array([[5, 0, 15, 10]]), np.array([[0, 0, 5, 10]])],
    )
    assert region_scores(truth, found, [(10, 20)] * 2) == {"coverage": 0.5, "precision": 0.3333}
    assert region_scores([np.zeros((0, 4))], [np.zeros((0, 4))], [(4, 4)]) == {"coverage": None, "precision": None}
    scores = class_scores(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), NAMES)
    assert scores["accuracy"] == 0.75
    assert scores["surgical"] == {"precision": 1.0, "recall": 0.5}
    assert scores["non-surgical"] == {"precision": 0.6667, "recall": 1.0}
