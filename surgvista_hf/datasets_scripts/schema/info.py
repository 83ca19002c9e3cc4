"""The information on a data set that is known before a file is opened: labels, splits, license, published totals."""

import hashlib
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ...util.errors import InputError
from .triplets import TripletTable

if TYPE_CHECKING:
    import datasets

SPLITS = ("train", "validation", "test")
PATIENT = "patient"  # property of a video by which splits keep operations together
Parts = Mapping[str, tuple[str, ...]]  # the splits that a video is in, by protocol, where the raw download says so
Task = Literal["workflow", "action", "triplet", "safety", "skill", "procedure", "finding", "pre-training"]


class DatasetError(InputError):
    """A data set, protocol, split or option does not exist, or the files differ from the published ones."""


class AnnotationError(DatasetError):
    """An annotation file does not have the published format; the message names file and line."""


class AlignmentError(DatasetError):
    """Frames and labels of a video do not cover the same time; the message names the video and both counts."""


class MissingFilesError(DatasetError):
    """Files of a raw data set are missing."""


@dataclass(frozen=True)
class Label:
    """A label column.

    Args:
        kind: `"class"` for one class per frame, `"classes"` for a set of classes, `"numbers"` for a list of numbers.
        names: names of the classes in the order of their numbers, or names of the numbers.
    """

    kind: Literal["class", "classes", "numbers"]
    names: tuple[str, ...]

    @property
    def feature(self) -> "datasets.ClassLabel | datasets.List":
        """Return the feature that the column has in a frame set."""
        import datasets

        if self.kind == "numbers":
            return datasets.List(datasets.Value("float32"))
        classes = datasets.ClassLabel(names=list(self.names))
        return classes if self.kind == "class" else datasets.List(classes)


@dataclass(frozen=True)
class Protocol:
    """A named way to split a data set, given by one of `splits`, `fractions` and `by_part`.

    Args:
        origin: publication of the protocol, or how it was made here.
        splits: video ids by split.
        fractions: fraction of all videos found, by split, for collections whose ids are not fixed; drawn with `seed`.
        by_part: key of `RawVideo.parts` under which the raw download says which splits each video is in (by its folder or a
            list).
        seed: seed of the random split into `fractions`.
        exclude: names of classes by column. Videos that have one of them in every frame are left out.
        min_frames: least number of frames; videos with fewer are left out.
        leaks: description of what the splits have in common although they should not. Loading the protocol warns with it.
        group: key of `RawVideo.parts` that names the patient or operation of a video. The videos of a group stay together when
            `fractions` are drawn; a video without one is a group of its own.
    """

    origin: str
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fractions: Mapping[str, float] = field(default_factory=dict)
    by_part: str = ""
    seed: int | str = 0
    exclude: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    min_frames: int = 0
    leaks: str = ""
    group: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the splits."""
        return tuple(self.splits or self.fractions or SPLITS)

    def listed(self, split: str, found: Mapping[str, "Parts"]) -> tuple[str, ...]:
        """Return the ids of a split as the protocol lists them, whether or not they were found.

        Args:
            split: one of `names`.
            found: splits that the download assigns each video to, by the id that the protocol uses.
        """
        if self.splits:
            return self.splits[split]
        if self.by_part:
            return tuple(sorted(name for name, parts in found.items() if split in parts.get(self.by_part, ())))
        groups = {name: parts.get(self.group, (name,))[0] for name, parts in found.items()}
        order = shuffled(tuple(dict.fromkeys(groups.values())), self.seed)
        ends = [int(fraction * len(order) + 1e-9) for fraction in itertools.accumulate(self.fractions.values())]
        parts = zip(self.fractions, [0, *ends], ends, strict=False)
        chosen = next(set(order[start:end]) for name, start, end in parts if name == split)
        return tuple(sorted(name for name, group in groups.items() if group in chosen))


EVERYTHING = Protocol("all videos found; nothing is held out", fractions={"train": 1.0})


@dataclass(frozen=True)
class DatasetInfo:
    """Description of one data set.

    Args:
        name: id of the data set in this package.
        title: name that the authors of the data set use.
        task: task that the data set is used for.
        procedure: surgical procedure that is shown.
        license: license of the data, as an SPDX identifier where there is one.
        homepage: page where the data are requested or downloaded.
        access: conditions of access, such as a request form.
        citation: reference of the paper.
        labels: label columns. The first one decides whether a frame counts as labeled.
        protocols: named ways to split the data set; the first is the default.
        video_ids: ids of all published videos; empty for open collections (a folder, videos from the web).
        totals: published counts that were checked against the tables here.
        redistributable: `True` if license and terms of access allow frames to be passed on.
        rendered: whether the images are rendered, so that models trained on them know nothing of real surgery.
        unlabeled: handling of frames without a label, see `PreparationOptions.unlabeled`.
        frames_per_second: usual sampling rate; `None` keeps every frame.
        every: usual sampling by count (every n-th source frame), in place of `frames_per_second`.
        split_key: regular expression whose first group is the id that protocols use for a video; for clips that are split by
            the video they come from.
        checked: description of what was tried on real files and what only on files made in the published format.
        notes: remarks that a user of the data set must know.
        aliases: other names of the data set.
        source: value of the column `source`; by default the name of the data set.
        triplets: table of the triplet classes; `None` if the data set has no triplets.

    Example:
        >>> info = DatasetInfo(
        ...     "ours", "Ours", "workflow", "any", "none", "", "", "", {"phase": Label("class", ("cut", "sew"))},
        ...     {"everything": EVERYTHING},
        ... )
        >>> list(info.features)
        ['source', 'video_id', 'frame_index', 'timestamp', 'image', 'phase']
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
    triplets: TripletTable | None = None

    @property
    def features(self) -> "datasets.Features":
        """Return the columns of the frame set and their types."""
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
        """Return the name and the content of a protocol; of the default one if the name is `None`.

        Raises:
            DatasetError: there is no protocol of that name.
        """
        name = name or next(iter(self.protocols))
        if name not in self.protocols:
            raise DatasetError(f"{self.name} has no protocol {name!r}; it has {sorted(self.protocols)}")
        return name, self.protocols[name]

    def split_of(self, video_id: str) -> str:
        """Return the id under which the protocols list a video."""
        match = re.fullmatch(self.split_key, video_id)
        if not match:
            raise DatasetError(f"{video_id} is no video id of {self.name}; expected {self.split_key}")
        return match[1]


