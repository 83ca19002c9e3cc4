"""Reading published annotation files: tolerant of how they were saved, strict about their content.

Byte-order marks, Windows line ends, blank lines at the end and either blanks or tabs are accepted. A missing or additional
column, a cell that is no number, and a name that is not in the table raise an `AnnotationError` with file and line.
"""

import csv
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .info import AnnotationError

Key = TypeVar("Key", str, int)
_LARGEST_XML = 256 * 2**20  # bytes; the tree of a document takes about ten times as much memory


class Line(NamedTuple):
    """One line of a table: its number in the file and its cells."""

    number: int
    cells: list[str]


def read_text(path: Path) -> str:
    """Read the text of an annotation file.

    Raises:
        AnnotationError: the file cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(f"{path} cannot be read as text: {error}") from error


def read_class_list(path: Path, called: str = "class") -> list[str]:
    """Read the names of classes, one a line, in the order of their numbers.

    Args:
        path: text file, such as `classes.txt`.
        called: word for a class in the message.

    Raises:
        AnnotationError: the file is no text, names nothing, or names a class twice.
    """
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if len(set(names)) < len(names) or not names:
        raise AnnotationError(f"{path} must name each {called} once, one a line")
    return names


def read_table(path: Path, columns: int, *, header: bool, delimiter: str | None = None) -> Iterator[Line]:
    """Read the rows of a table with a fixed number of columns.

    Args:
        path: text file.
        columns: number of cells per row.
        header: `True` if the first line names the columns.
        delimiter: character between two cells; `None` means tabs or blanks.

    Yields:
        Rows without the header and without blank lines.

    Raises:
        AnnotationError: there are no rows, or a row has more or fewer cells.
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
    """Read the rows of a table whose header must name certain columns; others are ignored.

    Args:
        path: text file.
        columns: names of the columns that are needed.
        delimiter: character between two cells.

    Yields:
        Line number, and the cells by column.

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
    """Read the rows of a table whose first cell counts frames without a gap.

    Args:
        path, columns, header, delimiter: arguments of `read_table`.
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
    """Read a JSON file.

    Raises:
        AnnotationError: the content is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{path}:{error.lineno} is not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets in brackets
        raise AnnotationError(f"{path} is no JSON that can be read: {error}") from error


def read_xml(path: Path) -> ElementTree.Element:
    """Read an XML document and return its root.

    Raises:
        AnnotationError: the content is not XML, declares a document type, whose entities could expand without end, or is
            larger than 256 MiB.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size > _LARGEST_XML:
        raise AnnotationError(f"{path} has {size / 2**20:.0f} MiB; XML documents up to 256 MiB are read")
    text = read_text(path)
    if _has_document_type(text):
        raise AnnotationError(f"{path} declares a document type (<!DOCTYPE …>), which annotation tools do not write")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise AnnotationError(f"{path} is not XML: {error}") from error


def _has_document_type(text: str) -> bool:
    """Return whether a document type is declared; that can only stand before the first element."""
    position = 0
    while True:
        position = _skip_blanks(text, position)
        end = next((end for start, end in (("<?", "?>"), ("<!--", "-->")) if text.startswith(start, position)), None)
        if end is None:
            return text.startswith("<!DOCTYPE", position)
        stop = text.find(end, position + 2)
        if stop < 0:
            return False  # the parser says what is wrong
        position = stop + len(end)


def _skip_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def as_integer(path: Path, line: int, cell: str) -> int:
    """Convert a cell to a whole number (`17`, `17.0` and `1.7e+01` alike)."""
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if value != value or value != int(value):
        raise AnnotationError(f"{path}:{line} holds {cell!r} where a whole number is expected")
    return int(value)


def class_id(path: Path, line: int, value: Key, ids: Mapping[Key, int]) -> int:
    """Return the number of a class, from its name or number in the file."""
    if value not in ids:
        raise AnnotationError(f"{path}:{line} holds the label {value!r}; known are {_listed(ids)}")
    return ids[value]


def by_name(names: Sequence[str]) -> dict[str, int]:
    """Return the number of each class by its name."""
    return {name: number for number, name in enumerate(names)}


def by_number(classes: int, first: int = 0) -> dict[int, int]:
    """Return the number of each class by its number in the file, for files that count from `first`."""
    return {number + first: number for number in range(classes)}


def _listed(ids: Mapping[Key, int]) -> str:
    text = ", ".join(map(str, ids))
    return text if len(text) < 200 else f"{text[:200]}…"
