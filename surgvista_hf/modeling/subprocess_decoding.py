"""Decoding of untrusted files in a process of its own, with limits on memory, time, size and length.

Whatever the file does to the decoder, this process only ever sees frames of a known size, or a `VideoReadError`.
"""

import argparse
import json
import math
import os
import select
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from PIL import Image

from ..util.errors import InputError
from .clip_spacing import ClipSpacing
from .errors_surgvista import VideoReadError
from .video_frames_surgvista import Deinterlace
from .video_reading_surgvista import Damaged, VideoReader

_HEADER = struct.Struct("<dIII")  # second (NaN: the end), height, width, channels (3, or 1: a thumbnail)
_GIB = 1 << 30
_PIPE_BYTES = 1 << 20  # the most that Linux gives to everybody


@dataclass(frozen=True)
class VideoLimits:
    """Limits the size of a file and the effort of decoding it.

    Args:
        megabytes: largest size of the file.
        minutes: largest length of the video.
        pixels: largest number of pixels of a frame, width times height.
        short_side: length in pixels to which the shorter side of larger frames is reduced.
        memory_gib: memory of the decoding process, in GiB.
        cpu_seconds: processor time of the decoding process.
        silent_seconds: longest time that the process may work on one frame.
    """

    megabytes: float = 500.0
    minutes: float = 15.0
    pixels: int = 4096 * 2304
    short_side: int = 480
    memory_gib: float = 4.0
    cpu_seconds: int = 900
    silent_seconds: float = 30.0


@dataclass(frozen=True)
class Thumbnails:
    """Describes small gray images of all frames, for which most frames need not be sent whole.

    Args:
        side: height and width of a thumbnail in pixels.
        cut: fraction of a frame that is left out on each side.
        whole_every: number of frames of which the first is also sent whole; 0: none is.
    """

    side: int
    cut: float = 0.0
    whole_every: int = 0


def gray_thumbnail(frame: np.ndarray, side: int, cut: float = 0.0) -> np.ndarray:
    """Reduce the middle of a frame to a square gray image, by the mean of the pixels.

    Args:
        frame: (height, width, 3) uint8, RGB.
        side: height and width of the image in pixels.
        cut: fraction of the frame that is left out on each side.

    Returns:
        (side, side) uint8.

    Example:
        >>> gray_thumbnail(np.full((48, 64, 3), 7, np.uint8), 2).tolist()
        [[7, 7], [7, 7]]
    """
    height, width = frame.shape[:2]
    left, top = cut * width, cut * height
    x, y = math.floor(left), math.floor(top)
    gray = Image.new("L", (width, height))
    gray.paste(Image.fromarray(frame[y : height - y, x : width - x]).convert("L"), (x, y))  # the rest is not looked at
    return np.asarray(gray.resize((side, side), Image.Resampling.BOX, box=(left, top, width - left, height - top)))


