"""Frame sets whose images tell which frame they are."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
from PIL import Image

from surgvista_hf.datasets_scripts.synthetic.surgery import PHASES

FEATURES = datasets.Features(
    source=datasets.Value("string"),
    video_id=datasets.Value("string"),
    frame_index=datasets.Value("int32"),
    timestamp=datasets.Value("float32"),
    image=datasets.Image(),
    phase=datasets.ClassLabel(names=list(PHASES)),
    tools=datasets.List(datasets.ClassLabel(names=["grasper", "hook", "clipper"])),
    cvs=datasets.List(datasets.Value("float32")),
)


def encoded_image(video: int, frame: int, size: tuple[int, int] = (32, 24), kind: str = "JPEG") -> bytes:
    """A plain image, width × height, of a gray that tells the frame: red 20 · video, green and blue 4 · frame."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (20 * video, 4 * frame, 4 * frame)).save(buffer, kind, quality=100, subsampling=0)
    return buffer.getvalue()


def frame_of(pixels: np.ndarray) -> tuple[int, int]:
    """Video and frame that an image, (3, height, width), tells."""
    red, green, _ = pixels.reshape(3, -1).mean(axis=1)
    return round(red / 20), round(green / 4)


def rows(source: str, lengths: Sequence[int], **changes: Any) -> list[dict[str, Any]]:
    return [
        {
            "source": source,
            "video_id": f"video{video:02d}",
            "frame_index": frame,
            "timestamp": float(frame),
            "image": {"bytes": encoded_image(video, frame), "path": None},
            "phase": (video + frame) % 7,
            "tools": [0, 2] if frame % 2 else [],
            "cvs": [0.0, 0.5, 1.0],
            **changes,
        }
        for video, length in enumerate(lengths)
        for frame in range(length)
    ]


def frame_set(sources: Mapping[str, Sequence[int]]) -> datasets.Dataset:
    """One frame set of several sources, each with videos of these lengths."""
    return from_rows([row for source, lengths in sources.items() for row in rows(source, lengths)])


def from_rows(table: Sequence[Mapping[str, Any]]) -> datasets.Dataset:
    return datasets.Dataset.from_list([dict(row) for row in table], features=FEATURES)
