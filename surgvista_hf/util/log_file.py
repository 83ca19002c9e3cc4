"""The log file of a command: standard output and standard error lead to it while the command works.

They do so as file descriptors, so that it also holds what libraries in C and processes that the command starts have to say.
`sys.stderr` follows them; `sys.stdout` reaches the person, for results, until the console sends it to the log as well.
"""

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TextIO

_MAX_LOGS = 50  # logs in the state folder
_DESCRIPTORS = (1, 2)


def log_folder() -> Path:
    """Return the folder of logs that do not lie beside results, for this user's eyes only: they name videos.

    That is `surgvista` in `$XDG_STATE_HOME`, by default in `~/.local/state`, or a temporary folder where it cannot be written.
    """
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111 - must not raise
    folder = Path(base) / "surgvista"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="surgvista-"))


class LogFile:
    """A log that begins in `log_folder` and may move beside the results once their folder is known.

    Args:
        command: name of the command, which is part of the file's name.
        suffix: end of the file's stem, such as the number of a process.
        shown: also copy to the person's standard error what reaches the log.

    Attributes:
        path: path of the log now.
        moved: it does not move any more.
        out, err: streams that reach the person all the time.
    """

    def __init__(self, command: str, suffix: str = "", *, shown: bool = False) -> None:
        folder = log_folder()
        for old in sorted(folder.glob("*.log"))[:-_MAX_LOGS]:
            old.unlink(missing_ok=True)
        moment = time.strftime("%Y-%m-%d_%H-%M-%S")
        self.path = folder / f"{moment}_{command}_{os.getpid()}{suffix}.log"
        self.suffix, self.moved = suffix, False
        self.out: TextIO = sys.stdout
        self.err: TextIO = sys.stderr
        self._reader: IO[bytes] | None = None
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._shown = shown

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Let what is written to standard output and standard error inside go to the log, but not `sys.stdout`."""
        before = sys.stdout, sys.stderr
        try:
            copies = [os.dup(number) for number in _DESCRIPTORS]
        except OSError:  # whoever started the program has closed one: nothing that is written reaches anybody
            self.moved = True
            yield
            return
        own = [
            _own(stream, *pair) for stream, pair in zip(before, zip(_DESCRIPTORS, copies, strict=True), strict=True)
        ]
        self.out, self.err = (mine or stream for mine, stream in zip(own, before, strict=True))
        try:
            self._lead_to(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            # Handlers of libraries keep this stream for ever, so it belongs to the descriptor and not to the log.
            sys.stdout, sys.stderr = self.out, _line_buffered(2, "utf-8", closefd=False)
            with self._following():
                yield
        finally:
            sys.stdout, sys.stderr = before
            for number, copy in zip(_DESCRIPTORS, copies, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            self.out, self.err = before
            for stream in filter(None, own):
                with suppress(OSError):  # whoever read it has gone
                    stream.close()

    def move_to(self, path: Path) -> bool:
        """Move the log to `path`, or to the end of the log that an earlier run left there; only the first call counts.

        Returns:
            True if it moved. Where nothing can be written it stays; writing the results will fail with an error.
        """
        if self.moved:
            return False
        target = path.with_stem(path.stem + self.suffix)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError:
            return False
        self.show()
        with self._lock, self.path.open("rb") as old, target.open("ab") as new:
            shutil.copyfileobj(old, new)
            self._lead_to(descriptor)
            shutil.copyfileobj(old, new)  # what another thread wrote meanwhile
            new.flush()
            if self._reader is not None:
                self._reader.close()
                self._reader = target.open("rb")
                self._reader.seek(0, os.SEEK_END)
        self.path.unlink()
        self.path, self.moved = target, True
        return True

    def show(self) -> None:
        """Copy to the person what has reached the log since the last time, if the log is shown."""
        if self._reader is None:
            return
        with self._lock:
            self.err.write(self._reader.read().decode("utf-8", "replace"))
            self.err.flush()

    @contextmanager
    def _following(self) -> Iterator[None]:
        """Copy the log to the person from a thread of its own, so that output of libraries in C is shown while they run."""
        if not self._shown:
            yield
            return
        self._reader = self.path.open("rb")
        thread = threading.Thread(target=self._follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self.show()
            self._reader.close()
            self._reader = None

    def _follow(self) -> None:
        while not self._ended.wait(0.1):
            self.show()

    def _lead_to(self, descriptor: int) -> None:
        """Let standard output and standard error write to a file, for libraries in C and child processes too."""
        sys.stdout.flush()
        sys.stderr.flush()
        for number in _DESCRIPTORS:
            os.dup2(descriptor, number)
        os.close(descriptor)


def _own(stream: TextIO, number: int, copy: int) -> TextIO | None:
    """Return a stream to where descriptor `number` led before, if `stream` writes to it, else `None`."""
    try:
        if stream.fileno() != number:
            return None
    except (AttributeError, OSError, ValueError):  # captured by a test or a notebook
        return None
    return _line_buffered(os.dup(copy), stream.encoding)


def _line_buffered(descriptor: int, encoding: str, *, closefd: bool = True) -> TextIO:
    return open(descriptor, "w", buffering=1, encoding=encoding, errors="backslashreplace", closefd=closefd)
