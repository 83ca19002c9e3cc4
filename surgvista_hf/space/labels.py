"""Labels of visitors of the web demo: reading of a file that nobody trusts, and segments that a visitor corrected."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ..datasets_scripts.own_labels.phase_files import PhaseSpans, read_phase_file
from ..inference.prediction.prediction import Segment, VideoPrediction
from ..util.errors import InputError, SurgVistaError
from ..util.messages import preview

# Excel is left out: its files are archives, which a small upload can blow up.
LABEL_SUFFIXES = (".csv", ".tsv", ".txt", ".eaf")
SEGMENT_HEADERS = ["start", "end", "class"]
CORRECTED_TIER = "phase"
_LARGEST = 2_000_000  # bytes; three hours with a row for each frame are less
_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d+)?)")


def read_labels(path: Path) -> PhaseSpans:
    """Read the labels that a visitor uploaded.

    Args:
        path: `.csv`, `.tsv` or `.txt` table, or an annotation document of ELAN; see `read_phase_file`.

    Raises:
        InputError: it is another kind of file, it is too large, or it cannot be understood; the message calls it by its name.
    """
    if path.suffix.lower() not in LABEL_SUFFIXES:
        raise InputError(f"{path.name} is no file of labels; those end in {', '.join(LABEL_SUFFIXES)}")
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path.name} has more than {_LARGEST // 1_000_000} MB; labels of one video are smaller")
        if b"<!ENTITY" in path.read_bytes():
            raise InputError(f"{path.name} defines entities of its own, which ELAN never writes")
        return read_phase_file(path)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}") from error
    except SurgVistaError as error:
        raise InputError(str(error).replace(str(path), path.name)) from error


def segment_rows(prediction: VideoPrediction) -> list[list[str]]:
    """Return the segments of a prediction as rows of start, end and class, in the order of time."""
    segments = [segment for tier in prediction.tiers().values() for segment in tier]
    return [
        [exact_clock(each.start), exact_clock(each.end), each.label]
        for each in sorted(segments, key=lambda each: (each.start, each.end))
    ]


def corrected_tiers(rows: Sequence[Sequence[object]], prediction: VideoPrediction) -> dict[str, list[Segment]]:
    """Check the rows that a visitor edited, and return them as tiers.

    Args:
        rows: start, end and class of each segment; empty rows do not count.
        prediction: the prediction that they correct.

    Returns:
        One tier `phase`, or one for each independent class, with segments in the order of time.

    Raises:
        InputError: a row has no time or no class of the model, ends before it begins or after the video, or overlaps with
            another; there are no rows. The message names the row.
    """
    names = {name.casefold(): name for name in prediction.class_names}
    last = float(prediction.seconds[-1]) + prediction.step
    found: dict[str, list[tuple[int, Segment]]] = {}
    for number, row in enumerate(rows, 1):
        start, end, label = ["" if cell is None else str(cell).strip() for cell in (*row, "", "", "")[:3]]
        if not (start or end or label):
            continue
        if label.casefold() not in names:
            known = preview(prediction.class_names, shown=12)
            raise InputError(f"row {number}: {label!r} is no class of the model; its classes are {known}")
        segment = Segment(_seconds(start, number), _seconds(end, number), names[label.casefold()], 1.0)
        if segment.end <= segment.start:
            raise InputError(f"row {number}: the segment begins at {start} and ends at {end}; it must end later")
        if segment.end > last + 0.5:
            raise InputError(f"row {number} ends at {end}; the video ends at {exact_clock(last)}")
        found.setdefault(segment.label if prediction.multi_label else CORRECTED_TIER, []).append((number, segment))
    if not found:
        raise InputError("there are no segments: every row is empty")
    return {tier: _without_overlap(segments) for tier, segments in found.items()}


def _without_overlap(numbered: list[tuple[int, Segment]]) -> list[Segment]:
    """Return segments in the order of time, and refuse two that overlap."""
    numbered = sorted(numbered, key=lambda each: (each[1].start, each[1].end))
    for (first, before), (second, after) in pairwise(numbered):
        if after.start < before.end - 1e-6:
            raise InputError(
                f"rows {first} and {second} overlap: {before.label} ends at {exact_clock(before.end)}, {after.label} begins "
                f"at {exact_clock(after.start)}"
            )
    return [segment for _, segment in numbered]


def _seconds(text: str, row: int) -> float:
    """Convert `1:02:03.5`, `2:03` or `123.5` to seconds, rounded to the millisecond that ELAN keeps."""
    match = _CLOCK.fullmatch(text)
    if not match:
        raise InputError(f"row {row}: {text!r} is no time; write 1:02:03, 2:03 or 2:03.500")
    hours, minutes, seconds = match[1] or 0, match[2] or 0, match[3].replace(",", ".")
    return round(3600 * int(hours) + 60 * int(minutes) + float(seconds), 3)


def exact_clock(second: float) -> str:
    """Return a time as minutes and seconds, to the millisecond where it is no whole second.

    Example:
        >>> exact_clock(75), exact_clock(3675.25)
        ('1:15', '1:01:15.250')
    """
    minutes, milliseconds = divmod(round(1000 * second), 60_000)
    seconds = f"{milliseconds // 1000:02d}" + (f".{milliseconds % 1000:03d}" if milliseconds % 1000 else "")
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds}" if minutes >= 60 else f"{minutes}:{seconds}"
