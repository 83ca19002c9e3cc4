"""The crop family of the published pre-training recipe (SurgVISTA, arXiv 2506.02692), on uint8 clips where they lie.

One crop a clip, shared by all its frames and by student and teacher: one of ten (width, height) pairs at one of thirteen
places, resized bilinearly with antialiasing, aspect not kept. No flip, no colour.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from ..modeling.errors_surgvista import InputError
from .randomness import keyed_generator

_SCALES = (1.0, 0.875, 0.75, 0.66)
_SNAP = 3  # a side that differs from the output by less becomes the output
# Places in quarters of the free space (right, down); where there is none they coincide and keep their weight.
_PLACES = (
    (0, 0), (4, 0), (0, 4), (4, 4), (2, 2),
    (0, 2), (4, 2), (2, 4), (2, 0),
    (1, 1), (3, 1), (1, 3), (3, 3),
)  # fmt: skip


class CropBox(NamedTuple):
    """A rectangle in pixels; it may reach outside the picture, which is black there."""

    left: int
    top: int
    width: int
    height: int


def crop_sides(width: int, height: int, size: int = 224) -> list[int]:
    """The four sides that crops of a picture may have, longest first.

    Example:
        >>> crop_sides(512, 320)
        [320, 280, 240, 211]
    """
    sides = [int(min(width, height) * scale) for scale in _SCALES]
    return [size if abs(side - size) < _SNAP else side for side in sides]


def crop_boxes(width: int, height: int, size: int = 224) -> list[CropBox]:
    """All 10 · 13 crops of the family, equally probable.

    Args:
        width, height: of the picture, in pixels.
        size: side of the output, to which similar sides snap.

    Returns:
        130 boxes, some of which may be equal.

    Raises:
        InputError: a picture too small for the smallest crop to have a pixel.
    """
    sides = crop_sides(width, height, size)
    if min(sides) < 1:
        raise InputError(f"a picture of {width} × {height} is too small to crop")
    numbered = list(enumerate(sides))
    pairs = [(w, h) for (i, w), (j, h) in itertools.product(numbered, repeat=2) if abs(i - j) <= 1]
    return [
        CropBox(right * ((width - w) // 4), down * ((height - h) // 4), w, h)
        for w, h in pairs
        for right, down in _PLACES
    ]


def crop_and_resize(clip: torch.Tensor, box: CropBox, size: int) -> torch.Tensor:
    """One crop of a clip.

    Args:
        clip: (frames, channels, height, width) uint8, on any device.
        box: may reach outside the picture.
        size: side of the result.

    Returns:
        (frames, channels, size, size) uint8, within 1 of Pillow's crop and bilinear resize.

    Raises:
        InputError: not a uint8 clip.
    """
    if clip.dtype != torch.uint8 or clip.ndim != 4:
        raise InputError(f"a clip is (frames, channels, height, width) uint8, not {tuple(clip.shape)} {clip.dtype}")
    height, width = clip.shape[-2:]
    right, bottom = box.left + box.width, box.top + box.height
    inside = clip[..., max(box.top, 0) : min(bottom, height), max(box.left, 0) : min(right, width)]
    outside = (max(-box.left, 0), max(right - width, 0), max(-box.top, 0), max(bottom - height, 0))
    pixels = functional.pad(inside.float(), outside)
    if pixels.shape[-2:] != (size, size):
        pixels = functional.interpolate(pixels, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return pixels.round_().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class MultiScaleCrop:
    """Crops a batch; which crop a clip gets is a pure function of (seed, epoch, sample index).

    Args:
        size: side of the result, in pixels.
        seed: of the run.

    Example:
        >>> crop = MultiScaleCrop()
        >>> clips = torch.zeros(2, 16, 3, 256, 341, dtype=torch.uint8)
        >>> crop(clips, epoch=0, indices=[0, 1]).shape
        torch.Size([2, 16, 3, 224, 224])
    """

    size: int = 224
    seed: int = 0

    def box(self, width: int, height: int, epoch: int, index: int) -> CropBox:
        """The crop of one sample."""
        boxes = crop_boxes(width, height, self.size)
        return boxes[int(keyed_generator(self.seed, epoch, index, "crop").integers(len(boxes)))]

    def __call__(
        self, clips: torch.Tensor | Sequence[torch.Tensor], epoch: int, indices: Sequence[int]
    ) -> torch.Tensor:
        """Crops every clip.

        Args:
            clips: (batch, frames, channels, height, width) uint8, or a list of clips, which may differ in height and width.
            epoch: from 0.
            indices: the sample indices of the clips.

        Returns:
            (batch, frames, channels, size, size) uint8 on the device of the clips.

        Raises:
            InputError: not as many indices as clips, or clips that are not uint8.
        """
        if len(clips) != len(indices):
            raise InputError(f"{len(clips)} clips came with {len(indices)} sample indices")
        cropped = []
        for clip, index in zip(clips, indices, strict=True):
            height, width = clip.shape[-2:]
            cropped.append(crop_and_resize(clip, self.box(width, height, epoch, int(index)), self.size))
        return torch.stack(cropped)


def normalize_clips(
    clips: torch.Tensor,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """uint8 clips to model input: divided by 255, then by channel (value − mean) / std.

    Args:
        clips: (..., channels, height, width) uint8.
        mean, std: one number a channel, by default ImageNet's.
        dtype: of the result; computed in fp32.

    Returns:
        The same shape.
    """
    shape = (len(mean), 1, 1)
    centre = torch.tensor(np.multiply(mean, 255), dtype=torch.float32, device=clips.device).view(shape)
    spread = torch.tensor(np.multiply(std, 255), dtype=torch.float32, device=clips.device).view(shape)
    return ((clips.float() - centre) / spread).to(dtype)
