"""Videos and names that may leave the hospital: blurred outside the patient, silent, without metadata, under a pseudonym.

What is painted into the picture itself, such as a name that the endoscopy tower writes, is covered only where the caller says.
"""

import base64
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from ..modeling.errors_surgvista import InputError
from ..modeling.video_reading_surgvista import VideoReader
from ..util.console import track
from ..util.files import atomic_file
from .privacy import OutOfBodyDetector
from .video_writing import video_writer

_LETTERS = 12  # of a pseudonym: 60 bits


class Pseudonyms:
    """Names that say nothing, and the one file that can turn them back into the real ones. Keep that file at home.

    A pseudonym is a keyed hash of the name; the key is random and lies in the file. The same name always gets the same
    pseudonym, in every process that uses the file, and without the file nobody can try names until one fits.

    Args:
        file: JSON file, made if it does not exist, readable by its owner only.
        output: folder that leaves the hospital: the file must not lie in it.

    Raises:
        InputError: the file lies in `output`, or is no such file.

    Example:
        >>> names = Pseudonyms("names.json")  # doctest: +SKIP
        >>> names["Smith_2024-03-01.mp4"]  # doctest: +SKIP
        'video-k3f7q2mztaeb'
    """

    def __init__(self, file: str | os.PathLike[str], output: str | os.PathLike[str] | None = None) -> None:
        self.file = Path(file)
        if output is not None and self.file.resolve().is_relative_to(Path(output).resolve()):
            raise InputError(f"{self.file} would leave together with {output}: keep the mapping elsewhere")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(f"{self.file}.lock")
        with self._lock:
            self._content: dict[str, Any] = (
                self._read() if self.file.exists() else {"key": secrets.token_hex(32), "names": {}}
            )
            self._write()

    def __getitem__(self, name: str) -> str:
        digest = hmac.digest(bytes.fromhex(self._content["key"]), name.encode(), "sha256")
        pseudonym = f"video-{base64.b32encode(digest).decode().lower()[:_LETTERS]}"
        if pseudonym not in self._content["names"]:
            with self._lock:
                self._content = self._read()  # other processes may have written
                self._content["names"][pseudonym] = name
                self._write()
        return pseudonym

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            bytes.fromhex(content["key"])
            dict(content["names"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.file} is no mapping of pseudonyms: {type(error).__name__}") from error
        return dict(content)

    def _write(self) -> None:
        with atomic_file(self.file) as temporary:
            temporary.write_text(json.dumps(self._content, indent=1) + "\n", encoding="utf-8")
        self.file.chmod(0o600)


@dataclass(frozen=True)
class Cover:
    """A rectangle of every frame that is painted black, in pixels of the original from the upper left corner."""

    left: int
    top: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if min(self.left, self.top) < 0 or min(self.width, self.height) < 1:
            raise InputError(
                f"a rectangle of {self.width}×{self.height} pixels at {self.left}, {self.top} covers nothing"
            )


@dataclass(frozen=True)
class Deidentified:
    """What was done to a video.

    Args:
        seconds: length of the result.
        frames: of the result.
        hidden: [start, end) of what was blurred, in seconds; `None`: nobody looked.
        covers: rectangles painted black.
    """

    seconds: float
    frames: int
    hidden: list[tuple[float, float]] | None
    covers: int


def deidentify_video(
    video: str | os.PathLike[str],
    path: str | os.PathLike[str],
    detector: OutOfBodyDetector | None,
    *,
    covers: Sequence[Cover] = (),
    progress: bool = False,
) -> Deidentified:
    """Writes a video that shows the inside of the patient only: no people, no sound, no metadata.

    The video is decoded twice, once to look and once to write, in constant memory. Every frame is written at its time.

    Args:
        video: file.
        path: `.mp4` file to write.
        detector: finds the outside; `None`: nothing is blurred.
        covers: rectangles to paint black, such as names that the tower writes into the picture.
        progress: show progress bars.

    Returns:
        What was done.

    Raises:
        VideoReadError: the video cannot be decoded.
        InputError: `path` is the video itself, or a rectangle outside the picture.
    """
    if Path(path).resolve() == Path(video).resolve():
        raise InputError(f"{path} is the video itself; the original is never replaced")
    with VideoReader(video) as reader:
        info = reader.info
        for cover in covers:
            if cover.left >= info.width or cover.top >= info.height:
                raise InputError(f"{cover} lies outside the picture of {info.width}×{info.height} pixels")
        bar = partial(track, shown=progress)
        hidden = None
        if detector is not None:
            total = int(info.duration_seconds) or None
            hidden = detector.watch(bar(reader.iterate(1.0), "looking for the outside", total=total, unit="s"))
        width, height = max(info.width // 2 * 2, 2), max(info.height // 2 * 2, 2)
        written, last = 0, 0.0
        with video_writer(path, width, height, info.frames_per_second or 25.0) as write:
            frames = bar(reader.iterate(None), "writing", total=info.num_frames or None, unit="frames")
            for last, pixels in frames:
                shown = pixels if hidden is None else hidden.veiled(pixels, last)
                write(_covered(shown, covers)[:height, :width], last)
                written += 1
    return Deidentified(last, written, hidden.spans if hidden else None, len(covers))


def _covered(pixels: np.ndarray, covers: Sequence[Cover]) -> np.ndarray:
    if not covers:
        return pixels
    pixels = pixels.copy()
    for cover in covers:
        pixels[cover.top : cover.top + cover.height, cover.left : cover.left + cover.width] = 0
    return pixels
