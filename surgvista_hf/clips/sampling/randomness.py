"""The one source of randomness of this room: a generator that is a pure function of its keys.

No generator lives longer than one choice, so what a sample becomes does not depend on workers, processes, the order of loading
or whether the run was resumed.
"""

from hashlib import blake2b

import numpy as np

from ...util.errors import InputError

_LIMIT = 2**64


def keyed_generator(seed: int, epoch: int, index: int, purpose: str) -> np.random.Generator:
    """A fresh generator for one choice.

    Philox is counter-based: seed and purpose make its key, epoch and index the upper half of its counter, so that different
    (epoch, index) never share numbers.

    Args:
        seed: of the run.
        epoch: from 0.
        index: of the sample (or of whatever is chosen) in the whole data set, never in a worker's or a process's share.
        purpose: name of the choice; choices of different names are independent.

    Returns:
        The generator.

    Raises:
        InputError: a key outside 0 … 2⁶⁴ − 1.

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
