"""Reading the frames of one video, from a video file or a folder of extracted frames, with the time each belongs to."""

import io
import itertools
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageFilter, ImageOps
from pydantic import Field

from ...modeling.errors_surgvista import VideoReadError
from ...modeling.video_frames_surgvista import Deinterlace
from ...modeling.video_reading_surgvista import Damaged, VideoReader, rgb_pixels
from ...util.file_search import IMAGE_FORMATS, IMAGE_SUFFIXES, is_image
from ...util.values import Amount, PositiveAmount, PositiveCount, check_fields
from .info import AlignmentError

_TOLERANCE = 1.5e-3  # seconds: a frame that begins so much before a wanted time is meant by it
_STANDING = 3.0  # seconds for which one frame may be shown without a remark
_LONGEST_STEP = 1.0 + _TOLERANCE  # seconds between two recorded frames; where it is longer, the first is repeated
_CUT_HEIGHT, _CUT_LEVEL, _CUT_FILTER, _CUT_IGNORED = 300, 15, 19, 10
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class PreparationOptions:
    """Options that say which frames are taken from the videos and how they are stored.

    Args:
        frames_per_second: frames taken per second: of a video the frame shown at each k / rate seconds, which is repeated
            where the video has no other; of a folder the first frame at or after these seconds. `None` takes every frame.
        every: take every n-th source frame instead (n = ⌈rate of the video⌉ is what the published programs do).
        short_side: pixels of the shorter side. Larger frames are resized to it, smaller ones keep their size; with `None`
            all do.
        quality: quality of the JPEG encoding, 1-95.
        crop_border: cut off the black border as published for Cholec80, see `crop_black_border`.
        unlabeled: `"keep"` frames without a label, which may be context of others, or `"drop"` them, so that clips bridge
            the gap as in most published programs.
        folder_frames_per_second: rate of already extracted frames whose names count 0, 1, 2, ….
        tolerance_seconds: seconds by which the ends of video and labels may differ; the longer part is cut and reported.
        deinterlace: `"auto"` deinterlaces interlaced frames; `"off"` leaves them as they are stored.
        damaged: handling of damaged videos. `"skip"` leaves out the damaged rows and reports them, if at least half of the
            video can be read; `"any"` does so however little can be read; `"refuse"` rejects the video.

    Raises:
        InputError: a value out of range.
    """

    frames_per_second: PositiveAmount | None = 1.0
    every: PositiveCount | None = None
    short_side: Annotated[int, Field(ge=1, le=65536)] | None = 256
    quality: Annotated[int, Field(ge=1, le=95)] = 90
    crop_border: bool = False
    unlabeled: Literal["keep", "drop"] = "keep"
    folder_frames_per_second: PositiveAmount = 1.0
    tolerance_seconds: Amount = 2.0
    deinterlace: Deinterlace = "auto"
    damaged: Damaged = "skip"

    def __post_init__(self) -> None:
        check_fields(self)


class EncodedFrame(NamedTuple):
    """A frame as it is stored: its time in seconds, the bytes of its image file, and its (width, height) in pixels."""

    second: float
    data: bytes
    size: tuple[int, int]


class Media(ABC):
    """Source of the frames of one video, in the order of time.

    Args:
        rate: source frames per second.
        seconds: length. It is exact for folders; for video files it is what the container says.
        remarks: sentences on what was found and done while the frames were read, and on what is missing.
        leaves_out: `True` if frames are left out, so that clips bridge the gap.
        stands_still: `True` if one frame was shown for long, because the recorder left others out.
    """

    rate: float
    seconds: float
    remarks: tuple[str, ...] = ()
    leaves_out: bool = False
    stands_still: bool = False

    @abstractmethod
    def frames(self, options: PreparationOptions) -> Iterator[EncodedFrame]:
        """Yield the frames that the options select, encoded as they are stored."""


