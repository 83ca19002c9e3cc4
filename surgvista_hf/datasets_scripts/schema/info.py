"""What is known of a data set before a file is opened: labels, splits, license, published totals. Tables, no code paths."""

import hashlib
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ...util.errors import InputError

if TYPE_CHECKING:
    import datasets

SPLITS = ("train", "validation", "test")
Parts = Mapping[str, tuple[str, ...]]  # splits of a video, by protocol, where the raw download says it
Task = Literal["workflow", "action", "triplet", "safety", "skill", "procedure", "finding", "pre-training"]


class DatasetError(InputError):
    """A data set, protocol, split or option of that name does not exist, or the files do not fit what is published."""


class AnnotationError(DatasetError):
    """An annotation file breaks the published format; the message names file and line."""


class AlignmentError(DatasetError):
    """Pictures and labels of a video do not cover the same time; the message names video, expected and found counts."""


class MissingFilesError(DatasetError):
    """Files of a raw data set are not there."""


@dataclass(frozen=True)
class Label:
    """A label column.

    Args:
        kind: `"class"`: one class; `"classes"`: a set of classes; `"numbers"`: a list of numbers.
        names: of the classes in the order of their numbers, or of the numbers.
    """

    kind: Literal["class", "classes", "numbers"]
    names: tuple[str, ...]

    @property
    def feature(self) -> Any:
        """The feature of the column in a frame set."""
        import datasets

        if self.kind == "numbers":
            return datasets.List(datasets.Value("float32"))
        classes = datasets.ClassLabel(names=list(self.names))
        return classes if self.kind == "class" else datasets.List(classes)


