"""Writing files so that a crash leaves either the old content or the new, never a part."""

import hashlib
import json
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from .errors import SurgVistaError
from .messages import preview

logger = logging.getLogger(__name__)
LOCK = ".lock"
_NOTE = 2  # version of what `check_settings` writes; since 2 it holds fingerprints


class OutputError(SurgVistaError):
    """A result cannot be written to the requested path."""


def sync(path: Path) -> None:
    """Write a file or a folder through to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary sibling to write to; it becomes `path` when the block ends without an error.

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


def write_json(
    path: str | os.PathLike[str],
    content: object,
    *,
    indent: int | None = 1,
    sort_keys: bool = False,
    ensure_ascii: bool = True,
) -> None:
    r"""Write a JSON file, whole or not at all, with a newline at its end.

    Args:
        path: file to write; what is there is replaced.
        content: anything that `json` can say.
        indent: spaces of a level; `None` writes one line.
        sort_keys: write the keys of mappings in alphabetical order, so that equal contents are equal files.
        ensure_ascii: write other characters than ASCII as `\u` escapes. Files that people read or edit go without.

    Raises:
        OutputError: the folder of the file cannot be made.
        TypeError: `json` cannot say the content; nothing is written then.

    Example:
        >>> write_json("results.json", {"video_accuracy": 0.91})  # doctest: +SKIP
    """
    text = json.dumps(content, indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii)
    with atomic_file(path) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Give a temporary sibling folder to fill; it becomes `path` when the block ends without an error.

    Args:
        path: path of the folder.
        replace: replace a folder that is there.

    Raises:
        OutputError: `path` exists and is not an empty folder, now or when the block has ended.
    """
    target = Path(path)
    if not replace:
        check_free(target)
    _make_parent(target)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        for file in temporary.rglob("*"):
            sync(file)
        if replace and target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
            target.replace(old)
            temporary.replace(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            _rename(temporary, target)
        sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rename(temporary: Path, target: Path) -> None:
    try:
        temporary.replace(target)
    except OSError as error:  # not empty any more
        check_free(target)
        raise OutputError(f"{target} cannot be written: {error}") from error


def check_settings(
    folder: Path,
    settings: Mapping[str, Any],
    *,
    names: Mapping[str, Any] | None = None,
    file: str = "settings.json",
) -> None:
    """Record in a folder the settings of the run that fills it, or compare them with the record.

    A run that goes on with what it finds must never be finished under other settings, from other data or by another model.

    Args:
        folder: folder of the results.
        settings: settings that must stay the same, as JSON can say them; contents by their fingerprints.
        names: names of these contents for messages, in the structure of `settings`. They may change.
        file: name of the record.

    Raises:
        OutputError: the folder was begun with other settings, or by a version that did not note contents.
    """
    if not compare_settings(folder, settings, names=names, file=file):
        content = {"format": _NOTE, **settings, "names": names or {}}
        write_json(folder / file, content)


def compare_settings(
    folder: Path,
    settings: Mapping[str, Any],
    *,
    names: Mapping[str, Any] | None = None,
    file: str = "settings.json",
) -> bool:
    """Compare settings with the record that `check_settings` writes, and write nothing.

    Args:
        folder, settings, names, file: arguments of `check_settings`.

    Returns:
        True if there is a record; `{}`, by which a user vouches for what lies there, counts as none.

    Raises:
        OutputError: the record holds other settings.
    """
    before = _recorded(folder / file)
    if not before:
        return False
    if before.get("format") != _NOTE:
        raise OutputError(
            f"{folder} was begun by a version that did not note the contents it worked on, so nobody can tell whether they "
            f"are still the same; remove it, or give another output"
        )
    known_as, called = _leaves(before.pop("names", {})), _leaves(json.loads(json.dumps(names or {})))
    was, now = _leaves(before), _leaves(json.loads(json.dumps({"format": _NOTE, **settings})))
    differences = [
        f"{key} was {_shown(was.get(key), known_as.get(key))}, is now {_shown(now.get(key), called.get(key))}"
        for key in {**was, **now}
        if was.get(key) != now.get(key)
    ]
    if differences:
        raise OutputError(
            f"{folder} was begun with other settings: {preview(differences, shown=3)}. Go on with those, remove the "
            "folder, or give another output"
        )
    return True


def _recorded(path: Path) -> dict[str, Any]:
    """Read the record that `check_settings` has written; empty if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise OutputError(f"{path} holds no settings; remove it with its folder, or give another output")
    return content


def _leaves(content: object, key: str = "") -> dict[str, Any]:
    """Return the single values of nested mappings, by their dotted keys."""
    if not isinstance(content, dict) or (key and not content):
        return {key: content}
    return {
        name: value
        for part, inner in content.items()
        for name, value in _leaves(inner, f"{key}.{part}" if key else str(part)).items()
    }


def _shown(value: object, name: object = None) -> str:
    text = "not given" if value is None else str(value)
    text = f"{text[:77]}…" if len(text) > 80 else text
    return f"{name} ({text})" if name is not None else text


@contextmanager
def at_work(folder: str | os.PathLike[str], *, wait: bool = False) -> Iterator[None]:
    """Hold a folder for this process alone, so that two runs never write into it at the same time.

    The lock is the operating system's: it ends with the process, however that ends. The folder is made if needed, and removed
    again if nothing was put into it. Of the processes that `accelerate launch` started, the first holds it for all.

    Args:
        folder: folder of the results.
        wait: wait until another run has ended, instead of refusing.

    Raises:
        OutputError: another run holds it, or it cannot be written to.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file; choose a folder")
    is_new = not target.exists()
    path = target / LOCK
    try:
        target.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            _acquire(lock, path, timeout=0)
        except Timeout:
            holder = _holder(path)
            if not wait:
                raise OutputError(
                    f"another run is at work on {target}{holder}; wait until it has ended, or give another output"
                ) from None
            logger.warning("another run is at work on %s%s; waiting for it", target, holder)
            _acquire(lock, path, timeout=-1)
    except OSError as error:
        raise OutputError(f"cannot write to the folder {target}: {error}") from error
    try:
        with suppress(OSError):
            if path.read_text(encoding="utf-8")[:1] in ("", "{"):  # where locks are files, filelock says who has it
                path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
        if is_new:
            with suppress(OSError):
                target.rmdir()  # only if it is empty


def _acquire(lock: BaseFileLock, path: Path, timeout: float) -> None:
    lock.acquire(timeout=timeout)
    while not path.exists():  # who held it has removed the file meanwhile: nobody else would see this lock
        lock.release()
        lock.acquire(timeout=timeout)


def _holder(path: Path) -> str:
    """Return who holds a lock, as part of a message; empty if that is not known."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return f" (process {content['pid']} on {content['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def content_hash(content: object) -> str:
    """Return a short hash of anything JSON can say; the same on every machine and in every version of Python.

    Example:
        >>> content_hash({"b": 1, "a": [2]}) == content_hash({"a": [2], "b": 1})
        True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content, which is read piece by piece."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_free(path: str | os.PathLike[str]) -> None:
    """Check that a folder can be written at `path`.

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
