"""Synthetic web videos, such as people upload of an operation, with ground truth, to test and measure curation.

They have title cards, a surgeon who talks to the camera, slides, the operation in pieces, times outside the patient and an end
card; over the operation lie a logo, captions, a status bar and an inset. Some show no operation worth keeping. Every frame is
a pure function of the seed and the time; no person is in these images.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...util.errors import InputError
from ...util.files import write_json
from .operating_room import draw_room
from .surgery import SyntheticOperation, write_video

KINDS = ("card", "talking_head", "slide", "outside", "surgical")
_OPERATION_SECONDS = 180.0
_SHORTEST_PIECE = 5.0  # seconds of surgery without interruption
_FADE = 0.4  # seconds
_TITLES = (
    "Laparoscopic cholecystectomy",
    "Robotic right colectomy",
    "Hernia repair, step by step",
    "How I do it: fundoplication",
    "Difficult gallbladder",
    "Sleeve gastrectomy",
)
_LINES = (
    "Department of Surgery",
    "University Hospital",
    "A 54-year-old patient",
    "No complications",
    "Dissection of Calot's triangle",
    "Critical view of safety",
    "Clipping and division",
    "Operating time 48 min",
    "Annual meeting 2024",
    "Standard four-port technique",
    "Discharged on day two",
)
_ENDS = ("Thank you", "Thanks for watching", "Questions?", "Subscribe for more")
_NAMES = ("SURG TV", "MIS", "OR LIVE", "HOSPITAL", "LAP ACADEMY", "H+", "ENDO")
_Box = tuple[float, float, float, float]
_Color = tuple[int, int, int]


@dataclass(frozen=True)
class Segment:
    """A part of a video from `start` until before `end`, in seconds, that shows one of `KINDS`."""

    start: float
    end: float
    kind: str


@dataclass(frozen=True)
class _Overlay:
    """Something that lies over the operation.

    Args:
        start, end: seconds of the video between which it is shown.
        box: x1, y1, x2, y2 in pixels.
        draw: function that draws it on a frame, at a second.
    """

    start: float
    end: float
    box: _Box
    draw: Callable[[Image.Image, float], None]


@dataclass(frozen=True)
class SyntheticWebVideo:
    """One rendered upload.

    Args:
        seed: seed of everything around and over the operation.
        informative: `True` if the video shows an operation; otherwise people talk, and surgery is shown for less than 3 s or
            not at all.
        operation_seed: seed of the operation, by default that of the video. Two videos of one operation are duplicates.
        operation_start: second of the operation, of 180 in all, at which the video begins to show it; by default it depends
            on the operation's seed.
        surgical_seconds: seconds of the operation that an informative video shows; at least 5.
        height, width: size of a frame in pixels; even.
        frames_per_second: frame rate of the video that `write_web_video` writes.

    Raises:
        InputError: the size, the rate or the length cannot be rendered.

    Example:
        >>> video = SyntheticWebVideo(seed=4)
        >>> video.segments[0].kind, video.frame(0.0).shape
        ('card', (180, 320, 3))
    """

    seed: int
    informative: bool = True
    operation_seed: int | None = None
    operation_start: float | None = None
    surgical_seconds: float = 24.0
    height: int = 180
    width: int = 320
    frames_per_second: float = 10.0

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 96 or self.height % 2 or self.width % 2 or self.frames_per_second <= 0:
            raise InputError(
                f"a web video of {self.height}×{self.width} pixels at {self.frames_per_second} frames/s cannot be rendered; "
                "at least 96×96 pixels, even numbers, are needed"
            )
        if self.surgical_seconds < _SHORTEST_PIECE or (self.operation_start or 0) < 0:
            raise InputError(
                f"{self.surgical_seconds} s of an operation from second {self.operation_start} cannot be shown; "
                f"at least {_SHORTEST_PIECE:g} s from second 0 are needed"
            )

    # ------------------------------------------------------------------------------------- ground truth

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """Return the segments of the video, which follow one another without a gap."""
        segments, time = [], 0.0
        for kind, length in self._plan():
            start, time = time, round(time + length, 1)
            segments.append(Segment(start, time, kind))
        return tuple(segments)

    @property
    def duration_seconds(self) -> float:
        """Return the length of the video in seconds."""
        return self.segments[-1].end

    @property
    def num_frames(self) -> int:
        """Return the number of frames of the video."""
        return round(self.duration_seconds * self.frames_per_second)

    def kind(self, second: float) -> str:
        """Return what is shown at a time in seconds: one of `KINDS`."""
        return self._segment(second).kind

    def boxes(self, second: float) -> np.ndarray:
        """Return the boxes of what lies over the operation at a time: x1, y1, x2, y2 in pixels, of shape (k, 4), float32."""
        boxes = [overlay.box for overlay in self._overlays if overlay.start <= second < overlay.end]
        shown = boxes if self.kind(second) == "surgical" else []
        return np.array(shown, np.float32).reshape(-1, 4)

    def truth(self) -> dict[str, Any]:
        """Return the ground truth of the video as values that JSON can hold; lists have an entry per whole second."""
        surgical = [segment for segment in self.segments if segment.kind == "surgical"]
        seconds = range(int(np.ceil(self.duration_seconds)))
        return {
            "informative": self.informative,
            "duration_seconds": self.duration_seconds,
            "operation": self.seed if self.operation_seed is None else self.operation_seed,
            "surgical_part": [surgical[0].start, surgical[-1].end] if self.informative else None,
            "segments": [[segment.start, segment.end, segment.kind] for segment in self.segments],
            "kinds": [self.kind(second) for second in seconds],
            "boxes": [self.boxes(second).tolist() for second in seconds],
        }

    # ------------------------------------------------------------------------------------- what is shown when

    def _random(self, what: str, *keys: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *what.encode(), *keys])

    def _plan(self) -> list[tuple[str, float]]:
        random = self._random("plan")

        def lasting(shortest: float, longest: float) -> float:
            """Draw a length in seconds."""
            return round(float(random.uniform(shortest, longest)), 1)

        plan = [("card", lasting(2.5, 5))]
        for kind, fraction in (("card", 0.3), ("talking_head", 0.6), ("slide", 0.5)):
            if random.random() < fraction:
                plan.append((kind, lasting(2.5, 7)))
        if self.informative:
            pieces = self._pieces(random)
            for piece in pieces[:-1]:
                interruption = str(random.choice(["talking_head", "slide", "outside"]))
                plan += [("surgical", piece), (interruption, lasting(2, 4.5))]
            plan.append(("surgical", pieces[-1]))
        else:
            for _ in range(random.integers(3, 6)):
                plan.append((str(random.choice(["talking_head", "slide"])), lasting(4, 9)))
                if random.random() < 0.3:
                    plan.append(("surgical", lasting(1, 1.8)))
        for kind, fraction in (("slide", 0.3), ("talking_head", 0.3)):
            if random.random() < fraction:
                plan.append((kind, lasting(2.5, 5)))
        return [*plan, ("card", lasting(2.5, 5))]

    def _pieces(self, random: np.random.Generator) -> list[float]:
        """Draw the lengths of the parts into which interruptions cut the operation."""
        count = min(int(random.integers(1, 4)), int(self.surgical_seconds // _SHORTEST_PIECE))
        fractions = random.dirichlet(np.full(count, 4.0))
        lengths = _SHORTEST_PIECE + fractions * (self.surgical_seconds - count * _SHORTEST_PIECE)
        return [float(length) for length in lengths.round(1)]

    def _segment(self, second: float) -> Segment:
        number = int(np.searchsorted([segment.start for segment in self.segments], second, side="right")) - 1
        return self.segments[max(number, 0)]

    def _operation_second(self, segment: Segment, second: float) -> float:
        """Return the second of the operation that is shown at a second of the video; interruptions do not count."""
        earlier = [other for other in self.segments if other.kind == "surgical" and other.start < segment.start]
        shown = sum(other.end - other.start for other in earlier) + second - segment.start
        return (self._operation_start + shown) % _OPERATION_SECONDS

    # ------------------------------------------------------------------------------------- what it looks like

    def frame(self, second: float) -> np.ndarray:
        """Render the frame at a time in seconds: RGB, uint8, of shape (height, width, 3)."""
        segment = self._segment(second)
        number = self.segments.index(segment)
        pixels = self._render(number, second)
        fades = number > 0 and self._random("fade", number).random() < 0.3
        if fades and second - segment.start < _FADE:
            fraction = (second - segment.start) / _FADE
            before = self._render(number - 1, segment.start - 1e-3)
            pixels = (fraction * pixels + (1 - fraction) * before).astype(np.uint8)
        return pixels

    def _render(self, number: int, second: float) -> np.ndarray:
        """Render the frame of a segment, without fading."""
        segment, random = self.segments[number], self._random("segment", number)
        scene_seed = int(random.integers(2**31))
        if segment.kind == "surgical":
            return self._surgery(segment, second)
        if segment.kind == "outside":
            scene = str(random.choice(["people", "cloth", "trocar"]))
            return draw_room(scene_seed, second, self.height, self.width, scene=scene)
        if segment.kind == "talking_head":
            return self._talking_head(random, scene_seed, second)
        if segment.kind == "slide":
            return self._slide(random, second)
        return self._card(random, is_end=number == len(self.segments) - 1)

    @cached_property
    def _operation(self) -> SyntheticOperation:
        """Return the operation, at the size of the part of the frame that it fills; old cameras leave black sides."""
        seed = self.seed if self.operation_seed is None else self.operation_seed
        has_sides = np.random.default_rng([seed, *b"sides"]).random() < 0.25
        width = self.height * 4 // 3 // 2 * 2 if has_sides else self.width
        return SyntheticOperation(seed, _OPERATION_SECONDS, self.height, min(width, self.width))

    @cached_property
    def _operation_start(self) -> float:
        if self.operation_start is not None:
            return self.operation_start
        random = np.random.default_rng([self._operation.seed, *b"start"])
        return round(float(random.uniform(0, 2 / 3 * _OPERATION_SECONDS)), 1)

    def _camera_view(self, second: float) -> np.ndarray:
        """Render the operation as its own camera shows it: mirrored or not, zoomed in, rotated."""
        operation = self._operation
        image = Image.fromarray(operation.frame(second % _OPERATION_SECONDS))
        random = np.random.default_rng([operation.seed, *b"camera"])
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        zoom, angle = random.uniform(1.0, 1.6), np.deg2rad(random.uniform(-20, 20))
        center = np.array([operation.width, operation.height]) / 2
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom
        shift = center - turn @ center
        coefficients = (*turn[0], shift[0], *turn[1], shift[1])
        return np.asarray(image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR))

    def _surgery(self, segment: Segment, second: float) -> np.ndarray:
        image = Image.new("RGB", (self.width, self.height))
        view = self._camera_view(self._operation_second(segment, second))
        image.paste(Image.fromarray(view), ((self.width - view.shape[1]) // 2, 0))
        for overlay in self._overlays:
            if overlay.start <= second < overlay.end:
                overlay.draw(image, second)
        return np.asarray(image)

    @cached_property
    def _overlays(self) -> tuple[_Overlay, ...]:
        random = self._random("overlays")
        if random.random() < 0.15:
            return ()
        corners = random.permutation(4)
        bar = self._bar(random) if random.random() < 0.4 else None
        overlays = [bar] if bar else []
        if random.random() < 0.65:
            overlays.append(self._logo(random, int(corners[0])))
        if random.random() < 0.45:
            overlays.append(self._room_inset(random, int(corners[1])))
        surgical = [segment for segment in self.segments if segment.kind == "surgical"]
        overlays += [self._caption(random, segment) for segment in surgical if random.random() < 0.6]
        return tuple(overlays)

    def _span(self, random: np.random.Generator, segment: Segment) -> tuple[float, float]:
        length = min(float(random.uniform(3, 9)), segment.end - segment.start)
        start = float(random.uniform(segment.start, segment.end - length))
        return start, start + length

    def _corner(self, corner: int, width: int, height: int) -> _Box:
        margin = 4
        left = margin if corner % 2 else self.width - margin - width
        top = round(0.1 * self.height) if corner < 2 else round(0.88 * self.height) - height
        return left, top, left + width, top + height

    def _logo(self, random: np.random.Generator, corner: int) -> _Overlay:
        color, text = _color(random), str(random.choice(_NAMES))
        size = int(random.integers(self.height // 16, self.height // 9))
        left, top, right, bottom = _font(size).getbbox(text)
        box = self._corner(corner, int(right - left) + 10, int(bottom - top) + 8)
        outline = _readable_on(color)

        def _draw(image: Image.Image, second: float) -> None:
            draw = ImageDraw.Draw(image)
            draw.rounded_rectangle(_inside(box), 5, fill=color, outline=outline)
            draw.text((box[0] + 5 - left, box[1] + 4 - top), text, outline, _font(size))

        return _Overlay(0, self.duration_seconds, box, _draw)

    def _bar(self, random: np.random.Generator) -> _Overlay:
        """Draw the status bar of a robot's console or a recorder."""
        height = int(random.integers(self.height // 14, self.height // 9))
        at_top = random.random() < 0.5
        box = (0, 0, self.width, height) if at_top else (0, self.height - height, self.width, self.height)
        color = tuple(int(value) for value in random.integers(15, 90, 3))
        fields = [
            str(random.choice(("Monopolar 2", "ARM 1", "30° UP", "REC", "12 mmHg", "Bipolar"))) for _ in range(4)
        ]

        def _draw(image: Image.Image, second: float) -> None:
            draw = ImageDraw.Draw(image)
            draw.rectangle(_inside(box), fill=color)
            for index, text in enumerate([*fields, f"{int(second) // 60:02d}:{int(second) % 60:02d}"]):
                left = 4 + index * self.width / 5
                draw.text((left, box[1] + 1), text, (225, 230, 235), _font(round(min(0.7 * height, self.width / 36))))

        return _Overlay(0, self.duration_seconds, box, _draw)

    def _room_inset(self, random: np.random.Generator, corner: int) -> _Overlay:
        """Draw a small image of the operating room in a corner."""
        surgical = [segment for segment in self.segments if segment.kind == "surgical"]
        start, end = (0.0, self.duration_seconds)
        if surgical and random.random() < 0.5:
            start, end = self._span(random, surgical[int(random.integers(len(surgical)))])
        height = int(random.integers(self.height // 5, self.height // 3))
        width, scene_seed = int(height * random.uniform(1, 1.5)), int(random.integers(2**31))
        box = self._corner(corner, width, height)
        border = int(random.integers(0, 3))
        color = _color(random)

        def _draw(image: Image.Image, second: float) -> None:
            ImageDraw.Draw(image).rectangle(_inside(box), fill=color)
            inner = Image.fromarray(draw_room(scene_seed, second, 2 * height, 2 * width, scene="people"))
            inner = inner.resize((width - 2 * border, height - 2 * border), Image.Resampling.BILINEAR)
            image.paste(inner, (int(box[0]) + border, int(box[1]) + border))

        return _Overlay(start, end, box, _draw)

    def _caption(self, random: np.random.Generator, segment: Segment) -> _Overlay:
        start, end = self._span(random, segment)
        text, size = str(random.choice(_LINES)), int(random.integers(self.height // 16, self.height // 10))
        left, top, right, bottom = _font(size).getbbox(text, stroke_width=1)
        width, height = min(int(right - left) + 12, self.width - 20), int(bottom - top) + 8
        x = (self.width - width) // 2 if random.random() < 0.7 else 10
        y = round(float(random.choice((0.72, 0.6, 0.2))) * self.height)
        box = (x, y, x + width, y + height)
        panel = _color(random) if random.random() < 0.6 else None
        ink = _readable_on(panel) if panel else (250, 250, 250)

        def _draw(image: Image.Image, second: float) -> None:
            draw = ImageDraw.Draw(image)
            if panel:
                draw.rectangle(_inside(box), fill=panel)
            edge = None if panel else (10, 10, 10)
            draw.text(
                (x + 6 - left, y + 4 - top), text, ink, _font(size), stroke_width=0 if panel else 1, stroke_fill=edge
            )

        return _Overlay(start, end, box, _draw)

    # ------------------------------------------------------------------------------------- around the operation

    def _card(self, random: np.random.Generator, is_end: bool) -> np.ndarray:
        """Draw a title or an end card: a gradient, a few lines of text, sometimes a logo."""
        above, below = np.array(_color(random), float), np.array(_color(random), float)
        if random.random() < 0.4:
            below = above
        rows = np.linspace(0, 1, self.height)[:, None, None]
        gradient = np.broadcast_to(above + (below - above) * rows, (self.height, self.width, 3))
        image = Image.fromarray(gradient.astype(np.uint8))
        ink = _readable_on(tuple(int(value) for value in (above + below) / 2))
        draw = ImageDraw.Draw(image)
        if random.random() < 0.5:
            x, y, radius = random.uniform((0.1, 0.1, 0.05), (0.9, 0.3, 0.15))
            x, y, radius = x * self.width, y * self.height, radius * self.height
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_color(random), outline=ink, width=2)
        lines = [str(random.choice(_ENDS if is_end else _TITLES)), *random.choice(_LINES, random.integers(1, 4))]
        for index, text in enumerate(lines):
            size = self.height // (9 if index == 0 else 15)
            height = self.height * (0.35 + 0.13 * index + 0.05 * (index > 0))
            draw.text((self.width / 2, height), str(text), ink, _font(size), anchor="mm")
        return np.asarray(image)

    def _talking_head(self, random: np.random.Generator, scene_seed: int, second: float) -> np.ndarray:
        image = Image.fromarray(draw_room(scene_seed, second, self.height, self.width, scene="people", masked=False))
        draw = ImageDraw.Draw(image)
        if random.random() < 0.5:  # name and office
            color = _color(random)
            draw.rectangle([0, 0.78 * self.height, 0.6 * self.width, 0.92 * self.height], fill=color)
            text = f"Dr {random.choice(list('ABCDEFGH'))}. Example"
            draw.text((8, 0.8 * self.height), text, _readable_on(color), _font(self.height // 13))
        if random.random() < 0.3:  # the operation as an inset
            self._inset(image, random, second, 0.3)
        return np.asarray(image)

    def _slide(self, random: np.random.Generator, second: float) -> np.ndarray:
        paper = (246, 246, 242) if random.random() < 0.7 else _color(random)
        ink = _readable_on(paper)
        image = Image.new("RGB", (self.width, self.height), paper)
        draw = ImageDraw.Draw(image)
        draw.text((0.06 * self.width, 0.06 * self.height), str(random.choice(_TITLES)), ink, _font(self.height // 11))
        draw.line([0.06 * self.width, 0.2 * self.height, 0.94 * self.width, 0.2 * self.height], _color(random), 2)
        for index, text in enumerate(random.choice(_LINES, random.integers(2, 6))):
            height = (0.27 + 0.12 * index) * self.height
            draw.text((0.08 * self.width, height), f"- {text}", ink, _font(self.height // 15))
        choice = random.random()
        if choice < 0.4:  # an image of the operation on the slide
            self._inset(image, random, float(random.uniform(0, 60)), 0.4)
        elif choice < 0.6:
            for column in range(4):
                left = (0.62 + 0.08 * column) * self.width
                top = random.uniform(0.35, 0.75) * self.height
                draw.rectangle([left, top, left + 0.05 * self.width, 0.85 * self.height], fill=_color(random))
        return np.asarray(image)

    def _inset(self, image: Image.Image, random: np.random.Generator, second: float, fraction: float) -> None:
        size = round(fraction * self.width), round(fraction * self.height)
        left, top = round((0.95 - fraction) * self.width), round(random.uniform(0.3, 0.6) * self.height)
        view = Image.fromarray(self._camera_view(self._operation_start + second)).resize(size)
        image.paste(view, (left, top))


def write_web_video(video: SyntheticWebVideo, path: str | os.PathLike[str], *, crf: int = 23) -> Path:
    """Write a video as H.264, and its ground truth beside it as `.json`; the bytes are the same in every run.

    Args:
        video: video to render.
        path: file to write, whose suffix decides the container.
        crf: H.264's constant rate factor, 0-51; higher is coarser.

    Returns:
        `path`.

    Example:
        >>> write_web_video(SyntheticWebVideo(seed=4), "upload.mp4")  # doctest: +SKIP
    """
    write_video(video, path, crf=crf)
    write_json(Path(path).with_suffix(".json"), video.truth(), indent=None)
    return Path(path)


def _inside(box: _Box) -> _Box:
    """Return a box without its last row and column, which Pillow would also fill."""
    return box[0], box[1], box[2] - 1, box[3] - 1


def _color(random: np.random.Generator) -> _Color:
    red, green, blue = random.integers(0, 256, 3)
    return int(red), int(green), int(blue)


def _readable_on(color: tuple[int, ...]) -> _Color:
    return (20, 20, 24) if np.dot(color, (0.299, 0.587, 0.114)) > 128 else (245, 245, 245)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(size, 6))
