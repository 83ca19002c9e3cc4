"""Readers of phase and tool annotation files, for the formats that several data sets have in common."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .annotation_files import as_integer, by_name, by_number, class_id, read_frame_table, read_table
from .info import AnnotationError, Label
from .label_tracks import RowTrack

CHOLECYSTECTOMY_TOOLS = ("Grasper", "Bipolar", "Hook", "Scissors", "Clipper", "Irrigator", "SpecimenBag")
CHOLECYSTECTOMY_PHASES = (
    "Preparation",
    "CalotTriangleDissection",
    "ClippingCutting",
    "GallbladderDissection",
    "GallbladderPackaging",
    "CleaningCoagulation",
    "GallbladderRetraction",
)
TOOLS = Label("classes", CHOLECYSTECTOMY_TOOLS)


def phase(names: Sequence[str]) -> Label:
    """Return the label column of a phase data set."""
    return Label("class", tuple(names))


def named_phases(
    path: Path,
    names: Sequence[str] | Mapping[str, int],
    rate: float | None,
    *,
    header: bool = True,
    delimiter: str | None = None,
) -> RowTrack:
    """Read rows `frame name`, whose frames count from 0 without a gap.

    Args:
        path: annotation file.
        names: names of the classes, or the number of each name.
        rate: rows per second; `None` means one row per source frame.
        header, delimiter: arguments of `read_table`.
    """
    ids = names if isinstance(names, Mapping) else by_name(names)
    rows = read_frame_table(path, header=header, delimiter=delimiter)
    return RowTrack([{"phase": class_id(path, line.number, line.cells[1], ids)} for line in rows], rate)


def counted_phases(
    path: Path,
    classes: int,
    rate: float | None,
    *,
    column: str = "phase",
    first_frame: int = 0,
    first_class: int = 0,
    header: bool = True,
    delimiter: str | None = None,
) -> RowTrack:
    """Read rows `frame number-of-the-class`, whose frames count without a gap.

    Args:
        path: annotation file.
        classes: number of classes.
        rate: rows per second; `None` means one row per source frame.
        column: label column of the result.
        first_frame: number of the first frame in the file.
        first_class: number of the first class in the file.
        header, delimiter: arguments of `read_table`.
    """
    ids = by_number(classes, first_class)
    rows = read_frame_table(path, first=first_frame, header=header, delimiter=delimiter)
    return RowTrack(
        [{column: class_id(path, line.number, as_integer(path, line.number, line.cells[1]), ids)} for line in rows],
        rate,
    )


def tools_each_second(path: Path, step: int = 25) -> RowTrack:
    """Read rows `frame 0/1 0/1 …` with a column per tool and a row per second.

    Args:
        path: annotation file.
        step: source frames between two rows.
    """
    rows = []
    for expected, line in enumerate(read_table(path, 1 + len(CHOLECYSTECTOMY_TOOLS), header=True)):
        frame, *present = (as_integer(path, line.number, cell) for cell in line.cells)
        if frame != expected * step or not set(present) <= {0, 1}:
            raise AnnotationError(
                f"{path}:{line.number} is {' '.join(line.cells)}; frame {expected * step} and zeros or ones are "
                "expected"
            )
        rows.append({"tools": [tool for tool, there in enumerate(present) if there]})
    return RowTrack(rows, 1.0, exact=False)
