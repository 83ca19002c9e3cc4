"""Decoded frames as a screen shows them: square pixels, upright, one moment. This file travels with a checkpoint.

Recorders store pixels that are wider or narrower than high (PAL, HDV), frames that lie on their side, and frames whose odd
and even lines were filmed at two moments (interlaced). Players undo all three; so does `FrameShaper`, with FFmpeg's own
filters. A frame of square pixels and one moment is converted to RGB and otherwise left as it is, to the last bit.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from types import ModuleType
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from PIL import Image

from .errors_surgvista import InputError

av: ModuleType
try:
    import av
except ImportError:  # nothing is decoded without it
    av = None  # type: ignore[assignment]

Deinterlace = Literal["auto", "off"]

WIDEST_PIXEL = 4.0  # times as wide as high, or as high as wide; what a file says beyond that is a damaged header
_ASPECT_UNITS = 3600  # a pixel aspect is measured in fractions of this
_BWDIF = (("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),)
_COMB_LEVEL, _COMB_BLOCK, _COMB_PIXELS, _COMB_RATIO = 10, 16, 16, 1.25


class Named(Protocol):
    """Describes PyAV's formats, which have a name."""

    @property
    def name(self) -> str:
        """Return the name."""


class DecodedFrame(Protocol):
    """Describes PyAV's `VideoFrame`, as far as it is used here; PyAV itself may not be installed."""

    width: int
    height: int
    pts: int | None
    dts: int | None
    time: float | None
    time_base: Fraction
    rotation: int
    format: Named
    interlaced_frame: bool
    side_data: Any

    def to_ndarray(self, **options: Any) -> np.ndarray:
        """Convert the frame to another pixel format."""


class Neighbors(NamedTuple):
    """The frames before and after a frame, from which lines between its own are computed; `None`: there is no sound one."""

    before: DecodedFrame | None = None
    after: DecodedFrame | None = None


