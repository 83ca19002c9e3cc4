"""Writing files so that a crash leaves either the old content or the new, never a part."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..modeling.errors_surgvista import SurgVistaError


class OutputError(SurgVistaError):
    """A result cannot be written where it was asked for."""


def sync(path: Path) -> None:
    """Writes a file or a folder through to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary sibling to write to; it becomes `path` when the block ends without an error.

    The sibling keeps the suffix, from which writers guess the format.

    Example:
        >>> with atomic_file("result.json") as temporary:  # doctest: +SKIP
        ...     temporary.write_text("{}")
    """
    target = Path(path)
    _make_parent(target)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        sync(temporary)
        temporary.replace(target)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary sibling folder to fill; it becomes `path` when the block ends without an error.

    Raises:
        OutputError: `path` exists and is not an empty folder.
    """
    target = Path(path)
    check_free(target)
    _make_parent(target)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        for file in temporary.rglob("*"):
            sync(file)
        temporary.replace(target)
        sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Notes in a folder what it is about to be filled with, or compares with what was noted.

    A run that goes on with what it finds must never be finished under other settings.

    Raises:
        OutputError: the folder was begun with other settings.
    """
    file = folder / "settings.json"
    text = json.dumps(settings, indent=1) + "\n"
    if not file.exists():
        with atomic_file(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    elif file.read_text(encoding="utf-8") != text:
        raise OutputError(f"{folder} was begun with other settings; remove it, or give another --output")


def content_hash(content: Any) -> str:
    """A short hash of anything JSON can say; the same everywhere.

    Example:
        >>> content_hash({"b": 1, "a": [2]}) == content_hash({"a": [2], "b": 1})
        True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, read piece by piece."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_free(path: str | os.PathLike[str]) -> None:
    """Checks that a folder can be written at `path`.

    Raises:
        OutputError: something is there already.
    """
    target = Path(path)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OutputError(f"{target} exists already; choose another output or remove it first")


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path.parent}: {error}") from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
