"""Measure what precision and held predictions change in accuracy: one classifier, new rendered operations, each setting.

The classifier is the one that `surgvista demo` trains; the folder is made if it is not there. The operations are rendered like
those of its test set, and no model has seen them. Every setting of `surgvista predict` that makes it faster meets float32
every second on the same files.

    python -m benchmarks.inference_accuracy --demo demo --output benchmarks/results/inference_accuracy_cpu.json
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from surgvista_hf import SurgicalVideoPredictor, classification_metrics
from surgvista_hf.datasets_scripts.synthetic.surgery import synthetic_corpus, write_video
from surgvista_hf.demo import DemoSettings, run_demo

from .tables import markdown_table, read_results
from .timing import save

OPERATIONS, SECONDS = 4, 120
SETTINGS: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8 (`--fast`)": {"fast": True},
    "float32, `--every 2`": {"dtype": "float32", "every": 2},
    "float32, `--every 5`": {"dtype": "float32", "every": 5},
    "bfloat16, `--every 2`": {"dtype": "bfloat16", "every": 2},
    "int8, `--every 2`": {"fast": True, "every": 2},
}
REFERENCE = "float32"


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder of `surgvista demo` (default: demo)")
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the results")
    arguments = parser.parse_args()
    if not (arguments.demo / "model").is_dir():
        run_demo(arguments.demo)
    with tempfile.TemporaryDirectory() as folder:
        videos, phases = render(Path(folder), OPERATIONS, SECONDS)
        save(
            {
                "operations": OPERATIONS,
                "seconds": SECONDS,
                "settings": measure(arguments.demo / "model", videos, phases),
            },
            arguments.output,
        )


def render(folder: Path, operations: int, seconds: int) -> tuple[list[Path], list[np.ndarray]]:
    """Write new operations as videos, and return them with the phase of each second."""
    known = DemoSettings().operations + 1  # those of the demonstration come first
    corpus = synthetic_corpus(known + operations, DemoSettings().seed, duration_seconds=seconds, frames_per_second=2.0)
    new = list(corpus)[known:]
    videos = [write_video(operation, folder / f"{number}.mp4") for number, operation in enumerate(new)]
    return videos, [np.array([each.labels(float(second)).phase for second in range(seconds)]) for each in new]


def measure(model: Path, videos: list[Path], phases: list[np.ndarray]) -> dict[str, dict[str, float]]:
    """Predict the videos in every setting, and compare with the truth and with float32 every second.

    Args:
        model: folder of a classifier.
        videos: files of the operations.
        phases: phase of each second of each video, (seconds,).

    Returns:
        Metrics by the name of the setting.
    """
    truth, found = np.concatenate(phases), {}
    for name, options in SETTINGS.items():
        predictor = SurgicalVideoPredictor(model, device="cpu", **options)
        rows = [predictor.predict(video).probabilities for video in videos]  # (seconds, classes) each
        found[name] = np.concatenate([row[: len(known)] for row, known in zip(rows, phases, strict=True)])
    return {name: _compare(found[name], found[REFERENCE], truth) for name in SETTINGS}


def _compare(ours: np.ndarray, reference: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return metrics of probabilities (seconds, classes), and how far they are from others."""
    metrics = classification_metrics(truth, ours)
    same = ours.argmax(axis=1) == reference.argmax(axis=1)
    return {
        "accuracy": round(metrics.accuracy, 4),
        "f1": round(metrics.macro_f1, 4),
        "same_class_as_float32": round(float(same.mean()), 4),
        "largest_difference_of_a_probability": round(float(np.abs(ours - reference).max()), 4),
        "mean_difference_of_a_probability": round(float(np.abs(ours - reference).mean()), 5),
    }


def table() -> str:
    """Return the recorded results as a table."""
    settings = read_results("inference_accuracy_cpu.json")["settings"]
    header = [
        "setting",
        "accuracy",
        "F1 over classes",
        "seconds with the class of float32",
        "probability, largest difference",
    ]
    return markdown_table(
        header,
        [
            [
                name,
                f"{each['accuracy']:.1%}",
                f"{each['f1']:.3f}",
                f"{each['same_class_as_float32']:.1%}",
                f"{each['largest_difference_of_a_probability']:.3f}",
            ]
            for name, each in settings.items()
        ],
    )


if __name__ == "__main__":
    main()
