"""Tables with a row for each video: its patient, its hospital, the surgeon, from a text file or a spreadsheet."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...util.messages import did_you_mean, preview
from ...util.requirements import require
from .annotation_files import read_text
from .info import AnnotationError

_VIDEO = (
    "video",
    "video_id",
    "videoid",
    "video_name",
    "file",
    "file_name",
    "filename",
    "operation",
    "case",
    "id",
    "name",
)
Cells = dict[str, str]  # cells of a row by the name of the column


def read_video_table(path: Path, videos: Iterable[str]) -> dict[str, dict[str, str]]:
    r"""Read what a table says of each video of a frame set.

    Args:
        path: `.csv`, `.tsv` or `.txt` with commas, semicolons or tabs, or `.xlsx`. The first row names the columns. The
            column that names the video is called `video`, `video_id`, `file`, … or is the first one; a path and the suffix of
            a file may stand there.
        videos: ids of the videos. Rows of other videos are ignored.

    Returns:
        Text of each cell, by column and video id.

    Raises:
        AnnotationError: the table cannot be read, lacks a video, or has two rows of one.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "patients.csv"
        >>> _ = file.write_text("video;patient\nop1.mp4;p7\nop2.mp4;p7\n")
        >>> read_video_table(file, ["op1", "op2"])["patient"]
        {'op1': 'p7', 'op2': 'p7'}
    """
    rows = _excel_rows(path) if path.suffix.lower() == ".xlsx" else _text_rows(path)
    if len(rows) < 2:
        raise AnnotationError(f"{path} has no rows below its header")
    header = [cell.strip() for _, cells in rows[:1] for cell in cells]
    key = next((number for number, name in enumerate(header) if name.lower().replace(" ", "_") in _VIDEO), 0)
    found: dict[str, Cells] = {}
    lines: dict[str, int] = {}
    known = set(videos)
    for line, cells in rows[1:]:
        if len(cells) > len(header):
            raise AnnotationError(f"{path}:{line} has {len(cells)} cells, its header {len(header)}")
        named = cells[key].strip() if key < len(cells) else ""
        video = next((form for form in _forms(named) if form in known), None)
        if video is None:
            continue
        if video in found:
            raise AnnotationError(
                f"{path}:{line} is about {video}, and so is line {lines[video]}; one row a video is expected"
            )
        lines[video] = line
        found[video] = dict(zip(header, [*map(str.strip, cells), *[""] * (len(header) - len(cells))], strict=True))
    missing = sorted(known - set(found))
    if missing:
        first = next((cells[key] for _, cells in rows[1:] if key < len(cells)), "")
        raise AnnotationError(
            f"{path} has no row of {len(missing)} of {len(known)} videos: {preview(missing)}; the first cell of "
            f"its column {header[key]!r} is {first!r}"
        )
    return {name: {video: found[video][name] for video in sorted(found)} for name in header if name}


def table_column(path: Path, table: Mapping[str, Cells], name: str) -> Cells:
    """Return the cells of a column by video id.

    Args:
        path: path of the table, for messages.
        table: cells by column and video id, as `read_video_table` returns them.
        name: name of the column.

    Raises:
        AnnotationError: there is no such column, or a cell is empty.
    """
    if name not in table:
        hint = did_you_mean(name, table, f"it has {', '.join(table)}")
        raise AnnotationError(f"{path} has no column {name!r}; {hint}")
    empty = [video for video, value in table[name].items() if not value]
    if empty:
        raise AnnotationError(f"{path}: the column {name!r} is empty for {preview(empty)}")
    return table[name]


def _forms(named: str) -> list[str]:
    """Return the ids that a cell may mean: as it is, without the path, without the suffix, and as a spreadsheet's number."""
    last = named.replace("\\", "/").rpartition("/")[2]
    forms = [named, last]
    for form in (named, last):
        stem, dot, suffix = form.rpartition(".")
        if dot and stem and (suffix.isalnum() or suffix == "0"):
            forms.append(stem)
    return forms


def _text_rows(path: Path) -> list[tuple[int, list[str]]]:
    lines = read_text(path).splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = next((mark for mark in "\t;," if mark in first), ",")
    rows = csv.reader(lines, delimiter=delimiter)
    return [(rows.line_num, row) for row in rows if any(cell.strip() for cell in row)]


def _excel_rows(path: Path) -> list[tuple[int, list[str]]]:
    require("spreadsheet")
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl has no common error of its own
        raise AnnotationError(f"{path} is not a spreadsheet that openpyxl can read: {error}") from error
    rows = [
        (number, ["" if cell is None else str(cell) for cell in row])
        for number, row in enumerate(book.worksheets[0].iter_rows(values_only=True), 1)
        if any(cell is not None for cell in row)
    ]
    width = max((number + 1 for _, row in rows[:1] for number, cell in enumerate(row) if cell), default=0)
    return [(number, row[:width]) for number, row in rows]
