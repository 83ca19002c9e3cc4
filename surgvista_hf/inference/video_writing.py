"""Videos that this package writes for people: H.264, no sound, nothing that an original said of itself."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np

from ..util.files import atomic_file

_CLOCK = Fraction(1, 90_000)


@contextmanager
def video_writer(
    path: str | os.PathLike[str],
    width: int,
    height: int,
    frames_per_second: float,
    pixel_aspect: Fraction = Fraction(1),
) -> Iterator[Callable[[np.ndarray, float], None]]:
    """Gives a function that appends a picture (height, width, 3), uint8, at a time in seconds, later than the one before.

    Args:
        path: `.mp4` file; it appears when the block ends without an error.
        width, height: of the pictures as they are stored, even numbers; pictures of another size are scaled to it.
        frames_per_second: about how often there will be one.
        pixel_aspect: width of a stored pixel divided by its height; players show the pictures accordingly.
    """
    with (
        atomic_file(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as output,
    ):
        stream = output.add_stream("libx264", rate=Fraction(frames_per_second).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "23", "preset": "veryfast"}
        stream.codec_context.time_base = _CLOCK
        if pixel_aspect != 1:
            stream.codec_context.sample_aspect_ratio = pixel_aspect

        def write(pixels: np.ndarray, second: float) -> None:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if (frame.width, frame.height) != (width, height):
                frame = frame.reformat(width=width, height=height, interpolation="BICUBIC")
            frame.time_base, frame.pts = _CLOCK, round(second / _CLOCK)
            output.mux(stream.encode(frame))

        yield write
        output.mux(stream.encode())
