"""The demonstration: frame set, pre-training, benchmark and prediction of an unseen operation, on synthetic surgery.

It may import every package below it, and none of them imports it. Nothing is downloaded, nothing leaves the machine.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .datasets_scripts.frame_sets.prepare import prepare_frame_set
from .datasets_scripts.schema.media import PreparationOptions
from .datasets_scripts.synthetic.surgery import synthetic_corpus, write_video
from .evaluation.reports.benchmark_report import CellResult
from .evaluation.tasks import ClipPredictions
from .inference import SurgicalVideoPredictor, VideoPrediction
from .inference.prediction.prediction import DEFAULT_FORMATS
from .inference.writers.contact_sheet import draw_contact_sheet
from .inference.writers.timeline import draw_timeline
from .trainers.benchmark.run import check_suite, run_suite
from .trainers.benchmark.suite import Suite, load_suite
from .trainers.pretrain import pretrain
from .trainers.pretraining.recipe import load_recipe
from .util.console import Steps, move_log
from .util.files import at_work, write_json

_PRETRAINED = "pretrained"


@dataclass(frozen=True)
class DemoSettings:
    """Sizes of the demonstration.

    Args:
        operations: number of synthetic operations; three of five are for training.
        seconds: length of each operation.
        pretraining_epochs: epochs of pre-training without labels.
        epochs: epochs of fine-tuning with labels.
        seed: seed of all random choices.
    """

    operations: int = 24
    seconds: int = 120
    pretraining_epochs: int = 1
    epochs: int = 7
    seed: int = 0


@dataclass(frozen=True)
class DemoResult:
    """The results of the demonstration.

    Args:
        video_accuracy: video-level accuracy on the test operations by the protocol of the benchmark, 0-1.
        video_most_frequent: the same for always predicting the operation's most frequent phase.
        accuracy: fraction of the seconds of the unseen operation whose phase is right.
        most_frequent: the same for always predicting its most frequent phase, which a model must exceed.
        pretraining_loss: loss at the end of the pre-training; predicting the mean of masked patches gives 0.998.
        files: files that were written.
    """

    video_accuracy: dict[str, float]
    video_most_frequent: float
    accuracy: float
    most_frequent: float
    pretraining_loss: float
    files: list[str]


def run_demo(output: Path, *, video: Path | None = None, settings: DemoSettings | None = None) -> DemoResult:
    """Pre-train a tiny model, benchmark it by all protocols of the synthetic suite, and predict an unseen operation.

    Args:
        output: folder for the benchmark, the model, the rendered video, predictions and plots.
        video: a further video to predict. The model has seen rendered images only, so the prediction marks real surgery as
            unlike the training videos, second by second; it shows that everything runs, not what happens in the video.
        settings: sizes of the demonstration.

    Returns:
        Accuracies, loss of the pre-training, and the files.

    Raises:
        VideoReadError: `video` cannot be decoded.
        OutputError: another run is at work on `output`.
    """
    with at_work(output):
        return _run_demo(output, video, settings or DemoSettings())


def _run_demo(output: Path, video: Path | None, settings: DemoSettings) -> DemoResult:
    """Run the steps of the demonstration, in a folder that no other run uses."""
    suite = _suite(output, settings)
    check_suite(suite)
    move_log(output / "surgvista.log")
    steps = Steps(5 if video is None else 6)
    with steps(f"render {settings.operations} operations of {settings.seconds} s"):
        _make_frame_set(output / "frame_set", settings)
    with steps("pre-train a masked autoencoder") as step:
        loss = _pretrain(output, settings)
        step.remember(f"loss {loss:.3f} (of the mean: 0.998)")
    with steps("benchmark it: full, lora, linear, knn, tcn"):
        shutil.rmtree(suite.output, ignore_errors=True)
        cells = run_suite(suite)
        shutil.rmtree(output / "model", ignore_errors=True)
        shutil.copytree(
            output / "benchmark" / "phases" / "pretrained" / "full" / f"seed_{settings.seed}" / "model",
            output / "model",
        )
    with steps("render an operation that no model has seen"):
        *_, unseen = synthetic_corpus(
            settings.operations + 1, settings.seed, duration_seconds=settings.seconds, frames_per_second=10.0
        )
        write_video(unseen, output / "unseen_operation.mp4")
    with steps("predict it"):
        predictor = SurgicalVideoPredictor(output / "model", dtype="float32")  # the same numbers on every machine
        prediction = predictor.predict(output / "unseen_operation.mp4", progress=True)
        truth = np.array([unseen.labels(second).phase for second in prediction.seconds])
        files = prediction.save(output)
        draw_timeline(prediction, output / "timeline.png", truth)
        sheet = output / "contact_sheet.png"
        draw_contact_sheet(output / "unseen_operation.mp4", prediction, sheet, truth)
        files.append(sheet)
    if video is not None:
        with steps(f"predict {video.name}"):
            files += _predict_own(predictor, video, output / "your_video")
    files += sorted((output / "benchmark" / "plots").glob("*.png"))
    return _report(cells, prediction, truth, loss, files, settings, output)


def _make_frame_set(folder: Path, settings: DemoSettings) -> None:
    """Prepare the operations as a frame set, unless an earlier run with the same settings has left it."""
    requested = {"videos": settings.operations, "seconds": settings.seconds, "seed": settings.seed}
    options = PreparationOptions(short_side=96, quality=95)
    texts = {name: str(value) for name, value in requested.items()}
    prepare_frame_set("synthetic", None, folder, options=options, settings=texts, num_proc=2, progress=True)


def _pretrain(output: Path, settings: DemoSettings) -> float:
    """Train a masked autoencoder by the package's recipe; return its loss over the last ten steps."""
    folder = output / _PRETRAINED
    shutil.rmtree(folder, ignore_errors=True)
    source = {"name": "synthetic", "data_dir": str((output / "frame_set").resolve())}
    recipe = load_recipe(
        "surgvista_synthetic",
        [
            f"data.sources=[{json.dumps(source)}]",
            "data.frame_stride=4",  # that of the suite
            f"training.output_dir={json.dumps(str(folder))}",
            f"training.num_train_epochs={settings.pretraining_epochs}",
            f"training.seed={settings.seed}",
            "training.logging_steps=1",
        ],
    )
    pretrain(recipe)
    state = max(folder.glob("checkpoint-*/trainer_state.json"), key=lambda path: path.stat().st_mtime)
    losses = [line["loss"] for line in json.loads(state.read_text())["log_history"] if "loss" in line]
    return float(np.mean(losses[-10:]))


