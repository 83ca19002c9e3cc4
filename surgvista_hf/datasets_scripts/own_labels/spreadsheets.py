"""Reading the cells of text files and Excel workbooks as text, each with its place in the file for messages.

Text may be UTF-8 (with or without a byte-order mark), UTF-16 or Windows-1252; cells are separated by tabs, semicolons,
commas, bars or blanks. Of a workbook every sheet is read. Cells that are merged all have the content of the merged cell.
"""

import csv
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ...util.requirements import require
from ..schema.annotation_files import Line
from ..schema.info import AnnotationError

if TYPE_CHECKING:
    from openpyxl.worksheet.worksheet import Worksheet

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
EXCEL_SUFFIXES = (".xlsx", ".xlsm")
_DELIMITERS = "\t;,|"
# Zero-width blanks and joiners, marks of direction, soft hyphens.
_INVISIBLE = dict.fromkeys((0xAD, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2060, 0xFEFF))
_SNIFFED_LINES = 50
_BLANK_HEADER = re.compile(
    r"\s*(?:[-+\d.:]+|frames?|seconds?|sec|time\w*|start\w*|begin\w*|from|onset|phase|label)\s", re.IGNORECASE
)


@dataclass(frozen=True)
class Table:
    """The rows of a text file, or of one sheet of a workbook, without empty ones.

    Args:
        path: path of the file.
        sheet: name of the sheet; empty for a text file.
        rows: number and cells of each row; cells at the end that are empty in all rows are left out.
    """

    path: Path
    sheet: str
    rows: tuple[Line, ...]

    @property
    def title(self) -> str:
        """Return the name of the table for messages: the file, and the sheet of a workbook."""
        return f"{self.path}, sheet {self.sheet!r}" if self.sheet else str(self.path)

    def cell(self, row: int, column: int | None = None) -> str:
        """Return the place of a cell for messages: its address in a workbook, the line of a text file.

        Args:
            row: number of the row, counted from 1.
            column: number of the column, counted from 0; `None` means the whole row.

        Example:
            >>> Table(Path("a.xlsx"), "op1", ()).cell(7, 2), Table(Path("a.csv"), "", ()).cell(7, 2)
            ("a.xlsx, sheet 'op1', cell C7", 'a.csv:7')
        """
        if not self.sheet:
            return f"{self.path}:{row}"
        return f"{self.title}, " + (f"row {row}" if column is None else f"cell {column_letters(column)}{row}")


def column_letters(number: int) -> str:
    """Return the letters by which spreadsheets call a column, which is counted from 0.

    Example:
        >>> column_letters(2), column_letters(26)
        ('C', 'AA')
    """
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def read_tables(path: Path) -> list[Table]:
    """Read a text file as one table, or every sheet of a workbook that is not empty.

    Args:
        path: file with one of the suffixes above.

    Raises:
        AnnotationError: the file is no text or no workbook, or holds no rows.
    """
    tables = list(_sheets(path)) if path.suffix.lower() in EXCEL_SUFFIXES else [_text_table(path)]
    tables = [table for table in tables if table.rows]
    if not tables:
        raise AnnotationError(f"{path} has no rows")
    return tables


def read_any_text(path: Path) -> str:
    """Read a text in UTF-8, UTF-16 or Windows-1252, whichever it is.

    Raises:
        AnnotationError: the file cannot be read, or is no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read as text: {error}") from error
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings = ["utf-16"]
    elif b"\0" in content[:2000]:  # UTF-16 without a mark: every other byte of Latin letters is zero
        encodings = ["utf-16-le" if content[1:2] == b"\0" else "utf-16-be"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise AnnotationError(f"{path} cannot be read as text: it is neither UTF-8 nor {' nor '.join(encodings[-1:])}")


def clean_text(text: str) -> str:
    r"""Return a text so that what looks equal is equal: composed letters, single plain blanks, and nothing invisible.

    Example:
        >>> clean_text(" tie\u00a0 off\u200b") == "tie off", len(clean_text("a\u0308"))
        (True, 1)
    """
    return " ".join(unicodedata.normalize("NFC", text).translate(_INVISIBLE).split())


# ------------------------------------------------------------------------------------------- text


def _text_table(path: Path) -> Table:
    lines = read_any_text(path).splitlines()
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not filled:
        return Table(path, "", ())
    delimiter = _delimiter([line for _, line in filled[:_SNIFFED_LINES]])
    if delimiter is None:  # the last column may hold blanks
        columns = len(filled[0][1].split())
        rows = [Line(number, line.split(maxsplit=columns - 1)) for number, line in filled]
        return Table(path, "", tuple(Line(row.number, [clean_text(cell) for cell in row.cells]) for row in rows))
    rows = [Line(number, [clean_text(cell) for cell in cells]) for number, cells in _records(path, lines, delimiter)]
    return Table(path, "", tuple(_trimmed(rows)))


def _records(path: Path, lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line of each record and its cells; a cell in quotes may go over several lines."""
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True, skipinitialspace=True)
    before = 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise AnnotationError(f"{path}:{before + 1} has a quotation mark that does not fit ({error})") from error
        yield before + 1, cells
        before = reader.line_num


