"""De-identification of videos: redacted outside the patient, silent, without metadata, under a pseudonym.

What is burned into the images themselves, such as a name that the endoscopy tower writes, is covered only where the caller
gives a rectangle.
"""

import base64
import hmac
import json
import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from ..modeling.video_frames_surgvista import Deinterlace
from ..modeling.video_reading_surgvista import Damaged, VideoReader
from ..util.console import track
from ..util.errors import InputError
from ..util.files import write_json
from ..util.fingerprint import file_fingerprint
from .models.out_of_body import OutOfBodyDetector, scan_video
from .writers.video_writing import video_writer

logger = logging.getLogger(__name__)
_LETTERS = 12  # length of a pseudonym: 60 bits


class Pseudonyms:
    """Pseudonyms of videos, and the one file that can turn them back into the real names. Keep that file at home.

    A pseudonym belongs to the content of a video. Namesakes in two folders get two; a file that is moved, copied or called
    otherwise keeps its own, so the same video in two folders is one video under one pseudonym. A file whose content was
    replaced gets another, with a warning, since what was made of the old content still lies under the old one.

    It is a keyed hash of the video's fingerprint; the key is random and lies in the file. In every process that uses the file
    it is the same, and without the file nobody can try videos until one fits. The file notes for each pseudonym the
    fingerprint, and every folder and name that the video was found at. Mappings of earlier versions hold names only: the first
    video of a name keeps its old pseudonym.

    Args:
        file: JSON file, made if it does not exist, readable by its owner only.
        output: folder that leaves the hospital: the file must not lie in it.

    Raises:
        InputError: the file lies in `output`, or holds no pseudonyms.

    Example:
        >>> names = Pseudonyms("names.json")  # doctest: +SKIP
        >>> names.of("videos/Smith_2024-03-01.mp4", "videos")  # doctest: +SKIP
        'video-k3f7q2mztaeb'
    """

    def __init__(self, file: str | os.PathLike[str], output: str | os.PathLike[str] | None = None) -> None:
        self.file = Path(file)
        if output is not None and self.file.resolve().is_relative_to(Path(output).resolve()):
            raise InputError(f"{self.file} would leave together with {output}: keep the mapping elsewhere")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(f"{self.file}.lock")
        self._names: dict[str, str] = {}  # pseudonyms by fingerprint, made from the content `_indexed`
        self._indexed: dict[str, Any] | None = None
        with self._lock:
            self._content: dict[str, Any] = (
                self._read() if self.file.exists() else {"key": secrets.token_hex(32), "names": {}, "originals": {}}
            )
            self._write()

    def of(self, video: str | os.PathLike[str], root: str | os.PathLike[str]) -> str:
        """Return the pseudonym of a video, and note where the video was found.

        Args:
            video: video file.
            root: folder that the video lies in, at any depth.

        Raises:
            InputError: the video cannot be read.
        """
        try:
            fingerprint = file_fingerprint(video)
        except OSError as error:
            raise InputError(f"{video} cannot be read: {error}") from error
        location = {"folder": str(Path(root).resolve()), "name": Path(video).relative_to(root).as_posix()}
        found = self._known(fingerprint)
        if found is None or location not in self._content["originals"][found]["files"]:
            with self._lock:
                self._content = self._read()  # other processes may have written
                found = self._known(fingerprint) or self._assign(fingerprint, location)
                files = self._content["originals"][found]["files"]
                if location not in files:
                    self._warn(found, location)
                    files.append(location)
                self._write()
        return found

    def keyed(self, text: str) -> str:
        """Return a hash of a text that only those who have the mapping can compute, for notes in what is shared."""
        return hmac.digest(bytes.fromhex(self._content["key"]), text.encode(), "sha256").hex()[:16]

    def _known(self, fingerprint: str) -> str | None:
        if self._indexed is not self._content:
            originals = self._content["originals"].items()
            self._names, self._indexed = {entry["fingerprint"]: name for name, entry in originals}, self._content
        return self._names.get(fingerprint)

    def _assign(self, fingerprint: str, location: Mapping[str, str]) -> str:
        """Give a pseudonym to a video that has none: that of its name, if an earlier version gave it one."""
        pseudonym = self._pseudonym(location["name"])
        if pseudonym in self._content["names"] and pseudonym not in self._content["originals"]:
            logger.warning(
                "%s is a pseudonym of an earlier version, for the name %s; from now on it stands for the content of %s",
                pseudonym,
                location["name"],
                Path(location["folder"]) / location["name"],
            )
        else:
            pseudonym = self._pseudonym(f"content {fingerprint}")
        self._content["names"][pseudonym] = location["name"]
        self._content["originals"][pseudonym] = {"fingerprint": fingerprint, "files": []}
        self._names[fingerprint] = pseudonym
        return pseudonym

    def _pseudonym(self, text: str) -> str:
        digest = hmac.digest(bytes.fromhex(self._content["key"]), text.encode(), "sha256")
        return f"video-{base64.b32encode(digest).decode().lower()[:_LETTERS]}"

    def _warn(self, pseudonym: str, location: Mapping[str, str]) -> None:
        """Warn of what a user may not expect: the same video again, or another content of the same file."""
        path = Path(location["folder"]) / location["name"]
        before = [name for name, entry in self._content["originals"].items() if location in entry["files"]]
        if before:
            logger.warning(
                "%s has another content than before, so it is %s now; what was made of the old content stays as %s: remove "
                "that if it must not be shared",
                path,
                pseudonym,
                ", ".join(before),
            )
        same = self._content["originals"][pseudonym]["files"]
        if same and (first := Path(same[0]["folder"]) / same[0]["name"]).exists():
            logger.warning("%s is the same video as %s: both are %s", path, first, pseudonym)

    def _read(self) -> dict[str, Any]:
        try:
            content = dict(json.loads(self.file.read_text(encoding="utf-8")))
            bytes.fromhex(content["key"])
            dict(content["names"])
            originals = content.setdefault("originals", {}).values()
            if not all(isinstance(each["files"], list) and each["fingerprint"] for each in originals):
                raise ValueError("originals")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self.file} is no mapping of pseudonyms: {type(error).__name__}") from error
        return content

    def _write(self) -> None:
        write_json(self.file, self._content)
        self.file.chmod(0o600)


