"""Records of the folders that an output came from, so that a replaced file is told apart from a namesake elsewhere.

Where an item is there already and its source has another content now, two things can have happened. The file was replaced:
the result is stale and is made anew. Or another folder has a file of the same name: both results are wanted, and one path
cannot hold them. The difference is the folder, so a hash of its path is noted in a hidden file beside the results. It is no
part of them: without the file everything counts as replaced.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from .files import OutputError, content_hash, write_json
from .messages import preview

FILE = ".origins.json"


class SourceRecords:
    """Records the folders that an output's items were taken from.

    Args:
        output: folder of the results; only one process at a time may use it, see `files.at_work`.
        root: folder that the items are taken from now; `None` where they come from no folder.

    Raises:
        OutputError: the records of an earlier run cannot be read.
    """

    def __init__(self, output: Path, root: Path | None) -> None:
        self.output, self.root = output, root
        self.path = output / FILE
        self._origin = None if root is None else [root.resolve().name, content_hash(str(root.resolve()))]
        self._known = _read(self.path)

    def check(self, changed: Mapping[str, tuple[str, str]]) -> None:
        """Refuse items whose names are taken by another folder.

        Args:
            changed: fingerprints, then and now, of the items that are there with another content.

        Raises:
            OutputError: some of them came from another folder.
        """
        taken = {
            name: self._known[name][0]
            for name in changed
            if self._origin is not None and name in self._known and self._known[name][1] != self._origin[1]
        }
        if taken:
            name, folder = next(iter(taken.items()))
            was, now = changed[name]
            raise OutputError(
                f"{self.output} holds {name} of another folder, {folder} (content {was}); {name} of {self.root} has another "
                f"content ({now or 'not known'}). One output cannot hold both: give another output for {self.root}, or "
                f"rename. If it is the same folder under another path, remove {self.path}. This concerns "
                f"{preview(sorted(taken))}"
            )

    def note(self, names: Iterable[str]) -> None:
        """Record that items are taken from the present folder; to be called before they are worked on."""
        if self._origin is None:
            return
        known = {**self._known, **dict.fromkeys(names, self._origin)}
        if known != self._known:
            self._known = known
            write_json(self.path, known, sort_keys=True)

    def from_elsewhere(self, names: Iterable[str]) -> dict[str, str]:
        """Return those of some items that came from another folder than the present one, with its name."""
        known = {name: self._known[name] for name in names if name in self._known}
        return {name: folder for name, (folder, digest) in known.items() if self._origin and digest != self._origin[1]}

    def forget(self, names: Iterable[str]) -> None:
        """Remove items from the records."""
        gone = set(names)
        known = {name: origin for name, origin in self._known.items() if name not in gone}
        if known != self._known:
            self._known = known
            write_json(self.path, known, sort_keys=True)


def _read(path: Path) -> dict[str, list[str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): [str(folder), str(digest)] for name, (folder, digest) in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise OutputError(f"{path} cannot be read: {error}; remove it") from error
