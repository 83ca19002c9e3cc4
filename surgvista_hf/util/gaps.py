"""The sentence in a frame set's description by which its clips bridge the frames that it leaves out on purpose.

`datasets` keeps the description of a data set through selecting, concatenating and publishing, and no other field.
"""

import re
from urllib.parse import quote, unquote

_BRIDGED = re.compile(r"Clips bridge the frames that (\S+) leaves out\.")


def bridging_note(source: str) -> str:
    """Return the sentence, after a space, by which descriptions say that clips bridge what a source leaves out."""
    return f" Clips bridge the frames that {quote(source)} leaves out."


def bridged_sources(description: str | None) -> frozenset[str]:
    """Return the sources whose frame sets left frames out so that clips bridge the gaps.

    Args:
        description: description of a frame set, or of several that were concatenated.

    Example:
        >>> sorted(bridged_sources(f"Phases.{bridging_note('our hospital')}"))
        ['our hospital']
    """
    return frozenset(map(unquote, _BRIDGED.findall(description or "")))
