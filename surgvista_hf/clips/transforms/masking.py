"""Masks of the tokens of a clip in pre-training.

Tubes or random tokens, for models that reconstruct (SurgVISTA, arXiv 2506.02692; VideoMAE, NeurIPS 2022), and blocks, for
models that predict features of masked tokens (V-JEPA, arXiv 2404.08471; SurgRec-JEPA, arXiv 2603.29966). Masks have the names
of the models' arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch

from ...util.errors import InputError
from ..sampling.randomness import keyed_generator


def tube_mask(grid: tuple[int, int, int], ratio: float, generator: np.random.Generator) -> np.ndarray:
    """Mask the same int(ratio · rows · columns) tokens at every temporal index.

    Args:
        grid: number of tokens in (time, row, column).
        ratio: fraction of masked tokens, 0 ≤ ratio < 1.
        generator: draws the tokens.

    Returns:
        (time · rows · columns,) bool in the order (time, row, column), True where masked.

    Example:
        >>> int(tube_mask((8, 14, 14), 0.85, np.random.default_rng(0)).sum())
        1328
    """
    return np.tile(random_mask((1, *grid[1:]), ratio, generator), grid[0])


def random_mask(grid: tuple[int, int, int], ratio: float, generator: np.random.Generator) -> np.ndarray:
    """Mask int(ratio · tokens) tokens anywhere.

    Args:
        grid: number of tokens in (time, row, column).
        ratio: fraction of masked tokens, 0 ≤ ratio < 1.
        generator: draws the tokens.

    Returns:
        (time · rows · columns,) bool in the order (time, row, column), True where masked.

    Raises:
        InputError: if the grid is empty, or the ratio is out of range.
    """
    if min(grid) < 1 or not 0 <= ratio < 1:
        raise InputError(f"a mask needs a grid of at least 1 in each direction and 0 ≤ ratio < 1; got {grid}, {ratio}")
    tokens = int(np.prod(grid))
    mask = np.zeros(tokens, bool)
    mask[generator.permutation(tokens)[: int(ratio * tokens)]] = True
    return mask


_MASKS = {"tube": tube_mask, "random": random_mask}


@dataclass(frozen=True)
class ClipMasking:
    """Masks of a batch, each a pure function of (seed, epoch, sample index).

    Args:
        grid: number of tokens in (time, row, column).
        ratio: fraction of masked tokens.
        mask_type: `"tube"` or `"random"`.
        seed: seed of the run.

    Raises:
        InputError: if the type is unknown, or (when called) grid and ratio allow no mask.

    Example:
        >>> masking = ClipMasking(ratio=0.9)
        >>> masking(epoch=0, indices=[3, 4])["bool_masked_pos"].shape
        torch.Size([2, 1568])
    """

    grid: tuple[int, int, int] = (8, 14, 14)
    ratio: float = 0.85
    mask_type: Literal["tube", "random"] = "tube"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mask_type not in _MASKS:
            raise InputError(f"mask_type is {self.mask_type!r}; it must be one of {sorted(_MASKS)}")

    def __call__(self, epoch: int, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return `bool_masked_pos` (batch, tokens) bool for the samples of these indices, True where masked."""
        draw = _MASKS[self.mask_type]
        masks = [draw(self.grid, self.ratio, keyed_generator(self.seed, epoch, int(i), "mask")) for i in indices]
        return {"bool_masked_pos": torch.from_numpy(np.stack(masks))}