@dataclass(frozen=True)
class Protocol:
    """A named way to split a data set; one of `splits`, `shares` and `by_part` says how.

    Args:
        origin: who published it, or how it was made here.
        splits: video ids by split.
        fractions: of all videos found, by split; for collections whose ids are not fixed. Drawn with `seed`.
        by_part: name under which the raw download says of each video which splits it is in (by its folder or a list).
        seed: of `shares`.
        exclude: names of classes by column: videos that carry one of them throughout are left out.
        min_frames: videos with fewer frames are left out.
        leaks: what the splits share although they should not; whoever loads the protocol is warned with it.
    """

    origin: str
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fractions: Mapping[str, float] = field(default_factory=dict)
    by_part: str = ""
    seed: int | str = 0
    exclude: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    min_frames: int = 0
    leaks: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Its splits."""
        return tuple(self.splits or self.fractions or SPLITS)

    def listed(self, split: str, found: Mapping[str, "Parts"]) -> tuple[str, ...]:
        """Ids of a split, as the lists name them, whether or not they were found.

        Args:
            split: one of `names`.
            found: the videos there are, by the name that the lists use, with what the download says of their splits.
        """
        if self.splits:
            return self.splits[split]
        if self.by_part:
            return tuple(sorted(name for name, parts in found.items() if split in parts.get(self.by_part, ())))
        order = shuffled(tuple(found), self.seed)
        ends = [int(fraction * len(order) + 1e-9) for fraction in itertools.accumulate(self.fractions.values())]
        parts = zip(self.fractions, [0, *ends], ends, strict=False)
        return next(tuple(sorted(order[start:end])) for name, start, end in parts if name == split)


EVERYTHING = Protocol("all videos found; nothing is held out", fractions={"train": 1.0})


@dataclass(frozen=True)
class DatasetInfo:
    """The table of one data set.

    Args:
        name: id in this package.
        title: name that its authors print.
        task: what it is used for.
        procedure: what is operated on.
        license: of the data; SPDX-like where it has such a name.
        homepage: where it is asked for or downloaded.
        access: how one gets it.
        citation: the paper.
        labels: label columns; the first is the one that decides whether a frame is labeled.
        protocols: ways to split it; the first is the default.
        video_ids: all videos as published; empty if that is open (a folder, a web collection).
        totals: published counts that were checked against the tables here.
        redistributable: whether license and terms of access allow to pass frames on.
        rendered: whether the images are rendered, so that models trained on them know nothing of real surgery.
        unlabeled: what becomes of frames without a label, see `PreparationOptions.unlabeled`.
        frames_per_second: usual sampling; `None` keeps every frame.
        every: usual sampling by count (every n-th source frame), in place of `frames_per_second`.
        split_key: regular expression whose first group turns a video id into an id of the protocols' lists; for clips that
            are split by the video they come from.
        checked: what was tried on real files and what only on files made in the real format.
        notes: what a user must know.
        aliases: other names of the set.
        source: value of the column of that name; by default the name of the data set.
    """

    name: str
    title: str
    task: Task
    procedure: str
    license: str
    homepage: str
    access: str
    citation: str
    labels: Mapping[str, Label]
    protocols: Mapping[str, Protocol]
    video_ids: tuple[str, ...] = ()
    totals: Mapping[str, int] = field(default_factory=dict)
    redistributable: bool = False
    rendered: bool = False
    unlabeled: Literal["keep", "drop"] = "keep"
    frames_per_second: float | None = 1.0
    every: int | None = None
    split_key: str = r"(.*)"
    checked: str = "files made in the published format"
    notes: str = ""
    aliases: tuple[str, ...] = ()
    source: str = ""

    @property
    def features(self) -> "datasets.Features":
        """Columns of the frame set."""
        import datasets

        return datasets.Features(
            source=datasets.Value("string"),
            video_id=datasets.Value("string"),
            frame_index=datasets.Value("int32"),
            timestamp=datasets.Value("float32"),
            image=datasets.Image(),
            **{name: label.feature for name, label in self.labels.items()},
        )

    def protocol(self, name: str | None) -> tuple[str, Protocol]:
        """The protocol of that name, or the default one.

        Raises:
            DatasetError: there is none of that name.
        """
        name = name or next(iter(self.protocols))
        if name not in self.protocols:
            raise DatasetError(f"{self.name} has no protocol {name!r}; it has {sorted(self.protocols)}")
        return name, self.protocols[name]

    def split_of(self, video_id: str) -> str:
        """The name under which the protocols list a video."""
        match = re.fullmatch(self.split_key, video_id)
        if not match:
            raise DatasetError(f"{video_id} is no video id of {self.name}; expected {self.split_key}")
        return match[1]


def split_name(name: str) -> str:
    """`"val"` and `"valid"` also mean `"validation"`."""
    return {"val": "validation", "valid": "validation"}.get(name, name)


def numbered(template: str, first: int, last: int) -> tuple[str, ...]:
    """Ids with running numbers: `numbered("video{:02d}", 1, 3)` gives video01, video02, video03."""
    return tuple(template.format(number) for number in range(first, last + 1))


def shuffled(ids: tuple[str, ...], seed: int | str) -> tuple[str, ...]:
    """Ids in a random order that depends on the seed and the ids only, not on a library's generator."""
    return tuple(sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest()))


def seeded_protocol(ids: tuple[str, ...], counts: Mapping[str, int], seed: int | str, origin: str) -> Protocol:
    """A random split into parts of the given sizes.

    Args:
        ids: of all videos.
        counts: videos of each split; together at most all.
        seed: different ones give different splits.
        origin: why there is a random split.

    Returns:
        The protocol; its lists are sorted.
    """
    if sum(counts.values()) > len(ids):
        raise DatasetError(f"a split into {dict(counts)} needs {sum(counts.values())} videos; there are {len(ids)}")
    order, splits, start = shuffled(ids, seed), {}, 0
    for name, count in counts.items():
        splits[name] = tuple(sorted(order[start : start + count]))
        start += count
    return Protocol(f"{origin}; drawn here with seed {seed!r}, not the authors' lists", splits, seed=seed)
