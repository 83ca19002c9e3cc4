"""The one place where videos are decoded (PyAV). This file travels with a checkpoint.

Times are seconds from the first shown frame. At a time the frame is shown whose presentation time is the last one not after
it. Files are never trusted: only container formats on a list are opened, none of which can point at another file; frames
larger than `max_pixels` are refused before they are allocated; what cannot be decoded is a `VideoReadError`.
"""

import io
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from .errors_surgvista import VideoReadError

av: Any
try:
    import av
except ImportError:  # the models work without it
    av = None

# None of these formats can name other files, as playlists (hls, concat, dash, image2 patterns) do.
_FORMATS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,gif,asf,flv,ogg,mxf,ivf,dv"
_STILL_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_TOLERANCE = 1e-4  # seconds by which a wanted time may lie before a frame and still mean it: time stamps are rounded
_EXCUSED_SECONDS = 2.0  # a container may promise this much more than its pictures last
_READ_AT_ONCE = 1 << 20

Source = str | os.PathLike[str] | bytes | BinaryIO


@dataclass(frozen=True)
class VideoInfo:
    """What a file says of its picture stream; of several, the one FFmpeg finds best (usually the largest).

    Args:
        width, height: of a frame as shown, in pixels, after rotation.
        duration_seconds: as promised by the container; 0 if it does not say.
        frames_per_second: average rate as promised; 0 if it does not say.
        codec: name of the decoder.
        rotation_degrees: how far frames are turned, counter-clockwise, before they are shown.
    """

    width: int
    height: int
    duration_seconds: float
    frames_per_second: float
    codec: str
    rotation_degrees: int = 0