@dataclass(frozen=True)
class BlockMasking:
    """Sets of masked blocks for each clip, a pure function of (seed, epoch, sample index).

    A set masks the union of equally large rectangles, at all temporal indices; the other tokens are the context. The
    published program draws one size of blocks a batch and cuts all lists of a batch to its shortest. Here each clip draws its
    own size, and lists are cut to a fixed length: that of the shortest of 128 clips, on average. Shorter ones are drawn again.
    So a mask does not depend on the other clips of a batch.

    Args:
        grid: number of tokens in (time, row, column).
        blocks: number of blocks, and fraction of a (row, column) plane that one covers, for each set.
        aspect_ratio: smallest and largest height over width of a block.
        truncation: `"first"`, as published, leaves out tokens of the last temporal indices; `"random"`, tokens anywhere.
        seed: seed of the run.

    Raises:
        InputError: if the blocks leave no context.

    Example:
        >>> masks = BlockMasking()(epoch=0, indices=[3, 4])
        >>> [tuple(ids.shape) for ids in masks["context_ids"]]
        [(2, 296), (2, 72)]
    """

    grid: tuple[int, int, int] = (8, 14, 14)
    blocks: tuple[tuple[int, float], ...] = ((8, 0.15), (2, 0.7))
    aspect_ratio: tuple[float, float] = (0.75, 1.5)
    truncation: Literal["first", "random"] = "first"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.truncation not in ("first", "random"):
            raise InputError(f"truncation is {self.truncation!r}; it must be first or random")
        for number, (count, scale) in enumerate(self.blocks):
            if count < 1 or not 0 < scale <= 1 or min(self._lengths(number)) < 1:
                raise InputError(
                    f"{count} blocks of {scale:.0%} of {self.grid[1:]} tokens leave no context or no target"
                )

    def __call__(self, epoch: int, indices: Sequence[int]) -> dict[str, list[torch.Tensor]]:
        """Return `context_ids` and `target_ids`: for each set, (batch, tokens) int64, ascending."""
        drawn = [[self._draw(number, epoch, int(i)) for i in indices] for number in range(len(self.blocks))]
        return {
            name: [torch.from_numpy(np.stack([pair[part] for pair in pairs])) for pairs in drawn]
            for part, name in enumerate(("context_ids", "target_ids"))
        }

    def _draw(self, number: int, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        generator = keyed_generator(self.seed, epoch, index, f"block mask {number}")
        lengths = self._lengths(number)
        while True:
            ratio = generator.uniform(*self.aspect_ratio)
            plane = block_mask(self.grid[1:], *self.blocks[number], ratio, generator)
            mask = np.tile(plane.ravel(), self.grid[0])  # (time · rows · columns,)
            lists = np.flatnonzero(~mask), np.flatnonzero(mask)
            if all(len(ids) >= length for ids, length in zip(lists, lengths, strict=True)):
                context, target = (self._cut(*pair, generator) for pair in zip(lists, lengths, strict=True))
                return context, target

    def _cut(self, ids: np.ndarray, length: int, generator: np.random.Generator) -> np.ndarray:
        if self.truncation == "random":
            return np.sort(generator.choice(ids, length, replace=False))
        return ids[:length]

    def _lengths(self, number: int) -> tuple[int, int]:
        """Return the number of tokens of the context and of the target."""
        context, target = _shortest(self.grid[1:], *self.blocks[number], self.aspect_ratio)
        return context * self.grid[0], target * self.grid[0]


def block_mask(
    plane: tuple[int, int], count: int, scale: float, ratio: float, generator: np.random.Generator
) -> np.ndarray:
    """Draw the union of random rectangles in a plane of tokens.

    Args:
        plane: number of tokens in (row, column).
        count: number of rectangles.
        scale: fraction of the plane that a rectangle covers, approximately.
        ratio: height over width of the rectangles.
        generator: draws their positions.

    Returns:
        (rows, columns) bool, True inside a rectangle.
    """
    rows, columns = plane
    area = rows * columns * scale
    height = min(max(round((area * ratio) ** 0.5), 1), rows)
    width = min(max(round((area / ratio) ** 0.5), 1), columns)
    mask = np.zeros(plane, bool)
    tops, lefts = (generator.integers(0, free + 1, count) for free in (rows - height, columns - width))
    for top, left in zip(tops, lefts, strict=True):
        mask[top : top + height, left : left + width] = True
    return mask


@lru_cache
def _shortest(
    plane: tuple[int, int], count: int, scale: float, aspect_ratio: tuple[float, float], batch: int = 128
) -> tuple[int, int]:
    """Return how many visible and masked tokens of a plane all masks of a batch have, on average over sizes of the blocks."""
    shortest = []
    for number in range(32):
        generator = keyed_generator(0, 0, number, "block mask length")
        ratio = generator.uniform(*aspect_ratio)
        masked = np.array([block_mask(plane, count, scale, ratio, generator).sum() for _ in range(batch)])
        masked = masked[masked < plane[0] * plane[1]]  # without context a mask is drawn again
        if len(masked):
            shortest.append((plane[0] * plane[1] - masked.max(), masked.min()))
    if not shortest:
        return 0, 0
    context, target = np.mean(shortest, axis=0)
    return int(context), int(target)
