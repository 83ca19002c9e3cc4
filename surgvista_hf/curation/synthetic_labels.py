"""Labeled images of synthetic web videos, in the formats that training reads; for tests and benchmarks."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ..clips.sampling.randomness import keyed_generator
from ..datasets_scripts.synthetic.web_videos import SyntheticWebVideo
from ..util.files import atomic_folder, write_json
from .collection.manifest import JsonObject
from .stages.seconds import STORYBOARD_FRAMES, collage

INFORMATIVE = ("informative", "uninformative")
SURGICAL = ("surgical", "non-surgical")


def write_storyboards(videos: Iterable[SyntheticWebVideo], output: str | Path) -> Path:
    """Write a folder of storyboards with a folder for each class of `INFORMATIVE`, for `train_classifier`.

    Args:
        videos: videos, one storyboard each; the number in this order is its name.
        output: new folder.

    Returns:
        `output`.

    Raises:
        OutputError: if the output folder is taken.
    """
    with atomic_folder(output) as folder:
        for number, video in enumerate(videos):
            step = video.duration_seconds / STORYBOARD_FRAMES
            board = collage(video.frame((tile + 0.5) * step) for tile in range(STORYBOARD_FRAMES))
            _write(board, folder / INFORMATIVE[not video.informative] / f"{number}.jpg")
    return Path(output)


def write_frames(
    videos: Iterable[SyntheticWebVideo], output: str | Path, per_video: int = 12, *, seed: int = 0
) -> Path:
    """Write a folder of frames with a folder for each class of `SURGICAL`, for `train_classifier`.

    Args:
        videos: videos from which the frames are taken.
        output: new folder.
        per_video: number of frames of each, at random times.
        seed: seed of the times.

    Returns:
        `output`.

    Raises:
        OutputError: if the output folder is taken.
    """
    with atomic_folder(output) as folder:
        for number, video in enumerate(videos):
            random = keyed_generator(seed, 0, number, "frames")
            for second in random.uniform(0, video.duration_seconds - 0.1, per_video):
                kind = SURGICAL[video.kind(second) != "surgical"]
                _write(video.frame(second), folder / kind / f"{number}-{second:.2f}.jpg")
    return Path(output)


def write_regions(
    videos: Iterable[SyntheticWebVideo], output: str | Path, per_video: int = 10, *, seed: int = 0
) -> Path:
    """Write a folder with frames of the operation and `regions.json`, for `train_region_detector`.

    Args:
        videos: informative videos.
        output: new folder.
        per_video: number of frames of each, at random times of the operation.
        seed: seed of the times.

    Returns:
        The file `regions.json`.

    Raises:
        OutputError: if the output folder is taken.
    """
    images: list[JsonObject] = []
    annotations: list[JsonObject] = []
    with atomic_folder(output) as folder:
        for number, video in enumerate(videos):
            random = keyed_generator(seed, 0, number, "regions")
            times = [time for time in np.arange(0, video.duration_seconds, 0.1) if video.kind(time) == "surgical"]
            for second in random.choice(times, per_video, replace=False):
                name = f"{number}-{second:.1f}.jpg"
                _write(video.frame(second), folder / name)
                for x1, y1, x2, y2 in video.boxes(second).tolist():
                    annotations.append({"image_id": len(images), "bbox": [x1, y1, x2 - x1, y2 - y1]})
                images.append({"id": len(images), "file_name": name})
        content = {"images": images, "annotations": annotations}
        write_json(folder / "regions.json", content, indent=None)
    return Path(output) / "regions.json"


def _write(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(path, quality=92)
