"""The files of visitors, which are deleted when the visitor leaves, unless another visitor uploaded the same file."""

import shutil
import threading
from collections import defaultdict
from pathlib import Path


class VisitorFiles:
    """A registry of which visitor needs which file or folder, which deletes what nobody needs any more.

    Example:
        >>> files = VisitorFiles()
        >>> files.keep("visitor 1", Path("upload.mp4"))
        >>> files.forget("visitor 1")  # deletes upload.mp4
    """

    def __init__(self) -> None:
        self._paths: dict[str, set[Path]] = defaultdict(set)
        self._lock = threading.Lock()

    def keep(self, visitor: str, path: Path) -> None:
        """Note that a visitor needs a file or folder."""
        with self._lock:
            self._paths[visitor].add(path)

    def release(self, visitor: str, path: Path) -> None:
        """Note that a visitor does not need it any more."""
        with self._lock:
            self._paths[visitor].discard(path)
            self._delete({path})

    def forget(self, visitor: str) -> None:
        """Note that a visitor has gone."""
        with self._lock:
            self._delete(self._paths.pop(visitor, set()))

    def _delete(self, paths: set[Path]) -> None:
        for path in paths - set().union(*self._paths.values()):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
