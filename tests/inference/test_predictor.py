"""Whole videos are predicted once a second by the rule of training, and the results can be read by people and programs."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from surgvista_hf import (
    InputError,
    MsTcnConfig,
    MsTcnForFrameClassification,
    SurgicalVideoPredictor,
    SurgVistaForPreTraining,
    VideoReadError,
)
from surgvista_hf.inference import VideoPrediction
from surgvista_hf.inference.models.clip_model import ClipModel
from surgvista_hf.inference.models.temporal_head import TemporalHead
from surgvista_hf.inference.predictor import sample_stream
from surgvista_hf.inference.writers.contact_sheet import draw_contact_sheet
from surgvista_hf.inference.writers.timeline import draw_timeline
from surgvista_hf.modeling import precision
from surgvista_hf.modeling.video_reading_surgvista import VideoReader
from surgvista_hf.util.class_colors import class_color

from ..modeling import golden
from ..videos import numbered_frame, write_numbered_video
from .tiny_models import NAMES, Numbers, prediction, processor, tiny_classifier

BFLOAT16_TOLERANCE = 0.05  # of a probability; where the two best classes are further apart, the best one stays


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_numbered_video(tmp_path_factory.mktemp("video") / "operation.mp4", count=450, rate=10)


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


def test_a_stream_equals_the_whole_video_bit_for_bit(model_folder, video):
    predictor = SurgicalVideoPredictor(model_folder, batch_size=1)
    whole = predictor.predict(video)
    with VideoReader(video) as reader:
        sampled = [frame for _, frame in reader.iterate(1.0)]
        every = [(second, frame) for second, frame in reader.iterate(None)]
    for frames in (sampled, every):
        steps = list(predictor.stream(frames))
        assert [step.second for step in steps] == whole.seconds.tolist()
        assert np.array_equal(np.stack([step.probabilities["model"] for step in steps]), whole.probabilities)
        assert [step.label for step in steps] == [NAMES[label] for label in whole.labels]
        assert all(step.latency_seconds > 0 for step in steps)
    np.testing.assert_allclose(
        SurgicalVideoPredictor(model_folder).predict(video).probabilities, whole.probabilities, atol=1e-6
    )


@given(rate=st.sampled_from([0.7, 1.0, 10.0, 24.0, 29.97, 59.94]), seconds=st.integers(1, 20))
def test_the_frames_of_a_stream_are_those_shown_at_whole_seconds(rate, seconds):
    times = [number / rate for number in range(int(seconds * rate))]
    frames = [(time, np.full((1, 1, 3), number % 256, np.uint8)) for number, time in enumerate(times)]
    for second, image in sample_stream(frames):
        shown = max(number for number, time in enumerate(times) if time <= second + 2e-3)
        assert image[0, 0, 0] == shown % 256
    assert (
        [second for second, _ in sample_stream(frames)] == [float(k) for k in range(int(times[-1] + 2e-3) + 1)]
        if times
        else True
    )


def test_a_stream_needs_images_and_times_that_go_on(model_folder):
    predictor, image = SurgicalVideoPredictor(model_folder), np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(InputError, match="frame 1 of the stream is no image"):
        list(predictor.stream([image, image[0]]))
    with pytest.raises(InputError, match="of second 1, the one before of 3"):
        list(predictor.stream([(0.0, image), (3.0, image), (1.0, image)]))


def test_several_models_see_frames_that_are_decoded_once(model_folder, video, monkeypatch):
    other = tiny_classifier(problem_type="multi_label_classification")
    predictor = SurgicalVideoPredictor(
        {"phase": model_folder, "tools": ClipModel(other, processor(), dtype="float32")}, batch_size=5
    )
    calls = []
    original = VideoReader.iterate
    monkeypatch.setattr(VideoReader, "iterate", lambda self, *a, **k: calls.append(1) or original(self, *a, **k))
    found = predictor.predict_all(video)
    assert calls == [1]
    alone = SurgicalVideoPredictor(model_folder, batch_size=5).predict(video)
    assert np.array_equal(found["phase"].probabilities, alone.probabilities)
    assert found["tools"].multi_label
    assert not found["phase"].multi_label
    steps = list(predictor.stream(VideoReader(video).iterate(1.0)))
    np.testing.assert_allclose(
        np.stack([step.probabilities["tools"] for step in steps]), found["tools"].probabilities, atol=1e-6
    )


def test_a_temporal_head_in_pieces_equals_one_pass_over_the_video(model_folder, video, tmp_path):
    torch.manual_seed(3)
    config = MsTcnConfig(input_size=64, num_layers=3, num_feature_maps=8, id2label=dict(enumerate(NAMES)))
    MsTcnForFrameClassification(config).save_pretrained(tmp_path / "tcn")
    features = np.random.default_rng(0).normal(size=(200, 64)).astype(np.float32)
    model = MsTcnForFrameClassification.from_pretrained(tmp_path / "tcn").eval()
    with torch.no_grad():
        whole = model(torch.from_numpy(features)[None]).logits[0].softmax(-1).numpy()
    for size in (1, 7, 200):
        head = TemporalHead(tmp_path / "tcn")
        pieces = [head.push(features[start : start + size]) for start in range(0, 200, size)]
        np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)
        assert len(head._memory) == min(config.receptive_field - 1, 200)
    chained = SurgicalVideoPredictor(model_folder, temporal=tmp_path / "tcn")
    steps = np.stack([step.probabilities["model"] for step in chained.stream(VideoReader(video).iterate(1.0))])
    np.testing.assert_allclose(chained.predict(video).probabilities, steps, atol=1e-5)
    assert not np.allclose(steps, SurgicalVideoPredictor(model_folder).predict(video).probabilities, atol=1e-3)


def test_temporal_models_that_do_not_fit_are_refused(model_folder, tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*nothing"):
        SurgicalVideoPredictor(model_folder, temporal=tmp_path / "nothing")
    names = dict(enumerate(NAMES))
    ahead = MsTcnForFrameClassification(MsTcnConfig(input_size=64, causal=False, id2label=names))
    with pytest.raises(InputError, match="looks ahead"):
        SurgicalVideoPredictor(model_folder, temporal=ahead)
    with pytest.raises(InputError, match="features of width 9, the clip model gives 64"):
        SurgicalVideoPredictor(
            model_folder, temporal=MsTcnForFrameClassification(MsTcnConfig(input_size=9, id2label=names))
        )
    with pytest.raises(InputError, match="temporal names 'phase'"):
        SurgicalVideoPredictor(model_folder, temporal={"phase": "x"})


def test_bfloat16_gives_the_same_within_its_precision(model_folder, video):
    full = SurgicalVideoPredictor(model_folder, dtype="float32").predict(video)
    half = SurgicalVideoPredictor(model_folder, dtype="bfloat16").predict(video)
    np.testing.assert_allclose(half.probabilities, full.probabilities, atol=BFLOAT16_TOLERANCE)
    assert not np.array_equal(half.probabilities, full.probabilities)
    ranked = np.sort(full.probabilities, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > BFLOAT16_TOLERANCE
    assert clear.any()
    assert np.array_equal(half.labels[clear], full.labels[clear])
    assert (half.to_dict()["dtype"], "dtype" in full.to_dict()) == ("bfloat16", False)
    again = SurgicalVideoPredictor(model_folder, dtype="bfloat16").predict(video)
    assert np.array_equal(again.probabilities, half.probabilities)
    with pytest.raises(InputError, match="dtype is 'int7'"):
        SurgicalVideoPredictor(model_folder, dtype="int7")


def test_by_default_it_computes_in_bfloat16_where_the_processor_has_it(model_folder, video, monkeypatch):
    assert SurgicalVideoPredictor(model_folder, device="cpu").computing == {}
    monkeypatch.setattr(precision, "_processor_bfloat16", lambda: "AMX")
    predictor = SurgicalVideoPredictor(model_folder, device="cpu")
    assert predictor.computing == {"dtype": {"model": "bfloat16"}}
    assert predictor.computing_text == "bfloat16 (AMX)"
    half = SurgicalVideoPredictor(model_folder, device="cpu", dtype="bfloat16").predict(video)
    assert np.array_equal(predictor.predict(video).probabilities, half.probabilities)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("every", [2, 7, 100])
def test_between_two_predictions_the_last_one_is_held(model_folder, video, batch_size, every):
    each_second = SurgicalVideoPredictor(model_folder, batch_size=batch_size).predict(video)
    predictor = SurgicalVideoPredictor(model_folder, batch_size=batch_size, every=every)
    ran = []
    monitored, run = predictor.models["model"], predictor.models["model"].run
    monitored.run = lambda clips: ran.append(len(clips)) or run(clips)
    seldom = predictor.predict(video)
    assert seldom.seconds.tolist() == each_second.seconds.tolist()
    last = np.arange(45) // every * every
    np.testing.assert_allclose(seldom.probabilities, each_second.probabilities[last], atol=1e-6)
    assert sum(ran) == len(set(last.tolist()))
    assert seldom.to_dict()["every"] == every
    with VideoReader(video) as reader:
        steps = list(predictor.stream(reader.iterate(1.0)))
    np.testing.assert_allclose([step.probabilities["model"] for step in steps], seldom.probabilities, atol=1e-6)


def test_a_temporal_model_takes_the_held_features_once_a_second(model_folder, video):
    torch.manual_seed(1)
    names = dict(enumerate(NAMES))
    head = MsTcnForFrameClassification(MsTcnConfig(input_size=64, id2label=names, num_layers=3, num_feature_maps=8))
    seen = []
    predictor = SurgicalVideoPredictor(model_folder, temporal=head, every=4, batch_size=3)
    found = predictor.predict_all(video, on_features=lambda _, seconds, values: seen.append((seconds, values)))
    assert [second for seconds, _ in seen for second in seconds] == list(range(45))
    features = np.concatenate([values for _, values in seen])
    assert np.array_equal(features, features[np.arange(45) // 4 * 4])
    with torch.no_grad():
        expected = head.eval()(torch.from_numpy(features)[None]).logits[0].softmax(dim=-1).numpy()
    np.testing.assert_allclose(found["model"].probabilities, expected, atol=1e-5)


def test_a_prediction_that_falls_due_at_a_missing_frame_is_made_of_the_next_one():
    model = Numbers(1, 1)
    predictor = SurgicalVideoPredictor(model, every=3)
    frames = [(float(second), numbered_frame(second)) for second in (0, 1, 2, 4, 5, 6, 7, 8)]
    found = predictor.predict_frames(frames)["model"]
    assert found.seconds.tolist() == [0, 1, 2, 4, 5, 6, 7, 8]
    assert model.clips == [[0], [4], [7]]


@pytest.mark.parametrize("every", [0, -2, 1.5])
def test_seconds_between_predictions_are_a_whole_number(model_folder, every):
    with pytest.raises(InputError, match=r"every is .*; a whole number, at least 1"):
        SurgicalVideoPredictor(model_folder, every=every)


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


def test_the_timeline_shows_each_phase_in_its_color_where_it_is(tmp_path):
    draw_timeline(prediction([0] * 50 + [3] * 50), tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)

    def columns_of(label):
        color = np.array([int(class_color(label)[i : i + 2], 16) for i in (1, 3, 5)])
        ribbon = (np.abs(pixels - color).sum(axis=2) < 12).sum(axis=0) > 60  # taller than a legend entry
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
    with pytest.raises(InputError, match=r"there is no folder .*nothing"):
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
