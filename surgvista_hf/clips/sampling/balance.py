"""Balanced sampling over the sources of a corpus.

SurgRec (arXiv 2603.29966) balances by hierarchical clustering and publishes no formula. These are named stand-ins, not its
own: a temperature on the sizes of the sources, fixed weights, and sampling from a tree of k-means clusters as in
clustering-based data curation for self-supervised learning.

The samplers yield indices of a `ClipDataset`, or `Draw`s where an epoch may draw a clip more than once. The whole order is a
function of (seed, epoch); a process takes every `num_replicas`-th sample of it.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from ...util.errors import InputError
from .randomness import keyed_generator


def temperature_weights(sizes: Sequence[int] | np.ndarray, alpha: float) -> np.ndarray:
    """Compute the probability of each source, sizeᵅ / Σ sizeᵅ.

    Args:
        sizes: number of samples of each source, at least 1.
        alpha: exponent; 1 gives probabilities in proportion to the sizes, 0 equal ones.

    Returns:
        (sources,) probabilities.

    Raises:
        InputError: if a source is empty, or alpha is outside 0 … 1.

    Example:
        >>> temperature_weights([900, 100], 0.5)
        array([0.75, 0.25])
    """
    sizes = np.asarray(sizes, np.float64)
    if not sizes.size or sizes.min() < 1 or not 0 <= alpha <= 1:
        raise InputError(f"sources need at least one sample each and 0 ≤ alpha ≤ 1; got sizes {sizes}, alpha {alpha}")
    powers = (sizes / sizes.max()) ** alpha
    return powers / powers.sum()


def balanced_quotas(sizes: Sequence[int] | np.ndarray, total: int, generator: np.random.Generator) -> np.ndarray:
    """Compute how many samples to draw from each cluster: min(c, size), with the smallest c that suffices.

    Where min(c, size) sums to more than `total`, the excess is taken back, one each, from clusters with c samples.

    Args:
        sizes: number of samples of each cluster.
        total: number of samples to draw.
        generator: chooses the clusters from which one sample less is drawn.

    Returns:
        (clusters,) int64 that sum to `total`.

    Raises:
        InputError: if the clusters have fewer than `total` samples.

    Example:
        >>> balanced_quotas([100, 3, 50], 43, np.random.default_rng(0))
        array([20,  3, 20])
    """
    sizes = np.asarray(sizes, np.int64)
    if not 0 <= total <= sizes.sum():
        raise InputError(f"{total} samples cannot be drawn without replacement from {sizes.sum()}")
    cap = bisect_left(range(int(sizes.max(initial=0)) + 1), total, key=lambda c: int(np.minimum(c, sizes).sum()))
    quotas = np.minimum(cap, sizes)
    excess = int(quotas.sum()) - total
    quotas[generator.choice(np.flatnonzero(quotas == cap), excess, replace=False)] -= 1
    return quotas


class Draw(NamedTuple):
    """A sample drawn once more in an epoch: its index, and how often the epoch drew it before.

    Every draw has further randomness of its own, so a clip that comes twice comes in two crops.
    """

    sample: int
    number: int = 0


class EpochSampler(Sampler[int | Draw], ABC):
    """An order of sample indices that depends on (seed, epoch) only, divided among processes.

    Args:
        num_samples: number of samples of an epoch, over all processes. A remainder that does not fill all processes is left
            out.
        seed: seed of the run.
        num_replicas, rank: number of processes, and index of this one. Leave the defaults where accelerate or the Trainer
            divides the batches.

    Raises:
        InputError: if there are no samples for some process, or the rank does not exist.
    """

    def __init__(self, num_samples: int, *, seed: int = 0, num_replicas: int = 1, rank: int = 0) -> None:
        if not 0 <= rank < num_replicas <= num_samples:
            raise InputError(f"rank {rank} of {num_replicas} processes cannot share {num_samples} samples")
        self.num_samples, self.seed, self.num_replicas, self.rank = num_samples, seed, num_replicas, rank
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_samples // self.num_replicas

    def __iter__(self) -> Iterator[int | Draw]:
        return iter(self._draws()[self.rank :: self.num_replicas][: len(self)])

    def _draws(self) -> Sequence[int | Draw]:
        """Return the samples of an epoch, for all processes."""
        return self._indices()

    def _indices(self) -> list[int]:
        # The name of the class is part of the seed: another name would give another order.
        return self._order(keyed_generator(self.seed, self.epoch, 0, type(self).__name__)).tolist()

    @abstractmethod
    def _order(self, generator: np.random.Generator) -> np.ndarray:
        """Return the indices of an epoch, (num_samples,)."""


class ShuffledSampler(EpochSampler):
    """A sampler of every sample once an epoch, in random order.

    Example:
        >>> sorted(ShuffledSampler(4))
        [0, 1, 2, 3]
    """

    def _order(self, generator: np.random.Generator) -> np.ndarray:
        return generator.permutation(self.num_samples)


class SourceBalancedSampler(EpochSampler):
    """A sampler that draws a source by its weight, then a sample of it uniformly, with replacement.

    Args:
        sources: (samples,) index of each sample's source, e.g. `ClipDataset.sources`.
        weights: weight of each source, in any unit, e.g. from `temperature_weights`.
        num_samples: number of samples of an epoch; as many as there are samples by default.
        seed, num_replicas, rank: the same as for `EpochSampler`.

    Raises:
        InputError: if a weight is negative or none is positive, there are weights for other sources than those of the
            samples, or a source without samples has a positive weight.

    Example:
        >>> sampler = SourceBalancedSampler(np.array([0, 0, 0, 1]), [0, 1])
        >>> list(sampler)[:2]
        [Draw(sample=3, number=0), Draw(sample=3, number=1)]
    """

    def __init__(
        self,
        sources: np.ndarray,
        weights: Sequence[float] | np.ndarray,
        *,
        num_samples: int | None = None,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(
            len(sources) if num_samples is None else num_samples, seed=seed, num_replicas=num_replicas, rank=rank
        )
        weights = np.asarray(weights, np.float64)
        self._sizes = np.bincount(sources, minlength=len(weights))
        if len(self._sizes) != len(weights):
            raise InputError(f"{len(weights)} weights were given for {len(self._sizes)} sources")
        if not np.isfinite(weights).all() or weights.min() < 0 or not weights.sum():
            raise InputError(f"weights must not be negative and one must be positive; got {weights}")
        if (weights[self._sizes == 0] > 0).any():
            raise InputError(f"sources {np.flatnonzero((self._sizes == 0) & (weights > 0))} have no samples to draw")
        self._probabilities = weights / weights.sum()
        self._members = np.argsort(sources, kind="stable")
        self._starts = np.cumsum(self._sizes) - self._sizes

    def _order(self, generator: np.random.Generator) -> np.ndarray:
        source = generator.choice(len(self._sizes), self.num_samples, p=self._probabilities)
        return self._members[self._starts[source] + generator.integers(self._sizes[source])]

    def _draws(self) -> list[Draw]:
        drawn: Counter[int] = Counter()
        draws = []
        for index in self._indices():
            draws.append(Draw(index, drawn[index]))
            drawn[index] += 1
        return draws


class ClusterBalancedSampler(EpochSampler):
    """A sampler that draws evenly from a tree of clusters: at each node as evenly as its children's sizes allow, without
    replacement.

    Args:
        clusters: (samples, levels) cluster numbers, coarsest level first. Equal numbers under different parents are different
            clusters. Any clustering will do; hierarchical k-means on features of a frozen encoder is what it is meant for.
        num_samples: number of samples of an epoch, at most the number of samples in `clusters`.
        seed, num_replicas, rank: the same as for `EpochSampler`.

    Raises:
        InputError: if `clusters` is not a table, or has fewer than `num_samples` samples.

    Example:
        >>> sampler = ClusterBalancedSampler(np.array([[0], [0], [0], [0], [1]]), 2)
        >>> 4 in set(sampler)
        True
    """

    def __init__(
        self, clusters: np.ndarray, num_samples: int, *, seed: int = 0, num_replicas: int = 1, rank: int = 0
    ) -> None:
        super().__init__(num_samples, seed=seed, num_replicas=num_replicas, rank=rank)
        if clusters.ndim != 2:
            raise InputError(f"clusters is (samples, levels), not of shape {clusters.shape}")
        if num_samples > len(clusters):
            raise InputError(f"{num_samples} samples cannot be drawn without replacement from {len(clusters)}")
        self._clusters = clusters

    def _order(self, generator: np.random.Generator) -> np.ndarray:
        drawn = self._draw(np.arange(len(self._clusters)), 0, self.num_samples, generator)
        return generator.permutation(drawn)

    def _draw(self, samples: np.ndarray, level: int, count: int, generator: np.random.Generator) -> np.ndarray:
        if level == self._clusters.shape[1]:
            return generator.choice(samples, count, replace=False)
        _, child = np.unique(self._clusters[samples, level], return_inverse=True)
        sizes = np.bincount(child)
        quotas = balanced_quotas(sizes, count, generator)
        children = np.split(samples[np.argsort(child, kind="stable")], np.cumsum(sizes)[:-1])
        parts = [
            self._draw(members, level + 1, int(quota), generator)
            for members, quota in zip(children, quotas, strict=True)
        ]
        return np.concatenate(parts)
