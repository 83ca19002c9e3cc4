"""Overrides: decisions of a human that replace those of the models, in a small JSON file that every later run respects.

It is a list of objects such as

    {"video": "-Ab3dEf6hIj", "decision": "non-surgical", "start": 61, "end": 75, "note": "a face"}

It is JSON and not a table, because programs for tables take an id that begins with `-` or `=` for a formula.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...util.files import atomic_file
from ...util.messages import did_you_mean, preview
from .manifest import Collection, CurationError, check_id

# Each decision, and whether it needs a time and a box ("no", "may", "must").
DECISIONS: Mapping[str, tuple[str, str, str]] = {
    "keep": ("may", "no", "keep the video whatever the models say; with a time: exactly this part of it"),
    "drop": ("no", "no", "leave the video out"),
    "surgical": ("must", "no", "these seconds are surgical"),
    "non-surgical": ("must", "no", "these seconds are not surgical, and are not shown"),
    "mask": ("may", "must", "cover this box, in pixels of the video, during these seconds or always"),
    "unmask": ("may", "no", "cover nothing of what the detectors found, during these seconds or always"),
    "none": ("no", "no", "earlier decisions about this video no longer count"),
}


class OverrideError(CurationError):
    """A file of overrides is broken, or contradicts itself; the message names the entry."""


@dataclass(frozen=True)
class Override:
    """One decision.

    Args:
        video: id of the video.
        decision: one of `DECISIONS`.
        start, end: first second, and the second before which it ends; `None` means from the beginning, to the end.
        box: x1, y1, x2, y2 in pixels of the video.
        note: remark for people.

    Raises:
        OverrideError: if there is no such decision, it lacks a time or a box that it needs, or has one that it does not take.
    """

    video: str
    decision: str
    start: float | None = None
    end: float | None = None
    box: tuple[int, int, int, int] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        check_id(self.video)
        if self.decision not in DECISIONS:
            hint = did_you_mean(str(self.decision), DECISIONS, f"there are {', '.join(DECISIONS)}")
            raise OverrideError(f"there is no decision {self.decision!r}; {hint}")
        time, box, _ = DECISIONS[self.decision]
        has_time = self.start is not None or self.end is not None
        for name, needed, given in (("time", time, has_time), ("box", box, self.box is not None)):
            if (needed == "must" and not given) or (needed == "no" and given):
                raise OverrideError(f"{self.decision!r} {'needs a' if needed == 'must' else 'takes no'} {name}")
        for value in (self.start, self.end):
            if value is not None and (type(value) not in (int, float) or not 0 <= value < math.inf):
                raise OverrideError(f"{value!r} is no second")
        if self.first >= self.stop:
            raise OverrideError(f"the time from {self.start} to {self.end} is empty")
        if self.box is not None and not _is_box(self.box):
            raise OverrideError(f"{list(self.box)} is no box: x1, y1, x2, y2 in whole pixels with x1 < x2, y1 < y2")

    @property
    def first(self) -> float:
        """Return the first second of the decision."""
        return self.start or 0.0

    @property
    def stop(self) -> float:
        """Return the second before which the decision ends, infinite without an end."""
        return math.inf if self.end is None else self.end

    def during(self, count: int) -> slice:
        """Return the seconds to which the decision applies, in a video of `count` seconds."""
        return slice(math.ceil(self.first), count if self.end is None else min(math.ceil(self.end), count))


Decided = Sequence[Override]  # the decisions about one video


class Overrides:
    """All decisions, by video.

    Args:
        entries: decisions in order; the last one about a second counts.

    Raises:
        OverrideError: if a video is to be kept and to be dropped.
    """

    def __init__(self, entries: Iterable[Override] = ()) -> None:
        self._by_video: dict[str, list[Override]] = {}
        for entry in entries:
            self._by_video.setdefault(entry.video, []).append(entry)
        for video, decided in self._by_video.items():
            if {"keep", "drop"} <= {each.decision for each in decided}:
                raise OverrideError(f"{video} is to be kept and to be dropped")

    def __iter__(self) -> Iterator[Override]:
        for video in sorted(self._by_video):
            yield from self._by_video[video]

    def about(self, video_id: str) -> list[Override]:
        """Return the decisions about a video."""
        return self._by_video.get(video_id, [])

    def says(self, video_id: str, decision: str) -> bool:
        """Return whether this was decided about a video."""
        return any(each.decision == decision for each in self.about(video_id))

    def updated(self, other: "Overrides") -> "Overrides":
        """Return the decisions with those of another file, which replace all about the videos that it names."""
        named = {each.video for each in other}
        new = (each for each in other if each.decision != "none")
        return Overrides([*(each for each in self if each.video not in named), *new])


def read_overrides(path: Path) -> Overrides:
    """Read a file of overrides; there are no overrides if there is no such file.

    Raises:
        OverrideError: if it is broken, or contradicts itself.
    """
    if not path.exists():
        return Overrides()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OverrideError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, list):
        raise OverrideError(f"{path} holds {type(content).__name__}; a list of objects is expected")
    try:
        return Overrides([_entry(path, number, each) for number, each in enumerate(content, 1)])
    except OverrideError as error:
        raise OverrideError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def apply_overrides(folder: Path | str, path: Path) -> Overrides:
    """Take a file of overrides, such as the review page makes, into a collection.

    Args:
        folder: folder of the collection.
        path: the file; its decisions about a video replace earlier ones.

    Returns:
        All decisions of the collection.

    Raises:
        OverrideError: if it is broken, contradicts itself, or names videos that are not in the collection.
        CurationError: if there is no collection.
    """
    collection = Collection(folder)
    if not path.is_file():
        raise OverrideError(f"there is no file with overrides at {path}")
    new = read_overrides(path)
    with collection.locked():
        unknown = sorted({each.video for each in new if collection.find(each.video) is None})
        if unknown:
            raise OverrideError(f"{path} speaks of videos that are not in {folder}: {preview(unknown)}")
        both = read_overrides(collection.overrides).updated(new)
        with atomic_file(collection.overrides) as temporary:
            temporary.write_text(to_json(both), encoding="utf-8")
    return both


def to_json(overrides: Overrides) -> str:
    """Return the content of a file of overrides."""
    entries = [{key: value for key, value in asdict(each).items() if value not in (None, "")} for each in overrides]
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"


def corrected(surgical: np.ndarray, decided: Decided) -> np.ndarray:
    """Correct the surgical seconds of a video by the decisions of a human.

    Args:
        surgical: (n,) bool, whether each second is surgical, by the models.
        decided: the decisions about the video.

    Returns:
        (n,) bool.
    """
    flags = surgical.copy()
    for each in decided:
        if each.decision in ("surgical", "non-surgical"):
            flags[each.during(len(flags))] = each.decision == "surgical"
    return flags


def _entry(path: Path, number: int, content: object) -> Override:
    try:
        if not isinstance(content, dict):
            raise OverrideError("it is no object")
        if isinstance(content.get("box"), list):
            content = {**content, "box": tuple(content["box"])}
        return Override(**content)
    except (TypeError, CurationError) as error:
        raise OverrideError(f"{path}: entry {number}: {error}") from error


def _is_box(box: object) -> bool:
    if not isinstance(box, tuple) or len(box) != 4 or any(type(value) is not int or value < 0 for value in box):
        return False
    return bool(box[0] < box[2] and box[1] < box[3])
