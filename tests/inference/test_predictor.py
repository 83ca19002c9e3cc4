"""Whole videos are predicted once a second by the rule of training, and the results can be read by people and programs."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from surgvista_hf import (
    InputError,
    SurgicalVideoPredictor,
    SurgVistaForPreTraining,
    SurgVistaForVideoClassification,
    SurgVistaVideoProcessor,
    VideoReadError,
)
from surgvista_hf.inference import VideoPrediction
from surgvista_hf.inference.contact_sheet import draw_contact_sheet
from surgvista_hf.inference.timeline import class_colour, draw_timeline

from ..modeling import golden
from ..videos import write_numbered_video

NAMES = ["Preparation", "Dissection", "Clipping", "Packaging"]


def tiny_classifier(**changes) -> SurgVistaForVideoClassification:
    torch.manual_seed(0)
    labels = dict(enumerate(NAMES))
    config = golden.pretraining_config(
        id2label=labels, label2id={name: i for i, name in labels.items()}, classifier_init_scale=50.0, **changes
    )
    return SurgVistaForVideoClassification(config).eval()


def processor() -> SurgVistaVideoProcessor:
    return SurgVistaVideoProcessor(size={"height": 32, "width": 32}, num_frames=4, frame_stride=3)


@pytest.fixture
def model_folder(tmp_path) -> Path:
    tiny_classifier().save_pretrained(tmp_path / "model")
    processor().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_numbered_video(tmp_path_factory.mktemp("video") / "operation.mp4", count=450, rate=10)


def prediction(labels=(0, 0, 1, 1, 1, 3), **changes) -> VideoPrediction:
    probabilities = np.full((len(labels), 4), 0.1)
    probabilities[np.arange(len(labels)), labels] = 0.7
    return VideoPrediction("a.mp4", np.arange(len(labels), dtype=float), probabilities, NAMES, **changes)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_a_whole_video_equals_a_naive_loop_over_clips(model_folder, video, batch_size):
    result = SurgicalVideoPredictor(model_folder, batch_size=batch_size).predict(video)
    model, prepare = tiny_classifier(), processor()
    assert result.seconds.tolist() == list(range(45))
    with torch.no_grad():
        for second in range(45):
            clip = prepare(video, end_second=second, return_tensors="pt")
            expected = model(**clip).logits.softmax(dim=-1)[0].numpy()
            np.testing.assert_allclose(result.probabilities[second], expected, atol=1e-5)


def test_a_multi_label_model_gives_independent_probabilities(video):
    model = tiny_classifier(problem_type="multi_label_classification")
    result = SurgicalVideoPredictor(model, processor()).predict(video)
    assert result.multi_label
    assert not np.allclose(result.probabilities.sum(axis=1), 1)


def test_segments_are_the_runs_of_a_label():
    segments = prediction().segments
    assert [(s.start, s.end, s.label) for s in segments] == [
        (0, 2, "Preparation"),
        (2, 5, "Dissection"),
        (5, 6, "Packaging"),
    ]
    assert segments[1].confidence == pytest.approx(0.7)


def test_csv_and_json_say_the_same_for_every_second(tmp_path):
    files = prediction().save(tmp_path / "new" / "folder")
    assert [file.name for file in files] == ["predictions.csv", "predictions.json", "timeline.png"]
    rows = list(csv.DictReader(files[0].open()))
    content = json.loads(files[1].read_text())
    assert [row["label"] for row in rows] == [item["label"] for item in content["per_second"]]
    assert [float(row["second"]) for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [float(row["p(Dissection)"]) for row in rows] == [0.1, 0.1, 0.7, 0.7, 0.7, 0.1]
    assert content["segments"][0] == {
        "start": 0.0,
        "end": 2.0,
        "label": "Preparation",
        "confidence": pytest.approx(0.7),
    }


def test_saving_again_replaces_the_files_and_leaves_nothing_else(tmp_path):
    prediction().save(tmp_path)
    prediction([2, 2]).save(tmp_path)
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.csv", "predictions.json", "timeline.png"]


def test_the_timeline_shows_each_phase_in_its_colour_where_it_is(tmp_path):
    draw_timeline(prediction([0] * 50 + [3] * 50), tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)

    def columns_of(label):
        colour = np.array([int(class_colour(label)[i : i + 2], 16) for i in (1, 3, 5)])
        ribbon = (np.abs(pixels - colour).sum(axis=2) < 12).sum(axis=0) > 60  # taller than a legend entry
        return np.flatnonzero(ribbon)

    first, second = columns_of(0), columns_of(3)
    assert len(first) > 100
    assert len(second) > 100
    assert first.max() < second.min()
    assert len(first) == pytest.approx(len(second), rel=0.05)


def test_an_svg_timeline_keeps_its_words_and_a_title(tmp_path):
    draw_timeline(prediction(), tmp_path / "a.svg", truth=np.array([0, 0, 1, 1, 2, 3]))
    text = (tmp_path / "a.svg").read_text()
    assert "Timeline of a.mp4" in text
    assert text.count("<g id=") > 5


@pytest.mark.parametrize("multi_label", [False, True])
def test_pictures_can_be_drawn_of_one_second_and_of_many_classes(tmp_path, multi_label):
    many = VideoPrediction(
        "a.mp4", np.array([0.0]), np.eye(100)[:1], [f"class {i}" for i in range(100)], multi_label=multi_label
    )
    draw_timeline(many, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size[0] > 1000


def test_truth_of_another_length_is_refused(tmp_path):
    with pytest.raises(InputError, match="truth has 3 steps"):
        draw_timeline(prediction(), tmp_path / "a.png", truth=np.zeros(3, int))
    assert not list(tmp_path.iterdir())


def test_a_contact_sheet_is_drawn_of_a_short_video(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=60)
    draw_contact_sheet(path, prediction(), tmp_path / "sheet.png", truth=np.array([0, 0, 1, 1, 2, 3]))
    assert Image.open(tmp_path / "sheet.png").size[0] > 1000


def test_models_without_a_trained_classifier_are_refused(tmp_path):
    SurgVistaForPreTraining(golden.pretraining_config()).save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no trained classifier; it lacks classifier"):
        SurgicalVideoPredictor(tmp_path)


def test_places_without_a_model_or_processor_are_refused(tmp_path):
    with pytest.raises(InputError, match="no video classifier"):
        SurgicalVideoPredictor(tmp_path / "nothing")
    tiny_classifier().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no video classifier with its processor"):
        SurgicalVideoPredictor(tmp_path)
    with pytest.raises(InputError, match="needs its processor"):
        SurgicalVideoPredictor(tiny_classifier())
    with pytest.raises(InputError, match="batch_size is 0"):
        SurgicalVideoPredictor(tmp_path, batch_size=0)


def test_a_file_that_is_no_video_is_refused(model_folder, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoReadError, match=re.escape("text.mp4 cannot be decoded")):
        SurgicalVideoPredictor(model_folder).predict(tmp_path / "text.mp4")
