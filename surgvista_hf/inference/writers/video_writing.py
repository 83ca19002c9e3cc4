"""The writer of all videos of this package: H.264, no sound, no metadata of an original."""

import errno
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ...util.errors import SurgVistaError
from ...util.files import OutputError, atomic_file

_CLOCK = Fraction(1, 90_000)
# The errors of a disk on which nothing more can be written, whatever the video.
_DISK = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EACCES", "EPERM", "ENOENT", "EMFILE", "ENFILE", "ESTALE")
    if hasattr(errno, name)
)


class VideoWriteError(SurgVistaError):
    """FFmpeg refuses to write the frames of one video; others may do."""


@contextmanager
def video_writer(
    path: str | os.PathLike[str],
    width: int,
    height: int,
    frames_per_second: float,
    pixel_aspect: Fraction = Fraction(1),
    *,
    source: str = "the video",
) -> Iterator[Callable[[np.ndarray, float], None]]:
    """Open a video for writing and give a function that appends a frame at a time.

    No frame is lost: one whose time is not after that of the frame before is shown 1/90000 s after it.

    Args:
        path: `.mp4` file; it appears when the block ends without an error.
        width, height: size of the frames as they are stored, even numbers; frames of another size are scaled to it.
        frames_per_second: approximate frame rate.
        pixel_aspect: width of a stored pixel divided by its height; players scale the frames accordingly.
        source: name of the video that is written anew, for messages.

    Yields:
        A function of a frame (height, width, 3), uint8, and its time in seconds.

    Raises:
        VideoWriteError: FFmpeg cannot write this video.
        OutputError: nothing can be written there: the disk is full, the folder is closed, there is no encoder.
    """
    with _translate_errors(path, source), atomic_file(path) as temporary:
        writer = _Writer(temporary, width, height, frames_per_second, pixel_aspect)
        try:
            yield writer.write
            writer.finish()
        finally:
            writer.close()


@contextmanager
def _translate_errors(path: str | os.PathLike[str], source: str) -> Iterator[None]:
    """Turn errors of FFmpeg and the disk into errors of this package."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if error.errno in _DISK:
            raise OutputError(f"{path} cannot be written: {reason}") from error
        raise VideoWriteError(f"{source} can be read, but not be written as {Path(path).name}: {reason}") from error
    except av.codec.codec.UnknownCodecError as error:
        raise OutputError(f"{path} cannot be written: this PyAV has no encoder for H.264 (libx264)") from error


class _Writer:
    """An open file and its encoder."""

    def __init__(self, path: Path, width: int, height: int, frames_per_second: float, pixel_aspect: Fraction) -> None:
        self.output = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(frames_per_second).limit_denominator(1001)
        try:
            self.stream = self.output.add_stream("libx264", rate=rate if rate > 0 else 25)
            self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, "yuv420p"
            self.stream.options = {"crf": "23", "preset": "veryfast"}
            self.stream.codec_context.time_base = _CLOCK
            if pixel_aspect != 1:
                self.stream.codec_context.sample_aspect_ratio = pixel_aspect
        except BaseException:
            self.close()
            raise
        self.last = -1

    def write(self, pixels: np.ndarray, second: float) -> None:
        """Append a frame (height, width, 3), uint8, at a time in seconds."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        if (frame.width, frame.height) != (self.stream.width, self.stream.height):
            frame = frame.reformat(width=self.stream.width, height=self.stream.height, interpolation="BICUBIC")
        self.last = max(round(second / _CLOCK) if math.isfinite(second) else 0, self.last + 1)
        frame.time_base, frame.pts = _CLOCK, self.last
        self.output.mux(self.stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds, and close the file."""
        self.output.mux(self.stream.encode())
        self.output.close()

    def close(self) -> None:
        """Close the file; where writing has failed, closing fails too, and the first error is the one to raise."""
        with suppress(av.FFmpegError, OSError):
            self.output.close()
