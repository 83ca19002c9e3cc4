"""The kept videos of a collection as a frame set: trimmed, without border, with boxes covered, in one lossy step.

The border is cut off before anything is covered, since cropping would take covered edges for border (as happens in the
published preparation), and both are done on the decoded frame, which is then coded once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ...datasets_scripts.corpora import folder as own_videos
from ...datasets_scripts.corpora import lemon
from ...datasets_scripts.frame_sets.prepare import PreparationReport, prepare_videos
from ...datasets_scripts.schema.builder import FrameSetBuilder, RawVideo
from ...datasets_scripts.schema.media import EncodedFrame, Media, PreparationOptions, encode_frame
from ...util.errors import InputError
from ...util.executors import Executor
from ...util.files import content_hash
from ...util.messages import preview
from ..collection.manifest import Collection, CurationError, JsonObject, Video
from ..collection.results import BY_NAME, Result, State
from .seconds import frames_by_second, mask_boxes
from .video_work import as_flags


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export: how images of kept videos are stored.

    Args:
        frames_per_second: number of frames a second.
        short_side: largest length of the shorter side, in pixels; larger images are reduced. `None` keeps the size.
        quality: quality of the JPEG coding, 1-95.
        not_surgical: `"drop"` seconds within the operation that are not surgical, so that clips bridge them, or keep them
            `"black"` as published.
        without_masks: export although logos, names and faces in the images have not been searched for.
        keep_border: leave the black border in the images.

    Raises:
        InputError: if a value is out of range.
    """

    frames_per_second: float = 1.0
    short_side: int | None = 256
    quality: int = 90
    not_surgical: Literal["drop", "black"] = "drop"
    without_masks: bool = False
    keep_border: bool = False

    def __post_init__(self) -> None:
        if self.not_surgical not in ("drop", "black"):
            raise InputError(f"not_surgical is {self.not_surgical!r}; it must be 'drop' or 'black'")
        self.preparation()

    def preparation(self) -> PreparationOptions:
        """Return the options that every frame set has."""
        return PreparationOptions(self.frames_per_second, short_side=self.short_side, quality=self.quality)


@dataclass(frozen=True)
class CuratedVideo(RawVideo):
    """A kept video with the decisions about it.

    Args:
        path: the file.
        seconds: duration.
        rate: source frames a second.
        first, last: second at which the operation begins, and the last one that belongs to it.
        surgical: a digit for each second of the video, 1 where it is surgical.
        boxes: boxes to be covered, by second; `None` if nothing is covered.
        border: left, top, right, bottom of the part inside the border; `None` if the border stays.
        black: whether seconds that are not surgical stay as black images.
        sha256: SHA-256 of the file.
    """

    path: Path = Path()
    seconds: float = 0.0
    first: int = 0
    last: int = 0
    surgical: str = ""
    boxes: Mapping[str, list[list[int]]] | None = None
    border: tuple[int, int, int, int] | None = None
    black: bool = False
    sha256: str = ""

    def open(self, options: PreparationOptions) -> Media:
        """Open the video as the media of a preparation."""
        return _CuratedFile(self)


class _CuratedFile(Media):
    """The images of a kept video."""

    def __init__(self, video: CuratedVideo) -> None:
        self.video = video
        self.rate, self.seconds = video.rate or 25.0, video.seconds
        self.leaves_out = not video.black

    def frames(self, options: PreparationOptions) -> Iterator[EncodedFrame]:
        """Yield the frames of the operation, encoded once."""
        video, flags = self.video, as_flags(self.video.surgical)
        assert options.frames_per_second is not None
        frames = frames_by_second(
            video.path, options.frames_per_second, start=float(video.first), end=float(video.last + 1)
        )
        for second, frame in frames:
            is_surgical = flags[min(int(second), len(flags) - 1)]
            if is_surgical or video.black:
                pixels = self._shown(frame, second) if is_surgical else np.zeros_like(self._inside(frame))
                yield encode_frame(Image.fromarray(pixels), None, second, options)

    def _inside(self, frame: np.ndarray) -> np.ndarray:
        left, top, right, bottom = self.video.border or (0, 0, frame.shape[1], frame.shape[0])
        return np.ascontiguousarray(frame[top:bottom, left:right])

    def _shown(self, frame: np.ndarray, second: float) -> np.ndarray:
        """Return the part inside the border with the boxes of this second covered; between two seconds, those of both."""
        inside = self._inside(frame)
        near = {str(int(second)), str(int(np.ceil(second)))}
        boxes = [box for each in sorted(near) for box in (self.video.boxes or {}).get(each, [])]
        if not boxes:
            return inside
        left, top = self.video.border[:2] if self.video.border else (0, 0)
        return mask_boxes(inside, np.array(boxes) - np.array([left, top, left, top]))


