"""What the phase (and tool) annotation files of several data sets have in common."""

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
    """The label column of a phase data set."""
    return Label("class", tuple(names))


def named_phases(
    path: Path,
    names: Sequence[str] | Mapping[str, int],
    rate: float | None,
    *,
    header: bool = True,
    delimiter: str | None = None,
) -> RowTrack:
    """Rows `frame name`, one per source frame from 0."""
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
    """Rows `frame number-of-the-class`, one per frame."""
    ids = by_number(classes, first_class)
    rows = read_frame_table(path, first=first_frame, header=header, delimiter=delimiter)
    return RowTrack(
        [{column: class_id(path, line.number, as_integer(path, line.number, line.cells[1]), ids)} for line in rows],
        rate,
    )


def tools_each_second(path: Path, step: int = 25) -> RowTrack:
    """Rows `frame 0/1 0/1 …` with one column a tool, one row per second, frames counted at the source rate."""
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
