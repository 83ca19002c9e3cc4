"""The one place where videos are decoded (PyAV). This file travels with a checkpoint.

Times are seconds from the first shown frame. At a time the frame is shown whose presentation time is the last one not after
it. Frames are given out as the surgeon saw them: upright, of square pixels and of one moment.

Files are never trusted: only container formats on a list are opened, none of which can point at another file; frames
larger than `max_pixels` are refused before they are allocated; what cannot be decoded is a `VideoReadError`.
"""

import bisect
import io
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageOps

from .errors_surgvista import InputError, VideoReadError
from .video_dicom_surgvista import HEAD_BYTES, DicomFrames, EncapsulatedVideo, is_dicom, open_dicom
from .video_frames_surgvista import DecodedFrame, Deinterlace, FrameShaper, Named, Neighbors, is_damaged_jpeg
from .video_skipping_surgvista import Moments, Need, PacketSelection

av: ModuleType
try:
    import av
except ImportError:  # the models work without it
    av = None  # type: ignore[assignment]

# None of these formats can name other files, as playlists (hls, concat, dash, image2 patterns) do.
_FORMATS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,gif,asf,flv,ogg,mxf,ivf,dv"
_SEEKABLE_FORMATS = ("mov", "matroska")  # these store presentation times; elsewhere seeking is not exact
_BARE_FORMATS = (
    "h264",
    "hevc",
    "mpegvideo",
    "m4v",
)  # no container: neither times nor a length that is more than a guess
_STILL_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_NOT_FRAME_THREADED = ("hevc", "vvc")  # FFmpeg 8 hangs for ever when it closes such a decoder after damaged parameters
_TOLERANCE = 1.5e-3  # seconds by which a frame may begin late and still be meant: Matroska rounds to milliseconds
_EXCUSED_SECONDS, _EXCUSED_FRAMES = 1.0, 5  # a container may promise this much more than it holds
_LONGEST_FRAME = 3600.0  # seconds; a longer pause is a damaged time stamp
_SEEKS = 16  # attempts to find a key frame before decoding from the start
_FAILED_READS = 100  # in a row, after which nothing more of a damaged container is hoped for
_SOUND_FRACTION = 0.5  # of a video that must be sound where damage is skipped
_LONGEST_DELAY = 64  # frames that a decoder may hold back, with its threads
_LONGEST_LIST = 8  # damaged stretches that a remark names
_READ_AT_ONCE = 1 << 20

Source = str | os.PathLike[str] | bytes | BinaryIO
Damaged = Literal["refuse", "skip", "any"]


@dataclass(frozen=True)
class VideoInfo:
    """Describes the video stream of a file as its headers do; of several streams, the one FFmpeg finds best.

    Args:
        width, height: size of a frame as shown, in square pixels, after rotation.
        duration_seconds: length that the container promises; 0 if it does not say.
        frames_per_second: average rate that the container promises; 0 if it does not say.
        num_frames: number of frames that the container promises, or an estimate from duration and rate.
        codec: name of the coding.
        rotation_degrees: angle by which frames are turned, counter-clockwise, before they are shown.
        pixel_aspect: width of a pixel as stored, divided by its height.
        interlaced: the decoder calls the first frame interlaced.
    """

    width: int
    height: int
    duration_seconds: float
    frames_per_second: float
    num_frames: int
    codec: str
    rotation_degrees: int = 0
    pixel_aspect: float = 1.0
    interlaced: bool = False

    @property
    def is_plain(self) -> bool:
        """Return whether frames are shown as they are stored."""
        return not self.rotation_degrees and not self.interlaced and self.pixel_aspect == 1.0

    @property
    def stored_size(self) -> tuple[int, int]:
        """Return width and height in pixels as they are stored, upright."""
        aspect = 1 / self.pixel_aspect if self.rotation_degrees % 180 else self.pixel_aspect
        if abs(self.width / aspect - self.width) < 1 and abs(self.height * aspect - self.height) < 1:
            return self.width, self.height
        return (round(self.width / aspect), self.height) if aspect > 1 else (self.width, round(self.height * aspect))


class _Stream(Protocol):
    """Describes PyAV's `VideoStream`, as far as it is used here."""

    index: int
    duration: int | None
    start_time: int | None
    time_base: Fraction
    frames: int
    average_rate: Fraction | None
    sample_aspect_ratio: Fraction | None
    codec_context: Any


class _Packet(Protocol):
    """Describes PyAV's `Packet`, as far as it is used here."""

    pts: int | None
    dts: int | None


