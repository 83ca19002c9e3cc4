"""Which tokens of a clip are hidden in pre-training: tubes or places anywhere (SurgVISTA, arXiv 2506.02692)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ..modeling.errors_surgvista import InputError
from .randomness import keyed_generator


def tube_mask(grid: tuple[int, int, int], ratio: float, generator: np.random.Generator) -> np.ndarray:
    """The same int(ratio · rows · columns) places hidden in every slice.

    Args:
        grid: tokens in (time, row, column).
        ratio: share of hidden tokens, 0 ≤ ratio < 1.
        generator: draws the places.

    Returns:
        (time · rows · columns,) bool in the order (time, row, column), True where hidden.

    Example:
        >>> int(tube_mask((8, 14, 14), 0.85, np.random.default_rng(0)).sum())
        1328
    """
    return np.tile(random_mask((1, *grid[1:]), ratio, generator), grid[0])


def random_mask(grid: tuple[int, int, int], ratio: float, generator: np.random.Generator) -> np.ndarray:
    """int(ratio · tokens) places hidden anywhere; arguments and result as for `tube_mask`."""
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
        grid: tokens in (time, row, column).
        ratio: share of hidden tokens.
        mask_type: `"tube"` or `"random"`.
        seed: of the run.

    Raises:
        InputError: an unknown type, or (when called) a grid or ratio that allows no mask.

    Example:
        >>> masking = ClipMasking(ratio=0.9)
        >>> masking(epoch=0, indices=[3, 4]).shape
        torch.Size([2, 1568])
    """

    grid: tuple[int, int, int] = (8, 14, 14)
    ratio: float = 0.85
    mask_type: Literal["tube", "random"] = "tube"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mask_type not in _MASKS:
            raise InputError(f"mask_type is {self.mask_type!r}; it must be one of {sorted(_MASKS)}")

    def __call__(self, epoch: int, indices: Sequence[int]) -> torch.Tensor:
        """(batch, tokens) bool for the samples of these indices, True where hidden."""
        draw = _MASKS[self.mask_type]
        masks = [draw(self.grid, self.ratio, keyed_generator(self.seed, epoch, int(i), "mask")) for i in indices]
        return torch.from_numpy(np.stack(masks))
