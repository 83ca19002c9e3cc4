"""Random crops of training, on uint8 clips of any device. All frames of a clip, student and teacher share one crop.

SurgVISTA (arXiv 2506.02692) takes one of ten (width, height) pairs at one of thirteen positions; V-JEPA (arXiv 2404.08471) any
rectangle of a range of areas and shapes, and flips half of them. Both resize bilinearly with antialiasing, aspect not kept.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from ...util.errors import InputError
from ..sampling.randomness import keyed_generator

_SCALES = (1.0, 0.875, 0.75, 0.66)
_SNAP = 3  # a side that differs from the output by less becomes the output
# Positions in quarters of the free space (right, down); where there is none they coincide and keep their weight.
_POSITIONS = (
    (0, 0), (4, 0), (0, 4), (4, 4), (2, 2),
    (0, 2), (4, 2), (2, 4), (2, 0),
    (1, 1), (3, 1), (1, 3), (3, 3),
)  # fmt: skip


class CropBox(NamedTuple):
    """A rectangle in pixels; it may reach outside the image, which is black there."""

    left: int
    top: int
    width: int
    height: int
    flip: bool = False  # left and right are exchanged


def crop_sides(width: int, height: int, size: int = 224) -> list[int]:
    """Return the four sides that crops of an image may have, in pixels, longest first.

    Example:
        >>> crop_sides(512, 320)
        [320, 280, 240, 211]
    """
    sides = [int(min(width, height) * scale) for scale in _SCALES]
    return [size if abs(side - size) < _SNAP else side for side in sides]


def crop_boxes(width: int, height: int, size: int = 224) -> list[CropBox]:
    """Return all 10 · 13 crops of the family, which are equally probable.

    Args:
        width, height: size of the image, in pixels.
        size: side of the output, to which similar sides snap.

    Returns:
        130 boxes, some of which may be equal.

    Raises:
        InputError: if the image is too small for the smallest crop to have a pixel.
    """
    sides = crop_sides(width, height, size)
    if min(sides) < 1:
        raise InputError(f"an image of {width} × {height} is too small to crop")
    numbered = list(enumerate(sides))
    pairs = [(w, h) for (i, w), (j, h) in itertools.product(numbered, repeat=2) if abs(i - j) <= 1]
    return [
        CropBox(right * ((width - w) // 4), down * ((height - h) // 4), w, h)
        for w, h in pairs
        for right, down in _POSITIONS
    ]


def crop_and_resize(clip: torch.Tensor, box: CropBox, size: int, *, antialias: bool = True) -> torch.Tensor:
    """Crop a clip and resize it bilinearly.

    Args:
        clip: (frames, channels, height, width) uint8, on any device.
        box: rectangle, which may reach outside the image.
        size: side of the result, in pixels.
        antialias: resize with antialiasing as Pillow does; without, as OpenCV and the published fine-tuning do.

    Returns:
        (frames, channels, size, size) uint8, within 1 of Pillow's crop and bilinear resize.

    Raises:
        InputError: if it is not a uint8 clip.
    """
    if clip.dtype != torch.uint8 or clip.ndim != 4:
        raise InputError(f"a clip is (frames, channels, height, width) uint8, not {tuple(clip.shape)} {clip.dtype}")
    height, width = clip.shape[-2:]
    right, bottom = box.left + box.width, box.top + box.height
    inside = clip[..., max(box.top, 0) : min(bottom, height), max(box.left, 0) : min(right, width)]
    outside = (max(-box.left, 0), max(right - width, 0), max(-box.top, 0), max(bottom - height, 0))
    pixels = functional.pad(inside.float(), outside)
    if pixels.shape[-2:] != (size, size):
        pixels = functional.interpolate(
            pixels, (size, size), mode="bilinear", align_corners=False, antialias=antialias
        )
    if box.flip:
        pixels = pixels.flip(-1)
    return pixels.round_().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class ClipCrop(ABC):
    """Random crops of a batch, each a pure function of (seed, epoch, sample index).

    Args:
        size: side of the result, in pixels.
        seed: seed of the run.
    """

    size: int = 224
    seed: int = 0

    @abstractmethod
    def box(self, width: int, height: int, epoch: int, index: int) -> CropBox:
        """Draw the crop of one sample.

        Args:
            width, height: size of its frames, in pixels.
            epoch: number of the epoch, from 0.
            index: index of the sample.
        """

    def __call__(
        self, clips: torch.Tensor | Sequence[torch.Tensor], epoch: int, indices: Sequence[int]
    ) -> torch.Tensor:
        """Crop every clip.

        Args:
            clips: (batch, frames, channels, height, width) uint8, or a list of clips, which may differ in height and width.
            epoch: number of the epoch, from 0.
            indices: the sample indices of the clips.

        Returns:
            (batch, frames, channels, size, size) uint8 on the device of the clips.

        Raises:
            InputError: if there are not as many indices as clips, or the clips are not uint8.
        """
        if len(clips) != len(indices):
            raise InputError(f"{len(clips)} clips came with {len(indices)} sample indices")
        cropped = []
        for clip, index in zip(clips, indices, strict=True):
            height, width = clip.shape[-2:]
            cropped.append(crop_and_resize(clip, self.box(width, height, epoch, int(index)), self.size))
        return torch.stack(cropped)


@dataclass(frozen=True)
class MultiScaleCrop(ClipCrop):
    """SurgVISTA's crops, one of `crop_boxes` for each clip.

    Args:
        size: side of the result, in pixels.
        seed: seed of the run.

    Example:
        >>> crop = MultiScaleCrop()
        >>> clips = torch.zeros(2, 16, 3, 256, 341, dtype=torch.uint8)
        >>> crop(clips, epoch=0, indices=[0, 1]).shape
        torch.Size([2, 16, 3, 224, 224])
    """

    def box(self, width: int, height: int, epoch: int, index: int) -> CropBox:
        """Draw one of the boxes of `crop_boxes`; see `ClipCrop.box`."""
        boxes = crop_boxes(width, height, self.size)
        return boxes[int(keyed_generator(self.seed, epoch, index, "crop").integers(len(boxes)))]


@dataclass(frozen=True)
class RandomResizedCrop(ClipCrop):
    """Rectangles of random area and shape; the defaults are V-JEPA's.

    Args:
        size: side of the result, in pixels.
        seed: seed of the run.
        scale: smallest and largest fraction of the image's area.
        aspect_ratio: smallest and largest width over height, uniform in the logarithm.
        flip: probability that left and right are exchanged.

    Example:
        >>> RandomResizedCrop(flip=0.0).box(320, 240, epoch=0, index=5)
        CropBox(left=13, top=0, width=305, height=230, flip=False)
    """

    scale: tuple[float, float] = (0.3, 1.0)
    aspect_ratio: tuple[float, float] = (0.75, 1.35)
    flip: float = 0.5

    def box(self, width: int, height: int, epoch: int, index: int) -> CropBox:
        """Draw a rectangle by `random_box`; see `ClipCrop.box`."""
        generator = keyed_generator(self.seed, epoch, index, "random resized crop")
        return random_box(generator, width, height, self.scale, self.aspect_ratio, self.flip)


def random_box(
    generator: np.random.Generator,
    width: int,
    height: int,
    scale: tuple[float, float],
    aspect_ratio: tuple[float, float],
    flip: float,
) -> CropBox:
    """Draw a rectangle of random area and shape in an image.

    Args:
        generator: source of randomness.
        width, height: size of the image, in pixels.
        scale: smallest and largest fraction of the image's area.
        aspect_ratio: smallest and largest width over height, uniform in the logarithm.
        flip: probability that left and right are exchanged.

    Returns:
        The rectangle; after ten draws that do not fit, the largest one of an allowed shape in the middle.
    """
    flipped = bool(generator.random() < flip)
    for _ in range(10):
        area = width * height * generator.uniform(*scale)
        ratio = math.exp(generator.uniform(math.log(aspect_ratio[0]), math.log(aspect_ratio[1])))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            left, top = int(generator.integers(width - w + 1)), int(generator.integers(height - h + 1))
            return CropBox(left, top, w, h, flipped)
    # The largest rectangle of an allowed shape, in the middle.
    w = min(width, round(height * aspect_ratio[1]))
    h = min(height, round(width / aspect_ratio[0]))
    return CropBox((width - w) // 2, (height - h) // 2, w, h, flipped)


def normalize_clips(
    clips: torch.Tensor,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Normalize uint8 clips to model input: divide by 255, then compute (value − mean) / std by channel.

    Args:
        clips: (..., channels, height, width) uint8.
        mean, std: one number a channel, by default ImageNet's.
        dtype: type of the result, which is computed in fp32.

    Returns:
        The normalized clips, of the same shape.
    """
    # Copied without waiting: a blocking copy would let the host wait in every step for all work that the device still has.
    center, spread = (
        torch.from_numpy(np.multiply(values, 255, dtype=np.float64).astype(np.float32))
        .view(-1, 1, 1)
        .to(clips.device, non_blocking=True)
        for values in (mean, std)
    )
    return ((clips.float() - center) / spread).to(dtype)
