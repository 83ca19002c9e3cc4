"""Reading of predictions of any program from files, so that they can be compared with labels.

Formats: the files of `surgvista predict` (CSV, JSON, ELAN), tables with a row for each moment or interval (as
`datasets_scripts.own_labels.phase_files` reads them), tables with a column for each class, and NumPy arrays and JSON lists
with a row for each second. Where several classes may hold at once (instruments, triplets), rows may be lists
of classes, intervals may overlap, and an ELAN file may have a tier for each class.
"""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets_scripts.own_labels.phase_files import SUFFIXES, PhaseSpans, read_label_spans, read_phase_file
from ..datasets_scripts.schema.annotation_files import read_text
from ..datasets_scripts.schema.info import AnnotationError
from ..util.errors import InputError
from ..util.file_search import walk
from ..util.messages import preview

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
        spacing: seconds between two rows of a file that has no times of its own, such as an array; otherwise `None`.
        is_numbered: whether the file tells classes by their number only, so that it depends on the order of the names.
    """

    path: Path
    seconds: np.ndarray
    scores: np.ndarray
    are_probabilities: bool
    hold: float
    spacing: float | None = None
    is_numbered: bool = False

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


def read_predictions(
    path: Path, names: Sequence[str], *, every: float | None = None, multi_label: bool = False
) -> PredictedVideo:
    """Read the predictions of one video.

    Args:
        path: file in one of the formats of this module.
        names: names of the classes.
        every: seconds between two rows of an array, 1 by default; and between two frames in tables that count frames.
        multi_label: whether several classes may hold at once.

    Raises:
        InputError: the file cannot be understood, or holds other classes.
    """
    suffix = path.suffix.lower()
    step = 1.0 if every is None else every
    if suffix == ".npy":
        return _from_array(path, _load_array(path), names, step, multi_label)
    if suffix == ".json":
        return _from_json(path, names, step, multi_label)
    if suffix in (".csv", ".tsv", ".txt"):
        header = _header(path)
        columns = [cell[2:-1] for cell in header if cell.startswith("p(") and cell.endswith(")")]
        if suffix == ".csv" and columns:
            return _from_csv(path, columns, names)
        if has_class_columns(path, names):
            return _from_class_columns(path, header, names, every)
    if suffix not in SUFFIXES:
        raise InputError(f"{path} holds no predictions that are known here ({', '.join(KNOWN)})")
    if multi_label:
        return _from_overlapping_spans(path, names, every)
    return _from_spans(read_phase_file(path), names, every)


# ------------------------------------------------------------------------------------------- arrays


def _load_array(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a NumPy array of numbers: {error}") from error


def _from_array(
    path: Path, values: np.ndarray, names: Sequence[str], every: float, multi_label: bool
) -> PredictedVideo:
    seconds = np.arange(len(values)) * every
    whole = np.issubdtype(values.dtype, np.integer) or values.dtype == bool
    if values.ndim == 2 and values.shape[1] == len(names) and len(values):
        if np.issubdtype(values.dtype, np.floating):
            if not np.isfinite(values).all():
                raise InputError(f"{path} holds scores that are infinite or not a number")
            graded = _is_graded(values, multi_label)
            return PredictedVideo(path, seconds, values.astype(np.float64), graded, 1.5 * every, every, True)
        if whole and np.isin(values, (0, 1)).all() and (multi_label or (values.sum(axis=1) == 1).all()):
            return PredictedVideo(path, seconds, values.astype(np.float64), False, 1.5 * every, every, True)
    if values.ndim == 1 and np.issubdtype(values.dtype, np.integer) and len(values) and not multi_label:
        return PredictedVideo(path, seconds, _one_hot(path, values, len(names)), False, 1.5 * every, every, True)
    expected = f"scores or 0 and 1 (steps, {len(names)})"
    raise InputError(
        f"{path} holds {values.dtype} of shape {values.shape}; expected are "
        + (expected if multi_label else f"class numbers (steps,) or {expected}, with a single 1 in a row")
    )


def _is_graded(values: np.ndarray, multi_label: bool) -> bool:
    """Return whether numbers are scores; zeros and ones of several classes are choices."""
    return not (multi_label and np.isin(values, (0, 1)).all())


def _one_hot(path: Path, classes: np.ndarray, count: int) -> np.ndarray:
    if classes.min() < 0 or classes.max() >= count:
        raise InputError(f"{path} holds classes {classes.min()} … {classes.max()}; there are {count}, from 0")
    return np.eye(count)[classes]


def _multi_hot(path: Path, rows: Sequence[Sequence[Any]], names: Sequence[str]) -> np.ndarray:
    """Return (steps, classes) zeros and ones of lists of class names or numbers."""
    numbers = {name: number for number, name in enumerate(names)}
    found = np.zeros((len(rows), len(names)))
    for step, row in enumerate(rows):
        for entry in row:
            number = numbers.get(entry) if isinstance(entry, str) else entry
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(names):
                raise InputError(
                    f"{path}: row {step} holds {entry!r}, which is no class; known are {preview(list(names))}"
                )
            found[step, number] = 1
    return found


# ------------------------------------------------------------------------------------------- tables and JSON


def has_class_columns(path: Path, names: Sequence[str]) -> bool:
    """Return whether a text file is a table with a column for each of these classes.

    Args:
        path: file of predictions or labels.
        names: names of the classes.
    """
    return path.suffix.lower() in (".csv", ".tsv", ".txt") and set(names) <= set(_header(path))


def _header(path: Path) -> list[str]:
    """Return the cells of the first line of a text file."""
    first = next((line for line in read_text(path).splitlines() if line.strip()), "")
    return [cell.strip() for cell in next(csv.reader([first], delimiter=_delimiter(first)), [])]


def _delimiter(first: str) -> str:
    return next((mark for mark in "\t;," if mark in first), ",")


def _from_csv(path: Path, classes: Sequence[str], names: Sequence[str]) -> PredictedVideo:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    try:
        seconds = np.array([float(row["second"]) for row in rows])
        scores = np.array([[float(row[f"p({name})"]) for name in classes] for row in rows])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no table as `surgvista predict` writes it: {error}") from error
    return _reorder_classes(path, classes, names, seconds, scores)


def _from_class_columns(
    path: Path, header: Sequence[str], names: Sequence[str], every: float | None
) -> PredictedVideo:
    """Read a table with a column for each class, of scores or of 0 and 1, and one for the time."""
    others = [cell for cell in header if cell not in names]
    frames = [cell for cell in others if re.fullmatch(r"frames?(_?(index|id|number|no))?", cell.lower())]
    times = [cell for cell in others if re.fullmatch(r"(time|second|timestamp|t)s?(_?s(ec)?)?", cell.lower())]
    if not times and (not frames or every is None):
        found = f"counts frames ({frames[0]})" if frames else f"has the columns {preview(list(header))}"
        raise InputError(
            f"{path} {found}; predictions are compared by seconds: a column second, or frame with --every, the seconds "
            "between two frames"
        )
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    rows = list(csv.DictReader(lines, fieldnames=header, delimiter=_delimiter(lines[0])))[1:]
    try:
        time = np.array([float(row[(times or frames)[0]]) for row in rows])
        scores = np.array([[float(row[name]) for name in names] for row in rows])
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path} holds something else than numbers in a column of times or classes: {error}"
        ) from error
    if not len(rows) or not np.isfinite(scores).all() or (np.diff(time) <= 0).any():
        raise InputError(f"{path} has no rows, numbers that are not finite, or times that do not ascend")
    seconds = time if times else time * float(every or 1)
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1.0
    return PredictedVideo(path, seconds, scores, not np.isin(scores, (0, 1)).all(), 1.5 * step)


def _from_json(path: Path, names: Sequence[str], every: float, multi_label: bool) -> PredictedVideo:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, list):
            return _from_list(path, content, names, every, multi_label)
        seconds = np.array([row["second"] for row in content["per_second"]], np.float64)
        scores = np.array([row["probabilities"] for row in content["per_second"]], np.float64)
        classes = list(content["class_names"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no predictions as `surgvista predict` writes them: {error!r}") from error
    return _reorder_classes(path, classes, names, seconds, scores)


def _from_list(
    path: Path, content: list[Any], names: Sequence[str], every: float, multi_label: bool
) -> PredictedVideo:
    """Read a list with an entry for each step: a class, scores of all classes, or a list of the classes that hold."""
    scored = all(isinstance(row, list) and len(row) == len(names) for row in content)
    numbers = scored and all(isinstance(value, (int, float)) for row in content for value in row)
    # Lists as long as there are classes are rows of scores, unless something else than 0 to 1 stands there.
    if numbers and all(0 <= value <= 1 for row in content for value in row):
        return _from_array(path, np.asarray(content, np.float64 if multi_label else None), names, every, multi_label)
    if multi_label and all(isinstance(row, list) for row in content) and content:
        seconds, scores = np.arange(len(content)) * every, _multi_hot(path, content, names)
        numbered = any(not isinstance(entry, str) for row in content for entry in row)
        return PredictedVideo(path, seconds, scores, False, 1.5 * every, every, numbered)
    if content and not multi_label and all(isinstance(entry, str) for entry in content):
        single = _multi_hot(path, [[entry] for entry in content], names)
        return PredictedVideo(path, np.arange(len(content)) * every, single, False, 1.5 * every, every)
    return _from_array(path, np.asarray(content), names, every, multi_label)


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


# ------------------------------------------------------------------------------------------- intervals


def _rate(file: PhaseSpans, every: float | None) -> float:
    """Return the units per second of the times of a file.

    Raises:
        InputError: they are frames, and nobody said how long a frame is.
    """
    if file.rate is not None:
        return file.rate
    if every is None:
        raise InputError(
            f"{file.path} counts frames of the video; predictions are compared by seconds: say with --every how many seconds "
            "lie between two frames"
        )
    return 1 / every


def _from_spans(file: PhaseSpans, names: Sequence[str], every: float | None) -> PredictedVideo:
    """Return intervals as a row where each begins and ends; what no interval covers has no prediction (NaN)."""
    rate = _rate(file, every)
    try:
        track = file.track(names)
    except AnnotationError as error:
        raise InputError(str(error)) from error
    units = sorted({end for span in file.spans for end in (span.start, span.stop)})
    if not units:
        raise InputError(f"{file.path} has no rows")
    scores = np.full((len(units), len(names)), np.nan)
    for number, unit in enumerate(units):
        row = track.at(unit / (file.rate or 1.0), 1.0)
        if row:
            scores[number] = np.eye(len(names))[row["phase"]]
    numbered = any(span.label not in names and span.label.isdigit() for span in file.spans)
    return PredictedVideo(file.path, np.array(units) / rate, scores, False, np.inf, is_numbered=numbered)


def _from_overlapping_spans(path: Path, names: Sequence[str], every: float | None) -> PredictedVideo:
    """Return intervals of classes that may hold at once; a class does not hold where no interval of it is.

    In ELAN files a class is the annotation's text, or the name of its tier. Tiers without any class are left out.
    """
    numbers = {name: number for number, name in enumerate(names)}
    spans: list[tuple[float, float, int]] = []
    strange: list[str] = []
    for tier, file in read_label_spans(path).items():
        rate = _rate(file, every)
        for span in file.spans:
            name = span.label if span.label in numbers else tier
            if name in numbers:
                spans.append((span.start / rate, span.stop / rate, numbers[name]))
            elif not (tier or span.is_unlabeled):
                raise InputError(
                    f"{path}:{span.line} holds {span.label!r}, which is no class; known are {preview(list(names))}"
                )
            else:
                strange.append(span.label or tier)
    if strange and not spans:
        raise InputError(
            f"{path} holds {preview(sorted(set(strange)))} and none of the classes {preview(list(names))}"
        )
    seconds = np.array(sorted({0.0} | {end for start, stop, _ in spans for end in (start, stop)}))
    scores = np.zeros((len(seconds), len(names)))
    for start, stop, number in spans:
        scores[(seconds >= start) & (seconds < stop), number] = 1
    return PredictedVideo(path, seconds, scores, False, np.inf)
