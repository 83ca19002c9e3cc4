"""Confidence: calibration and familiarity are saved by fine-tuning and used by predictions, on the way that users go."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForVideoClassification

from surgvista_hf import SurgicalVideoPredictor, SurgVistaVideoProcessor, load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation, write_video
from surgvista_hf.evaluation.tasks import ClipPredictions, Task
from surgvista_hf.inference.models.clip_model import ClipModel
from surgvista_hf.inference.models.onnx_export import OnnxClipModel
from surgvista_hf.modeling.confidence import CONFIDENCE_FILE, Confidence
from surgvista_hf.modeling.familiarity import WINDOW_SECONDS
from surgvista_hf.modeling.video_reading_surgvista import VideoReader
from surgvista_hf.trainers.finetuning.confidence import _chosen_frames, calibrate, describe_videos, learn_familiarity

from ...videos import write_numbered_video
from .. import tiny
from ..test_finetune import argv

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "clips"


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepare a frame set of rendered operations."""
    folder = tmp_path_factory.mktemp("confidence") / "operations"
    prepare_frame_set("synthetic", None, folder, settings={**tiny.VIDEOS, "videos": "12", "seconds": "24"})
    return folder


@pytest.fixture(scope="module")
def run(operations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fine-tune a model on the operations."""
    folder = tmp_path_factory.mktemp("confidence") / "run"
    assert main(argv(operations, folder, "training.num_train_epochs=3")) == 0
    return folder


@pytest.fixture(scope="module")
def new_operation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a video of an operation that training has not seen."""
    file = tmp_path_factory.mktemp("confidence") / "new.mp4"
    write_video(SyntheticOperation(seed=901, duration_seconds=24, height=48, width=64, frames_per_second=5), file)
    return file


def test_training_saves_what_its_videos_look_like_and_how_sure_the_model_may_be(run):
    found = Confidence.load(run / "model")
    assert found.familiarity is not None
    assert found.familiarity.false_alarms <= 0.05
    assert found.familiarity.held_out_videos > found.familiarity.videos  # the validation sets the limit too
    assert found.trained_on == {
        "title": "Synthetic surgery",
        "procedure": "rendered cholecystectomy",
        "license": "Apache-2.0",
        "rendered": True,
    }
    assert found.trained_on_rendered is True
    assert found.calibration is not None
    assert found.calibration["split"] == "validation"
    results = json.loads((run / "results.json").read_text())["results"]["calibration"]
    assert results["validation"]["temperature"] == found.temperature
    assert results["validation"]["loss_after"] <= results["validation"]["loss_before"]
    assert results["test"]["error_before"] == pytest.approx(
        json.loads((run / "results.json").read_text())["results"]["classification"]["calibration_error"]
    )
    card = ModelCard.load(run / "model" / "README.md").text
    assert "calibrated on the split `validation`" in card
    assert f"{found.calibration['error_before']:.4f} and {found.calibration['error_after']:.4f}" in card
    assert "held out" in card


def test_predictions_are_calibrated_and_the_models_own_logits_are_not_touched(run, new_operation):
    model = ClipModel.load(run / "model", device="cpu")
    model.confidence = Confidence(3.0, familiarity=model.confidence.familiarity)
    stock = AutoModelForVideoClassification.from_pretrained(run / "model").eval()
    clips = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = stock(pixel_values=clips).logits
    expected = (logits / 3).softmax(dim=1).numpy()
    np.testing.assert_allclose(model.run(clips)[0], expected, atol=1e-6)
    np.testing.assert_array_equal(model.run(clips)[0].argmax(1), logits.argmax(1).numpy())


def test_saved_scores_are_those_before_the_temperature(run, operations):
    scores = ClipPredictions.load(run / "predictions.parquet").scores
    loss = json.loads((run / "results.json").read_text())["results"]["calibration"]["test"]["loss_before"]
    labels = ClipPredictions.load(run / "predictions.parquet").labels
    assert -np.log(scores[np.arange(len(labels)), labels]).mean() == pytest.approx(loss, rel=1e-4)


def test_a_video_of_another_kind_is_called_unfamiliar_everywhere(run, tmp_path, caplog):
    strange = write_numbered_video(tmp_path / "strange.mp4", count=300)
    prediction = SurgicalVideoPredictor(run / "model", device="cpu").predict(strange)
    assert prediction.unfamiliar is not None
    assert prediction.unfamiliar.mean() > 0.95
    assert f"strange.mp4 is unlike what the model was trained on in {prediction.unfamiliar.mean():.0%}" in caplog.text
    files = {
        file.suffix: file for file in prediction.save(tmp_path / "out", ["json", "csv", "vtt", "eaf", "html", "png"])
    }
    report = json.loads(files[".json"].read_text())
    assert report["unfamiliar"]["fraction"] > 0.95
    assert all(second["unfamiliar"] for second in report["per_second"][2:])
    assert files[".csv"].read_text().splitlines()[0].endswith(",unfamiliar")
    assert files[".csv"].read_text().splitlines()[-1].endswith(",1")
    assert 'role="alert"' in files[".html"].read_text()
    assert "unlike the training videos from" in files[".html"].read_text()  # the band in the timeline
    assert "NOTE unlike the training videos" in files[".vtt"].read_text()
    assert 'TIER_ID="unlike the training videos"' in files[".eaf"].read_text()


def test_real_surgery_is_unlike_rendered_training(run):
    videos = sorted(REAL.glob("*.mp4"))
    if not videos:
        pytest.skip("the real clips are not beside this checkout")
    predictor = SurgicalVideoPredictor(run / "model", device="cpu")
    for video in videos:
        assert predictor.predict(video).unfamiliar_fraction == 1, video.name


def test_a_new_video_of_the_same_kind_is_familiar(run, new_operation, caplog):
    prediction = SurgicalVideoPredictor(run / "model", device="cpu").predict(new_operation)
    assert prediction.unfamiliar_fraction is not None
    assert prediction.unfamiliar_fraction < 0.2
    assert prediction.remark is None
    assert "unlike" not in caplog.text


def test_a_stream_says_the_same_as_the_whole_video(run, new_operation):
    predictor = SurgicalVideoPredictor(run / "model", device="cpu")
    whole = predictor.predict(new_operation)
    with VideoReader(new_operation) as reader:
        steps = list(predictor.stream(reader.iterate(1.0)))
    np.testing.assert_allclose([step.unfamiliarity["model"] for step in steps], whole.unfamiliarity, rtol=1e-9)
    assert [step.unfamiliar for step in steps] == whole.unfamiliar.tolist()


def test_a_folder_without_a_summary_says_unknown_and_predicts_the_same(run, new_operation, tmp_path):
    old = shutil.copytree(run / "model", tmp_path / "old")
    (old / CONFIDENCE_FILE).unlink()
    prediction = SurgicalVideoPredictor(old, device="cpu").predict(new_operation)
    assert prediction.unfamiliar is None
    assert prediction.remark is None
    expected = SurgicalVideoPredictor(run / "model", device="cpu").predict(new_operation)
    np.testing.assert_array_equal(prediction.labels, expected.labels)
    files = prediction.save(tmp_path / "out", ["json", "csv", "vtt", "eaf", "html", "png", "svg"])
    report = json.loads(files[1].read_text())
    assert report["unfamiliar"] == "unknown"
    assert {second["unfamiliar"] for second in report["per_second"]} == {None}
    assert files[0].read_text().splitlines()[1].endswith(",unknown")
    assert "is unknown" in (tmp_path / "out" / "report.html").read_text()


def test_a_graph_knows_what_its_model_knows(run, new_operation, tmp_path):
    pytest.importorskip("onnxruntime")
    assert main(["export", str(run / "model"), "--output", str(tmp_path / "graph")]) == 0
    graph = SurgicalVideoPredictor(tmp_path / "graph", runtime="onnx").predict(new_operation)
    model = SurgicalVideoPredictor(run / "model", device="cpu").predict(new_operation)
    assert OnnxClipModel(tmp_path / "graph").confidence.temperature != 1
    np.testing.assert_allclose(graph.probabilities, model.probabilities, atol=1e-4)
    np.testing.assert_allclose(graph.unfamiliarity, model.unfamiliarity, rtol=1e-9)


def test_an_adapter_and_what_it_is_merged_to_know_it_too(operations, tmp_path):
    changes = ["adapter.method=lora", "adapter.rank=2", "training.max_steps=2"]
    assert main(argv(operations, tmp_path / "run", *changes)) == 0
    assert main(["merge", str(tmp_path / "run" / "model"), "--output", str(tmp_path / "merged")]) == 0
    adapter, merged = Confidence.load(tmp_path / "run" / "model"), Confidence.load(tmp_path / "merged")
    assert adapter.familiarity is not None
    assert merged.familiarity is not None
    assert adapter.familiarity.to_dict() == merged.familiarity.to_dict()
    assert adapter.temperature == merged.temperature


@pytest.mark.parametrize("validation", ["data.validation=null", "data.validation=test"])
def test_the_test_never_calibrates(validation, operations, tmp_path, caplog):
    allowed = ["data.select_on_test=true"] if validation.endswith("test") else []
    assert main(argv(operations, tmp_path / "run", validation, *allowed, "training.max_steps=2")) == 0
    found = Confidence.load(tmp_path / "run" / "model")
    assert found.calibration is None
    assert found.temperature == 1
    assert "not calibrated" in caplog.text
    assert "not calibrated" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_multi_label_models_have_a_temperature_too():
    random = np.random.default_rng(0)
    logits = random.normal(size=(3000, 3))
    labels = (random.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    sure = 1 / (1 + np.exp(-3 * logits))
    clips = np.arange(3000)
    predictions = ClipPredictions(np.full(3000, "a"), clips, clips, labels, sure)
    found = calibrate(predictions, Task("multi_label", ("a", "b", "c")))
    assert found is not None
    assert found.temperature == pytest.approx(3, rel=0.1)


def test_one_training_video_is_a_remark_and_no_error(operations, caplog):
    frames = load_frame_set("synthetic", operations)
    one = frames.filter(lambda video: video == frames[0]["video_id"], input_columns="video_id")
    assert learn_familiarity(one, None, small_processor()) is None
    assert "at least two videos" in caplog.text


def test_what_is_looked_at_depends_on_the_frame_set_only(operations):
    frames = load_frame_set("synthetic", operations)
    first, second = (list(describe_videos(frames, small_processor())) for _ in range(2))
    assert len(first) == len(set(frames["video_id"]))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.seconds, other.seconds)


@pytest.mark.parametrize("rate", [0.2, 1.0, 5.0, 25.0])
def test_one_frame_a_second_is_looked_at_whatever_the_rate(rate):
    seconds = np.arange(0, 40, 1 / rate)
    chosen = seconds[_chosen_frames(seconds, 8)]
    np.testing.assert_allclose(chosen, np.arange(0, 40, max(1, 1 / rate)), atol=1e-9)


def test_of_a_long_video_stretches_are_looked_at():
    chosen = _chosen_frames(np.arange(10_000.0), 3)
    assert len(chosen) == 3 * 2 * WINDOW_SECONDS
    assert (chosen[0], chosen[-1]) == (0, 9999)


def small_processor() -> SurgVistaVideoProcessor:
    """Return a video processor for small frames."""
    return SurgVistaVideoProcessor(size={"height": 32, "width": 32}, num_frames=4)
