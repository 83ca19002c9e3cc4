"""Reading published annotation files: tolerant of how they were saved, strict about what they say.

Byte-order marks, Windows line ends, blank lines at the end and either blanks or tabs are accepted; a missing column, a further
one, a number that is none or a name that is not in the table is an `AnnotationError` with file and line.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .info import AnnotationError

Key = TypeVar("Key", str, int)


class Line(NamedTuple):
    """One line of a table: its number in the file and its cells."""

    number: int
    cells: list[str]


def read_text(path: Path) -> str:
    """The text of an annotation file.

    Raises:
        AnnotationError: it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path} cannot be read as text: {error}") from error


def read_table(path: Path, columns: int, *, header: bool, delimiter: str | None = None) -> Iterator[Line]:
    """The rows of a table with a fixed number of columns.

    Args:
        path: text file.
        columns: cells of a row.
        header: whether the first line names the columns.
        delimiter: `None`: tabs or blanks.

    Yields:
        Rows without the header and without blank lines.

    Raises:
        AnnotationError: no rows, or one with more or fewer cells.
    """
    lines = read_text(path).splitlines()
    split = (
        (lambda line: line.split())
        if delimiter is None
        else (lambda line: next(csv.reader([line], delimiter=delimiter)))
    )
    found = False
    for number, line in enumerate(lines[1:] if header else lines, start=2 if header else 1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in split(line)]
        if len(cells) != columns:
            raise AnnotationError(f"{path}:{number} has {len(cells)} columns, {columns} are expected: {line[:80]!r}")
        found = True
        yield Line(number, cells)
    if not found:
        raise AnnotationError(f"{path} has no rows")


def read_named_table(
    path: Path, columns: Sequence[str], *, delimiter: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table whose header must name these columns; further ones are ignored.

    Yields:
        Line number and the cells by column.

    Raises:
        AnnotationError: a column is missing, or there are no rows.
    """
    reader = csv.DictReader(read_text(path).splitlines(), delimiter=delimiter)
    names = [name.strip() for name in reader.fieldnames or ()]
    missing = [name for name in columns if name not in names]
    if missing:
        raise AnnotationError(f"{path} has the columns {names}; {missing} are missing")
    reader.fieldnames = names
    empty = True
    for number, cells in enumerate(reader, start=2):
        if any(cells[name] is None for name in columns):
            raise AnnotationError(f"{path}:{number} has fewer cells than its header")
        empty = False
        yield number, {name: cells[name].strip() for name in columns}
    if empty:
        raise AnnotationError(f"{path} has no rows")


def read_frame_table(
    path: Path, columns: int = 2, *, first: int = 0, header: bool = True, delimiter: str | None = None
) -> list[Line]:
    """Rows whose first cell counts frames without a gap.

    Args:
        path, columns, header, delimiter: as in `read_table`.
        first: number of the first frame.

    Returns:
        All rows.

    Raises:
        AnnotationError: a number is missing, repeated or out of order.
    """
    rows = list(read_table(path, columns, header=header, delimiter=delimiter))
    for expected, line in enumerate(rows, start=first):
        if as_integer(path, line.number, line.cells[0]) != expected:
            raise AnnotationError(f"{path}:{line.number} is about frame {line.cells[0]}, {expected} is expected")
    return rows


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        AnnotationError: it is none.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{path}:{error.lineno} is not JSON: {error.msg}") from error


def as_integer(path: Path, line: int, cell: str) -> int:
    """A cell as a whole number (`17`, `17.0` and `1.7e+01` alike)."""
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if value != value or value != int(value):
        raise AnnotationError(f"{path}:{line} holds {cell!r} where a whole number is expected")
    return int(value)


def class_id(path: Path, line: int, value: Key, ids: Mapping[Key, int]) -> int:
    """The number of a class, from its name or number in the file."""
    if value not in ids:
        raise AnnotationError(f"{path}:{line} holds the label {value!r}; known are {_shown(ids)}")
    return ids[value]


def by_name(names: Sequence[str]) -> dict[str, int]:
    """Name -> number."""
    return {name: number for number, name in enumerate(names)}


def by_number(classes: int, first: int = 0) -> dict[int, int]:
    """Number in the file -> number here, for files that count from `first`."""
    return {number + first: number for number in range(classes)}


def _shown(ids: Mapping[Any, int]) -> str:
    text = ", ".join(map(str, ids))
    return text if len(text) < 200 else f"{text[:200]}…"
