"""Reading of predictions of any program from files, so that they can be compared with labels.

Formats: the files of `surgvista predict` (CSV, JSON, ELAN), tables with a row for each moment or interval (as
`datasets_scripts.own_labels.phase_files` reads them), and NumPy arrays with a row for each second.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets_scripts.own_labels.phase_files import SUFFIXES, PhaseSpans, read_phase_file
from ..datasets_scripts.schema.info import AnnotationError
from ..util.errors import InputError
from ..util.file_search import walk

KNOWN = (".csv", ".json", ".npy", ".eaf", ".tsv", ".txt", ".xlsx")
_PREDICT_FILES = ("predictions.csv", "predictions.json", "annotations.eaf")  # the most exact first


@dataclass(frozen=True)
class PredictedVideo:
    """The predictions of a program for one video.

    Args:
        path: file that they were read from.
        seconds: (steps,) ascending times: each prediction holds until the next one, or for `hold` seconds.
        scores: (steps, classes) scores; NaN from where on nothing is predicted.
        are_probabilities: whether the scores are probabilities, and not a one for the chosen class.
        hold: longest time in seconds for which a prediction holds.
    """

    path: Path
    seconds: np.ndarray
    scores: np.ndarray
    are_probabilities: bool
    hold: float

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """Return the scores (moments, classes) that hold at times (moments,) in seconds.

        Raises:
            InputError: nothing was predicted for one of the times.
        """
        step = np.searchsorted(self.seconds, seconds + 1e-3, side="right") - 1  # -1: before the first prediction
        late = seconds - self.seconds[np.maximum(step, 0)] > self.hold
        lacking = (step < 0) | late | np.isnan(self.scores[np.maximum(step, 0)]).any(axis=1)
        if lacking.any():
            raise InputError(
                f"{self.path} predicts nothing for {lacking.sum()} of {len(seconds)} labeled moments, the first at second "
                f"{seconds[lacking][0]:g}; it covers {self.seconds[0]:g} to {self.seconds[-1]:g}"
            )
        return self.scores[step]


def find_predictions(folder: Path) -> dict[str, Path]:
    """Return the file with the predictions of each video, by the video's name without suffix.

    Args:
        folder: folder as `surgvista predict` fills it (a folder for each video), or with one file for each video; or one
            file.

    Raises:
        InputError: there are no predictions, or two files of one video.
    """
    if folder.is_file():
        return {_video_name(folder.stem): folder}
    found: dict[str, Path] = {}
    for path in sorted(here / name for here, _, files in walk(folder) for name in files):
        of_predict = path.name in _PREDICT_FILES
        note = path.name == "source.json" and any((path.parent / name).is_file() for name in _PREDICT_FILES)
        if (
            note
            or path.suffix.lower() not in KNOWN
            or not path.is_file()
            or path.name.startswith((".", "settings", "unreadable_"))
        ):
            continue
        name = _video_name((path.parent if of_predict else path.with_suffix("")).relative_to(folder).as_posix())
        if of_predict and name in found and found[name].parent == path.parent:
            found[name] = min(found[name], path, key=lambda file: _PREDICT_FILES.index(file.name))
            continue
        if name in found:
            raise InputError(f"{found[name]} and {path} both look like predictions of {name}; keep one of them")
        found[name] = path
    if not found:
        raise InputError(f"there are no predictions at {folder} ({', '.join(KNOWN)})")
    return found


def _video_name(name: str) -> str:
    """Return a name without the suffix of a video, if it has kept one."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and len(suffix) <= 4 and suffix.isalnum() and not suffix.isdigit() else name


