"""Loading of the frame sets that recipes name."""

from pathlib import Path
from typing import Protocol

from datasets import Dataset

from ...datasets_scripts.frame_sets.load import load_frame_set


class NamedFrameSet(Protocol):
    """Describe a section of a recipe that names a frame set; its fields are arguments of `load_frame_set`."""

    @property
    def name(self) -> str:
        """Return the name of the data set."""

    @property
    def protocol(self) -> str | None:
        """Return the name of the protocol; `None`: the data set's first."""

    @property
    def allow_missing(self) -> bool:
        """Return whether listed videos may be missing."""

    @property
    def split_file(self) -> str | None:
        """Return the file of splits in place of a protocol."""

    @property
    def fold(self) -> int | None:
        """Return the fold of a file that holds folds."""


def load_named(named: NamedFrameSet, folder: Path, split: str) -> Dataset:
    """Load a split of the frame set that a section of a recipe names.

    Args:
        named: the section.
        folder: folder of the frame set.
        split: name of the split.

    Raises:
        DatasetError: see `load_frame_set`.
    """
    return load_frame_set(
        named.name,
        folder,
        split,
        protocol=named.protocol,
        allow_missing=named.allow_missing,
        split_file=named.split_file,
        fold=named.fold,
    )
