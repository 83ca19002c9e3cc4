"""The record of the videos that a model was trained on, beside its weights, so that it is not tested on them unnoticed.

Videos of published data sets are noted by their ids, which find the same operation in other data sets. All videos are noted by
a hash of some of their frames too, since ids of own recordings say nothing elsewhere; no name of an own recording is written.
"""

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset

from ...modeling.confidence import file_beside
from ...util.files import content_hash, write_json
from ...util.messages import first_line, preview
from ..schema.info import DatasetError
from .fingerprints import image_bytes
from .overlap import OverlapError, OverlapWarning, find_overlaps, has_published_ids, videos_in

TRAINING_VIDEOS = "training_videos.json"
_FORMAT = 1


@dataclass(frozen=True)
class NotedVideos:
    """Some videos, as they are noted beside a model.

    Args:
        published: ids of videos by data set, where ids mean the same everywhere.
        frames: hashes of the frames of all videos, as `frame_hashes` returns them.
    """

    published: Mapping[str, list[str]] = field(default_factory=dict)
    frames: tuple[str, ...] = ()

    @classmethod
    def of(cls, frames: Dataset) -> "NotedVideos":
        """Note the videos of a frame set."""
        published = {name: sorted(ids) for name, ids in videos_in(frames).items() if has_published_ids(name)}
        return cls(published, tuple(sorted(set(frame_hashes(frames).values()))))

    def shared(self, test: Dataset, hashes: Mapping[str, str]) -> list[str]:
        """Return the videos of a frame set that are among these, as `source/video id`, sorted.

        Args:
            test: the frame set.
            hashes: hashes of its frames, as `frame_hashes` returns them.
        """
        found = {name for name, digest in hashes.items() if digest in self.frames}
        tested = {name: ids for name, ids in videos_in(test).items() if has_published_ids(name)}
        return sorted(found | {overlap.test for overlap in find_overlaps(self.published, tested)})


@dataclass(frozen=True)
class TrainingVideos:
    """The videos that a model was made with.

    Args:
        trained: videos that its weights were trained on.
        validation: videos that its checkpoint was chosen by.
    """

    trained: NotedVideos
    validation: NotedVideos = field(default_factory=NotedVideos)

    @classmethod
    def of(cls, training: Dataset, validation: Dataset | None = None) -> "TrainingVideos":
        """Note the videos of a training and its validation."""
        return cls(NotedVideos.of(training), NotedVideos() if validation is None else NotedVideos.of(validation))

    def save(self, folder: Path) -> None:
        """Write `training_videos.json` into a model folder."""
        write_json(folder / TRAINING_VIDEOS, {"format": _FORMAT, **asdict(self)})

    @classmethod
    def load(cls, model: str | os.PathLike[str]) -> "TrainingVideos | None":
        """Read the file beside a model; `None` if there is none, so that nothing is known.

        Args:
            model: folder or Hub id of the model.

        Raises:
            DatasetError: the file cannot be read.
        """
        found = file_beside(model, TRAINING_VIDEOS)
        if found is None:
            return None
        try:
            content = json.loads(found.read_text(encoding="utf-8"))
            parts = (content[name] for name in ("trained", "validation"))
            return cls(*(NotedVideos(dict(part["published"]), tuple(part["frames"])) for part in parts))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"{found} cannot be read: {first_line(error)}; remove it, and nothing is known of the training videos"
            ) from error


def check_unseen(
    model: str | os.PathLike[str], test: Dataset, *, on_overlap: Literal["error", "warn"] = "error"
) -> list[str]:
    """Check that a model is not tested on videos that it was trained on, as far as it is noted beside it.

    Args:
        model: folder or Hub id of the model.
        test: frame set of the test.
        on_overlap: `"error"`, or `"warn"` to only warn.

    Returns:
        The videos that the model was trained on; not empty only with `on_overlap="warn"`.

    Raises:
        OverlapError: there are such videos.

    Warns:
        OverlapWarning: there are such videos, and they were allowed; or the checkpoint was chosen by videos of the test.
    """
    known = TrainingVideos.load(model)
    if known is None:
        return []
    hashes = frame_hashes(test)
    chosen, seen = (part.shared(test, hashes) for part in (known.validation, known.trained))
    if seen:
        text = (
            f"{model} was trained on {len(seen)} of the {len(hashes)} videos of this test ({preview(seen)}), so the result "
            "would say nothing about new operations"
        )
        if on_overlap == "error":
            raise OverlapError(
                f"{text}: choose a split that it has not seen, or allow it with --allow-overlap (on_overlap='warn')"
            )
        warnings.warn(text, OverlapWarning, stacklevel=2)
    if chosen:
        warnings.warn(
            f"the checkpoint of {model} was chosen by {len(chosen)} videos of this test ({preview(chosen)}), so the result "
            "is too good",
            OverlapWarning,
            stacklevel=2,
        )
    return seen


def frame_hashes(frames: Dataset) -> dict[str, str]:
    """Return a hash of three frames of each video, at a quarter, half and three quarters, by `source/video id`.

    It does not depend on labels, so that corrected labels do not make another video of the same frames.

    Args:
        frames: frame set with whole videos, one after the other.
    """
    columns: Any = frames.select_columns(["source", "video_id"]).with_format("arrow")[:]
    names = zip(columns["source"].to_pylist(), columns["video_id"].to_pylist(), strict=True)
    images = frames.select_columns(["image"]).with_format("arrow")
    hashes: dict[str, str] = {}
    start = 0
    for (source, video), rows in groupby(names):
        count = sum(1 for _ in rows)
        shown = [images[start + count * quarter // 4]["image"][0].as_py() for quarter in (1, 2, 3)]
        hashes[f"{source}/{video}"] = content_hash([image_bytes(image).hex() for image in shown])
        start += count
    return hashes
