"""The one place where videos are decoded (PyAV). This file travels with a checkpoint.

Times are seconds from the first shown frame. At a time the frame is shown whose presentation time is the last one not after
it. Files are never trusted: only container formats on a list are opened, none of which can point at another file; frames
larger than `max_pixels` are refused before they are allocated; what cannot be decoded is a `VideoReadError`.
"""

import io
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from .errors_surgvista import InputError, VideoReadError

av: Any
try:
    import av
except ImportError:  # the models work without it
    av = None

# None of these formats can name other files, as playlists (hls, concat, dash, image2 patterns) do.
_FORMATS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,gif,asf,flv,ogg,mxf,ivf,dv"
_SEEKABLE_FORMATS = ("mov", "matroska")  # these store presentation times; elsewhere seeking is not exact
_STILL_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_NOT_FRAME_THREADED = ("hevc", "vvc")  # FFmpeg 8 hangs for ever when it closes such a decoder after damaged parameters
_TOLERANCE = 1.5e-3  # seconds by which a frame may begin late and still be meant: Matroska rounds to milliseconds
_EXCUSED_SECONDS, _EXCUSED_FRAMES = 1.0, 5  # a container may promise this much more than it holds
_LONGEST_FRAME = 3600.0  # seconds; a longer pause is a damaged time stamp
_SEEKS = 16  # attempts to find a key frame before decoding from the start
_READ_AT_ONCE = 1 << 20

Source = str | os.PathLike[str] | bytes | BinaryIO


@dataclass(frozen=True)
class VideoInfo:
    """What a file says of its picture stream; of several, the one FFmpeg finds best (usually the largest).

    Args:
        width, height: of a frame as shown, in pixels, after rotation.
        duration_seconds: as promised by the container; 0 if it does not say.
        frames_per_second: average rate as promised; 0 if it does not say.
        num_frames: as promised, or estimated from duration and rate.
        codec: name of the coding.
        rotation_degrees: how far frames are turned, counter-clockwise, before they are shown.
    """

    width: int
    height: int
    duration_seconds: float
    frames_per_second: float
    num_frames: int
    codec: str
    rotation_degrees: int = 0


class _Picture(NamedTuple):
    """A decoded frame; shown from second `time` to, by its own account, `end`."""

    time: float
    end: float
    frame: Any
    damaged: bool


class _Key(NamedTuple):
    """Presentation time stamp of a key frame, and the stamp to seek to for it. `None`: the start of the file."""

    stamp: int | None
    target: int