class FrameShaper:
    """Turns decoded frames of one stream into RGB frames of one size, as shown.

    The size is that of the first frame: the shorter side of its pixels is enlarged, so that nothing is lost. Where the pixel
    aspect changes later, frames are fitted into this size between black borders.

    Args:
        first: the first decoded frame, which decides the size.
        container_aspect: width of a pixel divided by its height as the container says it; `None`: it does not say.
        deinterlace: `"auto"`: frames that the decoder calls interlaced, and that show it, are taken apart: the lines of the
            earlier moment stay, the others are computed (FFmpeg's bwdif). `"off"`: frames stay as they are stored.

    Raises:
        InputError: another `deinterlace`.
    """

    def __init__(self, first: DecodedFrame, container_aspect: float | None, deinterlace: Deinterlace = "auto") -> None:
        if deinterlace not in ("auto", "off"):
            raise InputError(f"deinterlace is {deinterlace!r}; it must be 'auto' or 'off'")
        self.deinterlace = deinterlace
        self.deinterlaced = False  # True when a frame has been taken apart
        self.refitted = False  # True when a frame had another pixel aspect than the first
        self.ignored_aspect: float | None = None
        self._graphs: dict[tuple[Any, ...], Any] = {}
        own = self._own_aspect(first)
        # The container's word overrides the stream's, as in every player; where both agree, the stream may change it later.
        differs = container_aspect is not None and abs(container_aspect - own) > 2 / _ASPECT_UNITS
        self._fixed_aspect = container_aspect if differs else None
        self.pixel_aspect = self._aspect(first)
        self._stored_size = first.width, first.height
        width, height = shown_size(first.width, first.height, self.pixel_aspect)
        self.width, self.height = (height, width) if _orientation(first)[0] else (width, height)

    def is_interlaced(self, frame: DecodedFrame) -> bool:
        """Return whether neighbors of a frame are needed to show it."""
        return self.deinterlace == "auto" and frame.interlaced_frame

    def pixels(self, frame: DecodedFrame, neighbors: Neighbors) -> np.ndarray | None:
        """Return a frame as shown, (height, width, 3), uint8, RGB; `None` if the stored size is another than at the start."""
        aspect = self._aspect(frame)
        transposed, flips = _orientation(frame)
        width, height = shown_size(frame.width, frame.height, aspect)
        if transposed:
            width, height = height, width
        if (width, height) != (self.width, self.height):
            if (frame.width, frame.height) != self._stored_size:
                return None
            self.refitted = True
            scale = min(self.width / width, self.height / height)
            width, height = max(round(width * scale), 1), max(round(height * scale), 1)
        if self.is_interlaced(frame) and shows_combing(frame.to_ndarray(format="gray")):
            frame = self._taken_apart(frame, neighbors)
            self.deinterlaced = True
        size = (height, width) if transposed else (width, height)
        scaling = {} if size == (frame.width, frame.height) else {"width": size[0], "height": size[1]}
        interpolation = {"interpolation": "BICUBIC"} if scaling else {}
        pixels = frame.to_ndarray(format="rgb24", **scaling, **interpolation)
        pixels = np.flip(pixels.swapaxes(0, 1) if transposed else pixels, flips)
        return np.ascontiguousarray(self._fitted(pixels))

    def _fitted(self, pixels: np.ndarray) -> np.ndarray:
        """Put a frame that is smaller than the others in the middle of a black one."""
        height, width = pixels.shape[:2]
        if (width, height) == (self.width, self.height):
            return pixels
        canvas = np.zeros((self.height, self.width, 3), np.uint8)
        top, left = (self.height - height) // 2, (self.width - width) // 2
        canvas[top : top + height, left : left + width] = pixels
        return canvas

    # ------------------------------------------------------------------------------------------- pixel aspect

    def _aspect(self, frame: DecodedFrame) -> float:
        aspect = self._own_aspect(frame) if self._fixed_aspect is None else self._fixed_aspect
        if 1 / WIDEST_PIXEL <= aspect <= WIDEST_PIXEL:
            return aspect
        self.ignored_aspect = aspect
        return 1.0

    def _own_aspect(self, frame: DecodedFrame) -> float:
        """Measure the pixel aspect of a frame, which PyAV does not tell: FFmpeg's scaler follows it from frame to frame."""
        most = 2 * WIDEST_PIXEL * _ASPECT_UNITS
        steps = (
            ("crop", f"w={min(frame.width, 16)}:h={min(frame.height, 16)}:x=0:y=0"),
            ("scale", f"w=clip(round(sar*{_ASPECT_UNITS})\\,16\\,{most:.0f}):h=2:eval=frame:flags=neighbor"),
        )
        key = ("aspect", frame.width, frame.height, frame.format.name)
        if key not in self._graphs:
            self._graphs[key] = _graph(frame, steps)
        return float(_filtered(self._graphs[key], [frame])[-1].width / _ASPECT_UNITS)

    # ------------------------------------------------------------------------------------------- interlaced frames

    def _taken_apart(self, frame: DecodedFrame, neighbors: Neighbors) -> DecodedFrame:
        """Return the earlier moment of a frame; a pure function of it and its neighbors, so that seeking changes nothing.

        Where it still shows two moments, as after fast movement, or a neighbor is missing, the frame's own lines must do.
        """
        shape = frame.width, frame.height, frame.format.name
        if all(each is not None and (each.width, each.height, each.format.name) == shape for each in neighbors):
            # The filter is one frame late: the second answer is the frame's.
            around = [neighbors.before, frame, neighbors.after]
            found: DecodedFrame = _filtered(_graph(frame, _BWDIF), around)[1]
            if not shows_combing(found.to_ndarray(format="gray")):
                return found
        alone: DecodedFrame = _filtered(_graph(frame, _BWDIF), [frame, frame])[
            0
        ]  # it knows nothing before its first frame
        return alone


