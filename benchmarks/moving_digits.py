"""Clips of two handwritten digits that move, turn and cross over a cluttered background: a control for pre-training.

The digits are those that come with scikit-learn (UCI, 1,797 images of 8 × 8 pixels); nothing is downloaded. A clip has two
different digits, which is its first label, a list; and a motion, which is its second: both digits cross along one of four
axes and turn in one of two senses. Position, size, start angle, speed, brightness and clutter differ from clip to clip, so
neither label can be read from single pixels. Clips for tests show digits of other writers.
"""

from functools import cache

import datasets
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from .in_memory import ClipsInMemory, FramesInMemory, frame_set

DIGITS, MOTIONS = 10, 8
TEST_DIGITS = 640  # the images from 1157 on, where a writer begins
FRAMES, SIDE = 8, 32


@cache
def _digits(test: bool) -> tuple[torch.Tensor, np.ndarray]:
    """Return the images (N, 1, 12, 12), from 0 to 1 and with a black border, and their digits (N,)."""
    found = load_digits()
    chosen = slice(-TEST_DIGITS, None) if test else slice(None, -TEST_DIGITS)
    images = torch.from_numpy(found.images[chosen]).float()[:, None] / 16
    return functional.pad(images, (2, 2, 2, 2)), found.target[chosen]


def draw_clips(count: int, seed: int, *, test: bool = False) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Draw clips.

    Args:
        count: number of clips.
        seed: seed of everything that is random.
        test: whether the digits are those of other writers.

    Returns:
        Clips (count, frames, side, side) uint8, the two digits (count, 2) and the motion (count,).
    """
    generator = np.random.default_rng([seed, int(test)])
    images, names = _digits(test)
    first = generator.integers(len(images), size=count)
    second = generator.integers(len(images), size=count)
    while (same := names[first] == names[second]).any():
        second[same] = generator.integers(len(images), size=int(same.sum()))
    axis, sense = generator.integers(4, size=count), generator.integers(2, size=count)
    motion = axis * 2 + sense
    time = np.linspace(-1, 1, FRAMES)  # (frames,)
    # Both digits pass near a common point, against each other, along the axis; which one comes from which side is drawn.
    angle = axis * np.pi / 4 + np.pi * generator.integers(2, size=count) + generator.normal(0, 0.1, count)
    along = np.stack([np.cos(angle), np.sin(angle)], axis=-1)  # (count, 2)
    center = generator.uniform(-0.3, 0.3, (count, 2))
    reach = generator.uniform(0.5, 0.75, (count, 1, 1))
    clutter = _clutter(count, generator, images)
    canvas = clutter
    for digit, direction in ((first, 1), (second, -1)):
        offset = generator.normal(0, 0.12, (count, 2))
        place = (center + offset)[:, None] + direction * reach * time[None, :, None] * along[
            :, None
        ]  # (count, frames, 2)
        turn = (2 * sense - 1) * generator.uniform(0.4, 0.7, count)
        angles = generator.normal(0, 0.15, count)[:, None] + turn[:, None] * time  # (count, frames)
        size = generator.uniform(0.75, 0.95, count)  # of the side, with the border
        shade = generator.uniform(0.7, 1.0, count)
        canvas = torch.maximum(canvas, _place(images[digit], place, angles, size) * _column(shade))
    clips = (canvas.clamp(0, 1) * 255).round().to(torch.uint8)
    return clips, np.stack([names[first], names[second]], axis=-1), motion


def _column(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).float()[:, None, None, None]


def _place(images: torch.Tensor, place: np.ndarray, angles: np.ndarray, size: np.ndarray) -> torch.Tensor:
    """Draw one image a clip at a place (count, frames, 2) from -1 to 1, turned by angles (count, frames) in radians."""
    count, frames = angles.shape
    cos, sin = (
        torch.from_numpy(part(angles)).float() / torch.from_numpy(size).float()[:, None] for part in (np.cos, np.sin)
    )
    x, y = (torch.from_numpy(place[..., number]).float() for number in range(2))
    rows = [torch.stack([cos, sin, -(cos * x + sin * y)], -1), torch.stack([-sin, cos, sin * x - cos * y], -1)]
    grid = functional.affine_grid(
        torch.stack(rows, -2).flatten(0, 1), [count * frames, 1, SIDE, SIDE], align_corners=False
    )
    repeated = images.repeat_interleave(frames, dim=0)
    drawn = functional.grid_sample(repeated, grid, align_corners=False, padding_mode="zeros")
    return drawn.view(count, frames, SIDE, SIDE)


def _clutter(count: int, generator: np.random.Generator, images: torch.Tensor, pieces: int = 4) -> torch.Tensor:
    """Return still backgrounds (count, 1, side, side): clouds, and dim pieces of other digits."""
    coarse = torch.from_numpy(generator.uniform(0, 0.25, (count, 1, 4, 4))).float()
    canvas = functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear", align_corners=False)
    for _ in range(pieces):
        chosen = images[generator.integers(len(images), size=count)].clone()
        row, column = generator.integers(2, 7, size=(2, count))
        keep = torch.zeros_like(chosen)
        for number in range(count):
            keep[number, :, row[number] : row[number] + 4, column[number] : column[number] + 4] = 1
        place = generator.uniform(-0.9, 0.9, (count, 1, 2))
        drawn = _place(
            chosen * keep, place, generator.uniform(-3, 3, (count, 1)), generator.uniform(0.42, 0.56, count)
        )
        canvas = torch.maximum(canvas, drawn * _column(generator.uniform(0.2, 0.4, count)))
    return canvas


def digit_clips(count: int, seed: int) -> ClipsInMemory:
    """Draw clips as samples of one whole video each, without labels, as trainers take them."""
    return ClipsInMemory(*_frames(count, seed), num_frames=FRAMES, sampling="uniform")


def digit_frames(count: int, seed: int) -> FramesInMemory:
    """Draw clips as single frames with companions in time, for self-distillation."""
    return FramesInMemory(*_frames(count, seed), num_frames=1, frame_stride=1)


def _frames(count: int, seed: int) -> tuple[torch.Tensor, datasets.Dataset]:
    clips, _, _ = draw_clips(count, seed)
    videos = np.repeat([f"{clip:06d}" for clip in range(count)], FRAMES)
    return clips.flatten(0, 1)[:, None], frame_set(videos, np.tile(np.arange(FRAMES), count), source="digits")
