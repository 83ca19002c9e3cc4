"""The result of predicting a video: per-second probabilities, segments, and the files made of them."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..util.files import atomic_file
from .timeline import draw_timeline


@dataclass(frozen=True)
class Segment:
    """A run of seconds with the same label.

    Args:
        start: its first second.
        end: where the next one begins, in seconds.
        label: name of the class.
        confidence: mean probability of the label, 0-1.
    """

    start: float
    end: float
    label: str
    confidence: float


@dataclass(frozen=True, eq=False)
class VideoPrediction:
    """Probabilities for each second of one video.

    Args:
        video: name of the file.
        seconds: (steps,), ascending times from the start of the video.
        probabilities: (steps, classes). They sum to 1 in a step unless `multi_label`.
        class_names: names of the classes.
        multi_label: classes are independent of each other.
    """

    video: str
    seconds: np.ndarray
    probabilities: np.ndarray
    class_names: list[str]
    multi_label: bool = False

    @property
    def labels(self) -> np.ndarray:
        """(steps,), the most probable class of each step."""
        return self.probabilities.argmax(axis=1)

    @property
    def segments(self) -> list[Segment]:
        """Runs of the most probable class, in order."""
        labels = self.labels
        starts = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]])
        ends = np.r_[starts[1:], len(labels)]
        times = np.r_[self.seconds, self.seconds[-1] + self._step]
        return [
            Segment(
                float(times[a]),
                float(times[b]),
                self.class_names[labels[a]],
                float(self.probabilities[a:b, labels[a]].mean()),
            )
            for a, b in zip(starts, ends, strict=True)
        ]

    @property
    def _step(self) -> float:
        return float(self.seconds[1] - self.seconds[0]) if len(self.seconds) > 1 else 1.0

    def to_dict(self) -> dict[str, Any]:
        """What the JSON file holds."""
        per_second = [
            {
                "second": round(float(second), 3),
                "label": self.class_names[row.argmax()],
                "confidence": round(float(row.max()), 6),
                "probabilities": [round(float(value), 6) for value in row],
            }
            for second, row in zip(self.seconds, self.probabilities, strict=True)
        ]
        segments = [] if self.multi_label else [vars(segment) for segment in self.segments]
        return {
            "video": self.video,
            "class_names": self.class_names,
            "multi_label": self.multi_label,
            "segments": segments,
            "per_second": per_second,
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Writes `predictions.csv`, `predictions.json` and `timeline.png`.

        Args:
            folder: made if needed; files of an earlier run are replaced.

        Returns:
            The files.

        Raises:
            OutputError: the folder cannot be made.
        """
        folder = Path(folder)
        csv_file, json_file, picture = (
            folder / name for name in ("predictions.csv", "predictions.json", "timeline.png")
        )
        with atomic_file(csv_file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(
                ["second", "label_id", "label", "confidence", *(f"p({name})" for name in self.class_names)]
            )
            for second, label, row in zip(self.seconds, self.labels, self.probabilities, strict=True):
                values = [f"{value:.6f}" for value in row]
                writer.writerow([f"{second:.3f}", label, self.class_names[label], values[label], *values])
        with atomic_file(json_file) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        draw_timeline(self, picture)
        return [csv_file, json_file, picture]