def shown_size(width: int, height: int, aspect: float) -> tuple[int, int]:
    """Return width and height at which stored pixels are square, nothing is lost, and the changed side is even.

    Args:
        width, height: size of a frame as stored, in pixels.
        aspect: width of a pixel divided by its height.

    Example:
        >>> shown_size(720, 576, 64 / 45), shown_size(720, 480, 8 / 9), shown_size(121, 81, 1.0)
        ((1024, 576), (720, 540), (121, 81))
    """
    wide, high = (width * aspect, float(height)) if aspect > 1 else (float(width), height / aspect)
    if abs(wide - width) < 1 and abs(high - height) < 1:
        return width, height
    return (2 * round(wide / 2), height) if aspect > 1 else (width, 2 * round(high / 2))


def resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return a frame (h, w, 3), uint8, in another size; as it is if it has this size."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def is_damaged_jpeg(content: bytes) -> bool:
    """Return whether a JPEG file is damaged: Pillow paints over broken data; FFmpeg can be told to be strict."""
    if av is None:
        return False
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}
    try:
        return not decoder.decode(av.Packet(content))
    except av.InvalidDataError:
        return True
    except av.FFmpegError:  # a kind of JPEG that FFmpeg does not know
        return False


def shows_combing(gray: np.ndarray) -> bool:
    """Return whether a frame shows two moments in alternating lines anywhere.

    Recorders call progressive frames interlaced, and where nothing moves there is nothing to take apart. Of a block of 16×16
    pixels that shows two moments, pixels differ from the lines above and below in the same direction, and lines are less like
    their neighbors than like those of their own moment, two lines on. (No block of real progressive surgery in the tests.)

    Args:
        gray: gray values of the frame, (height, width), uint8.
    """
    lines = gray.astype(np.int16)  # so that differences have a sign
    middle = lines[2:-2]
    if not middle.size:
        return False
    above, below = lines[1:-3] - middle, lines[3:-1] - middle
    combed = ((above > _COMB_LEVEL) & (below > _COMB_LEVEL)) | ((above < -_COMB_LEVEL) & (below < -_COMB_LEVEL))
    between_moments = np.abs(above + below)
    within_moment = np.abs(lines[:-4] + lines[4:] - 2 * middle)
    pixels, between, within = (_block_sums(each) for each in (combed, between_moments, within_moment))
    return bool(((pixels >= _COMB_PIXELS) & (between > _COMB_RATIO * within)).any())


def _block_sums(values: np.ndarray) -> np.ndarray:
    rows, columns = (np.arange(0, size, _COMB_BLOCK) for size in values.shape)
    return np.add.reduceat(np.add.reduceat(values, rows, axis=0, dtype=np.int32), columns, axis=1)


def _orientation(frame: DecodedFrame) -> tuple[bool, tuple[int, ...]]:
    """Return whether rows and columns change places, and which axes (0: rows, 1: columns) are then turned around."""
    matrix = next((each for each in frame.side_data if each.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return False, ()
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()  # a stored x, y is shown at ax + cy, bx + dy
    transposed = abs(b) > abs(a)
    right, down = (c, b) if transposed else (a, d)
    return transposed, tuple(axis for axis, sign in ((0, down), (1, right)) if sign < 0)


def _graph(frame: DecodedFrame, steps: Sequence[tuple[str, str]]) -> Any:
    """Build a graph of FFmpeg's filters for frames like this one."""
    graph = av.filter.Graph()
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format.name, time_base=frame.time_base or "1/1000"
    )
    for name, options in (*steps, ("buffersink", "")):
        node = graph.add(name, options)
        last.link_to(node)
        last = node
    graph.configure()
    return graph


def _filtered(graph: Any, frames: Sequence[DecodedFrame | None]) -> list[Any]:
    """Return the frames that come out of a graph of filters."""

    def pulled() -> Iterator[Any]:
        """Take all frames that are ready."""
        try:
            while True:
                yield graph.pull()
        except av.BlockingIOError:  # it waits for more
            return

    found = []
    for frame in frames:
        graph.push(frame)
        found += list(pulled())
    return found