class VideoFile(Media):
    """A video file, decoded once from start to end.

    Args:
        path: video of any format that `VideoReader` reads.
        start, stop: seconds at which the part to take starts and ends; time still counts from the start of the file.

    Raises:
        VideoReadError: it cannot be opened.
    """

    def __init__(self, path: Path, start: float = 0.0, stop: float = math.inf) -> None:
        self.path, self.start, self.stop = path, start, stop
        with VideoReader(path) as video:
            self.rate = video.info.frames_per_second or 25.0
            self.seconds = min(video.info.duration_seconds, stop)

    def frames(self, options: PreparationOptions) -> Iterator[EncodedFrame]:
        """Yield the frames that the options select; afterwards, `seconds` and `remarks` say what was found."""
        # In one thread: with several videos at a time every core has work, and what a thread more costs is lost.
        with VideoReader(
            self.path, deinterlace=options.deinterlace, damaged=options.damaged, one_thread=True
        ) as video:
            standstill = StandstillDetector()
            if options.frames_per_second is None or options.every:
                frames = self._recorded_frames(video, options, standstill)
            else:
                frames = self._frames_at_rate(video, options, options.frames_per_second, standstill)
            last = self.start
            for frame in frames:
                last = frame.second
                yield frame
            self.seconds = max(min(self.seconds, self.stop), last)
            self.remarks = (*standstill.remarks, *video.remarks)
            self.stands_still = bool(standstill.remarks)

    def _frames_at_rate(
        self, video: VideoReader, options: PreparationOptions, rate: float, standstill: "StandstillDetector"
    ) -> Iterator[EncodedFrame]:
        """Yield the frames shown at equally spaced times; a frame is repeated where the recorder left out others."""
        for second, since, pixels in video.shown_at(moments(rate, self.start, self.stop)):
            standstill.add(since, second)
            yield encode_frame(Image.fromarray(pixels), None, second, options)

    def _recorded_frames(
        self, video: VideoReader, options: PreparationOptions, standstill: "StandstillDetector"
    ) -> Iterator[EncodedFrame]:
        """Yield frames as they were recorded; if every frame is taken, one that stands still is repeated each second."""
        choose = frame_selector(options, self.start, self.stop)
        before: list[float] = []

        def select(number: int, second: float) -> bool:
            """Decide whether a frame is taken, and note how long the frame before it was shown."""
            if before and not _overlaps(video.lost, before[-1], second):
                standstill.add(before[-1], second)
            before[:] = [second]
            return choose(number, second)

        last: EncodedFrame | None = None
        for second, pixels in video.choose_frames(select, start=self.start, stop=self.stop):
            if last is not None and not options.every and second - last.second > _LONGEST_STEP:
                # Nothing moves: the frame stands for each whole second until the next one, damaged seconds left out.
                whole = self.start + math.floor(last.second - self.start + _TOLERANCE) + 1
                for held in moments(1.0, whole, second - _TOLERANCE):
                    if not _overlaps(video.lost, held, held + _TOLERANCE):
                        yield last._replace(second=held)
            last = encode_frame(Image.fromarray(pixels), None, second, options)
            yield last


class JoinedVideo(Media):
    """Several video files that follow each other without a gap, such as the chapters of one recording.

    Args:
        paths: the files in the order of time.

    Raises:
        VideoReadError: one cannot be opened, or its length is not known.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [VideoFile(path) for path in paths]
        unknown = [file.path for file in self._files[:-1] if not 0 < file.seconds < math.inf]
        if unknown:
            raise VideoReadError(f"{unknown[0]} does not say how long it is, so nothing can be joined to its end")
        self.rate = self._files[0].rate
        self.seconds = sum(file.seconds for file in self._files)

    @property
    def spans(self) -> list[tuple[float, float]]:
        """Return the second at which each file begins, and the seconds that it lasts."""
        lengths = [file.seconds for file in self._files]
        return list(zip(itertools.accumulate(lengths[:-1], initial=0.0), lengths, strict=True))

    def frames(self, options: PreparationOptions) -> Iterator[EncodedFrame]:
        """Yield the frames that the options select, with times that run on from file to file."""
        rate = None if options.every else options.frames_per_second
        spans = self.spans
        last = spans[-1][1]
        for number, ((begin, length), whole) in enumerate(zip(spans, self._files, strict=True)):
            # The first wanted moment of this file, so that the moments of all files are equally spaced.
            first = math.ceil(begin * rate - _TOLERANCE) / rate - begin if rate else 0.0
            is_last = number == len(spans) - 1
            file = VideoFile(whole.path, max(first, 0.0), math.inf if is_last else length - _TOLERANCE)
            for frame in file.frames(options):
                yield frame._replace(second=begin + frame.second)
            name = whole.path.name
            self.remarks = (*self.remarks, *(f"{name}: {remark}" for remark in file.remarks))
            self.stands_still |= file.stands_still
            last = file.seconds
        self.seconds = spans[-1][0] + last


def _overlaps(spans: Sequence[tuple[float, float]], start: float, stop: float) -> bool:
    """Return whether the time from `start` to `stop` overlaps one of the damaged spans, all in seconds."""
    return any(since < stop - _TOLERANCE / 2 and start < until - _TOLERANCE / 2 for since, until in spans)


class StandstillDetector:
    """Find single frames that are shown for long: recorders and screen captures leave out frames while nothing moves."""

    def __init__(self) -> None:
        self._stretches: dict[float, float] = {}  # second at which a frame comes -> second at which it is still shown

    def add(self, since: float, second: float) -> None:
        """Note that the frame which was recorded at second `since` is still shown at `second`."""
        if second - since > _STANDING:
            self._stretches[since] = second

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return a remark if a frame is shown for more than a few seconds, or else none."""
        if not self._stretches:
            return ()
        since, until = max(self._stretches.items(), key=lambda stretch: stretch[1] - stretch[0])
        total = sum(until - since for since, until in self._stretches.items())
        times = "once" if len(self._stretches) == 1 else f"{len(self._stretches)} times"
        return (
            f"the video stands still {times}, {total:.0f} s in all, longest from second {since:.1f} to {until:.1f}: the "
            "video has no other frames there, and the one that is shown stands for all of it",
        )


