"""The result of predicting a video: probabilities for each second, and the segments that follow from them."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...modeling.video_frames_surgvista import Deinterlace
from ...util.errors import InputError
from .redaction import OutOfBodyMask

FORMATS = {
    "csv": "predictions.csv",
    "json": "predictions.json",
    "png": "timeline.png",
    "svg": "timeline.svg",
    "vtt": "chapters.vtt",
    "eaf": "annotations.eaf",
    "html": "report.html",
    "mp4": "annotated.mp4",
}
Video = str | os.PathLike[str] | bytes
DEFAULT_FORMATS = ("csv", "json", "png")
UNFAMILIAR_LABEL = "unlike the training videos"
_ACTIVE = 0.5  # probability above which an independent class counts as found
UNFAMILIAR_VIDEO = 0.2  # fraction of seconds from which on a whole video is remarked on; 5 % of them may be by chance


@dataclass(frozen=True)
class Segment:
    """A run of seconds with the same label.

    Args:
        start: first second of the segment.
        end: time in seconds at which the next segment begins.
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
        seconds: (steps,) ascending times from the start of the video.
        probabilities: (steps, classes) probabilities. They sum to 1 in a step unless `multi_label`.
        class_names: names of the classes.
        multi_label: classes are independent of each other.
        out_of_body_mask: times that must not be shown; `None`: the predictor had no detector.
        unfamiliarity: (steps,) scores of how unlike the training videos the last seconds up to each step are; 1 is the limit
            of what held-out training videos look like. `None`: unknown, no summary of the training videos was saved with the
            model.
        remarks: sentences on what was done to the frames and what is missing; `VideoReader.remarks`.
        deinterlace: the setting that the frames were read with; the argument of `VideoReader`.
        dtype: precision that the model computed in, see `ClipModel.dtype`.
        every: seconds from one prediction to the next; those in between hold it.

    Example:
        >>> rows = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
        >>> prediction = VideoPrediction("operation.mp4", np.arange(3.0), rows, ["Preparation", "Dissection"])
        >>> [(each.label, each.start, each.end) for each in prediction.segments]
        [('Preparation', 0.0, 2.0), ('Dissection', 2.0, 3.0)]
    """

    video: str
    seconds: np.ndarray
    probabilities: np.ndarray
    class_names: list[str]
    multi_label: bool = False
    out_of_body_mask: OutOfBodyMask | None = None
    unfamiliarity: np.ndarray | None = None
    remarks: tuple[str, ...] = ()
    deinterlace: Deinterlace = "auto"
    dtype: str = "float32"
    every: int = 1

    def redacted(self, pixels: np.ndarray, second: float) -> np.ndarray:
        """Return the image (height, width, 3), uint8, of a time as it may be shown; see `OutOfBodyMask.redacted`."""
        return pixels if self.out_of_body_mask is None else self.out_of_body_mask.redacted(pixels, second)

    @property
    def labels(self) -> np.ndarray:
        """Return the index of the most probable class of each step, (steps,)."""
        return self.probabilities.argmax(axis=1)

    @property
    def unfamiliar(self) -> np.ndarray | None:
        """Return whether each step is unlike the videos that the model was trained on, (steps,) bool; `None`: unknown."""
        return None if self.unfamiliarity is None else self.unfamiliarity > 1

    @property
    def unfamiliar_fraction(self) -> float | None:
        """Return the fraction of the steps that are unlike the training videos, 0-1; `None`: unknown."""
        return None if self.unfamiliar is None else float(self.unfamiliar.mean())

    @property
    def unfamiliar_spans(self) -> list[tuple[float, float]]:
        """Return [start, end) in seconds of each stretch unlike the training videos, in order; empty where that is unknown."""
        if self.unfamiliar is None:
            return []
        return [self._span(a, b) for a, b in self._runs(self.unfamiliar) if self.unfamiliar[a]]

    @property
    def remark(self) -> str | None:
        """Return a sentence of warning where more of the video is unlike the training videos than chance explains."""
        fraction = self.unfamiliar_fraction
        if fraction is None or fraction < UNFAMILIAR_VIDEO:
            return None
        return (
            f"{self.video} is unlike what the model was trained on in {fraction:.0%} of its seconds: its confidence means "
            "nothing there"
        )

    @property
    def familiarity_text(self) -> str:
        """Return a sentence on whether the video is like those that the model was trained on."""
        fraction = self.unfamiliar_fraction
        if fraction is None:
            return (
                "Whether the video is like those that the model was trained on is unknown: no summary of them was saved "
                "with it."
            )
        return (
            self.remark
            or f"{fraction:.0%} of the seconds are unlike what the model was trained on; 5 % may be by chance."
        )

    @property
    def segments(self) -> list[Segment]:
        """Return the runs of the most probable class, in order."""
        labels = self.labels
        return [self._segment(a, b, int(labels[a]), self.class_names[labels[a]]) for a, b in self._runs(labels)]

    @property
    def missing(self) -> list[tuple[float, float]]:
        """Return [start, end) in seconds of each stretch that has no prediction, since the video is damaged there."""
        ends = self.seconds + self.step
        return [
            (float(end), float(start))
            for end, start in zip(ends[:-1], self.seconds[1:], strict=True)
            if start - end > self.step / 2
        ]

    @property
    def step(self) -> float:
        """Return the seconds between two predictions where none is missing."""
        return float(np.diff(self.seconds).min()) if len(self.seconds) > 1 else 1.0

    def regular_rows(self) -> np.ndarray:
        """Return the row of the prediction for every step of the video, (regular steps,); -1 where there is none."""
        steps = np.round((self.seconds - self.seconds[0]) / self.step).astype(int)
        rows = np.full(steps[-1] + 1, -1)
        rows[steps] = np.arange(len(steps))
        return rows

    def spans(self, labels: np.ndarray) -> list[tuple[float, float, int]]:
        """Return start and end in seconds and the class of each run of equal labels (steps,); a gap in time ends a run."""
        return [(*self._span(a, b), int(labels[a])) for a, b in self._runs(labels)]

    def _runs(self, values: np.ndarray) -> list[tuple[int, int]]:
        """Return the rows [first, end) of each run of equal values without a gap in time."""
        gaps = np.diff(self.seconds) > 1.5 * self.step
        starts = np.flatnonzero(np.r_[True, (values[1:] != values[:-1]) | gaps])
        return list(zip(starts.tolist(), [*starts[1:].tolist(), len(values)], strict=True))

    def tiers(self) -> dict[str, list[Segment]]:
        """Return tiers of segments for annotation tools: one `prediction`, or one for each independent class that was found.

        A class counts as found where its probability is above 0.5.
        """
        if not self.multi_label:
            return {"prediction": self.segments}
        found = {}
        for number, name in enumerate(self.class_names):
            active = self.probabilities[:, number] > _ACTIVE
            if active.any():
                found[name] = [self._segment(a, b, number, name) for a, b in self._runs(active) if active[a]]
        return found

    def unfamiliar_tier(self) -> dict[str, list[Segment]]:
        """Return what is unlike the training videos as a tier of its own; no tier where nothing is or where it is unknown."""
        label = UNFAMILIAR_LABEL
        spans = [Segment(start, end, label, 1.0) for start, end in self.unfamiliar_spans]
        return {label: spans} if spans else {}

    def _segment(self, first: int, end: int, number: int, name: str) -> Segment:
        start, over = self._span(first, end)
        return Segment(start, over, name, float(self.probabilities[first:end, number].mean()))

    def _span(self, first: int, end: int) -> tuple[float, float]:
        """Return when a run of rows begins and ends in seconds: at the next row, or a step after its last one before a gap."""
        over = self.seconds[end - 1] + self.step
        if end < len(self.seconds) and self.seconds[end] - over < self.step / 2:
            over = self.seconds[end]
        return float(self.seconds[first]), float(over)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the JSON file.

        Returns:
            `video`, `class_names`, `multi_label`, `unfamiliar` (fraction and spans, or `"unknown"`), `remark`, `segments`
            (none where classes are independent) and `per_second`; where there are any, also `redacted` and `missing`, spans
            [start, end) in seconds, and `remarks`; `dtype` and `every` where they are not float32 and 1.
        """
        per_second = [
            {
                "second": round(float(second), 3),
                "label": self.class_names[row.argmax()],
                "confidence": round(float(row.max()), 6),
                "unfamiliar": None if score is None else bool(score > 1),
                "unfamiliarity": None if score is None else round(float(score), 4),
                "probabilities": [round(float(value), 6) for value in row],
            }
            for second, row, score in zip(self.seconds, self.probabilities, self.scores, strict=True)
        ]
        segments = [] if self.multi_label else [vars(segment) for segment in self.segments]
        return {
            "video": self.video,
            "class_names": self.class_names,
            "multi_label": self.multi_label,
            **({} if self.out_of_body_mask is None else {"redacted": self.out_of_body_mask.spans}),
            "unfamiliar": "unknown"
            if self.unfamiliar is None
            else {"fraction": round(float(self.unfamiliar.mean()), 4), "spans": self.unfamiliar_spans},
            "remark": self.remark,
            **({"missing": self.missing} if self.missing else {}),
            **({"remarks": list(self.remarks)} if self.remarks else {}),
            **({"dtype": self.dtype} if self.dtype != "float32" else {}),
            **({"every": self.every} if self.every > 1 else {}),
            "segments": segments,
            "per_second": per_second,
        }

    @property
    def scores(self) -> list[float | None]:
        """Return `unfamiliarity` as a list, with `None` for each step where it is unknown."""
        return [None] * len(self.seconds) if self.unfamiliarity is None else self.unfamiliarity.tolist()

    def save(
        self,
        folder: str | Path,
        formats: Collection[str] = DEFAULT_FORMATS,
        *,
        video: str | os.PathLike[str] | bytes | None = None,
        model_info: Mapping[str, str] | None = None,
    ) -> list[Path]:
        """Write the prediction for programs, players, annotation tools and people.

        Args:
            folder: output folder, made if needed; files of an earlier run are replaced.
            formats: any of `csv`, `json`, `png` and `svg` (timeline), `vtt` (chapters), `eaf` (ELAN), `html` (report), and
                `mp4` (annotated video).
            video: the file that was predicted; `mp4` needs it, and `html` has no images without it.
            model_info: description of the model for the report, the result of `ClipModel.describe`.

        Returns:
            The files that were written.

        Raises:
            InputError: there is no such format, or `mp4` is requested without the video.
            OutputError: the folder cannot be made.
        """
        check_formats(formats)
        if "mp4" in formats and video is None:
            raise InputError("an annotated video needs the video")
        files = {name: Path(folder) / file for name, file in FORMATS.items() if name in formats}
        for name, file in files.items():
            _WRITERS[name](self, file, video, model_info or {})
        return list(files.values())


def check_formats(formats: Collection[str]) -> None:
    """Raise `InputError` for an unknown format."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise InputError(f"there is no format {unknown[0] if unknown else ''!r}; there are {', '.join(FORMATS)}")


Writer = Callable[[VideoPrediction, Path, Video | None, Mapping[str, str]], None]
_WRITERS: dict[str, Writer] = {}


def register_writers(writers: Mapping[str, Writer]) -> None:
    """Register the functions that `VideoPrediction.save` writes files with; `inference.writers.save_predictions` calls it.

    Predictions are data and import no writer, so that writers can import predictions.

    Args:
        writers: a function for each of `FORMATS`. It takes the prediction, the path of the file, the video that was predicted
            (or `None`), and the description of the model.
    """
    _WRITERS.update(writers)