def _delimiter(lines: Sequence[str]) -> str | None:
    """Return the character that divides the most lines into equally many cells; `None` means blanks."""
    present = [mark for mark in _DELIMITERS if mark in lines[0]]
    if not present and _BLANK_HEADER.match(lines[0]):  # otherwise a decimal comma would divide the lines below
        return None
    best, most = None, 0.0
    for mark in present or _DELIMITERS:
        try:
            widths = [len(cells) for cells in csv.reader(lines, delimiter=mark) if cells]
        except csv.Error:
            continue
        if max(widths, default=1) < 2 or (mark == "|" and best):
            continue
        width, count = Counter(widths).most_common(1)[0]
        score = count / len(lines) if width > 1 else 1.5 / len(lines)
        if score > most + 1e-9:
            best, most = mark, score
    return best


def _trimmed(rows: Sequence[Line]) -> list[Line]:
    """Leave out empty rows, and columns at the end that are empty in every row."""
    rows = [row for row in rows if any(row.cells)]
    width = max((number + 1 for row in rows for number, cell in enumerate(row.cells) if cell), default=0)
    return [Line(row.number, row.cells[:width]) for row in rows]


# ------------------------------------------------------------------------------------------- workbooks


def _sheets(path: Path) -> Iterator[Table]:
    require("spreadsheet")
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, data_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise AnnotationError(f"{path} is not a spreadsheet that openpyxl can read: {error}") from error
    except Exception as error:  # openpyxl has no common error of its own
        raise AnnotationError(f"{path} is not a spreadsheet that openpyxl can read: {error}") from error
    for sheet in book.worksheets:
        yield Table(path, sheet.title, tuple(_trimmed(list(_sheet_rows(sheet)))))


def _sheet_rows(sheet: "Worksheet") -> Iterator[Line]:
    merged = {
        (row, column): _cell_text(sheet.cell(area.min_row, area.min_col).value)
        for area in sheet.merged_cells.ranges
        for row in range(area.min_row, area.max_row + 1)
        for column in range(area.min_col, area.max_col + 1)
    }
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
        cells = [_cell_text(value) for value in row]
        if merged:
            cells = [merged.get((number, column), cell) for column, cell in enumerate(cells, 1)]
        yield Line(number, cells)


def _cell_text(value: object) -> str:
    """Convert a cell to text: a time of day or a duration to a clock time, which is how Excel shows 0:01:02.

    A date stays a date, because no video is that long.
    """
    if isinstance(value, datetime) and value.year <= 1900:  # hours above 24
        from openpyxl.utils.datetime import to_excel

        return _clock(timedelta(days=to_excel(value)))
    if isinstance(value, time):
        return _clock(
            timedelta(hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond)
        )
    if isinstance(value, timedelta):
        return _clock(value)
    if isinstance(value, bool):
        return str(int(value))
    return "" if value is None else clean_text(str(value))


def _clock(duration: timedelta) -> str:
    """Return a duration as a clock time such as `1:02:03.5`; of a negative one the seconds."""
    microseconds = round(duration / timedelta(microseconds=1))
    if microseconds < 0:
        return str(duration.total_seconds())
    seconds, rest = divmod(microseconds, 10**6)
    decimals = f".{rest:06d}".rstrip("0") if rest else ""
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{decimals}"
