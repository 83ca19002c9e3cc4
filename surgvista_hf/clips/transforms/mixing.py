"""Augmentation of batches in fine-tuning: erased rectangles, mixup and CutMix, soft labels.

Random Erasing (arXiv 1708.04896), mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) as SurgVISTA uses them (arXiv
2506.02692): one rectangle in all frames of a clip, one λ for a batch, partners are the batch in reverse order.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..sampling.randomness import keyed_generator
from .augmentation import CropBox

_AREA = (0.02, 1 / 3)
_TRIES = 100


def erasing_box(size: int, probability: float, seed: int, epoch: int, index: int) -> CropBox | None:
    """Draw the rectangle of a sample that is replaced by noise, or none.

    Args:
        size: side of the frames, in pixels.
        probability: probability that there is a rectangle.
        seed, epoch, index: seed of the run, number of the epoch from 0, index of the sample.

    Returns:
        The rectangle, or `None`. Its area is uniform in 0.02 … 1/3 of the frame's, height over width log-uniform in
        0.3 … 10/3.

    Example:
        >>> erasing_box(224, 0.0, 0, 0, 0) is None
        True
    """
    generator = keyed_generator(seed, epoch, index, "erasing")
    if generator.random() >= probability:
        return None
    for _ in range(_TRIES):
        area = generator.uniform(*_AREA) * size * size
        ratio = math.exp(generator.uniform(math.log(0.3), math.log(10 / 3)))
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < height < size and 0 < width < size:
            left, top = generator.integers(size - width + 1), generator.integers(size - height + 1)
            return CropBox(int(left), int(top), width, height)
    return None


@dataclass(frozen=True)
class Mix:
    """The mix of a batch with itself in reverse order.

    Args:
        lam: λ, the weight of a clip's own label, 0-1.
        box: rectangle that CutMix takes from the partner; `None` for mixup.
    """

    lam: float
    box: CropBox | None = None


def draw_mix(
    size: int, mixup_alpha: float, cutmix_alpha: float, cutmix_probability: float, seed: int, epoch: int, index: int
) -> Mix | None:
    """Draw the mix of a batch.

    Args:
        size: side of the frames, in pixels.
        mixup_alpha, cutmix_alpha: parameters α of the distributions Beta(α, α) of λ; 0 switches that kind off.
        cutmix_probability: probability of CutMix where both are on.
        seed, epoch, index: seed of the run, number of the epoch from 0, index of the first sample of the batch.

    Returns:
        The mix; `None` if both are off.

    Example:
        >>> draw_mix(224, 0.0, 0.0, 0.5, 0, 0, 0) is None
        True
    """
    if not mixup_alpha and not cutmix_alpha:
        return None
    generator = keyed_generator(seed, epoch, index, "mix")
    cut = bool(generator.random() < cutmix_probability) if mixup_alpha and cutmix_alpha else not mixup_alpha
    alpha = cutmix_alpha if cut else mixup_alpha
    lam = float(generator.beta(alpha, alpha))
    if not cut:
        return Mix(lam)
    half = int(size * math.sqrt(1 - lam)) // 2
    x, y = (int(generator.integers(size)) for _ in range(2))
    left, top = max(x - half, 0), max(y - half, 0)
    box = CropBox(left, top, min(x + half, size) - left, min(y + half, size) - top)
    return Mix(1 - box.width * box.height / size**2, box)


def mix_clips(clips: torch.Tensor, mix: Mix) -> torch.Tensor:
    """Mix every clip of a batch (B, frames, channels, height, width) with its partner, B - 1 - its number."""
    partners = clips.flip(0)
    if mix.box is None:
        return mix.lam * clips + (1 - mix.lam) * partners
    left, top, width, height, _ = mix.box
    mixed = clips.clone()
    mixed[..., top : top + height, left : left + width] = partners[..., top : top + height, left : left + width]
    return mixed


def soft_labels(labels: torch.Tensor, classes: int, smoothing: float = 0.0, mix: Mix | None = None) -> torch.Tensor:
    """Return the labels as a distribution over classes.

    Args:
        labels: (B,) class numbers, or (B, classes) for multi-label classification, which are mixed but not smoothed.
        classes: number of classes.
        smoothing: fraction that is spread over all classes.
        mix: mix of the batch, or `None`.

    Returns:
        (B, classes) fp32.

    Example:
        >>> [f"{value:.4f}" for value in soft_labels(torch.tensor([0, 1]), 7, 0.1, Mix(0.3))[0, :3]]
        ['0.2843', '0.6443', '0.0143']
    """
    targets = labels.float()
    if labels.ndim == 1:
        targets = torch.nn.functional.one_hot(labels, classes).float() * (1 - smoothing) + smoothing / classes
    return targets if mix is None else mix.lam * targets + (1 - mix.lam) * targets.flip(0)


def erase(clip: torch.Tensor, box: CropBox, seed: int, epoch: int, index: int) -> torch.Tensor:
    """Fill a rectangle of all frames (frames, channels, height, width) with unit noise, new for every pixel and frame."""
    left, top, width, height, _ = box
    noise = keyed_generator(seed, epoch, index, "noise").standard_normal(
        (*clip.shape[:2], height, width), dtype=np.float32
    )
    erased = clip.clone()
    erased[..., top : top + height, left : left + width] = torch.from_numpy(noise).to(clip.device)
    return erased
