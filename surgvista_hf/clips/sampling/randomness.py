"""The one source of randomness of clips: a generator that is a pure function of its keys.

No generator lives longer than one choice, so the content of a sample does not depend on workers, processes, the order of
loading or whether the run was resumed.
"""

from hashlib import blake2b

import numpy as np

from ...util.errors import InputError

_LIMIT = 2**64


def keyed_generator(seed: int, epoch: int, index: int, purpose: str) -> np.random.Generator:
    """Make a new generator for one choice.

    Philox is counter-based: seed and purpose are its key, epoch and index the upper half of its counter, so that different
    (epoch, index) never get the same numbers.

    Args:
        seed: seed of the run.
        epoch: number of the epoch, from 0.
        index: index of the sample (or of whatever is chosen) in the whole data set, never in the part of a worker or process.
        purpose: name of the choice; choices of different names are independent.

    Returns:
        The generator.

    Raises:
        InputError: if a key is outside 0 … 2⁶⁴ − 1.

    Example:
        >>> int(keyed_generator(0, 1, 5, "crop").integers(13)) == int(keyed_generator(0, 1, 5, "crop").integers(13))
        True
    """
    if not all(0 <= key < _LIMIT for key in (seed, epoch, index)):
        raise InputError(f"seed {seed}, epoch {epoch} and index {index} must each lie in 0 … 2^64 - 1")
    name = int.from_bytes(blake2b(purpose.encode(), digest_size=8).digest(), "little")
    key = np.array([seed, name], np.uint64)
    counter = np.array([0, 0, epoch, index], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
