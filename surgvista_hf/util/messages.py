"""Parts of messages: a suggestion, the first few of many, the first line of an error."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return a question that names the nearest known word, or `otherwise` where none is near.

    Example:
        >>> did_you_mean("sede", ["seed", "steps"])
        'did you mean seed?'
    """
    near = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else otherwise


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its class where it has none.

    Example:
        >>> first_line(EOFError())
        'EOFError'
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def preview(texts: Sequence[str], shown: int = 5) -> str:
    """Join the first few of many texts, and the number of the others.

    Example:
        >>> preview(["a", "b", "c", "d", "e", "f", "g"])
        'a, b, c, d, e and 2 more'
    """
    more = f" and {len(texts) - shown} more" if len(texts) > shown else ""
    return ", ".join(texts[:shown]) + more