@dataclass(frozen=True)
class Cover:
    """A rectangle of every frame that is painted black, in pixels of the original as shown, from the upper left."""

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
    """Record of what was done to a video.

    Args:
        seconds: time of the last frame of the result.
        frames: number of frames of the result.
        redacted: [start, end) in seconds of each stretch that was redacted; `None`: there was no detector.
        covers: number of rectangles that were painted black.
        frames_checked: number of frames that the detector classified.
        unseen_seconds: a camera that was outside for no longer than this, between two frames that were classified, may have
            gone unnoticed. 0: every frame was classified, and the copy shows what the detector took for the inside. `None`:
            there was no detector.
        damaged: [start, end) in seconds of each stretch that cannot be decoded; the frames are black there.
        remarks: sentences on what else was done to the frames.
    """

    seconds: float
    frames: int
    redacted: list[tuple[float, float]] | None
    covers: int
    frames_checked: int = 0
    unseen_seconds: float | None = None
    damaged: list[tuple[float, float]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def deidentify_video(
    video: str | os.PathLike[str],
    path: str | os.PathLike[str],
    detector: OutOfBodyDetector | None,
    *,
    covers: Sequence[Cover] = (),
    deinterlace: Deinterlace = "auto",
    damaged: Damaged = "skip",
    progress: bool = False,
) -> Deidentified:
    """Write a video that shows the inside of the patient only: no people, no sound, no metadata.

    The video is decoded twice, once to classify frames and once to write them, in constant memory. The detector classifies
    every frame, or as many a second as it is set to, the last frame in any case; what it did not classify is redacted. Every
    frame is written, in order, at its time; where several have the same time they follow each other by 1/90000 s.

    Args:
        video: video file.
        path: `.mp4` file to write.
        detector: detector of frames outside the patient; `None`: nothing is redacted.
        covers: rectangles to paint black, such as names that the tower writes into the image, in pixels as shown.
        deinterlace, damaged: the arguments of `VideoReader`; damaged stretches are black.
        progress: show progress bars.

    Returns:
        The record of what was done.

    Raises:
        VideoReadError: the video cannot be decoded.
        VideoWriteError: its frames cannot be encoded.
        OutputError: nothing can be written at `path`.
        InputError: `path` is the video itself, or a rectangle lies outside the image.
    """
    if Path(path).resolve() == Path(video).resolve():
        raise InputError(f"{path} is the video itself; the original is never replaced")
    with VideoReader(video, deinterlace=deinterlace, damaged=damaged) as reader:
        info = reader.info
        for cover in covers:
            if cover.left >= info.width or cover.top >= info.height:
                raise InputError(f"{cover} lies outside the image of {info.width}×{info.height} pixels")
        mask = None if detector is None else scan_video(detector, reader, progress=progress)
        width, height = max(info.width // 2 * 2, 2), max(info.height // 2 * 2, 2)
        stored_width, stored_height = (max(side // 2 * 2, 2) for side in info.stored_size)
        # The copy is stored in the size of the original and shown with its aspect ratio.
        pixel_aspect = Fraction(width * stored_height, height * stored_width).limit_denominator(1000)
        written, last = 0, 0.0
        rate, total = info.frames_per_second or 25.0, info.num_frames or None
        with video_writer(path, stored_width, stored_height, rate, pixel_aspect, source=reader.name) as write:
            frames = reader.iterate(None, blank_damaged=True)
            for last, pixels in track(frames, "writing", total=total, unit="frames", shown=progress):
                shown = pixels if mask is None else mask.redacted(pixels, last)
                write(_paint_covers(shown, covers)[:height, :width], last)
                written += 1
        return Deidentified(
            seconds=last,
            frames=written,
            redacted=None if mask is None else mask.spans,
            covers=len(covers),
            frames_checked=0 if mask is None else len(mask.seconds),
            unseen_seconds=None if mask is None else mask.unseen_seconds,
            damaged=reader.lost,
            remarks=list(reader.remarks),
        )


def _paint_covers(pixels: np.ndarray, covers: Sequence[Cover]) -> np.ndarray:
    if not covers:
        return pixels
    pixels = pixels.copy()
    for cover in covers:
        pixels[cover.top : cover.top + cover.height, cover.left : cover.left + cover.width] = 0
    return pixels
