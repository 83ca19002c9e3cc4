"""Rendered images from outside the patient: people in an operating room, white cloth, the inside of a trocar; and recordings
that begin, pause and end there.

De-identification and curation must distinguish them from surgery. No person is in these images; faces are ovals with eyes.
Every frame is a pure function of the seed and the time.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .surgery import SyntheticOperation, smooth_noise

SCENES = ("people", "cloth", "trocar")
_SKIN = ((244, 214, 190), (224, 184, 152), (198, 150, 116), (150, 104, 76), (104, 70, 52))
_GOWNS = ((38, 110, 120), (52, 92, 150), (70, 130, 90), (120, 160, 190), (225, 228, 230))
_WALLS = ((214, 220, 218), (188, 204, 210), (202, 196, 184), (168, 184, 172), (120, 130, 140))
VIEWS = ("inside", "outside")
_Color = tuple[int, int, int]


@dataclass(frozen=True)
class SyntheticRecording(SyntheticOperation):
    """An operation as it is recorded: the camera runs before it is inside, comes out to be cleaned, and runs on afterwards.

    Args:
        seed, duration_seconds, height, width, frames_per_second: arguments of `SyntheticOperation`. The operation goes on
            unseen while the camera is outside.

    Example:
        >>> recording = SyntheticRecording(seed=1, duration_seconds=60)
        >>> recording.outside(0.0), recording.outside(30.0)
        (True, False)
    """

    @cached_property
    def outside_spans(self) -> tuple[tuple[float, float], ...]:
        """Return (start, end) in seconds of each time outside, in order; the first starts at 0, the last is at the end."""
        random = self._random("outside")
        length = self.duration_seconds
        before, after = random.uniform(0.05, 0.15, 2) * length
        spans = [(0.0, before)]
        for fraction in np.sort(random.uniform(0.25, 0.75, random.integers(0, 3))):
            start = fraction * length
            if start > spans[-1][1] + 2:
                spans.append((start, min(start + random.uniform(2, 6), 0.8 * length)))
        return (*((float(a), float(b)) for a, b in spans), (float(length - after), float(length)))

    def outside(self, second: float) -> bool:
        """Return whether the camera is outside the patient at a time in seconds."""
        return any(start <= second < end for start, end in self.outside_spans)

    def frame(self, second: float) -> np.ndarray:
        """Render the frame at a time in seconds: RGB, uint8, of shape (height, width, 3)."""
        span = next(((start, end) for start, end in self.outside_spans if start <= second < end), None)
        if span is None:
            return super().frame(second)
        seed = int(self._random("scene", round(span[0] * 1000), int(second / 4)).integers(2**31))
        scene = "trocar" if span[1] < self.duration_seconds and second > span[1] - 0.7 else None  # on its way in
        return draw_room(seed, second, self.height, self.width, scene=scene)


def draw_room(
    seed: int,
    second: float,
    height: int = 240,
    width: int = 320,
    *,
    scene: str | None = None,
    masked: bool | None = None,
) -> np.ndarray:
    """Render an image from outside the patient.

    Args:
        seed: seed of the people, their positions and the colors.
        second: time in seconds; people and camera move.
        height, width: size of the image in pixels.
        scene: `"people"` in an operating room, `"cloth"` for white balance and wiping, or `"trocar"` on the way in. By
            default it depends on the seed and is most often people.
        masked: `True` if people wear masks; by default it is drawn for each person.

    Returns:
        RGB image, uint8, of shape (height, width, 3).

    Example:
        >>> draw_room(seed=3, second=0.0).shape
        (240, 320, 3)
    """
    random = np.random.default_rng([seed, *b"room"])
    scene = scene or str(random.choice(SCENES, p=(0.7, 0.18, 0.12)))
    image = Image.new("RGB", (width, height))
    draw = {"people": _people, "cloth": _cloth, "trocar": _trocar}[scene]
    image = draw(image, random, second, masked)
    pixels = np.asarray(image, np.float32) * random.uniform(0.75, 1.1)
    noise = np.random.default_rng([seed, *b"noise", round(second * 1000)]).normal(0, 2.5, (height, width, 1))
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def _people(image: Image.Image, random: np.random.Generator, second: float, masked: bool | None) -> Image.Image:
    width, height = image.size
    draw = ImageDraw.Draw(image)
    shift = (
        0.05 * width * np.sin(second * random.uniform(0.2, 0.9) + random.uniform(0, 6))
    )  # nobody holds the camera still
    draw.rectangle([0, 0, width, height], fill=_choose(random, _WALLS))
    draw.rectangle([0, height * 0.78, width, height], fill=tuple(int(v) for v in random.integers(60, 140, 3)))
    for _ in range(random.integers(1, 4)):  # lamps and screens
        x, y = random.uniform(0, width), random.uniform(0, 0.3 * height)
        size = random.uniform(0.05, 0.14) * width
        light = tuple(int(v) for v in random.integers(200, 256, 3))
        draw.ellipse(
            [x - size + shift, y - size / 2, x + size + shift, y + size / 2], fill=light, outline=(90, 90, 95)
        )
    if random.random() < 0.6:
        left = random.uniform(0, 0.7) * width + shift
        draw.rectangle(
            [left, 0.3 * height, left + 0.25 * width, 0.55 * height], fill=(20, 24, 30), outline=(70, 70, 75)
        )
        draw.rectangle([left + 4, 0.3 * height + 4, left + 0.25 * width - 4, 0.55 * height - 4], fill=(150, 70, 64))
    for _ in range(random.integers(1, 4)):
        _person(draw, random, width, height, shift, second, masked)
    if random.random() < 0.5:  # the drape of the table
        draw.polygon(
            [(0, height), (0, 0.85 * height), (width, 0.78 * height), (width, height)],
            fill=_choose(random, _GOWNS[:3]),
        )
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0, 0.006) * width))


def _person(
    draw: ImageDraw.ImageDraw,
    random: np.random.Generator,
    width: int,
    height: int,
    shift: float,
    second: float,
    masked: bool | None,
) -> None:
    sway = 0.015 * width * np.sin(second * random.uniform(0.5, 2) + random.uniform(0, 6))
    x = random.uniform(0.1, 0.9) * width + shift + sway
    head = random.uniform(0.07, 0.2) * height
    y = random.uniform(0.25, 0.5) * height
    gown, skin = _choose(random, _GOWNS), _choose(random, _SKIN)
    draw.rounded_rectangle([x - 2.1 * head, y + 1.2 * head, x + 2.1 * head, height * 1.2], head, fill=gown)
    draw.rectangle([x - 0.4 * head, y + 0.6 * head, x + 0.4 * head, y + 1.5 * head], fill=skin)
    draw.ellipse([x - 0.8 * head, y - head, x + 0.8 * head, y + head], fill=skin)
    for side in (-0.32, 0.32):
        eye = x + side * head
        draw.ellipse([eye - 0.12 * head, y - 0.2 * head, eye + 0.12 * head, y - 0.04 * head], fill=(250, 250, 250))
        draw.ellipse([eye - 0.06 * head, y - 0.18 * head, eye + 0.06 * head, y - 0.06 * head], fill=(40, 30, 24))
    capped = random.random() < 0.7
    hair = gown if capped else tuple(int(v) for v in random.integers(20, 120, 3))
    draw.pieslice([x - 0.86 * head, y - 1.1 * head, x + 0.86 * head, y + 0.5 * head], 180, 360, fill=hair)
    covers = random.random() < 0.6 if masked is None else masked
    if covers:
        draw.rounded_rectangle(
            [x - 0.66 * head, y + 0.08 * head, x + 0.66 * head, y + 0.86 * head], 0.25 * head, fill=(150, 196, 214)
        )
    else:
        draw.line(
            [x, y, x - 0.08 * head, y + 0.26 * head, x + 0.06 * head, y + 0.28 * head], fill=(120, 80, 66), width=2
        )
        draw.arc(
            [x - 0.3 * head, y + 0.3 * head, x + 0.3 * head, y + 0.66 * head], 10, 170, fill=(150, 60, 60), width=3
        )


def _cloth(image: Image.Image, random: np.random.Generator, second: float, masked: bool | None) -> Image.Image:
    """Draw white gauze or a drape right in front of the lens."""
    width, height = image.size
    drift = (second * np.array([0.02, 0.013]) + random.uniform(0, 1, 2)) % 0.25
    pattern = smooth_noise(random, (round(1.3 * height), round(1.3 * width)), int(random.integers(6, 30)))
    top, left = (drift * (height, width)).astype(int)
    white = np.array(random.choice([(235, 236, 232), (210, 220, 226), (120, 160, 190)]), np.float32)
    pixels = white * (0.75 + 0.3 * pattern[top : top + height, left : left + width, None])
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _trocar(image: Image.Image, random: np.random.Generator, second: float, masked: bool | None) -> Image.Image:
    """Draw the rings of a metal tube with a bright end."""
    width, height = image.size
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 0, width, height], fill=(30, 30, 34))
    center = np.array([width, height]) * (0.5 + 0.08 * np.sin(second + random.uniform(0, 6, 2)))
    metal = random.integers(90, 170)
    rings = int(random.integers(5, 10))
    for ring in range(rings):
        radius = 0.62 * width * (1 - ring / rings) ** 1.3 + 0.04 * width
        gray = int(metal * (0.5 + 0.5 * np.sin(ring * 2.1 + 0.7 * second) ** 2))
        draw.ellipse([*(center - radius), *(center + radius)], fill=(gray, gray, min(gray + 8, 255)))
    end = 0.05 * width
    draw.ellipse([*(center - end), *(center + end)], fill=_choose(random, _WALLS))
    return image.filter(ImageFilter.GaussianBlur(0.008 * width))


def _choose(random: np.random.Generator, colors: tuple[_Color, ...]) -> _Color:
    return colors[int(random.integers(len(colors)))]
