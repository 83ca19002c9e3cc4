"""The order in which samples come: a function of (seed, epoch)."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from ..clips import keyed_generator


class EpochOrder(Sampler[int]):
    """Every sample once, shuffled.

    Args:
        length: samples.
        seed: of the run.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch the next iteration belongs to."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        yield from keyed_generator(self.seed, self.epoch, 0, "order").permutation(self.length).tolist()

    def __len__(self) -> int:
        return self.length
