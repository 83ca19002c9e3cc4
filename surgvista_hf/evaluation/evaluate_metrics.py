"""The metrics as modules of the `evaluate` library: one row for each frame, with the name of its video.

pip install "surgvista-hf[evaluate]"
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..util.requirements import require
from .metrics.classification import classification_metrics
from .metrics.triplets import triplet_metrics
from .metrics.workflow import phase_metrics

require("evaluate")
import evaluate  # noqa: E402
from datasets import Features, List, Value  # noqa: E402

_CITATION = "Metrics Matter in Surgical Phase Recognition, arXiv 2305.13961"


def by_video(values: Sequence[object], videos: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the rows of each video, in their order.

    Args:
        values: (rows, …) values.
        videos: (rows,) names of the video of each row.
    """
    array, names = np.asarray(values), np.asarray(videos)
    return {str(name): array[names == name] for name in dict.fromkeys(videos)}


class PhaseRecognition(evaluate.Metric):
    """`phase_metrics` as a module.

    Example:
        >>> rows = {"predictions": [0, 0, 1], "references": [0, 1, 1], "videos": ["a", "a", "a"]}
        >>> round(PhaseRecognition().compute(**rows, num_classes=2)["image_accuracy"], 3)
        0.667
    """

    def _info(self) -> evaluate.MetricInfo:
        row = {"predictions": Value("int64"), "references": Value("int64"), "videos": Value("string")}
        return _metric_info("Phases of operations: frames in order, with the name of their video.", row, _CITATION)

    def _compute(
        self, predictions: Sequence[object], references: Sequence[object], videos: Sequence[str], **options: Any
    ) -> Mapping[str, object]:
        return phase_metrics(by_video(references, videos), by_video(predictions, videos), **options).to_dict()


class TripletRecognition(evaluate.Metric):
    """`triplet_metrics` as a module: `predictions` are scores of all triplet classes, `references` 0 or 1."""

    def _info(self) -> evaluate.MetricInfo:
        row = {
            "predictions": List(Value("float64")),
            "references": List(Value("int64")),
            "videos": Value("string"),
        }
        return _metric_info("Action triplets: frames with the name of their video.", row, "arXiv 2204.05235")

    def _compute(
        self, predictions: Sequence[object], references: Sequence[object], videos: Sequence[str], **options: Any
    ) -> Mapping[str, object]:
        return triplet_metrics(by_video(references, videos), by_video(predictions, videos), **options).to_dict()


class ClipClassification(evaluate.Metric):
    """`classification_metrics` as a module: `predictions` are probabilities of all classes."""

    def _info(self) -> evaluate.MetricInfo:
        row = {"predictions": List(Value("float64")), "references": Value("int64")}
        return _metric_info("Clips with one class each: actions, skill, procedures.", row, "")

    def _compute(
        self, predictions: Sequence[object], references: Sequence[object], **options: Any
    ) -> Mapping[str, object]:
        return classification_metrics(np.asarray(references), np.asarray(predictions), **options).to_dict()


def _metric_info(text: str, row: dict[str, Value | List], citation: str) -> evaluate.MetricInfo:
    return evaluate.MetricInfo(
        description=text, citation=citation, inputs_description=", ".join(row), features=Features(row)
    )
