"""Files that say which videos are in which split, for any data set: drawn by `surgvista split`, or written by hand.

A file is YAML or JSON. By hand, lists of ids are enough:

    train: [op1, op2]
    test: [op3]

or `folds`, a list of such splits. What `surgvista split` writes also holds the seed, the method, the groups of the videos and
how often each class comes in each split.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ...util.files import OutputError, atomic_file, content_hash, write_json
from ...util.messages import did_you_mean, preview
from .info import DatasetError, split_name
from .text_yaml import load_text_yaml

logger = logging.getLogger(__name__)
FORMAT = 1
ALL = "all"
_NOTES = ("format", "data", "method", "seed", "groups", "counts")
_HEADER = "# Which videos are in which split: for data.split_file of a recipe, and --split-file of the commands.\n"
Split = Mapping[str, tuple[str, ...]]  # video ids by the name of the split


class SplitFileError(DatasetError):
    """A file of splits cannot be read, contradicts itself, or names videos that are not in the frame set."""


@dataclass(frozen=True)
class SplitFile:
    """The content of a file of splits.

    Args:
        path: path of the file, for messages.
        folds: splits of each fold; one entry for a file without folds.
        has_folds: whether the file holds folds, so that a reader has to choose one.
        groups: group of each video, where the file says it.
        data: name of the data set that the splits were drawn from; empty if the file does not say it.
        fingerprint: fingerprint of the frame set that they were drawn from; empty if the file does not say it.
        method: description of how they were drawn.

    Raises:
        SplitFileError: a video or a group of videos is in two splits.
    """

    path: Path
    folds: tuple[Split, ...]
    has_folds: bool = False
    groups: Mapping[str, str] = field(default_factory=dict)
    data: str = ""
    fingerprint: str = ""
    method: str = ""

    def __post_init__(self) -> None:
        for number, splits in enumerate(self.folds):
            where = f"{self.path}, fold {number}" if self.has_folds else str(self.path)
            check_apart(where, splits, self.groups)

    def splits(self, fold: int | None = None) -> Split:
        """Return the ids of each split.

        Args:
            fold: number of the fold, from 0, for a file that holds folds.

        Raises:
            SplitFileError: the file has folds and none was chosen, or the other way round, or there is no such fold.
        """
        count = len(self.folds)
        if self.has_folds and fold is None:
            raise SplitFileError(
                f"{self.path} holds {count} folds: choose one, e.g. data.fold=0 in a recipe or --fold 0; a suite of "
                "`surgvista benchmark` runs all of them"
            )
        if not self.has_folds and fold is not None:
            raise SplitFileError(f"{self.path} holds no folds, so fold {fold} cannot be chosen; leave it out")
        if fold is not None and not 0 <= fold < count:
            raise SplitFileError(f"{self.path} has the folds 0 … {count - 1}; there is no fold {fold}")
        return self.folds[fold or 0]

    def name(self, fold: int | None = None) -> str:
        """Return the name of the file, with the number of the fold, for descriptions."""
        return self.path.name if fold is None else f"{self.path.name}, fold {fold}"

    def ids(
        self, split: str, fold: int | None, known: Mapping[str, str], *, allow_missing: bool = False
    ) -> tuple[str, ...]:
        """Return the videos of a split that a frame set has.

        Args:
            split: name of the split.
            fold: number of the fold, or `None`.
            known: id that the protocols of the data set use, by the id of each video of the frame set. A file may name either:
                for clips, the video that they were cut from stands for all of them.
            allow_missing: accept that videos of the file are not in the frame set.

        Returns:
            Sorted ids.

        Raises:
            SplitFileError: there is no such split or fold, the file names videos that are not in the frame set, or it has one
                in two splits by different names.
        """
        splits = self.splits(fold)
        if split not in splits:
            raise SplitFileError(f"there is no split {split!r} in {self.name(fold)}; it has {[*splits, ALL]}")
        members: dict[str, list[str]] = {}
        for video, listed in known.items():
            members.setdefault(listed, []).append(video)
        found = {
            name: {video: [video] if video in known else members.get(video, []) for video in ids}
            for name, ids in splits.items()
        }
        unknown = sorted(video for ids in found.values() for video, own in ids.items() if not own)
        if unknown and not allow_missing:
            hint = did_you_mean(unknown[0], known, f"it has {preview(sorted(known), shown=3)}")
            raise SplitFileError(
                f"{self.path} names {len(unknown)} videos that are not in the frame set: {preview(unknown)}; {hint}. "
                "allow_missing=True loads what is there"
            )
        resolved = {
            name: tuple(sorted({own for every in ids.values() for own in every})) for name, ids in found.items()
        }
        check_apart(self.name(fold), resolved, self.groups)
        _note_videos_left(self.name(fold), len(known), tuple(sorted(set(known).difference(*resolved.values()))))
        if not resolved[split]:
            raise SplitFileError(
                f"the split {split!r} of {self.name(fold)} is empty: the frame set has none of its videos"
            )
        return resolved[split]


def check_apart(where: str, splits: Split, groups: Mapping[str, str]) -> None:
    """Check that no video and no group of videos is in two splits, or twice in one.

    Args:
        where: name of the file and fold, for messages.
        splits: ids by split.
        groups: group of each video, where it is known.

    Raises:
        SplitFileError: there is such a video or group; the message names it.

    Example:
        >>> check_apart("folds.yaml", {"train": ("op1",), "test": ("op2",)}, {"op1": "a", "op2": "b"})
    """
    of_videos: dict[str, list[str]] = {}
    of_groups: dict[str, set[str]] = {}
    for split, ids in splits.items():
        for video in ids:
            of_videos.setdefault(video, []).append(split)
            of_groups.setdefault(groups.get(video, video), set()).add(split)
    for what, twice in (
        ("videos", {video: found for video, found in of_videos.items() if len(found) > 1}),
        ("groups", {group: sorted(found) for group, found in of_groups.items() if len(found) > 1}),
    ):
        if twice:
            named = preview([f"{name} ({', '.join(found)})" for name, found in sorted(twice.items())])
            raise SplitFileError(f"{where} has {len(twice)} {what} in two splits, or twice in one: {named}")


@lru_cache(maxsize=64)  # a run loads three splits: it is said once
def _note_videos_left(where: str, count: int, left: tuple[str, ...]) -> None:
    if left:
        logger.warning(
            "%d of %d videos of the frame set are in no split of %s: %s", len(left), count, where, preview(left)
        )


# ------------------------------------------------------------------------------------------- reading and writing


def read_split_file(path: str | Path) -> SplitFile:
    r"""Read a file of splits, YAML or JSON.

    Args:
        path: path of the file.

    Raises:
        SplitFileError: it cannot be read or understood, or has a video or a group of videos in two splits.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "splits.yaml"
        >>> _ = file.write_text("train: [op1, op2]\ntest: [op3]\n")
        >>> read_split_file(file).splits()["test"]
        ('op3',)
    """
    path = Path(path)
    try:
        content = load_text_yaml(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SplitFileError(f"{path} cannot be read as a file of splits: {' '.join(str(error).split())}") from error
    return _parsed(path, content)


def _parsed(path: Path, content: object) -> SplitFile:
    if not isinstance(content, Mapping):
        raise SplitFileError(f"{path} holds no splits; expected are lists of ids, such as train: [op1, op2]")
    form = content.get("format", str(FORMAT))
    if form != str(FORMAT):
        raise SplitFileError(f"{path} has format {form}; this version reads format {FORMAT}")
    notes = {key: content[key] for key in _NOTES if key in content}
    rest = {key: value for key, value in content.items() if key not in notes}
    whole = rest["splits"] if set(rest) == {"splits"} else rest
    folds = _entries(path, rest) if "folds" in rest else (_split(str(path), whole),)
    origin = notes.get("data", {})
    origin = origin if isinstance(origin, Mapping) else {"name": origin}
    return SplitFile(
        path,
        folds,
        "folds" in rest,
        _groups(path, notes.get("groups", {})),
        str(origin.get("name", "")),
        str(origin.get("fingerprint", "")),
        str(notes.get("method", "")),
    )


def _entries(path: Path, content: Mapping[str, Any]) -> tuple[Split, ...]:
    entries = content["folds"]
    if len(content) > 1 or not isinstance(entries, list) or not entries:
        raise SplitFileError(
            f"{path}: folds is a list with the splits of each fold, and no other splits stand beside it"
        )
    return tuple(_split(f"{path}, fold {number}", entry) for number, entry in enumerate(entries))


def _split(where: str, content: object) -> Split:
    if not isinstance(content, Mapping) or not content:
        raise SplitFileError(f"{where} holds no splits; expected are lists of ids, such as train: [op1, op2]")
    splits: dict[str, tuple[str, ...]] = {}
    for key, ids in content.items():
        name = split_name(str(key))
        if name == ALL or name in splits:
            reason = "means every video of the frame set" if name == ALL else "comes twice"
            raise SplitFileError(f"{where}: {key!r} cannot be a split, since it {reason}")
        if not isinstance(ids, list) or not all(isinstance(video, str) and video for video in ids):
            raise SplitFileError(f"{where}: {key} is no list of ids, such as {key}: [op1, op2]")
        if ids:
            splits[name] = tuple(ids)
    if not splits:
        raise SplitFileError(f"{where} has no videos")
    return splits


def _groups(path: Path, content: object) -> dict[str, str]:
    if not isinstance(content, Mapping) or not all(isinstance(videos, list) for videos in content.values()):
        raise SplitFileError(f"{path}: groups are lists of ids by the name of the group, such as patient1: [op1, op2]")
    pairs = [(str(video), str(group)) for group, videos in content.items() for video in videos]
    groups = dict(pairs)
    if len(groups) < len(pairs):
        twice = sorted({video for video, group in pairs if groups[video] != group})
        raise SplitFileError(f"{path} has videos in two groups: {preview(twice or [pairs[0][0]])}")
    return groups


def write_split_file(path: str | Path, content: Mapping[str, Any]) -> bool:
    """Write a file of splits once: another one at the same path is never replaced.

    Args:
        path: `.yaml`, `.yml` or `.json` file.
        content: content of the file as `read_split_file` reads it.

    Returns:
        Whether it was written; false if the same is there already.

    Raises:
        OutputError: another file is there.
        SplitFileError: the name has another suffix, or the content has a video or a group of videos in two splits.
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise SplitFileError(f"{path} should end in .yaml or .json")
    as_read = load_text_yaml(_text(content))
    _parsed(path, as_read)
    if path.exists():
        try:
            before = load_text_yaml(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, yaml.YAMLError):
            before = None
        if content_hash(before) == content_hash(as_read):
            return False
        raise OutputError(
            f"{path} holds other splits; results that were made with them would no longer be explained. Remove it, or give "
            "another output"
        )
    if path.suffix == ".json":
        write_json(path, content, ensure_ascii=False)
    else:
        with atomic_file(path) as temporary:
            temporary.write_text(_HEADER + _text(content), encoding="utf-8")
    return True


def _text(content: Mapping[str, Any]) -> str:
    # Lists of ids stand in lines, as people write them; mappings of lists stand one below the other.
    return yaml.safe_dump(dict(content), sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)