def _suite(output: Path, settings: DemoSettings) -> Suite:
    """Return the package's synthetic suite for these operations, phases only, with the pre-trained model."""
    data = {"root": str(output.resolve()), "data_dir": "frame_set"}
    changed: dict[str, Any] = {
        "prepare": {},
        "models": {"pretrained": {"from_pretrained": str(output / _PRETRAINED / "model"), "num_frames": 4}},
        "data": {"phases": {"recipe": "synthetic", "data": data, "training": {"num_train_epochs": settings.epochs}}},
        "seeds": [settings.seed],
        "output": str(output / "benchmark"),
    }
    return load_suite("synthetic", [f"{key}={json.dumps(value)}" for key, value in changed.items()])


def _predict_own(predictor: SurgicalVideoPredictor, video: Path, folder: Path) -> list[Path]:
    prediction = predictor.predict(video, progress=True)
    sheet = folder / "contact_sheet.png"
    model_info = next(iter(predictor.models.values())).describe()
    # The report warns of what is unknown.
    files = prediction.save(folder, (*DEFAULT_FORMATS, "html"), video=video, model_info=model_info)
    draw_contact_sheet(video, prediction, sheet)
    return [*files, sheet]


def _report(
    cells: list[CellResult],
    prediction: VideoPrediction,
    truth: np.ndarray,
    pretraining_loss: float,
    files: list[Path],
    settings: DemoSettings,
    output: Path,
) -> DemoResult:
    accuracy = float((prediction.labels == truth).mean())
    most_frequent = float(np.bincount(truth).max() / len(truth))
    summary = output / "result.json"
    by_protocol = {cell.protocol: round(cell.metrics["video_accuracy"], 4) for cell in cells}
    names = [str(file) for file in (*files, summary)]
    of_tests = round(_most_frequent_of_tests(output / "benchmark" / str(cells[0].predictions)), 4)
    result = DemoResult(by_protocol, of_tests, accuracy, most_frequent, round(pretraining_loss, 4), names)
    write_json(summary, {**asdict(result), "settings": asdict(settings)})
    return result


def _most_frequent_of_tests(file: Path) -> float:
    """Return the fraction of an operation's most frequent phase, mean over the test operations, 0-1."""
    predictions = ClipPredictions.load(file)
    labels = predictions.by_video(predictions.labels).values()
    return float(np.mean([np.bincount(each).max() / len(each) for each in labels]))
