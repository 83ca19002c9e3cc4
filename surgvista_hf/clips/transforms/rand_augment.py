"""RandAugment on clips: the same random operations on all frames (Cubuk et al., arXiv 1909.13719).

The operations and their magnitudes are those of SurgVISTA's fine-tuning (arXiv 2506.02692): each of the drawn operations is
applied with probability one half, at a magnitude drawn around the mean; geometry is bicubic on gray. Pillow does the work.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

from ...util.errors import InputError
from ..sampling.randomness import keyed_generator

_GRAY = (128, 128, 128)
_PROBABILITY = 0.5
_SPREAD = 0.5  # standard deviation of a magnitude
_ENHANCERS = {
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "brightness": ImageEnhance.Brightness,
    "sharpness": ImageEnhance.Sharpness,
}
INVERTING = ("invert", "posterize", "solarize", "solarize_add")  # they make colors that no tissue has
OPERATIONS = (
    "auto_contrast", "equalize", "invert", "rotate", "posterize", "solarize", "solarize_add", "color", "contrast",
    "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip


def operation(name: str, magnitude: float, sign: int) -> Callable[[Image.Image], Image.Image]:
    """Return an operation as a function of a frame.

    Args:
        name: one of `OPERATIONS`.
        magnitude: strength, 0-10.
        sign: 1 or -1: direction of geometry; more or less of color, contrast, brightness and sharpness.

    Returns:
        A function from an RGB image to an RGB image.

    Raises:
        InputError: if there is no such operation.

    Example:
        >>> operation("solarize", 10, 1)(Image.new("RGB", (1, 1), (10, 20, 30))).getpixel((0, 0))
        (245, 235, 225)
    """
    m = magnitude
    if name in _ENHANCERS:
        return lambda image: _ENHANCERS[name](image).enhance(1 + sign * 0.09 * m)
    simple: dict[str, Callable[[Image.Image], Image.Image]] = {
        "auto_contrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "invert": ImageOps.invert,
        "rotate": lambda image: image.rotate(sign * 3 * m, Image.Resampling.BICUBIC, fillcolor=_GRAY),
        "posterize": lambda image: ImageOps.posterize(image, 4 - int(0.4 * m)) if int(0.4 * m) < 4 else _black(image),
        "solarize": lambda image: ImageOps.solarize(image, 256 - int(25.6 * m)),
        "solarize_add": lambda image: image.point(
            [min(value + int(11 * m), 255) if value < 128 else value for value in range(256)] * 3
        ),
        "shear_x": lambda image: _affine(image, (1, sign * 0.03 * m, 0, 0, 1, 0)),
        "shear_y": lambda image: _affine(image, (1, 0, 0, sign * 0.03 * m, 1, 0)),
        "translate_x": lambda image: _affine(image, (1, 0, sign * 0.045 * m * image.width, 0, 1, 0)),
        "translate_y": lambda image: _affine(image, (1, 0, 0, 0, 1, sign * 0.045 * m * image.height)),
    }
    if name not in simple:
        raise InputError(f"there is no operation {name!r}; there are {', '.join(OPERATIONS)}")
    return simple[name]


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=_GRAY)


def _black(image: Image.Image) -> Image.Image:
    return Image.new(image.mode, image.size)


@dataclass(frozen=True)
class RandAugment:
    """Random operations on a clip, a pure function of (seed, epoch, sample).

    Args:
        operations: number of operations drawn for a clip, with replacement.
        magnitude: mean of the magnitudes, 0-10.
        invert_colors: whether the operations of `INVERTING` are among them.
        seed: seed of the run.

    Example:
        >>> RandAugment()(torch.zeros(2, 3, 32, 48, dtype=torch.uint8), epoch=0, index=1).shape
        torch.Size([2, 3, 32, 48])
    """

    operations: int = 4
    magnitude: float = 7.0
    invert_colors: bool = True
    seed: int = 0

    def draw(self, epoch: int, index: int) -> list[tuple[str, float, int]]:
        """Draw the operations of a sample, as (name, magnitude, sign)."""
        generator = keyed_generator(self.seed, epoch, index, "rand augment")
        known = [name for name in OPERATIONS if self.invert_colors or name not in INVERTING]
        drawn = []
        for _ in range(self.operations):
            name = known[int(generator.integers(len(known)))]
            applied = generator.random() < _PROBABILITY
            magnitude = float(np.clip(generator.normal(self.magnitude, _SPREAD), 0, 10))
            sign = 1 if generator.random() < 0.5 else -1
            if applied:
                drawn.append((name, magnitude, sign))
        return drawn

    def __call__(self, clip: torch.Tensor, epoch: int, index: int) -> torch.Tensor:
        """Augment a clip.

        Args:
            clip: (frames, 3, height, width) uint8.
            epoch: number of the epoch, from 0.
            index: index of the sample.

        Returns:
            The augmented clip, of the same shape.
        """
        chosen = [operation(*each) for each in self.draw(epoch, index)]
        if not chosen:
            return clip
        frames = []
        for frame in clip.permute(0, 2, 3, 1).numpy():
            image = Image.fromarray(frame)
            for apply in chosen:
                image = apply(image)
            frames.append(torch.from_numpy(np.array(image)))
        return torch.stack(frames).permute(0, 3, 1, 2)
