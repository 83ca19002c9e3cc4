"""Reading JSON documents and tables of annotation tools: every value knows its place, so that a message can name it."""

import csv
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..schema.annotation_files import read_json, read_text
from ..schema.info import AnnotationError

HEAD = 65536  # bytes of a file by which its format is recognized
_LARGEST_JSON = 2**30  # bytes
_LARGEST_NUMBER = 1e12


@dataclass(frozen=True)
class Node:
    """A value of a JSON document.

    Args:
        path: path of the document.
        location: keys and indices that lead to the value, such as `observations.op1.events[3]`; empty for the whole document.
        content: the value as `json` reads it.
    """

    path: Path
    location: str
    content: object

    @property
    def where(self) -> str:
        """Return the place with the name of the file."""
        return f"{self.path.name}, {self.location}" if self.location else self.path.name

    def error(self, message: str) -> AnnotationError:
        """Return an error that names the place."""
        return AnnotationError(f"{self.path}{', ' if self.location else ''}{self.location}: {message}")

    def fields(self) -> dict[str, "Node"]:
        """Return the values of an object by their keys.

        Raises:
            AnnotationError: the value is no object.
        """
        if not isinstance(self.content, Mapping):
            raise self.error(f"an object is expected, here is {self._shown()}")
        return {key: self._child(key, value) for key, value in self.content.items()}

    def elements(self) -> list["Node"]:
        """Return the values of a list.

        Raises:
            AnnotationError: the value is no list.
        """
        if not isinstance(self.content, list):
            raise self.error(f"a list is expected, here is {self._shown()}")
        return [Node(self.path, f"{self.location}[{number}]", value) for number, value in enumerate(self.content)]

    def get(self, key: str) -> "Node | None":
        """Return the value of a key of an object; `None` where the key is absent or its value `null`."""
        if not isinstance(self.content, Mapping):
            raise self.error(f"an object is expected, here is {self._shown()}")
        value = self.content.get(key)
        return None if value is None else self._child(key, value)

    def field(self, key: str) -> "Node":
        """Return the value of a key of an object.

        Raises:
            AnnotationError: the value is no object, or has no such key.
        """
        found = self.get(key)
        if found is None:
            raise self.error(f"there is no {key!r}")
        return found

    def text(self) -> str:
        """Return a text, a number or a truth value as text without blanks around it.

        Raises:
            AnnotationError: the value is an object, a list or `null`.
        """
        if isinstance(self.content, str):
            return self.content.strip()
        if isinstance(self.content, bool | int | float):
            return json.dumps(self.content)
        raise self.error(f"a text is expected, here is {self._shown()}")

    def number(self) -> float:
        """Return a number that is not negative; a text may hold it.

        Raises:
            AnnotationError: the value is no such number.
        """
        value = as_number(self.content)
        if value is None or value < 0:
            raise self.error(f"a number of at least 0 is expected, here is {self._shown()}")
        return value

    def integer(self) -> int:
        """Return a whole number that is not negative.

        Raises:
            AnnotationError: the value is no such number.
        """
        value = self.number()
        if value != int(value):
            raise self.error(f"a whole number is expected, here is {self._shown()}")
        return int(value)

    def _child(self, key: str, value: object) -> "Node":
        name = key if re.fullmatch(r"\w+", key) else f"[{key!r}]"
        dot = "." if self.location and not name.startswith("[") else ""
        return Node(self.path, f"{self.location}{dot}{name}", value)

    def _shown(self) -> str:
        if isinstance(self.content, Mapping | list):
            return "an object" if isinstance(self.content, Mapping) else "a list"
        text = json.dumps(self.content, ensure_ascii=False)
        return text if len(text) <= 60 else f"{text[:57]}…"


def as_number(content: object) -> float | None:
    """Return a finite number, or the one that a text holds; `None` for anything else."""
    if isinstance(content, bool) or not isinstance(content, str | int | float):
        return None
    try:
        value = float(content)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) and abs(value) <= _LARGEST_NUMBER else None


def read_document(path: Path) -> Node:
    """Read a JSON document.

    Raises:
        AnnotationError: the content is not JSON, or larger than 1 GiB.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size > _LARGEST_JSON:
        raise AnnotationError(f"{path} has {size / 2**30:.1f} GiB; JSON documents up to 1 GiB are read")
    return Node(path, "", read_json(path))


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Read a table of cells separated by tabs, semicolons or commas, of which the first one in the file counts.

    Returns:
        Line number and cells of each row that is not blank. Quoted cells may hold line ends.

    Raises:
        AnnotationError: the file is no such table.
    """
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    reader = csv.reader(io.StringIO(text), delimiter=_delimiter(first))
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise AnnotationError(f"{path}:{reader.line_num} is no row of a table: {error}") from error
    return [(number, cells) for number, cells in rows if any(cells)]


def read_head(path: Path) -> str:
    """Return the beginning of a file as text, empty if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD).decode("utf-8-sig", errors="ignore")
    except OSError:
        return ""


def _delimiter(line: str) -> str:
    return next((mark for mark in "\t;," if mark in line), ",")