def triplet_labels(table: TripletTable) -> dict[str, Label]:
    """Return the four label columns of a data set of triplets: the triplets and their components."""
    return {
        "triplets": Label("classes", table.names),
        "instruments": Label("classes", table.instruments),
        "verbs": Label("classes", table.verbs),
        "targets": Label("classes", table.targets),
    }


def split_name(name: str) -> str:
    """Return the full name of a split: `"val"` and `"valid"` mean `"validation"`."""
    return {"val": "validation", "valid": "validation"}.get(name, name)


def numbered(template: str, first: int, last: int) -> tuple[str, ...]:
    """Return ids with consecutive numbers.

    Example:
        >>> numbered("video{:02d}", 1, 3)
        ('video01', 'video02', 'video03')
    """
    return tuple(template.format(number) for number in range(first, last + 1))


def shuffled(ids: tuple[str, ...], seed: int | str) -> tuple[str, ...]:
    """Return ids in a random order that depends on nothing but the seed and the ids, whatever the versions of libraries."""
    return tuple(sorted(ids, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest()))


def seeded_protocol(ids: tuple[str, ...], counts: Mapping[str, int], seed: int | str, origin: str) -> Protocol:
    """Draw a random split into parts of given sizes.

    Args:
        ids: ids of all videos.
        counts: number of videos of each split, together at most all of them.
        seed: seed of the random order.
        origin: reason for a random split.

    Returns:
        The protocol; its lists are sorted.

    Raises:
        DatasetError: more videos are requested than there are.
    """
    if sum(counts.values()) > len(ids):
        raise DatasetError(f"a split into {dict(counts)} needs {sum(counts.values())} videos; there are {len(ids)}")
    order, splits, start = shuffled(ids, seed), {}, 0
    for name, count in counts.items():
        splits[name] = tuple(sorted(order[start : start + count]))
        start += count
    return Protocol(f"{origin}; drawn here with seed {seed!r}, not the authors' lists", splits, seed=seed)