class SubprocessVideo:
    """Reads the frames of an untrusted file; a context manager and an iterator.

    Args:
        path: video or image.
        limits: limits of size and effort.
        interval_seconds: time between two frames.
        start: second of the first frame.
        stop: second before which to stop; the end of the video by default.
        spread: number of frames to take from the middles of equal parts of the video, found by seeking, instead of all this.
        clips: spacing of clips, of which one ends at every second, to take the frames that they need instead of all this.
        thumbnails: give thumbnails, (side, side) uint8, instead of frames; where a frame is sent whole too, it follows its
            thumbnail.
        deinterlace, damaged: options of `VideoReader`.

    Attributes:
        info: fields of the file's `VideoInfo`.
        remarks: sentences on what was done to the frames and what is missing, after all were read; see `VideoReader.remarks`.

    Raises:
        VideoReadError: there is no such file, it is no video, damaged, or beyond a limit. Also while it is read.
        InputError: this system cannot limit processes (Windows).

    Example:
        >>> with SubprocessVideo("upload.mp4") as video:  # doctest: +SKIP
        ...     print(video.info["duration_seconds"])
        ...     for second, frame in video:
        ...         ...
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        limits: VideoLimits | None = None,
        *,
        interval_seconds: float = 1.0,
        start: float = 0.0,
        stop: float | None = None,
        spread: int | None = None,
        clips: ClipSpacing | None = None,
        thumbnails: Thumbnails | None = None,
        deinterlace: Deinterlace = "auto",
        damaged: Damaged = "refuse",
    ) -> None:
        self.remarks: list[str] = []
        self.path, self.limits = Path(path), limits or VideoLimits()
        if os.name != "posix":
            raise InputError("untrusted videos can only be decoded where processes can be limited: on Linux or macOS")
        if not interval_seconds > 0 or start < 0 or (spread is not None and spread < 1):
            raise InputError(
                f"cannot read every {interval_seconds} seconds from second {start}, or {spread} frames; give positive numbers"
            )
        if not self.path.is_file():
            raise VideoReadError(f"there is no file at {self.path}")
        size = self.path.stat().st_size / 1e6
        if size > self.limits.megabytes:
            raise VideoReadError(f"the file has {size:.0f} MB; at most {self.limits.megabytes:g} MB are allowed")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        package = Path(__file__).resolve().parents[2]
        wanted = {
            "reading": {"deinterlace": deinterlace, "damaged": damaged, "one_thread": True},
            "frames": {"interval": interval_seconds, "start": start, "stop": stop, "spread": spread, "clips": clips},
            "thumbnails": None if thumbnails is None else asdict(thumbnails),
        }
        known = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                __name__,
                str(self.path.resolve()),
                json.dumps(asdict(self.limits)),
                json.dumps(wanted),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd="/",
            env={**known, "PYTHONPATH": os.pathsep.join([str(package), *sys.path]), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        _enlarge(self._process.stdout)
        try:
            self.info: dict[str, Any] = json.loads(self._line())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "SubprocessVideo":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        while True:
            second, height, width, channels = _HEADER.unpack(self._exactly(_HEADER.size))
            if math.isnan(second):
                self.remarks = json.loads(self._line())
                return
            if not 0 < height * width <= self.limits.pixels or channels not in (1, 3):
                raise VideoReadError("the decoder went wrong")
            pixels = np.frombuffer(self._exactly(height * width * channels), np.uint8)  # (height · width · channels,)
            yield second, pixels.reshape((height, width, 3) if channels == 3 else (height, width))

    def _line(self) -> bytes:
        content = b""
        while not content.endswith(b"\n"):
            content += self._exactly(1)
        return content

    def _exactly(self, size: int) -> bytearray:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        content = bytearray(size)
        missing = memoryview(content)
        deadline = time.monotonic() + self.limits.silent_seconds
        while missing:
            ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                self._process.kill()
                raise VideoReadError(f"decoding took longer than {self.limits.silent_seconds:g} s for one frame")
            count = os.readv(descriptor, [missing])
            if not count:
                raise VideoReadError(self._reason())
            missing = missing[count:]
        return content

    def _reason(self) -> str:
        try:
            status = self._process.wait(timeout=self.limits.silent_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if status == 3 and lines:
            return lines[-1]
        if lines and "MemoryError" in lines[-1]:
            return f"decoding needs more than {self.limits.memory_gib:g} GiB of memory"
        return "the file cannot be decoded within the limits on memory and time"


def _enlarge(pipe: IO[bytes] | None) -> None:
    """Let a pipe hold a frame or so, if the system allows it, since both ends wait for each other less often then."""
    import fcntl  # not on Windows

    if pipe is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def main() -> None:
    """Decode in this process: write a line of JSON about the video, then its frames, to standard output."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("path")
    parser.add_argument("limits")
    parser.add_argument("wanted")
    arguments = parser.parse_args()
    known = {field.name for field in fields(VideoLimits)}
    limits = VideoLimits(**{name: value for name, value in json.loads(arguments.limits).items() if name in known})
    _restrict(limits)
    try:
        _write(arguments.path, limits, json.loads(arguments.wanted), sys.stdout.buffer)
    except (VideoReadError, InputError) as error:
        print(" ".join(str(error).split()).replace(arguments.path, "the file"), file=sys.stderr)
        sys.exit(3)


def _restrict(limits: VideoLimits) -> None:
    import resource

    memory = int(limits.memory_gib * _GIB)
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, 1 << 16),  # what it says of errors; it has no other file to write
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _write(path: str, limits: VideoLimits, wanted: dict[str, Any], output: BinaryIO) -> None:
    with VideoReader(path, max_pixels=limits.pixels, **wanted["reading"]) as reader:
        longest = 60 * limits.minutes
        if reader.info.duration_seconds > longest + 1:
            raise VideoReadError(
                f"the video has {reader.info.duration_seconds / 60:.1f} minutes; at most {limits.minutes:g} are allowed"
            )
        output.write(json.dumps(asdict(reader.info)).encode() + b"\n")
        output.flush()
        thumbnails = None if wanted["thumbnails"] is None else Thumbnails(**wanted["thumbnails"])
        for number, (second, pixels) in enumerate(_frames(reader, **wanted["frames"])):
            if second > longest + 1:
                raise VideoReadError(f"the video is longer than {limits.minutes:g} minutes")
            height, width = pixels.shape[:2]
            scale = limits.short_side / min(height, width)
            if scale < 1:
                size = max(round(width * scale), 1), max(round(height * scale), 1)
                pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
            images = [pixels]
            if thumbnails is not None:
                is_whole = thumbnails.whole_every > 0 and number % thumbnails.whole_every == 0
                images = [gray_thumbnail(pixels, thumbnails.side, thumbnails.cut), *(images if is_whole else [])]
            for image in images:
                output.write(_HEADER.pack(second, *image.shape[:2], 1 if image.ndim == 2 else 3))
                output.write(np.ascontiguousarray(image).data)
            output.flush()
        output.write(_HEADER.pack(math.nan, 0, 0, 0) + json.dumps(reader.remarks).encode() + b"\n")


def _frames(
    reader: VideoReader,
    interval: float,
    start: float,
    stop: float | None,
    spread: int | None,
    clips: Sequence[Any] | None,
) -> Iterator[tuple[float, np.ndarray]]:
    if clips is not None:
        return ((second, pixels) for second, _, pixels in reader.shown_at(ClipSpacing(*clips).seconds()))
    if spread is None:
        return reader.iterate(interval, start=start, stop=stop)
    length = reader.info.duration_seconds or reader.last_second
    seconds = [(number + 0.5) * length / spread for number in range(spread)]
    return zip(seconds, reader.frames_at(seconds), strict=True)


if __name__ == "__main__":
    main()
