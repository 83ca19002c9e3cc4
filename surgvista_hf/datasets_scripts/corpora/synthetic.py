"""Synthetic surgery as a data set: any number of rendered operations, of any length, with every kind of label.

The setting `difficulty` chooses between two kinds of operations. `standard` ones look alike, and a few pixels give the phase
away: enough to try out a program. `hard` ones differ in anatomy, hues, light, camera, smoke, blood, focus and overlays, and a
phase is defined only by what is done to which tissue (`synthetic.hard_surgery`): they show whether an encoder has learned
anything. They have the same labels except for `cvs`; idle instruments count among `instruments`, and have the null verb among
`triplets`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ..schema.builder import FrameSetBuilder, RawVideo
from ..schema.info import EVERYTHING, DatasetError, DatasetInfo, Label, Protocol
from ..schema.label_tracks import Row, Track
from ..schema.media import EncodedFrame, Media, PreparationOptions, encode_frame, moments
from ..synthetic.hard_surgery import HardLabels, HardOperation
from ..synthetic.operating_room import VIEWS, SyntheticRecording
from ..synthetic.surgery import (
    CVS_CRITERIA,
    INSTRUMENTS,
    PHASES,
    SKILL_LEVELS,
    RenderedOperation,
    SyntheticOperation,
    synthetic_corpus,
)
from .cholect50 import TABLE

STANDARD, HARD = DIFFICULTIES = ("standard", "hard")
SETTINGS = {"videos": "10", "seconds": "120", "seed": "0", "height": "240", "width": "320"}
# Smallest and largest; an operation needs two seconds a phase.
RANGES = {
    "videos": (1, 10**6 - 1),
    "seconds": (2 * len(PHASES), 10**6),
    "seed": (0, 2**32 - 1),
    "height": (32, 4096),
    "width": (32, 4096),
}

INFO = DatasetInfo(
    name="synthetic",
    title="Synthetic surgery",
    task="workflow",
    procedure="rendered cholecystectomy",
    license="Apache-2.0",
    homepage="rendered by this package",
    access="surgvista prepare synthetic",
    citation="",
    labels={
        "phase": Label("class", PHASES),
        "triplets": Label("classes", TABLE.names),
        "instruments": Label("classes", INSTRUMENTS),
        "cvs": Label("numbers", CVS_CRITERIA),
        "skill": Label("class", SKILL_LEVELS),
    },
    protocols={
        "seeded_60_20_20": Protocol(
            "drawn here by operation", fractions={"train": 0.6, "validation": 0.2, "test": 0.2}, seed="synthetic"
        ),
        "everything": EVERYTHING,
    },
    redistributable=True,
    rendered=True,
    checked="exact by construction",
    notes="No patient is in these images. Accuracy on them says nothing about real surgery.",
    triplets=TABLE,
)
VIEW_INFO = replace(
    INFO,
    name="synthetic_views",
    title="Synthetic recordings, inside and outside the patient",
    access="surgvista prepare synthetic_views",
    labels={"view": Label("class", VIEWS)},
    triplets=None,
)


class Rendered(Media):
    """Frames of an operation, which are rendered when they are needed.

    Args:
        operation: operation to render.
    """

    def __init__(self, operation: RenderedOperation) -> None:
        self.operation = operation
        self.rate, self.seconds = operation.frames_per_second, operation.duration_seconds

    def frames(self, options: PreparationOptions) -> Iterator[EncodedFrame]:
        """Yield the frames that the options select, as they are rendered."""
        for second, number in self._moments(options):
            yield encode_frame(Image.fromarray(self.operation.frame(number / self.rate)), None, second, options)

    def _moments(self, options: PreparationOptions) -> Iterator[tuple[float, int]]:
        """Yield seconds, and the numbers of the frames that are shown then."""
        if options.frames_per_second and not options.every:
            for second in moments(options.frames_per_second, 0.0, self.seconds):
                yield second, math.floor((second + 1e-6) * self.rate)
            return
        for number in range(0, self.operation.num_frames, options.every or 1):
            yield number / self.rate, number


class RenderedVideo(RawVideo):
    """A video that is rendered when it is opened."""

    def open(self, options: PreparationOptions) -> Media:
        """Return the frames of the operation."""
        return Rendered(self.extra)


@dataclass(frozen=True)
class _RenderedTrack:
    """Holds what the labels of all rendered operations share: they are exact, and cover all of the operation."""

    operation: RenderedOperation
    exact: bool = True

    def end(self, rate: float) -> float:
        """Return the length of the operation in seconds."""
        return self.operation.duration_seconds

    def latest(self, rate: float) -> float:
        """Return the end, since the labels cover all of it."""
        return self.end(rate)


@dataclass(frozen=True)
class TruthTrack(_RenderedTrack):
    """The labels of a rendered operation; a hard one has no criteria of the critical view of safety."""

    operation: SyntheticOperation | HardOperation

    def at(self, second: float, rate: float) -> Row | None:
        """Return the labels at a time in seconds."""
        labels = self.operation.labels(second)
        return {
            "phase": labels.phase,
            "triplets": np.flatnonzero(labels.triplets).tolist(),
            "instruments": np.flatnonzero(labels.instruments).tolist(),
            **({} if isinstance(labels, HardLabels) else {"cvs": labels.cvs.astype(float).tolist()}),
            "skill": labels.skill,
        }


@dataclass(frozen=True)
class ViewTrack(_RenderedTrack):
    """Labels that say whether the camera is inside or outside the patient."""

    operation: SyntheticRecording

    def at(self, second: float, rate: float) -> Row | None:
        """Return the view at a time in seconds."""
        return {"view": int(self.operation.outside(second))}


def collect(
    root: Path | None, settings: Mapping[str, str], made: type[RenderedOperation] = SyntheticOperation
) -> list[RawVideo]:
    """Return the operations that the settings describe; the data folder is not used.

    Args:
        root: not used.
        settings: number, length, size and seed of the operations, see `SETTINGS`, and their difficulty.
        made: class of the operations, unless they are hard.
    """
    numbers = {name: int(settings[name]) for name in SETTINGS}
    if settings.get("difficulty") == HARD:
        made = HardOperation
    corpus = synthetic_corpus(
        numbers["videos"],
        numbers["seed"],
        duration_seconds=numbers["seconds"],
        height=numbers["height"],
        width=numbers["width"],
    )
    return [
        RenderedVideo(f"operation_{number:06d}", extra=made(**asdict(operation)))
        for number, operation in enumerate(corpus)
    ]


def checked(info: DatasetInfo, root: Path | None, settings: Mapping[str, str]) -> DatasetInfo:
    """Return the description of the data set, after checking that its settings are in range.

    Raises:
        DatasetError: a setting is no whole number, or out of range, or there is no such difficulty.
    """
    difficulty = settings.get("difficulty", STANDARD)
    if difficulty not in DIFFICULTIES:
        raise DatasetError(
            f"the setting difficulty of {info.name} is {difficulty!r}; it must be one of {', '.join(DIFFICULTIES)}"
        )
    for name, (smallest, largest) in RANGES.items():
        text = settings[name]
        if not text.strip().isdecimal() or not smallest <= int(text) <= largest:
            raise DatasetError(
                f"the setting {name} of {info.name} is {text!r}; it must be a whole number from {smallest} to {largest:,}"
            )
    if difficulty == HARD:  # which criteria have been met would tell the time
        return replace(info, labels={name: label for name, label in info.labels.items() if name != "cvs"})
    return info


def tracks(video: RawVideo) -> list[Track]:
    """Return the labels of the rendered operation."""
    return [TruthTrack(video.extra)]


def view_tracks(video: RawVideo) -> list[Track]:
    """Return the labels of the view."""
    return [ViewTrack(video.extra)]


BUILDERS = (
    FrameSetBuilder(
        INFO,
        (),
        tracks,
        collect=collect,
        configure=partial(checked, INFO),
        settings={**SETTINGS, "difficulty": STANDARD},
        added_settings=("difficulty",),
    ),
    FrameSetBuilder(
        VIEW_INFO,
        (),
        view_tracks,
        collect=partial(collect, made=SyntheticRecording),
        configure=partial(checked, VIEW_INFO),
        settings=SETTINGS,
    ),
)
