"""Pictures of one video, from a video file or from a folder of extracted frames, with the time each belongs to."""

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
from ...util.file_search import IMAGE_SUFFIXES, is_image
from ...util.values import Amount, PositiveAmount, PositiveCount, check_fields
from .info import AlignmentError

_TOLERANCE = 1.5e-3  # seconds: a frame that begins so much before a wanted time is meant by it
_STANDING = 3.0  # seconds for which one frame may be shown without a remark
_LONGEST_STEP = 1.0 + _TOLERANCE  # seconds between two recorded frames; where it is longer, the first is repeated
_CUT_HEIGHT, _CUT_LEVEL, _CUT_FILTER, _CUT_IGNORED = 300, 15, 19, 10
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class PreparationOptions:
    """What to take from the videos and how to store it.

    Args:
        frames_per_second: how often a picture is taken: of a video the frame shown at each k / rate seconds, which comes
            again where the video has no other; of a folder the first frame at or after these seconds. `None`: every frame.
        every: take every n-th source frame instead (n = ⌈rate of the video⌉ is what the published programs do).
        short_side: pixels of the shorter side; larger ones are reduced, smaller kept. `None`: all kept.
        quality: of the JPEG coding, 1-95.
        crop_border: cut off the black border as published for Cholec80, see `crop_black_border`.
        unlabeled: `"keep"` frames without a label, which may be context of others, or `"drop"` them, so that clips bridge
            the gap as in most published programs.
        folder_frames_per_second: rate of already extracted frames whose names count 0, 1, 2, ….
        tolerance_seconds: pictures and labels may end so far apart; the longer part is cut and it is reported.
        deinterlace: `"auto"`: take interlaced frames apart; `"off"`: leave them as they are stored.
        damaged: where a video is damaged: `"skip"` leaves out the rows and reports them, if at least half of it is sound;
            `"any"` however little is; `"refuse"` gives the video up.

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


class Picture(NamedTuple):
    """A picture ready to be stored: its time in seconds, and the bytes of its file."""

    second: float
    data: bytes
    size: tuple[int, int]


class Media(ABC):
    """Pictures of a video in order of time.

    Args:
        rate: source frames a second.
        seconds: length; exact for folders, promised by the container for videos.
        remarks: what was found and done while the pictures were read, and what is missing.
        leaves_out: whether pictures are left out so that clips bridge them.
        stands_still: whether one frame was shown for long, since the recorder left others out.
    """

    rate: float
    seconds: float
    remarks: tuple[str, ...] = ()
    leaves_out: bool = False
    stands_still: bool = False

    @abstractmethod
    def pictures(self, options: PreparationOptions) -> Iterator[Picture]:
        """Those that the options ask for."""


class VideoFile(Media):
    """A video file, decoded once from start to end.

    Args:
        path: any format that `VideoReader` reads.
        start, stop: seconds of the part to take; time still counts from the start of the file.

    Raises:
        VideoReadError: it cannot be opened.
    """

    def __init__(self, path: Path, start: float = 0.0, stop: float = math.inf) -> None:
        self.path, self.start, self.stop = path, start, stop
        with VideoReader(path) as video:
            self.rate = video.info.frames_per_second or 25.0
            self.seconds = min(video.info.duration_seconds, stop)

    def pictures(self, options: PreparationOptions) -> Iterator[Picture]:
        with VideoReader(self.path, deinterlace=options.deinterlace, damaged=options.damaged) as video:
            standing = StandingPicture()
            if options.frames_per_second is None or options.every:
                pictures = self._chosen(video, options, standing)
            else:
                pictures = self._shown(video, options, options.frames_per_second, standing)
            last = self.start
            for picture in pictures:
                last = picture.second
                yield picture
            self.seconds = max(min(self.seconds, self.stop), last)
            self.remarks = (*standing.remarks, *video.remarks)
            self.stands_still = bool(standing.remarks)

    def _shown(
        self, video: VideoReader, options: PreparationOptions, rate: float, standing: "StandingPicture"
    ) -> Iterator[Picture]:
        """The pictures shown at equal times; the last one comes again where the recorder left out frames."""
        for second, since, pixels in video.shown_at(moments(rate, self.start, self.stop)):
            standing.saw(since, second)
            yield stored(Image.fromarray(pixels), None, second, options)

    def _chosen(
        self, video: VideoReader, options: PreparationOptions, standing: "StandingPicture"
    ) -> Iterator[Picture]:
        """Frames as they were recorded; where every frame is taken, one that stands still comes again each second."""
        choose = frame_choice(options, self.start, self.stop)
        before: list[float] = []

        def passes(number: int, second: float) -> bool:
            if before and not _overlaps(video.lost, before[-1], second):
                standing.saw(before[-1], second)
            before[:] = [second]
            return choose(number, second)

        last: Picture | None = None
        for second, pixels in video.choose_frames(passes, start=self.start, stop=self.stop):
            if last is not None and not options.every and second - last.second > _LONGEST_STEP:
                whole = self.start + math.floor(last.second - self.start + _TOLERANCE) + 1
                for held in moments(1.0, whole, second - _TOLERANCE):
                    if not _overlaps(video.lost, held, held + _TOLERANCE):
                        yield last._replace(second=held)
            last = stored(Image.fromarray(pixels), None, second, options)
            yield last


def _overlaps(spans: Sequence[tuple[float, float]], start: float, stop: float) -> bool:
    """Whether the time from `start` to `stop` lies in part in one of the spans of damage, all in seconds."""
    return any(since < stop - _TOLERANCE / 2 and start < until - _TOLERANCE / 2 for since, until in spans)


class StandingPicture:
    """Note how long single frames are shown: recorders and screen captures leave out frames while nothing moves."""

    def __init__(self) -> None:
        self._stretches: dict[float, float] = {}  # second at which a frame comes -> second at which it is still shown

    def saw(self, since: float, second: float) -> None:
        """Note that the frame which came at a second is still shown at another."""
        if second - since > _STANDING:
            self._stretches[since] = second

    @property
    def remarks(self) -> tuple[str, ...]:
        """One remark, if a frame is shown for more than a few seconds."""
        if not self._stretches:
            return ()
        since, until = max(self._stretches.items(), key=lambda stretch: stretch[1] - stretch[0])
        total = sum(until - since for since, until in self._stretches.items())
        times = "once" if len(self._stretches) == 1 else f"{len(self._stretches)} times"
        return (
            f"the picture stands still {times}, {total:.0f} s in all, longest from second {since:.1f} to {until:.1f}: the "
            "video has no other frames there, and the one that is shown stands for all of it",
        )


class FrameFolder(Media):
    """Extracted frames whose names end with a number, in any padding, from 0 or from 1.

    If the numbers have a common step (0, 25, 50, …) they count source frames, else extracted ones.

    Args:
        files: numbers and paths, ascending.
        rate: numbers a second where the data set is distributed as frames; `None`: found from the names.
        folder_rate: extracted frames a second, if `rate` is `None`.
    """

    def __init__(self, files: Sequence[tuple[int, Path]], rate: float | None, folder_rate: float = 1.0) -> None:
        numbers = [number for number, _ in files]
        step = reduce(math.gcd, (b - a for a, b in itertools.pairwise(numbers)), 0) or 1
        self.rate = rate or step * folder_rate
        # Numbers that count from 1 (ffmpeg's) name the same moments as those that count from 0.
        base = 1 if rate is None and numbers[0] == 1 and step == 1 else 0
        self._files = [((number - base) / self.rate, file) for number, file in files]
        self.seconds = self._files[-1][0] + (1 if rate else step) / self.rate

    def pictures(self, options: PreparationOptions) -> Iterator[Picture]:
        choose = frame_choice(options, 0.0, math.inf)
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


def frame_choice(options: PreparationOptions, start: float, stop: float) -> Callable[[int, float], bool]:
    """Says of the frames of a video, given in order as (number, second), which are taken."""
    if options.every:
        every = options.every
        return lambda number, second: start - _TOLERANCE <= second < stop and number % every == 0
    if options.frames_per_second is None:
        return lambda number, second: start - _TOLERANCE <= second < stop
    rate, due = options.frames_per_second, start

    def is_due(number: int, second: float) -> bool:
        nonlocal due
        if second < due - _TOLERANCE or second >= stop:
            return False
        due = start + (math.floor((second - start + _TOLERANCE) * rate) + 1) / rate
        return True

    return is_due


def numbered_files(folder: Path) -> list[tuple[int, Path]]:
    """Pictures of a folder in the order of the numbers at the end of their names (as numbers, not as text).

    Raises:
        VideoReadError: there are none, or a name has no number, or two have the same.
    """
    files: dict[int, Path] = {}
    for file in folder.iterdir():
        if not is_image(file) or file.name.startswith("."):
            continue
        match = re.search(r"(\d+)$", file.stem)
        if not match:
            raise VideoReadError(f"{file} has no number at the end of its name; frames are told apart by it")
        if int(match[1]) in files:
            raise VideoReadError(f"{file} and {files[int(match[1])].name} have the same number")
        files[int(match[1])] = file
    if not files:
        raise VideoReadError(f"{folder} holds no pictures ({', '.join(IMAGE_SUFFIXES)})")
    return sorted(files.items())


def crop_black_border(image: Image.Image) -> Image.Image:
    """Cut off the black border of an endoscopic picture as in the published Cholec80 preparation.

    The picture is reduced to a height of 300 pixels; gray values above 15 are seen as content after a 19×19 median; the box
    around them is cut out (its last row and column are lost, as published). Without content the reduced picture is returned.

    Args:
        image: RGB.

    Returns:
        The part inside the border, at the reduced size.
    """
    width = int(image.width * _CUT_HEIGHT / image.height)
    image = image.resize((width, _CUT_HEIGHT), Image.Resampling.BILINEAR)
    seen = np.asarray(image.convert("L")) > _CUT_LEVEL
    # The median of a binary picture is whether more than half of the box is set.
    fraction = Image.fromarray(seen.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(_CUT_FILTER // 2))
    content = np.asarray(fraction) > 127
    content[:, :_CUT_IGNORED] = content[:, -_CUT_IGNORED:] = False
    rows, columns = np.nonzero(content)
    if not len(rows) or rows.min() == rows.max() or columns.min() == columns.max():
        return image
    return image.crop((int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())))


def _stored_file(file: Path, second: float, options: PreparationOptions) -> Picture:
    """A picture of a folder; the bytes of a JPEG that needs no change are kept."""
    try:
        data = file.read_bytes()
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "BMP", "WEBP")) as image:
            image.load()
            upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            original = data if data.startswith(_JPEG) and upright and image.mode in ("RGB", "L") else None
            return stored(Image.fromarray(rgb_pixels(ImageOps.exif_transpose(image))), original, second, options)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoReadError(f"{file} cannot be decoded: {error}") from error


def stored(image: Image.Image, original: bytes | None, second: float, options: PreparationOptions) -> Picture:
    """A frame as it is stored: without its border and no larger than asked for; a file that need not change stays as it is."""
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
    return Picture(second, original, image.size)


def check_same_length(video_id: str, media: Media, end: float, tolerance: float) -> str | None:
    """Compare how long pictures and labels last.

    Args:
        video_id: for messages.
        media: pictures, already read.
        end: seconds after which the labels are over.
        tolerance: seconds that they may differ by.

    Returns:
        A remark if they differ by more than a frame.

    Raises:
        AlignmentError: they differ by more than the tolerance.
    """
    found, expected = round(media.seconds * media.rate), round(end * media.rate)
    if abs(found - expected) <= 1:
        return None
    text = f"{video_id}: the labels cover {expected} source frames, the pictures {found}"
    if abs(media.seconds - end) > tolerance:
        raise AlignmentError(
            f"{text}: {abs(media.seconds - end):.1f} s apart, at most {tolerance:g} s are allowed. Check that "
            "labels and video belong together; if the pictures are an extracted folder, check --folder-frames-per-second"
        )
    return f"{text}; the longer part was cut"


def check_labels_within(video_id: str, media: Media, latest: float, tolerance: float) -> str | None:
    """Compare how long a video lasts with the latest second that labels name which need not cover all of it.

    Args:
        video_id: for messages.
        media: pictures, already read.
        latest: seconds; 0 where the labels name no time.
        tolerance: seconds that they may go beyond the end of the video.

    Returns:
        A remark if the labels end so early that they may be those of another video.

    Raises:
        AlignmentError: the labels begin or end after the video.
    """
    if latest > media.seconds + tolerance + 1 / media.rate:
        raise AlignmentError(
            f"{video_id}: the labels go on until second {latest:.1f}, the pictures end at {media.seconds:.1f}; at most "
            f"{tolerance:g} s are allowed (--tolerance). Check that labels and video belong together"
        )
    if 0 < latest < media.seconds - max(tolerance, media.seconds / 10):
        return f"{video_id}: the labels end at second {latest:.1f}, the pictures at {media.seconds:.1f}"
    return None