def read_predictions(path: Path, names: Sequence[str], *, every: float = 1.0) -> PredictedVideo:
    """Read the predictions of one video.

    Args:
        path: file in one of the formats of this module.
        names: names of the classes.
        every: seconds between two rows of a NumPy array.

    Raises:
        InputError: the file cannot be understood, or holds other classes.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _from_array(path, _load_array(path), names, every)
    if suffix == ".json":
        return _from_json(path, names)
    if suffix == ".csv" and (columns := _probability_columns(path)):
        return _from_csv(path, columns, names)
    if suffix not in SUFFIXES:
        raise InputError(f"{path} holds no predictions that are known here ({', '.join(KNOWN)})")
    return _from_spans(read_phase_file(path), names)


def _load_array(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a NumPy array of numbers: {error}") from error


def _from_array(path: Path, values: np.ndarray, names: Sequence[str], every: float) -> PredictedVideo:
    if values.ndim == 2 and values.shape[1] == len(names) and np.issubdtype(values.dtype, np.floating):
        return PredictedVideo(path, np.arange(len(values)) * every, values.astype(np.float64), True, 1.5 * every)
    if values.ndim == 1 and np.issubdtype(values.dtype, np.integer) and len(values):
        return PredictedVideo(
            path, np.arange(len(values)) * every, _one_hot(path, values, len(names)), False, 1.5 * every
        )
    raise InputError(
        f"{path} holds {values.dtype} of shape {values.shape}; expected are class numbers (steps,) or scores "
        f"(steps, {len(names)})"
    )


def _one_hot(path: Path, classes: np.ndarray, count: int) -> np.ndarray:
    if classes.min() < 0 or classes.max() >= count:
        raise InputError(f"{path} holds classes {classes.min()} … {classes.max()}; there are {count}, from 0")
    return np.eye(count)[classes]


def _probability_columns(path: Path) -> list[str]:
    """Return the names of the classes whose probabilities a CSV of `predict` holds."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        header = next(csv.reader(stream), [])
    return [cell[2:-1] for cell in header if cell.startswith("p(") and cell.endswith(")")]


def _from_csv(path: Path, classes: Sequence[str], names: Sequence[str]) -> PredictedVideo:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    try:
        seconds = np.array([float(row["second"]) for row in rows])
        scores = np.array([[float(row[f"p({name})"]) for name in classes] for row in rows])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no table as `surgvista predict` writes it: {error}") from error
    return _reorder_classes(path, classes, names, seconds, scores)


def _from_json(path: Path, names: Sequence[str]) -> PredictedVideo:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, list):
            return _from_array(path, np.asarray(content), names, 1.0)
        seconds = np.array([row["second"] for row in content["per_second"]], np.float64)
        scores = np.array([row["probabilities"] for row in content["per_second"]], np.float64)
        classes = list(content["class_names"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no predictions as `surgvista predict` writes them: {error!r}") from error
    return _reorder_classes(path, classes, names, seconds, scores)


def _reorder_classes(
    path: Path, classes: Sequence[str], names: Sequence[str], seconds: np.ndarray, scores: np.ndarray
) -> PredictedVideo:
    """Return the predictions with the scores in the order of `names`."""
    missing = [name for name in names if name not in classes]
    if missing or not len(seconds):
        raise InputError(
            f"{path} has {'no rows' if not len(seconds) else 'no scores of the classes ' + ', '.join(missing)}; it has "
            f"{', '.join(classes)}"
        )
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1.0
    chosen = scores[:, [list(classes).index(name) for name in names]]
    return PredictedVideo(path, seconds, chosen, True, 1.5 * step)


def _from_spans(file: PhaseSpans, names: Sequence[str]) -> PredictedVideo:
    """Return intervals as a row where each begins and ends; what no interval covers has no prediction (NaN)."""
    if file.rate is None:
        raise InputError(f"{file.path} counts frames of the video; predictions are compared by seconds")
    try:
        track = file.track(names)
    except AnnotationError as error:
        raise InputError(str(error)) from error
    ends = sorted({end / file.rate for span in file.spans for end in (span.start, span.stop)})
    if not ends:
        raise InputError(f"{file.path} has no rows")
    scores = np.full((len(ends), len(names)), np.nan)
    for number, second in enumerate(ends):
        row = track.at(second, 1.0)
        if row:
            scores[number] = np.eye(len(names))[row["phase"]]
    return PredictedVideo(file.path, np.array(ends), scores, False, np.inf)