class VideoReader:
    r"""Reads frames of one video; a context manager.

    A JPEG or PNG image is a video of one frame, shown at second 0; an animated GIF is a video. Colours are converted with
    the stream's own matrix and range (PyAV before 17: always BT.601, which is also meant where none is named); high dynamic
    range is not tone-mapped.

    A frame is never given out when the decoder marks it as damaged, or any frame between it and the key frame before.
    (Damage that keeps to the rules of the coding cannot be noticed, nor that of a frame which refers to a later one.)

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
        self._origin = 0.0  # presentation time of the first shown frame
        self._can_seek = False
        self._promised = 0.0  # seconds that the container promises of the stream, or else of all its streams
        self._reached = 0.0  # last second for which packets of any stream were read
        try:
            head = self._file.read(8)
            self._file.seek(0)
            self.info = self._read_still() if head.startswith(_STILL_IMAGES) else self._read_info()
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

    def iterate(
        self, interval_seconds: float | None = 1.0, *, start: float = 0.0, stop: float | None = None
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Frames in order, decoding each once, in constant memory.

        Args:
            interval_seconds: time between two frames: those shown at `start`, `start` + interval, … until the last frame
                is over. `None`: every frame.
            start: first second.
            stop: second before which to stop; the end of the video by default.

        Yields:
            The wanted time (with `None` the frame's own), and the frame (height, width, 3), uint8, RGB.

        Raises:
            InputError: an interval that is not positive, or a negative start.
            VideoReadError: a wanted frame cannot be decoded, or the video ends before the promised time.
        """
        if start < 0 or (interval_seconds is not None and not interval_seconds > 0):
            raise InputError(
                f"cannot read every {interval_seconds} seconds from second {start}; give positive numbers"
            )
        limit = math.inf if stop is None else stop
        if self._still is not None:
            if start <= 0 < limit:
                yield 0.0, self._still.copy()
            return
        if interval_seconds is None:
            yield from self.choose_frames(lambda number, second: True, start=start, stop=limit)
            return
        endless = (start + step * interval_seconds for step in itertools.count())
        for wanted, _, pixels in self.shown_at(itertools.takewhile(lambda time: time < limit, endless)):
            yield wanted, pixels

    def shown_at(self, times: Iterable[float]) -> Iterator[tuple[float, float, np.ndarray]]:
        """Frames shown at given moments, decoding each once, in constant memory.

        Args:
            times: seconds in ascending order, without end if need be: reading stops where the last frame is over.

        Yields:
            The wanted second, the second from which this frame is shown, and the frame (height, width, 3), uint8, RGB. One
            frame may come several times: recorders leave out frames while the picture stands still.

        Raises:
            VideoReadError: a wanted frame cannot be decoded, or the video ends before the promised time.
        """
        remaining = iter(times)
        first = next(remaining, None)
        if first is None:
            return
        if self._still is not None:
            if first <= 0:
                yield first, 0.0, self._still.copy()
            return
        with self._opened() as (container, stream):
            pictures = self._pictures_from(container, stream, first)
            for wanted, picture, is_last in self._shown(pictures, itertools.chain([first], remaining)):
                if is_last and wanted > picture.end - _TOLERANCE:
                    return
                yield wanted, picture.time, self._pixels(picture)

    def choose_frames(
        self, choose: Callable[[int, float], bool], *, start: float = 0.0, stop: float = math.inf
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Some of all frames, in order; only what is chosen is converted to pixels.

        Args:
            choose: asked once for each frame with its number, counted from the first one not before `start`, and its second.
            start, stop: seconds; frames from `start` to before `stop` are asked for.

        Yields:
            The frame's second, and the frame (height, width, 3), uint8, RGB.

        Raises:
            VideoReadError: a chosen frame cannot be decoded, or the video ends before the promised time.
        """
        if self._still is not None:
            if start <= 0 < stop and choose(0, 0.0):
                yield 0.0, self._still.copy()
            return
        with self._opened() as (container, stream):
            number, picture = 0, None
            for picture in self._pictures_from(container, stream, start):
                if picture.time >= stop:
                    return
                if picture.time >= start - _TOLERANCE:
                    if choose(number, picture.time):
                        yield picture.time, self._pixels(picture)
                    number += 1
            if picture is None:
                raise VideoReadError(f"{self.name} holds no frame that can be decoded")
            self._check_promise(picture)

    def frames_at(self, seconds: Sequence[float]) -> np.ndarray:
        """The frames shown at the given times.

        In MP4, QuickTime, Matroska and WebM files only the groups of pictures that hold a wanted frame are decoded, each
        once; other formats are decoded from the start.

        Args:
            seconds: any order, repeats allowed. Before the start means the first frame, after the end the last one.

        Returns:
            (times, height, width, 3), uint8, RGB.

        Raises:
            InputError: a time that is not a number.
            VideoReadError: a wanted frame cannot be decoded, or lies in the missing part of a truncated file.
        """
        wanted = np.maximum(np.asarray(seconds, np.float64), 0.0)
        if wanted.ndim != 1 or np.isnan(wanted).any():
            raise InputError(f"times are a sequence of numbers of seconds, not {seconds!r}")
        frames = np.empty((len(wanted), self.info.height, self.info.width, 3), np.uint8)
        if self._still is not None:
            frames[:] = self._still
        elif len(wanted):
            times, places = np.unique(wanted, return_inverse=True)
            for place, pixels in enumerate(self._decode_at(times.tolist())):
                frames[places == place] = pixels
        return frames

    @property
    def last_second(self) -> float:
        """Time of the last frame, found by decoding the end of the file, or all of it where it cannot seek.

        Raises:
            VideoReadError: the video ends before the promised time.
        """
        if self._still is not None:
            return 0.0
        with self._opened() as (container, stream):
            *_, (_, last, _) = self._shown(self._pictures_from(container, stream, math.inf), [math.inf])
        return last.time

    # --------------------------------------------------------------------------------------------- choosing frames

    def _decode_at(self, times: list[float]) -> Iterator[np.ndarray]:
        """Pixels shown at ascending times."""
        with self._opened() as (container, stream):
            keys = [self._key_before(container, stream, time) for time in times]
            while times:
                size = next(
                    (i for i, key in enumerate(keys) if key.stamp != keys[0].stamp and self._can_seek), len(times)
                )
                pictures = self._pictures_from(container, stream, times[0])
                for _, picture, _ in self._shown(pictures, times[:size]):
                    yield self._pixels(picture)
                times, keys = times[size:], keys[size:]

    def _shown(self, pictures: Iterator[_Picture], times: Iterable[float]) -> Iterator[tuple[float, _Picture, bool]]:
        """Each of the ascending times with the picture shown then, and whether this is the last picture of all."""
        remaining = iter(times)
        wanted = next(remaining, None)
        shown: _Picture | None = None
        for picture in pictures:
            while shown is not None and wanted is not None and wanted < picture.time - _TOLERANCE:
                yield wanted, shown, False
                wanted = next(remaining, None)
            if wanted is None:
                return
            shown = picture
        if shown is None:
            raise VideoReadError(f"{self.name} holds no frame that can be decoded")
        while wanted is not None:
            if wanted > shown.end - _TOLERANCE:
                self._check_promise(shown)
            yield wanted, shown, True
            wanted = next(remaining, None)

    def _check_promise(self, last: _Picture) -> None:
        excused = max(_EXCUSED_SECONDS, _EXCUSED_FRAMES * (last.end - last.time))
        if max(last.end, self._reached) + excused < self._promised:
            raise VideoReadError(
                f"{self.name} is truncated or damaged: {self._promised:.1f} s are promised, "
                f"{last.end:.1f} s can be decoded"
            )

    # --------------------------------------------------------------------------------------------- decoding

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """The container, at its start, and its best picture stream; FFmpeg's errors become ours."""
        if av is None:
            raise VideoReadError("reading videos needs PyAV: pip install av")
        options = {
            "format_whitelist": _FORMATS,
            "protocol_whitelist": "none",  # a file object, not a path: FFmpeg has no file system to look around in
        }
        try:
            container = av.open(
                _View(self._file), container_options=options, buffer_size=_READ_AT_ONCE, metadata_errors="ignore"
            )
        except _errors() as error:
            raise VideoReadError(
                f"{self.name} cannot be decoded: {_reason(error)}. Known formats: {_FORMATS}"
            ) from error
        try:
            with container:
                stream = container.streams.best("video")
                if stream is None or stream.codec_context is None:
                    raise VideoReadError(f"{self.name} holds no picture stream that can be decoded")
                self._check_size(stream.codec_context.width, stream.codec_context.height)
                stream.codec_context.options = {"max_pixels": str(self.max_pixels)}
                stream.thread_type = "SLICE" if stream.codec_context.name in _NOT_FRAME_THREADED else "AUTO"
                yield container, stream
        except _errors() as error:
            raise VideoReadError(f"{self.name} cannot be decoded: {_reason(error)}") from error

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise VideoReadError(
                f"{self.name} has frames of {width}×{height} pixels; at most {self.max_pixels} pixels are decoded"
            )

    def _read_info(self) -> VideoInfo:
        with self._opened() as (container, stream):
            frame = next((frame for frame, _ in self._decode(container, stream)), None)
            if frame is None:
                raise VideoReadError(f"{self.name} holds no frame that can be decoded")
            self._origin = frame.time or 0.0
            self._can_seek = container.format.name.startswith(_SEEKABLE_FORMATS)
            duration = float(stream.duration * stream.time_base) if stream.duration else 0.0
            duration = duration or (container.duration or 0) / av.time_base
            self._promised = duration
            rate = float(stream.average_rate or 0)
            sideways = _quarter_turns(frame) % 2 == 1
            return VideoInfo(
                width=frame.height if sideways else frame.width,
                height=frame.width if sideways else frame.height,
                duration_seconds=duration,
                frames_per_second=rate,
                num_frames=stream.frames or round(duration * rate),
                codec=stream.codec_context.codec.canonical_name,
                rotation_degrees=90 * _quarter_turns(frame),
            )

    def _pictures_from(self, container: Any, stream: Any, second: float) -> Iterator[_Picture]:
        """Pictures in order of presentation, the first one not after `second`."""
        key = self._key_before(container, stream, second)
        if key.stamp is not None:
            container.seek(key.target, stream=stream)
            pictures = self._timed(self._decode(container, stream), math.inf)
            # Pictures before the key frame may lack what they refer to. The decoder, not the container, says what is one.
            latest = second + _TOLERANCE
            pictures = itertools.dropwhile(lambda it: it.time <= latest and not it.frame.key_frame, pictures)
            first = next(pictures, None)
            if first is not None and first.time <= latest:
                yield first
                yield from pictures
                return
            self._can_seek = False
        with self._opened() as (container, stream):
            yield from self._timed(self._decode(container, stream), 0.0)

    def _key_before(self, container: Any, stream: Any, second: float) -> "_Key":
        """The last key frame not after a time, by the container's account."""
        start = _Key(None, 0)
        if not self._can_seek or not self.info.duration_seconds:
            return start
        unit = float(stream.time_base)
        latest = math.floor((min(second, self.info.duration_seconds) + self._origin + _TOLERANCE) / unit)
        target = latest
        for _ in range(_SEEKS):
            if target * unit <= self._origin:
                break
            container.seek(target, stream=stream)
            packet = next(container.demux(stream))
            if packet.pts is None:  # at the end of a truncated file
                return start
            if packet.is_keyframe and packet.pts <= latest:
                return _Key(packet.pts, target) if packet.pts * unit > self._origin else start
            # Some formats seek by decoding time, which comes before presentation.
            target = min(target, packet.pts, packet.pts if packet.dts is None else packet.dts) - 1
        return start

    def _timed(self, frames: Iterator[tuple[Any, bool]], due: float) -> Iterator[_Picture]:
        """Adds times; a frame without a time stamp is shown when the one before is over."""
        shift, previous = -self._origin, -math.inf
        nominal = 1 / (self.info.frames_per_second or 25.0)
        for frame, damaged in frames:
            time = due if frame.time is None else frame.time + shift
            if time < previous - 1.0:  # time stamps start anew, as where recordings were joined
                shift += due - time
                time = due
            if time > previous + _LONGEST_FRAME > -math.inf:
                raise VideoReadError(f"{self.name} is damaged: after second {previous:.1f} comes second {time:.1f}")
            previous = max(time, previous)
            duration = float(frame.duration * frame.time_base) if frame.duration else nominal
            due = previous + min(duration, _LONGEST_FRAME)
            yield _Picture(previous, due, frame, damaged)

    def _decode(self, container: Any, stream: Any) -> Iterator[tuple[Any, bool]]:
        """Every frame, from the first whole one, and whether it may show damage."""
        started = damaged = False
        last = 0.0
        for packet in container.demux():
            if packet.stream.index != stream.index:
                if packet.pts is not None and not stream.duration:
                    self._reached = max(self._reached, float(packet.pts * packet.time_base) - self._origin)
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if not started:  # recordings may begin in the middle of a group of pictures
                    continue
                raise VideoReadError(
                    f"{self.name} is truncated or damaged: {self._promised:.1f} s are promised, what follows second "
                    f"{last:.1f} cannot be decoded: {_reason(error)}"
                ) from error
            for frame in frames:
                damaged = frame.is_corrupt or (damaged and not frame.key_frame)
                started = started or not damaged
                last = last if frame.time is None else frame.time - self._origin
                if started:
                    yield frame, damaged

    def _pixels(self, picture: _Picture) -> np.ndarray:
        """RGB as shown, (height, width, 3)."""
        if picture.damaged:
            raise VideoReadError(f"{self.name} is damaged at second {picture.time:.2f}")
        pixels = np.rot90(picture.frame.to_ndarray(format="rgb24"), _quarter_turns(picture.frame))
        if pixels.shape[:2] != (self.info.height, self.info.width):
            raise VideoReadError(
                f"{self.name} changes from {self.info.width}×{self.info.height} to {pixels.shape[1]}×{pixels.shape[0]} "
                f"pixels at second {picture.time:.2f}; a video must keep its size"
            )
        return np.ascontiguousarray(pixels)

    # --------------------------------------------------------------------------------------------- images

    def _read_still(self) -> VideoInfo:
        content = self._file.read()
        try:
            with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
                self._check_size(image.width, image.height)
                codec = str(image.format).lower()
                if codec == "jpeg" and _is_damaged_jpeg(content):
                    raise VideoReadError(f"{self.name} is a damaged JPEG image")
                self._still = rgb_pixels(ImageOps.exif_transpose(image))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise VideoReadError(f"{self.name} cannot be decoded: {error}") from error
        height, width = self._still.shape[:2]
        return VideoInfo(width, height, duration_seconds=0.0, frames_per_second=0.0, num_frames=1, codec=codec)


def rgb_pixels(image: Image.Image) -> np.ndarray:
    """(height, width, 3), uint8, of an image of any colour mode; transparency is left out."""
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip
        grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    return np.asarray(image.convert("RGB"))


def _is_damaged_jpeg(content: bytes) -> bool:
    """Pillow paints over broken data without a word; FFmpeg can be told to be strict."""
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


def _errors() -> tuple[type[Exception], ...]:
    """What PyAV raises for bad files, and Python for unreadable ones."""
    return (av.FFmpegError, OSError, OverflowError)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _quarter_turns(frame: Any) -> int:
    """Counter-clockwise, to show the frame."""
    return round(frame.rotation / 90) % 4


class _View:
    """A file as FFmpeg sees it: without a name to guess formats from, and with a position of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0

    def read(self, size: int) -> bytes:
        self._file.seek(self._position)
        data = self._file.read(size)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_CUR:
            offset, whence = self._position + offset, os.SEEK_SET
        self._position = self._file.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        return self._position


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