def export_frame_set(
    folder: Path | str,
    output: Path | str,
    options: ExportOptions | None = None,
    *,
    labels: Path | None = None,
    source: str = "",
    num_proc: int = 1,
    executor: Executor = "local",
    progress: bool = False,
) -> PreparationReport:
    """Make a frame set of the kept videos of a collection. A repetition does only videos that are new or were decided anew.

    Videos that were removed or dropped since the last export are removed from the frame set.

    Args:
        folder: folder of the collection.
        output: folder of the frame set.
        options: options of the images.
        labels: LEMON's `labels.json`: the frame set is then `lemon`, with procedures; otherwise `folder`, without labels.
        source: name of the corpus, for frame sets without labels.
        num_proc: number of videos at a time.
        executor: an argument of `run_over`.
        progress: show a bar.

    Returns:
        The report of the preparation.

    Raises:
        CurationError: if trimming or masking has not been done, no video is kept, or `labels` lacks a kept one.
        OutputError: if `output` was made with other options.

    Example:
        >>> export_frame_set("corpus", "frame_sets/corpus")  # doctest: +SKIP
        >>> load_frame_set("folder", "frame_sets/corpus", "all")  # doctest: +SKIP
    """
    collection, options = Collection(folder), options or ExportOptions()
    with collection.locked():
        found = list(_kept_videos(State(collection), options))
        if labels is not None:
            found = _labeled(found, labels)
        return prepare_videos(
            _builder(options, source, has_labels=labels is not None),
            [replace(video, version=_version(video)) for video in found],
            Path(output),
            options.preparation(),
            only_these=True,
            num_proc=num_proc,
            executor=executor,
            skip_unreadable=True,
            progress=progress,
        )


def _kept_videos(state: State, options: ExportOptions) -> Iterator[CuratedVideo]:
    needed = ["trim"] if options.without_masks else ["trim", "mask"]
    for name in needed:
        if BY_NAME[name] not in state.stages:
            raise CurationError(
                f"the export needs the results of {name}; run `surgvista curate {name}` first"
                + (", or export without masks if you have looked at the images" if name == "mask" else "")
            )
    count = waiting = 0
    for video in state.videos:
        if video.status != "collected":
            continue
        steps = list(state.steps(video))
        results = {step.stage: step.result for step in steps if step.result}
        if steps and steps[-1].outcome == "dropped":
            continue
        is_open = bool(steps) and steps[-1].outcome == "open" and steps[-1].stage in {"hash", "deduplicate", *needed}
        if is_open or any(name not in results for name in needed):
            waiting += 1
            continue
        count += 1
        yield _curated(state.collection, video, results, options)
    if not count:
        again = f"; {waiting} wait for a stage to be run again" if waiting else ""
        raise CurationError(
            f"no video of {state.collection.folder} is kept{again}. `surgvista curate status` says why"
        )


def _curated(
    collection: Collection, video: Video, results: Mapping[str, Result], options: ExportOptions
) -> CuratedVideo:
    trimmed = results["trim"].content
    masked: JsonObject = results["mask"].content if "mask" in results else {}
    border = masked.get("border") if not options.keep_border else None
    return CuratedVideo(
        video.video_id,
        rate=video.frames_per_second,
        path=collection.video_file(video),
        seconds=video.seconds,
        first=trimmed["first"],
        last=trimmed["last"],
        surgical=trimmed["surgical"],
        boxes=None if options.without_masks else masked["boxes"],
        border=tuple(border) if border else None,
        black=options.not_surgical == "black",
        sha256=video.sha256,
    )


def _version(video: CuratedVideo) -> str:
    """Hash everything that the rows of a video depend on."""
    return content_hash({key: value for key, value in asdict(video).items() if key not in ("path", "files")})


def _labeled(found: list[CuratedVideo], labels: Path) -> list[CuratedVideo]:
    known = lemon.read_labels(labels)
    missing = [video.video_id for video in found if video.video_id not in known]
    if missing:
        raise CurationError(f"{labels} says nothing of these kept videos: {preview(missing)}")
    return [replace(video, extra=known[video.video_id]) for video in found]


def _builder(options: ExportOptions, source: str, *, has_labels: bool) -> FrameSetBuilder:
    if has_labels:
        return FrameSetBuilder(lemon.INFO, (), lemon.tracks, settings=_settings(options))
    info = replace(own_videos.INFO, source=source or "curated")
    return FrameSetBuilder(info, (), own_videos.tracks, settings=_settings(options))


def _settings(options: ExportOptions) -> dict[str, str]:
    names = ("not_surgical", "without_masks", "keep_border")
    return {"curated": "yes", **{name: str(getattr(options, name)) for name in names}}