class VideoReader:
    r"""Reads frames of one video; a context manager.

    A JPEG or PNG image is a video of one frame. Frames that the decoder knows to be damaged are never given out.

    Args:
        source: path, content, or binary file object that can seek.
        max_pixels: largest frame, width times height, that is decoded.

    Raises:
        VideoReadError: no such file, not a video, no pictures in it, or frames that are too large.

    Example:
        >>> with VideoReader("operation.mp4") as video:  # doctest: +SKIP
        ...     frames = video.frames_at([0.0, 4.0, 8.0])  # (3, height, width, 3), uint8
        ...     for second, frame in video.iterate(1.0):
        ...         ...
    """

    def __init__(self, source: Source, *, max_pixels: int = 8192 * 8192) -> None:
        self.name, self._file, self._owned = _open(source)
        self.max_pixels = max_pixels
        self._still: np.ndarray | None = None
        try:
            head = self._file.read(8)
            self._file.seek(0)
            if head.startswith(_STILL_IMAGES):
                self._still = self._read_still()
                height, width = self._still.shape[:2]
                self.info = VideoInfo(width, height, 0.0, 0.0, "image")
            else:
                self.info = self._read_info()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file, if the reader opened it."""
        if self._owned:
            self._file.close()

    # --------------------------------------------------------------------------------------------- public reading

    def iterate(self, interval: float | None = 1.0) -> Iterator[tuple[float, np.ndarray]]:
        """Frames in order, decoding each once, in constant memory.

        Args:
            interval: seconds between two frames: those shown at 0, `interval`, 2 · `interval`, … `None`: every frame.

        Yields:
            The wanted time (or with `None` the frame's own), and the frame (height, width, 3), uint8, RGB.

        Raises:
            VideoReadError: a frame cannot be decoded, or the video ends long before the promised time.
        """
        if self._still is not None:
            yield 0.0, self._still
            return
        shown: Any = None  # frame that is on the screen; converted only when it is wanted
        step, time = 0, 0.0
        for time, frame in self._decode_all():
            if interval is None:
                yield time, self._pixels(frame)
            else:
                while shown is not None and step * interval < time - _TOLERANCE:
                    yield step * interval, self._pixels(shown)
                    step += 1
            shown = frame
        if shown is None:
            raise VideoReadError(f"{self.name} holds no frame that can be decoded")
        self._check_promise(time)
        # The last frame is still meant by times up to half its duration after it began.
        slack = 0.5 / self.info.frames_per_second if self.info.frames_per_second else _TOLERANCE
        while interval is not None and step * interval <= time + slack:
            yield step * interval, self._pixels(shown)
            step += 1

    def frames_at(self, seconds: Sequence[float]) -> np.ndarray:
        """The frames shown at the given times.

        The file is read once for its time stamps; then only the groups of pictures that are needed are decoded.

        Args:
            seconds: any order, repeats allowed. Before the start means the first frame, after the end the last one.

        Returns:
            (times, height, width, 3), uint8, RGB.

        Raises:
            VideoReadError: a wanted frame cannot be decoded.
        """
        if not len(seconds):
            return np.empty((0, self.info.height, self.info.width, 3), np.uint8)
        if self._still is not None:
            return np.stack([self._still] * len(seconds))
        index = self._index()
        if index is None:
            return self._frames_from_full_decode(seconds)
        if max(seconds) > index.seconds[-1] + _EXCUSED_SECONDS:
            self._check_promise(index.seconds[-1])
        wanted = [index.at(second) for second in seconds]
        frames = self._decode_indexed(index, sorted(set(wanted)))
        if frames is None:
            return self._frames_from_full_decode(seconds)
        return np.stack([frames[position] for position in wanted])

    @property
    def last_second(self) -> float:
        """Time of the last frame, from the time stamps of the whole file."""
        if self._still is not None:
            return 0.0
        index = self._index()
        if index is not None:
            return index.seconds[-1]
        return max((time for time, _ in self._decode_all()), default=0.0)

    # --------------------------------------------------------------------------------------------- decoding

    @contextmanager
    def _stream(self) -> Iterator[tuple[Any, Any]]:
        """The opened container and its best picture stream; FFmpeg's errors become ours."""
        if av is None:
            raise VideoReadError("reading videos needs PyAV: pip install av")
        self._file.seek(0)
        try:
            # A file object, not a path: FFmpeg then has no file system to look around in.
            with av.open(
                _Nameless(self._file),
                options={"format_whitelist": _FORMATS},
                buffer_size=_READ_AT_ONCE,
                metadata_errors="ignore",
            ) as container:
                stream = container.streams.best("video")
                if stream is None:
                    raise VideoReadError(f"{self.name} holds no picture stream")
                stream.thread_type = "AUTO"
                context = stream.codec_context
                if context.width * context.height > self.max_pixels:
                    raise VideoReadError(
                        f"{self.name} has frames of {context.width}×{context.height} pixels; at most {self.max_pixels} "
                        "pixels are decoded"
                    )
                yield container, stream
        except (av.FFmpegError, ValueError, OverflowError) as error:
            reason = str(getattr(error, "strerror", None) or error)
            raise VideoReadError(f"{self.name} cannot be decoded: {reason}") from error

    def _read_info(self) -> VideoInfo:
        with self._stream() as (container, stream):
            first = next(container.decode(stream), None)
            if first is None:
                raise VideoReadError(f"{self.name} holds no frame that can be decoded")
            height, width = self._pixels(first).shape[:2]
            duration = (
                stream.duration * stream.time_base if stream.duration else (container.duration or 0) / av.time_base
            )
            return VideoInfo(
                width,
                height,
                float(duration),
                float(stream.average_rate or 0),
                stream.codec_context.name,
                first.rotation % 360,
            )

    def _decode_all(self) -> Iterator[tuple[float, Any]]:
        """Every frame with its time, in order of presentation."""
        with self._stream() as (container, stream):
            origin: float | None = None
            for number, frame in enumerate(container.decode(stream)):
                # Streams without time stamps (raw or AVI) are counted.
                time = number / (self.info.frames_per_second or 25.0) if frame.time is None else frame.time
                origin = time if origin is None else origin
                yield time - origin, frame

    def _pixels(self, frame: Any) -> np.ndarray:
        """RGB as shown, (height, width, 3)."""
        if frame.is_corrupt:
            raise VideoReadError(f"{self.name} is damaged at second {frame.time}")
        if frame.width * frame.height > self.max_pixels:
            raise VideoReadError(f"{self.name} has a frame of {frame.width}×{frame.height} pixels; that is too large")
        pixels = frame.to_ndarray(format="rgb24")
        quarter_turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels

    def _check_promise(self, last: float) -> None:
        promised = self.info.duration_seconds
        if last + max(_EXCUSED_SECONDS, 0.02 * promised) < promised:
            raise VideoReadError(
                f"{self.name} is truncated or damaged: {promised:.1f} s are promised, the last frame is at {last:.1f} s"
            )

    def _frames_from_full_decode(self, seconds: Sequence[float]) -> np.ndarray:
        order = np.argsort(seconds, kind="stable")
        chosen: list[np.ndarray | None] = [None] * len(seconds)
        place, shown = 0, None
        for time, frame in self._decode_all():
            while shown is not None and place < len(order) and seconds[order[place]] < time - _TOLERANCE:
                chosen[order[place]] = self._pixels(shown)
                place += 1
            shown = frame
        if shown is None:
            raise VideoReadError(f"{self.name} holds no frame that can be decoded")
        for position in order[place:]:
            chosen[position] = self._pixels(shown)
        return np.stack([pixels for pixels in chosen if pixels is not None])

    # --------------------------------------------------------------------------------------------- random access

    def _index(self) -> "_Index | None":
        """Time stamps and key frames of all packets, without decoding; None when packets carry no time stamps."""
        if not hasattr(self, "_cached_index"):
            self._cached_index = self._build_index()
        return self._cached_index

    def _build_index(self) -> "_Index | None":
        stamps: list[int] = []
        keys: list[int] = []
        with self._stream() as (container, stream):
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None:
                    return None
                stamps.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
            return _Index(sorted(set(stamps)), sorted(keys), float(stream.time_base)) if stamps else None

    def _decode_indexed(self, index: "_Index", wanted: list[int]) -> dict[int, np.ndarray] | None:
        """Pixels of the frames with these time stamps (ascending): each run from a key frame is decoded once.

        None where frames come out under other time stamps than their packets had, as from MPEG program streams.
        """
        found: dict[int, np.ndarray] = {}
        with self._stream() as (container, stream):
            while len(found) < len(wanted):
                target = wanted[len(found)]
                for key in index.keys_before(target):
                    self._decode_run(container, stream, key, index, wanted, found)
                    if target in found:
                        break
                else:
                    return None
        return found

    def _decode_run(
        self,
        container: Any,
        stream: Any,
        key: int | None,
        index: "_Index",
        wanted: list[int],
        found: dict[int, np.ndarray],
    ) -> None:
        """Decodes from the key frame at `key` (None: from the start) while that is cheaper than to seek again."""
        start = index.stamps[0] if key is None else key
        container.seek(start, stream=stream, backward=True)
        started = key is None
        for frame in container.decode(stream):
            started = started or (frame.key_frame and frame.pts is not None and frame.pts <= wanted[len(found)])
            if not started or frame.pts is None:  # pictures before the key frame may lack what they refer to
                continue
            if frame.pts == wanted[len(found)]:
                found[frame.pts] = self._pixels(frame)
                if len(found) == len(wanted) or index.key_of(wanted[len(found)]) > frame.pts:
                    return
            elif frame.pts > wanted[len(found)]:
                return

    def _read_still(self) -> np.ndarray:
        content = self._file.read()
        try:
            with Image.open(io.BytesIO(content)) as image:
                if image.width * image.height > self.max_pixels:
                    raise VideoReadError(f"{self.name} has {image.width}×{image.height} pixels; that is too large")
                pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
                damaged = image.format == "JPEG" and _is_damaged_jpeg(content)
            if damaged:
                raise VideoReadError(f"{self.name} is a damaged JPEG")
            return pixels
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise VideoReadError(f"{self.name} cannot be decoded: {error}") from error


@dataclass(frozen=True)
class _Index:
    """Presentation time stamps of a stream, in its own unit, ascending; `keys` are those of key frames."""

    stamps: list[int]
    keys: list[int]
    unit: float

    @property
    def seconds(self) -> list[float]:
        return [self.second_of(stamp) for stamp in self.stamps]

    def second_of(self, stamp: int) -> float:
        return (stamp - self.stamps[0]) * self.unit

    def at(self, second: float) -> int:
        """Time stamp of the frame that is shown at a time."""
        stamp = self.stamps[0] + (second + _TOLERANCE) / self.unit
        return self.stamps[max(bisect_right(self.stamps, stamp) - 1, 0)]

    def key_of(self, stamp: int) -> int:
        """The last key frame not after a frame."""
        return self.keys[max(bisect_right(self.keys, stamp) - 1, 0)] if self.keys else self.stamps[0]

    def keys_before(self, stamp: int) -> Iterator[int | None]:
        """Where to start decoding for a frame: the last key frames before it, then the start of the file."""
        place = bisect_right(self.keys, stamp)
        yield from reversed(self.keys[max(place - 3, 0) : place])
        yield None


def _is_damaged_jpeg(content: bytes) -> bool:
    """Pillow paints over broken data without a word; FFmpeg can be told to be strict."""
    if av is None:
        return False
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}
    try:
        return not decoder.decode(av.Packet(content))
    except av.FFmpegError:
        return True


class _Nameless:
    """A file object without a name, from which FFmpeg would otherwise guess formats and neighbours."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _open(source: Source) -> tuple[str, BinaryIO, bool]:
    """Name for messages, binary file, and whether it is ours to close."""
    if isinstance(source, bytes):
        if not source:
            raise VideoReadError("the video is empty")
        return "the video", io.BytesIO(source), True
    if not isinstance(source, str | os.PathLike):
        return str(getattr(source, "name", "the video")), source, False
    name = os.fspath(source)
    try:
        if os.path.isdir(name):  # noqa: PTH112 - pathlib would turn bytes-like names around
            raise VideoReadError(f"{name} is a folder, not a video")
        if os.path.getsize(name) == 0:  # noqa: PTH202
            raise VideoReadError(f"{name} is empty")
        return name, open(name, "rb"), True  # noqa: PTH123
    except OSError as error:
        raise VideoReadError(f"{name} cannot be opened: {error.strerror or error}") from error