class _Container(Protocol):
    """Describes PyAV's `InputContainer`, as far as it is used here."""

    duration: int | None
    format: Named

    def demux(self, *streams: _Stream) -> Iterator[Any]:
        """Give the packets of some streams, or of all."""

    def seek(self, offset: int, *, stream: _Stream) -> None:
        """Go to the last key frame not after a time stamp."""


class _TimedFrame(NamedTuple):
    """A decoded frame, or the number of one in a DICOM file; shown from second `time` to, by its own account, `end`.

    Where a packet cannot be decoded, `frame` is `None`, and it is not known until when.
    """

    time: float
    end: float
    frame: Any  # `DecodedFrame`, number or `None`
    damaged: bool
    neighbors: Neighbors = Neighbors()


class _Key(NamedTuple):
    """Presentation time stamp of a key frame, and the stamp to seek to for it. `None`: the start of the file."""

    stamp: int | None
    target: int


class _NeighborsAreMissing(Exception):
    """Frames around an interlaced frame were left out."""


class VideoReader:
    r"""Reads the frames of one video; a context manager.

    A JPEG or PNG image is a video of one frame, shown at second 0; an animated GIF is a video. Colors are converted with
    the stream's own matrix and range (PyAV before 17: always BT.601, which is also meant where none is named); high dynamic
    range is not tone-mapped.

    Where pixels are not square, the shorter side is enlarged; interlaced frames are taken apart; DICOM files are read with
    pydicom (see `FrameShaper` and `open_dicom`). What was done to the frames stands in `remarks`.

    A frame is never given out when the decoder marks it as damaged, or any frame between it and the key frame before.
    (Damage that keeps to the rules of the coding cannot be noticed, nor that of a frame which refers to a later one.)

    Args:
        source: path, content, or binary file object that can seek.
        max_pixels: largest frame, width times height as stored and as shown, that is decoded.
        deinterlace: `"auto"`, or `"off"`: leave interlaced frames as they are.
        damaged: action where a frame is damaged or missing: `"refuse"` raises an error; `"skip"` leaves it out and goes on, if
            at least half of the video is sound; `"any"` however little is.
        one_thread: decode in one thread, which takes a tenth less of the processor's time, but longer where cores are idle.

    Raises:
        VideoReadError: there is no such file, it is not a video, has no frames, or frames that are too large.
        InputError: an option with another value.

    Example:
        >>> with VideoReader("operation.mp4") as video:  # doctest: +SKIP
        ...     frames = video.frames_at([0.0, 4.0, 8.0])  # (3, height, width, 3), uint8
        ...     for second, frame in video.iterate(1.0):
        ...         ...
    """

    def __init__(
        self,
        source: Source,
        *,
        max_pixels: int = 8192 * 8192,
        deinterlace: Deinterlace = "auto",
        damaged: Damaged = "refuse",
        one_thread: bool = False,
    ) -> None:
        if damaged not in ("refuse", "skip", "any") or deinterlace not in ("auto", "off"):
            raise InputError(
                f"damaged is {damaged!r} and deinterlace {deinterlace!r}; they must be 'refuse', 'skip' or 'any', and "
                "'auto' or 'off'"
            )
        self.name, self._file, self._owned = _open(source)
        self._opened_file = self._file
        self.max_pixels, self.damaged, self.deinterlace = max_pixels, damaged, deinterlace
        self._one_thread = one_thread
        self._still: np.ndarray | None = None
        self._dicom: DicomFrames | None = None
        self._encapsulated: EncapsulatedVideo | None = None
        self._shaper: FrameShaper | None = None
        self._origin = 0.0  # presentation time of the first shown frame
        self._can_seek = False
        self._bare = False  # the file has no container, and so no times
        self._interlaced = False  # key frames need the frame before them
        self._promised = 0.0  # seconds that the container promises of the stream, or else of all its streams
        self._reached = 0.0  # last second for which packets of any stream were read
        self._strict = True  # whether the decoder takes every irregularity for damage
        self._failures_at_start = 0
        self._begins_damaged = False
        self._lost: list[tuple[float, float]] = []
        try:
            head = self._file.read(HEAD_BYTES)
            self._file.seek(0)
            self.info = self._read_dicom() if is_dicom(head) else self._read(head)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, if the reader opened it."""
        if self._owned:
            self._opened_file.close()

    @property
    def is_dicom(self) -> bool:
        """Return whether the frames lie in a DICOM file."""
        return self._dicom is not None or self._encapsulated is not None

    @property
    def lost(self) -> list[tuple[float, float]]:
        """Return [from, to) in seconds of the damaged or missing stretches that were met so far, in order."""
        return list(self._lost)

    @property
    def remarks(self) -> list[str]:
        """Return what was done to the frames that were read so far, and what is missing, in sentences without the name."""
        sentences = []
        if self._shaper is not None:
            shaper = self._shaper
            if shaper.deinterlaced:
                sentences.append("interlaced: the two moments of a frame were taken apart (deinterlaced)")
            elif self.info.interlaced and self.deinterlace == "off":
                sentences.append("interlaced frames were left as they are stored")
            if shaper.ignored_aspect is not None:
                sentences.append(f"a pixel aspect of {shaper.ignored_aspect:g} is a damaged header and was ignored")
            if shaper.refitted:
                sentences.append("the pixel aspect changes: frames were fitted between black borders")
        timed_by = self._dicom or (self._encapsulated if self._bare else None)
        if timed_by is not None and self.info.num_frames > 1 and not timed_by.times.known:
            sentences.append("the DICOM file does not say how many frames a second it has: 25 were assumed")
        if self._lost:
            spans = ", ".join(f"{start:.1f}–{end:.1f}" for start, end in self._lost[:_LONGEST_LIST])
            more = f" and {len(self._lost) - _LONGEST_LIST} more" if len(self._lost) > _LONGEST_LIST else ""
            whole = f" of {self._promised:.1f}" if self._promised else ""
            total = sum(end - start for start, end in self._lost)
            sentences.append(
                f"damaged: {total:.1f}{whole} s cannot be decoded and are left out (seconds {spans}{more})"
            )
        return sentences

    # --------------------------------------------------------------------------------------------- public reading

    def iterate(
        self,
        interval_seconds: float | None = 1.0,
        *,
        start: float = 0.0,
        stop: float | None = None,
        blank_damaged: bool = False,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Yield frames in order, decoding each once, in constant memory.

        Args:
            interval_seconds: time between two frames: those shown at `start`, `start` + interval, … until the last frame
                is over. `None`: every frame.
            start: first second.
            stop: second before which to stop; the end of the video by default.
            blank_damaged: give black frames for skipped damage instead of leaving the times out.

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
            yield from self._choose(lambda number, second: True, start, limit, blank_damaged)
            return
        endless = (start + step * interval_seconds for step in itertools.count())
        times = itertools.takewhile(lambda time: time < limit, endless)
        for wanted, _, pixels in self.shown_at(times, blank_damaged=blank_damaged):
            yield wanted, pixels

    def shown_at(
        self, times: Iterable[float], *, blank_damaged: bool = False
    ) -> Iterator[tuple[float, float, np.ndarray]]:
        """Yield the frames shown at given moments, decoding each once, in constant memory.

        Args:
            times: seconds in ascending order, without end if need be: reading stops where the last frame is over.
            blank_damaged: give black frames for skipped damage instead of leaving the times out.

        Yields:
            The wanted second, the second from which this frame is shown, and the frame (height, width, 3), uint8, RGB. One
            frame may come several times: recorders leave out frames while the image stands still.

        Raises:
            VideoReadError: a wanted frame cannot be decoded, or the video ends before the promised time.
        """
        moments = Moments(times)
        first = moments.first
        if first is None:
            return
        if self._still is not None:
            if first <= 0:
                yield first, 0.0, self._still.copy()
            return
        with self._opened() as (container, stream):
            timed_frames = self._frames_from(container, stream, first, moments)
            for wanted, timed, is_last in self._shown(timed_frames, moments):
                if is_last and wanted > timed.end - _TOLERANCE:
                    return
                if not self._is_skipped(timed):
                    yield wanted, timed.time, self._pixels(timed)
                elif blank_damaged:
                    yield wanted, timed.time, self._blank()

    def choose_frames(
        self, choose: Callable[[int, float], bool], *, start: float = 0.0, stop: float = math.inf
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Yield some of all frames, in order; only what is chosen is converted to pixels.

        Where damage is skipped, chosen frames that are damaged are left out.

        Args:
            choose: function that is called once for each frame, with its number, counted from the first one not before
                `start`, and its second.
            start, stop: seconds; frames from `start` to before `stop` are offered.

        Yields:
            The frame's second, and the frame (height, width, 3), uint8, RGB.

        Raises:
            VideoReadError: a chosen frame cannot be decoded, or the video ends before the promised time.
        """
        yield from self._choose(choose, start, stop, blank_damaged=False)

    def frames_at(self, seconds: Sequence[float]) -> np.ndarray:
        """Return the frames shown at the given times.

        In MP4, QuickTime, Matroska and WebM files only the groups of pictures that hold a wanted frame are decoded, each
        once; other formats are decoded from the start.

        Args:
            seconds: times in any order, repeats allowed. Before the start means the first frame, after the end the last one.
                Where damage is skipped, the sound frame before a damaged one is meant, or the next one after it.

        Returns:
            Frames (times, height, width, 3), uint8, RGB.

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
            times, indices = np.unique(wanted, return_inverse=True)
            for index, pixels in enumerate(self._decode_at(times.tolist())):
                frames[indices == index] = pixels
        return frames

    @property
    def last_second(self) -> float:
        """Return the time of the last frame, found by decoding the end of the file, or all of it where it cannot seek.

        Raises:
            VideoReadError: the video ends before the promised time.
        """
        if self._still is not None:
            return 0.0
        with self._opened() as (container, stream):
            moments = Moments([math.inf])
            timed_frames = self._sound(self._frames_from(container, stream, math.inf, moments))
            *_, (_, last, _) = self._shown(timed_frames, moments)
        return last.time

    # --------------------------------------------------------------------------------------------- choosing frames

    def _choose(
        self, choose: Callable[[int, float], bool], start: float, stop: float, blank_damaged: bool
    ) -> Iterator[tuple[float, np.ndarray]]:
        if self._still is not None:
            if start <= 0 < stop and choose(0, 0.0):
                yield 0.0, self._still.copy()
            return
        with self._opened() as (container, stream):
            number, timed, given = 0, None, -math.inf
            for timed in self._frames_from(container, stream, start):
                if timed.time >= stop:
                    return
                if timed.time < start - _TOLERANCE:
                    continue
                chosen = timed.frame is None or choose(number, timed.time)
                number += timed.frame is not None
                if chosen and not self._is_skipped(timed):
                    yield timed.time, self._pixels(timed)
                    given = timed.time
                elif chosen and blank_damaged and timed.time > given:
                    yield timed.time, self._blank()
                    given = timed.time
            if timed is None:
                raise VideoReadError(f"{self.name} holds no frame that can be decoded")
            self._check_promise(timed)

    def _is_skipped(self, timed: _TimedFrame) -> bool:
        """Return whether a frame is damaged and to be left out; where damage is refused, showing it is the error."""
        return self.damaged != "refuse" and self._is_damaged(timed)

    def _is_damaged(self, timed: _TimedFrame) -> bool:
        if self._dicom is None or timed.damaged:
            return timed.damaged
        damaged = self._dicom.pixels(timed.frame) is None
        if damaged:
            self._lose(timed.time, timed.end)
        return damaged

    def _sound(self, timed_frames: Iterator[_TimedFrame]) -> Iterator[_TimedFrame]:
        return (timed for timed in timed_frames if not self._is_skipped(timed))

    def _blank(self) -> np.ndarray:
        return np.zeros((self.info.height, self.info.width, 3), np.uint8)

    def _decode_at(self, times: list[float]) -> Iterator[np.ndarray]:
        """Yield the pixels shown at ascending times."""
        with self._opened() as (container, stream):
            keys = [self._key_before(container, stream, time) for time in times]
            while times:
                size = next(
                    (i for i, key in enumerate(keys) if key.stamp != keys[0].stamp and self._can_seek), len(times)
                )
                moments = Moments(times[:size])
                timed_frames = self._sound(self._frames_from(container, stream, times[0], moments))
                for _, timed, _ in self._shown(timed_frames, moments):
                    yield self._pixels(timed)
                times, keys = times[size:], keys[size:]

    def _shown(
        self, timed_frames: Iterator[_TimedFrame], moments: Moments
    ) -> Iterator[tuple[float, _TimedFrame, bool]]:
        """Yield each moment with the frame shown then, and whether this is the last frame of all."""
        shown: _TimedFrame | None = None
        for timed in timed_frames:
            while shown is not None and (wanted := moments.first) is not None and wanted < timed.time - _TOLERANCE:
                yield wanted, shown, False
                moments.take()
            if moments.first is None:
                return
            shown = timed
        if shown is None:
            raise VideoReadError(f"{self.name} holds no frame that can be decoded")
        while (wanted := moments.first) is not None:
            if wanted > shown.end - _TOLERANCE:
                self._check_promise(shown)
            yield wanted, shown, True
            moments.take()

    def _check_promise(self, last: _TimedFrame) -> None:
        excused = max(_EXCUSED_SECONDS, _EXCUSED_FRAMES * (last.end - last.time))
        if max(last.end, self._reached) + excused >= self._promised:
            return
        if self.damaged != "refuse":
            self._lose(last.end, self._promised)
            return
        raise VideoReadError(
            f"{self.name} is truncated or damaged: {self._promised:.1f} s are promised, {last.end:.1f} s can be decoded"
        )

    def _lose(self, start: float, end: float) -> None:
        """Record a damaged stretch.

        Raises:
            VideoReadError: so much is damaged that the rest is not the video any more.
        """
        merged: list[tuple[float, float]] = []
        for span in sorted([*self._lost, (start, max(start, end))]):
            if merged and span[0] <= merged[-1][1] + _TOLERANCE:
                merged[-1] = merged[-1][0], max(merged[-1][1], span[1])
            else:
                merged.append(span)
        self._lost = merged
        total = sum(end - start for start, end in merged)
        if self.damaged == "skip" and 0 < self._promised < total / (1 - _SOUND_FRACTION):
            raise VideoReadError(
                f"{self.name} is truncated or damaged: {total:.1f} s of {self._promised:.1f} s cannot be decoded, more "
                "than half; damaged='any' (--damaged any) takes what is left"
            )

    # --------------------------------------------------------------------------------------------- decoding

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """Open the container, at its start, and its best video stream; FFmpeg's errors become ours.

        Of a DICOM file with frames that are coded one by one both are `None`.
        """
        if self._dicom is not None:
            yield None, None
            return
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
                    raise VideoReadError(f"{self.name} holds no video stream that can be decoded")
                self._check_size(stream.codec_context.width, stream.codec_context.height)
                # A decoder that is not told to be strict paints over what is broken, and with several threads may not say so.
                strict = {"err_detect": "explode"} if self._strict else {}
                stream.codec_context.options = {"max_pixels": str(self.max_pixels), **strict}
                stream.thread_type = "SLICE" if stream.codec_context.name in _NOT_FRAME_THREADED else "AUTO"
                if self._one_thread:
                    stream.codec_context.thread_count = 1
                yield container, stream
        except _errors() as error:
            raise VideoReadError(f"{self.name} cannot be decoded: {_reason(error)}") from error

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise VideoReadError(
                f"{self.name} has frames of {width}×{height} pixels; at most {self.max_pixels} pixels are decoded"
            )

    def _read(self, head: bytes) -> VideoInfo:
        return self._read_still() if head.startswith(_STILL_IMAGES) else self._read_info()

    def _read_dicom(self) -> VideoInfo:
        found = open_dicom(self._file, self.name, self.max_pixels)
        if isinstance(found, EncapsulatedVideo):
            self._file, self._encapsulated = found.payload, found
            return self._read_info()
        self._dicom, self._can_seek = found, True
        promised = found.times[found.promised]
        self._promised = promised if found.promised > 1 else 0.0
        return VideoInfo(
            width=found.width,
            height=found.height,
            duration_seconds=promised,
            frames_per_second=found.promised / promised,
            num_frames=found.promised,
            codec=found.codec,
            pixel_aspect=found.pixel_aspect,
        )

    def _read_info(self) -> VideoInfo:
        self._choose_strictness()
        with self._opened() as (container, stream):
            frame = next((frame for frame, _ in self._decode(container, stream) if frame is not None), None)
            if frame is None:
                raise VideoReadError(f"{self.name} holds no frame that can be decoded")
            shaper = self._shaper = FrameShaper(frame, self._aspect_of(stream), self.deinterlace)
            self._check_size(shaper.width, shaper.height)
            self._origin = frame.time or 0.0
            self._can_seek = container.format.name.startswith(_SEEKABLE_FORMATS)
            if self._failures_at_start and self._can_seek and stream.start_time is not None:
                # Such a file begins with a key frame: what comes before the first whole frame is damage, not another start.
                self._origin = min(self._origin, float(stream.start_time * stream.time_base))
                self._begins_damaged = True
            self._bare = container.format.name in _BARE_FORMATS
            self._interlaced = shaper.is_interlaced(frame)
            duration, rate = self._promise(container, stream)
            if container.format.name.startswith("matroska"):  # it says when the video ends, not how long it lasts
                duration = max(duration - max(self._origin, 0.0), 0.0)
            self._promised = duration
            return VideoInfo(
                width=shaper.width,
                height=shaper.height,
                duration_seconds=duration,
                frames_per_second=rate,
                num_frames=stream.frames or round(duration * rate),
                codec=stream.codec_context.codec.canonical_name,
                rotation_degrees=90 * _quarter_turns(frame),
                pixel_aspect=shaper.pixel_aspect,
                interlaced=bool(frame.interlaced_frame),
            )

    def _choose_strictness(self) -> None:
        """Choose a strict decoder unless that costs frames from the first one on: what a recorder always does is no damage."""
        failures = []
        for self._strict in (True, False):
            with suppress(VideoReadError), self._opened() as (container, stream):
                next(self._decode(container, stream), None)
            failures.append(self._failures_at_start)
            if not failures[-1]:
                break
        self._strict = failures[0] <= failures[-1]

    def _aspect_of(self, stream: _Stream) -> float | None:
        """Return the width of a pixel divided by its height, as the container or the DICOM file around it says."""
        own = float(stream.sample_aspect_ratio or 0) or None
        return own or (self._encapsulated.pixel_aspect if self._encapsulated else None)

    def _promise(self, container: _Container, stream: _Stream) -> tuple[float, float]:
        """Return the seconds, and the frames a second, that the file promises; 0 where it does not say."""
        rate = float(stream.average_rate or 0)
        if self._bare and self._encapsulated is not None:
            times, count = self._encapsulated.times, self._encapsulated.count
            return (times[count], count / times[count]) if count > 1 else (0.0, 1 / times[1])
        if self._bare:
            return 0.0, rate
        duration = float(stream.duration * stream.time_base) if stream.duration else 0.0
        return duration or (container.duration or 0) / av.time_base, rate

    def _frames_from(
        self, container: _Container, stream: _Stream, second: float, moments: Moments | None = None
    ) -> Iterator[_TimedFrame]:
        """Yield frames in order of presentation, the first one not after `second`.

        With moments, frames that are shown at none of them may be left out, but not the last one of all.
        """
        if self._dicom is not None:
            yield from self._dicom_frames(second)
            return
        if self._interlaced or self.info.interlaced or self._bare:
            moments = None
        timed_frames = self._seek(container, stream, second, moments)
        try:
            if timed_frames is not None:
                yield from self._with_neighbors(timed_frames, moments)
                return
            with self._opened() as (container, stream):
                frames = self._decode(container, stream, moments)
                yield from self._with_neighbors(self._timed(frames, 0.0), moments)
        except _NeighborsAreMissing:
            self._interlaced = True  # the recording began otherwise
            assert moments is not None
            if moments.first is not None:
                with self._opened() as (container, stream):
                    yield from self._frames_from(container, stream, moments.first)

    def _seek(
        self, container: _Container, stream: _Stream, second: float, moments: Moments | None
    ) -> Iterator[_TimedFrame] | None:
        """Return frames from the last key frame not after `second`; `None`: the file has to be decoded from its start."""
        key = self._key_before(container, stream, second)
        if self._interlaced and key.stamp is not None:  # to take a key frame apart, the frame before it is needed
            key = self._key_before(
                container, stream, key.stamp * float(stream.time_base) - self._origin - 3 * _TOLERANCE
            )
        if key.stamp is None:
            return None
        container.seek(key.target, stream=stream)
        timed_frames = self._timed(self._decode(container, stream, moments), math.inf)
        # Frames before the key frame may lack what they refer to. The decoder, not the container, says what is one.
        latest = second + _TOLERANCE
        timed_frames = itertools.dropwhile(
            lambda it: it.time <= latest and not (it.frame is not None and it.frame.key_frame), timed_frames
        )
        first = next(timed_frames, None)
        if first is None or first.time > latest:
            self._can_seek = False
            return None
        if not self._interlaced and self._shaper is not None and self._shaper.is_interlaced(first.frame):
            self._interlaced = True  # the recording began otherwise
            return self._seek(container, stream, second, None)
        return itertools.chain([first], timed_frames)

    def _dicom_frames(self, second: float) -> Iterator[_TimedFrame]:
        assert self._dicom is not None
        times, count = self._dicom.times, self._dicom.count
        first = self._dicom_number(second)
        for number in range(first, count):
            yield _TimedFrame(times[number], times[number + 1], number, damaged=False)

    def _dicom_number(self, second: float) -> int:
        """Return the number of the frame shown at a time."""
        assert self._dicom is not None
        times, count = self._dicom.times, self._dicom.count
        return max(bisect.bisect_right(range(count), second + _TOLERANCE, key=lambda number: times[number]) - 1, 0)

    def _with_neighbors(self, timed_frames: Iterator[_TimedFrame], moments: Moments | None) -> Iterator[_TimedFrame]:
        """Add to interlaced frames the sound frames around them; the one after is decoded before they are given out.

        Raises:
            _NeighborsAreMissing: frames that are not shown at the moments were left out, and now they are needed.
        """
        shaper, before = self._shaper, None
        timed = next(timed_frames, None)
        while timed is not None:
            if moments is not None and timed.frame is not None and timed.frame.interlaced_frame:
                raise _NeighborsAreMissing
            if shaper is None or timed.damaged or not shaper.is_interlaced(timed.frame):
                yield timed
                before, timed = timed, next(timed_frames, None)
                continue
            failure = None
            try:
                after = next(timed_frames, None)
            except VideoReadError as error:
                after, failure = None, error
            around = (None if each is None or each.damaged else each.frame for each in (before, after))
            yield timed._replace(neighbors=Neighbors(*around))
            if failure is not None:
                raise failure
            before, timed = timed, after

    def _key_before(self, container: _Container, stream: _Stream, second: float) -> "_Key":
        """Find the last key frame not after a time, as the container has it."""
        start = _Key(None, 0)
        if self._dicom is not None:
            number = self._dicom_number(second)
            return _Key(number, number)
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

    def _timed(self, frames: Iterator[tuple[Any, bool]], due: float) -> Iterator[_TimedFrame]:
        """Add times; a frame without a time stamp is shown when the one before is over."""
        shift, previous = -self._origin, -math.inf
        nominal = 1 / (self.info.frames_per_second or 25.0)
        damaged_from: float | None = None
        number = 0
        for frame, damaged in frames:
            if frame is None:  # it is not known when it would have been shown, but that it follows the ones before
                damaged_from = due if damaged_from is None else damaged_from
                yield _TimedFrame(due, due, None, damaged=True)
                continue
            time = self._time_of(number, frame, due, shift)
            number += 1
            if time < previous - 1.0:  # time stamps start anew, as where recordings were joined
                shift += due - time
                time = due
            if time > previous + _LONGEST_FRAME > -math.inf:
                raise VideoReadError(f"{self.name} is damaged: after second {previous:.1f} comes second {time:.1f}")
            previous = max(time, previous)
            duration = float(frame.duration * frame.time_base) if frame.duration else nominal
            due = previous + min(duration, _LONGEST_FRAME)
            if damaged and damaged_from is None:
                damaged_from = previous
            if damaged_from is not None and self.damaged != "refuse":
                self._lose(damaged_from, due if damaged else previous)
            damaged_from = damaged_from if damaged else None
            yield _TimedFrame(previous, due, frame, damaged)

    def _time_of(self, number: int, frame: DecodedFrame, due: float, shift: float) -> float:
        """Return the second at which a frame is shown, by the file around it, its own time stamp, or the frames before."""
        if self._bare and self._encapsulated is not None:
            return self._encapsulated.times[number]
        return due if frame.time is None else frame.time + shift

    def _decode(
        self, container: _Container, stream: _Stream, moments: Moments | None = None
    ) -> Iterator[tuple[Any, bool]]:
        """Decode frames, from the first whole one, and tell whether they may show damage; `None`: one cannot be decoded.

        All frames are decoded, or with moments only those that are shown then or that these refer to.
        """
        started, damaged, failed = self._begins_damaged, False, False
        self._failures_at_start = 0
        sent_since: set[int | None] | None = None  # presentation times of packets after the last failure
        frames_since = 0
        torn: set[int] = set()  # presentation times of frames of which the container has lost a part
        selection = PacketSelection(stream, moments, self._origin) if moments is not None else None
        is_drained = False  # since packets are left out
        for packet, is_torn, need in _selected(selection, _torn_packets(self._packets(container), stream)):
            if packet is not None and packet.stream.index != stream.index:
                if packet.pts is not None and not stream.duration:
                    self._reached = max(self._reached, float(packet.pts * packet.time_base) - self._origin)
                continue
            if is_torn:
                torn.add(packet.pts)
            if damaged or failed or not started:
                need = Need.DECODE
            if need is Need.NOTHING and is_drained:
                continue
            if packet is not None and sent_since is not None:
                sent_since.add(_stamp(packet))
            if failed and packet is not None and packet.is_keyframe:
                stream.codec_context.flush_buffers()  # it may not recover by itself
                failed = False
            try:
                if need is Need.NOTHING:  # what the decoder holds back would come after a fresh start
                    frames = _last_packet(stream).decode()
                    stream.codec_context.flush_buffers()
                elif packet is not None:
                    stream.codec_context.skip_frame = need.value
                    frames = packet.decode()
                else:
                    frames = []
                is_drained = need is Need.NOTHING
                broken = packet is None
            except av.FFmpegError:
                frames, broken, failed = [], True, True
                self._failures_at_start += not started
            if broken and started:  # other recordings may begin in the middle of a group of pictures
                damaged, sent_since, frames_since = True, set(), 0
                yield None, True
            for frame in frames:
                frames_since += 1
                # Key frames that the decoder already held when it failed do not end the damage.
                is_later = sent_since is None or _stamp(frame) in sent_since or frames_since > _LONGEST_DELAY
                is_torn = frame.is_corrupt or frame.pts in torn
                damaged = is_torn or (damaged and not (frame.key_frame and is_later))
                sent_since = sent_since if damaged else None
                started = started or not damaged
                if started:
                    yield frame, damaged

    def _packets(self, container: _Container) -> Iterator[Any]:
        """Read the packets of all streams; where damage is skipped, `None` for those that cannot be read."""
        packets, failures = container.demux(), 0
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                failures += 1
                if self.damaged == "refuse" or failures > _FAILED_READS:
                    raise
                packets = container.demux()
                yield None
                continue
            if packet is None:
                return
            failures = 0
            yield packet

    def _pixels(self, timed: _TimedFrame) -> np.ndarray:
        """Return a frame as shown, (height, width, 3), uint8, RGB."""
        if self._dicom is not None:
            pixels = self._dicom.pixels(timed.frame)
        else:
            assert self._shaper is not None
            pixels = None if timed.damaged else self._shaper.pixels(timed.frame, timed.neighbors)
        if pixels is not None:
            return pixels
        if timed.damaged or self._dicom is not None:
            raise VideoReadError(f"{self.name} is damaged at second {timed.time:.2f}")
        raise VideoReadError(
            f"{self.name} changes from {self.info.width}×{self.info.height} to {timed.frame.width}×{timed.frame.height} "
            f"pixels at second {timed.time:.2f}; a video must keep its size"
        )

    # --------------------------------------------------------------------------------------------- images

    def _read_still(self) -> VideoInfo:
        content = self._file.read()
        try:
            with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
                self._check_size(image.width, image.height)
                codec = str(image.format).lower()
                if codec == "jpeg" and is_damaged_jpeg(content):
                    raise VideoReadError(f"{self.name} is a damaged JPEG image")
                self._still = rgb_pixels(ImageOps.exif_transpose(image))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise VideoReadError(f"{self.name} cannot be decoded: {error}") from error
        height, width = self._still.shape[:2]
        return VideoInfo(width, height, duration_seconds=0.0, frames_per_second=0.0, num_frames=1, codec=codec)


def rgb_pixels(image: Image.Image) -> np.ndarray:
    """Return the pixels of an image of any color mode, (height, width, 3), uint8, RGB; transparency is left out.

    Example:
        >>> rgb_pixels(Image.new("L", (4, 2))).shape
        (2, 4, 3)
    """
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip
        gray = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return np.stack([gray] * 3, axis=-1)
    return np.asarray(image.convert("RGB"))


def _selected(
    selection: PacketSelection | None, packets: Iterator[tuple[Any, bool]]
) -> Iterator[tuple[Any, bool, Need]]:
    """Yield packets, whether a part is lost, and what is to be done with them: without a selection all are decoded."""
    if selection is not None:
        return selection.select(packets)
    return ((packet, is_torn, Need.DECODE) for packet, is_torn in packets)


def _torn_packets(packets: Iterator[Any], stream: _Stream) -> Iterator[tuple[Any, bool]]:
    """Yield packets, and whether the container says that a part of them is lost.

    Transport streams also say so of one of the last two packets before a place where recordings were joined: a key frame
    follows there.
    """
    waiting: list[Any] = []
    video_packets = 0  # of those that wait
    for packet in packets:
        is_video = packet is not None and packet.stream.index == stream.index
        is_torn = is_video and packet.is_corrupt and packet.pts is not None
        if not waiting and not is_torn:
            yield packet, False
            continue
        waiting.append(packet)
        video_packets += is_video
        is_join = is_video and packet.is_keyframe and len(waiting) > 1
        if is_join or video_packets == 3 or packet is None:
            yield from ((each, number == 0 and not is_join) for number, each in enumerate(waiting))
            waiting, video_packets = [], 0
    yield from ((each, number == 0) for number, each in enumerate(waiting))


def _last_packet(stream: _Stream) -> Any:
    """Return the empty packet that makes a decoder give out what it holds back."""
    packet = av.Packet()
    packet.stream, packet.time_base = stream, stream.time_base
    return packet


def _stamp(data: _Packet | DecodedFrame) -> int | None:
    """Return the presentation time stamp of a packet or frame; that of decoding in formats that have only this."""
    return data.dts if data.pts is None else data.pts


def _errors() -> tuple[type[Exception], ...]:
    """Return the errors that PyAV raises for bad files, and Python for unreadable ones."""
    return (av.FFmpegError, OSError, OverflowError)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _quarter_turns(frame: DecodedFrame) -> int:
    """Return by how many quarters of a circle a frame is turned, counter-clockwise, before it is shown."""
    return round(frame.rotation / 90) % 4


class _View:
    """Shows a file to FFmpeg without a name to guess formats from, and with a position of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes."""
        self._file.seek(self._position)
        data = self._file.read(size)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position and return it."""
        if whence == os.SEEK_CUR:
            offset, whence = self._position + offset, os.SEEK_SET
        self._position = self._file.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position


def _open(source: Source) -> tuple[str, BinaryIO, bool]:
    """Open a source; return its name for messages, the binary file, and whether it is ours to close."""
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
