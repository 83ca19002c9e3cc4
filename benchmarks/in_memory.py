"""Data sets of clips whose frames are pixels in memory, for experiments that read small pictures many times."""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch

from surgvista_hf import ClipDataset
from surgvista_hf.clips.companions import CompanionDataset


class _InMemory:
    """Replaces the decoding of a data set of clips; it stands before that class.

    Args:
        pixels: frames, (rows, 1 or 3, height, width) uint8.
        frame_set: frame set of the same rows, see `frame_set`.
        options: options of the data set.
    """

    def __init__(self, pixels: torch.Tensor, frame_set: datasets.Dataset, **options: Any) -> None:
        self.pixels = pixels
        super().__init__(frame_set, **options)  # type: ignore[call-arg]

    def _read(self, video: int, frames: list[int]) -> torch.Tensor:
        rows = self.pixels[int(self.clip_index.starts[video]) + torch.as_tensor(frames)]  # type: ignore[attr-defined]
        return rows.expand(-1, 3, -1, -1)


class ClipsInMemory(_InMemory, ClipDataset):
    """A `ClipDataset` with pixels in memory."""


class FramesInMemory(_InMemory, CompanionDataset):
    """A `CompanionDataset` with pixels in memory."""


def frame_set(
    videos: Sequence[str], seconds: Sequence[float] | np.ndarray, source: str = "memory"
) -> datasets.Dataset:
    """Return a frame set without images and labels.

    Args:
        videos: video of each frame, one video after the other.
        seconds: time of each frame.
        source: name of the source.
    """
    names = np.asarray(videos)
    firsts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    counts = np.diff(np.r_[firsts, len(names)])
    features = {
        "source": datasets.Value("string"),
        "video_id": datasets.Value("string"),
        "frame_index": datasets.Value("int32"),
        "timestamp": datasets.Value("float32"),
        "image": datasets.Image(),
    }
    columns = {
        "source": [source] * len(names),
        "video_id": names.tolist(),
        "frame_index": np.concatenate([np.arange(count) for count in counts]),
        "timestamp": np.asarray(seconds, np.float32),
        "image": [None] * len(names),
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))