class FrameFolder(Media):
    """A folder of extracted frames whose names end with a number, in any padding, counted from 0 or from 1.

    If the numbers have a common step (0, 25, 50, …), they count source frames, otherwise extracted ones.

    Args:
        files: numbers and paths of the frames, ascending.
        rate: numbers per second, for data sets that are distributed as frames. `None` infers it from the names.
        folder_rate: extracted frames per second, used if `rate` is `None`.
    """

    def __init__(self, files: Sequence[tuple[int, Path]], rate: float | None, folder_rate: float = 1.0) -> None:
        numbers = [number for number, _ in files]
        step = reduce(math.gcd, (b - a for a, b in itertools.pairwise(numbers)), 0) or 1
        self.rate = rate or step * folder_rate
        # Numbers that count from 1 (ffmpeg's) name the same moments as those that count from 0.
        base = 1 if rate is None and numbers[0] == 1 and step == 1 else 0
        self._files = [((number - base) / self.rate, file) for number, file in files]
        self.seconds = self._files[-1][0] + (1 if rate else step) / self.rate

    def frames(self, options: PreparationOptions) -> Iterator[EncodedFrame]:
        """Yield the frames that the options select."""
        choose = frame_selector(options, 0.0, math.inf)
        for number, (second, file) in enumerate(self._files):
            if choose(number, second):
                yield _stored_file(file, second, options)


def moments(rate: float, start: float, stop: float) -> Iterator[float]:
    """Return the seconds start, start + 1 / rate, … before `stop`, which may be infinite.

    Example:
        >>> list(moments(2.0, 10.0, 11.5))
        [10.0, 10.5, 11.0]
    """
    return itertools.takewhile(lambda second: second < stop, (start + number / rate for number in itertools.count()))


def frame_selector(options: PreparationOptions, start: float, stop: float) -> Callable[[int, float], bool]:
    """Return a function that decides of each frame of a video, in order, whether it is taken.

    Args:
        options: sampling, by rate or by count.
        start, stop: seconds at which the part to take starts and ends.

    Returns:
        A function of the frame's number and its second. It has a state, so it serves one pass through one video.

    Example:
        >>> is_taken = frame_selector(PreparationOptions(frames_per_second=1.0), start=0.0, stop=10.0)
        >>> [is_taken(number, number / 2) for number in range(5)]
        [True, False, True, False, True]
    """
    if options.every:
        every = options.every
        return lambda number, second: start - _TOLERANCE <= second < stop and number % every == 0
    if options.frames_per_second is None:
        return lambda number, second: start - _TOLERANCE <= second < stop
    rate, due = options.frames_per_second, start

    def is_due(number: int, second: float) -> bool:
        """Decide whether this is the first frame at or after the next wanted second."""
        nonlocal due
        if second < due - _TOLERANCE or second >= stop:
            return False
        due = start + (math.floor((second - start + _TOLERANCE) * rate) + 1) / rate
        return True

    return is_due


def numbered_files(folder: Path) -> list[tuple[int, Path]]:
    """Return the images of a folder with the numbers at the end of their names, sorted by number (not as text).

    Raises:
        VideoReadError: there are no images, a name has no number, or two have the same.
    """
    files: dict[int, Path] = {}
    for file in folder.iterdir():
        if not is_image(file) or file.name.startswith("."):
            continue
        match = re.search(r"(\d+)$", file.stem)
        if not match:
            raise VideoReadError(f"{file} has no number at the end of its name; frames are distinguished by it")
        if int(match[1]) in files:
            raise VideoReadError(f"{file} and {files[int(match[1])].name} have the same number")
        files[int(match[1])] = file
    if not files:
        raise VideoReadError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return sorted(files.items())


def crop_black_border(image: Image.Image) -> Image.Image:
    """Cut off the black border of an endoscopic frame as in the published Cholec80 preparation.

    The frame is resized to a height of 300 pixels. Gray values above 15 that remain after a 19×19 median filter are content;
    the bounding box of the content is cut out (its last row and column are lost, as published). Without content the resized
    frame is returned.

    Args:
        image: RGB image.

    Returns:
        The part inside the border, at the reduced size.
    """
    width = int(image.width * _CUT_HEIGHT / image.height)
    image = image.resize((width, _CUT_HEIGHT), Image.Resampling.BILINEAR)
    seen = np.asarray(image.convert("L")) > _CUT_LEVEL
    # The median of a binary image is whether more than half of the box is set, so a mean filter does the same faster.
    fraction = Image.fromarray(seen.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(_CUT_FILTER // 2))
    content = np.asarray(fraction) > 127
    content[:, :_CUT_IGNORED] = content[:, -_CUT_IGNORED:] = False
    rows, columns = np.nonzero(content)
    if not len(rows) or rows.min() == rows.max() or columns.min() == columns.max():
        return image
    return image.crop((int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())))


def _stored_file(file: Path, second: float, options: PreparationOptions) -> EncodedFrame:
    """Return a frame of a folder as it is stored; a JPEG file that needs no change stays as it is, byte for byte."""
    try:
        data = file.read_bytes()
        with Image.open(io.BytesIO(data), formats=tuple(dict.fromkeys(IMAGE_FORMATS.values()))) as image:
            image.load()
            upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            original = data if data.startswith(_JPEG) and upright and image.mode in ("RGB", "L") else None
            return encode_frame(Image.fromarray(rgb_pixels(ImageOps.exif_transpose(image))), original, second, options)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoReadError(f"{file} cannot be decoded: {error}") from error


def encode_frame(
    image: Image.Image, original: bytes | None, second: float, options: PreparationOptions
) -> EncodedFrame:
    """Return a frame as it is stored: without its border if requested, and no larger than `options.short_side`.

    Args:
        image: RGB image.
        original: content of the JPEG file that the image was read from, which is stored if nothing has to change.
        second: time of the frame.
        options: border, size and JPEG quality.
    """
    if options.crop_border:
        image, original = crop_black_border(image), None
    short = min(image.size)
    if options.short_side and short > options.short_side:
        size = [max(round(side * options.short_side / short), 1) for side in image.size]
        image, original = image.resize((size[0], size[1]), Image.Resampling.BICUBIC), None
    if original is None:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=options.quality)
        original = buffer.getvalue()
    return EncodedFrame(second, original, image.size)


def check_same_length(video_id: str, media: Media, end: float, tolerance: float) -> str | None:
    """Compare the lengths of a video and of its labels.

    Args:
        video_id: id of the video, for messages.
        media: video whose frames have been read.
        end: second at which the labels end.
        tolerance: seconds by which the lengths may differ.

    Returns:
        A remark if they differ by more than a frame.

    Raises:
        AlignmentError: they differ by more than the tolerance.
    """
    found, expected = round(media.seconds * media.rate), round(end * media.rate)
    if abs(found - expected) <= 1:
        return None
    text = f"{video_id}: the labels cover {expected} source frames, the video {found}"
    if abs(media.seconds - end) > tolerance:
        raise AlignmentError(
            f"{text}: {abs(media.seconds - end):.1f} s apart, at most {tolerance:g} s are allowed. Check that "
            "labels and video belong together; if the video is a folder of extracted frames, check --folder-frames-per-second"
        )
    return f"{text}; the longer part was cut"


def check_labels_within(video_id: str, media: Media, latest: float, tolerance: float) -> str | None:
    """Compare the length of a video with the latest second of labels that need not cover all of it.

    Args:
        video_id: id of the video, for messages.
        media: video whose frames have been read.
        latest: latest second that the labels name; 0 if they name no time.
        tolerance: seconds by which the labels may exceed the video.

    Returns:
        A remark if the labels end so early that they may be those of another video.

    Raises:
        AlignmentError: the labels begin or end after the video.
    """
    if latest > media.seconds + tolerance + 1 / media.rate:
        raise AlignmentError(
            f"{video_id}: the labels go on until second {latest:.1f}, the video ends at {media.seconds:.1f}; at most "
            f"{tolerance:g} s are allowed (--tolerance). Check that labels and video belong together"
        )
    if 0 < latest < media.seconds - max(tolerance, media.seconds / 10):
        return f"{video_id}: the labels end at second {latest:.1f}, the video at {media.seconds:.1f}"
    return None
