"""What the tests of all readers share: short forms of labels, random documents, broken ones."""

import json
from collections.abc import Iterable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.own_labels.model import VideoLabels

# On a machine with much to do a draw may take seconds, which says nothing of what is tested.
RANDOM = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def written(folder: Path, name: str, content: object) -> Path:
    """Write a text, or anything else as JSON."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def tiers(labels: VideoLabels) -> dict[str, list[tuple[float, float, str]]]:
    return {tier.name: [(span.start, span.stop, span.value) for span in tier.spans] for tier in labels.tiers}


def by_video(found: Iterable[VideoLabels]) -> dict[str, VideoLabels]:
    return {labels.video: labels for labels in found}


def documents(*words: str) -> st.SearchStrategy[object]:
    """Draw JSON documents that use the words of a format in the wrong places."""
    known = st.sampled_from(words)
    scalars = st.none() | st.booleans() | st.integers(-3, 40) | st.floats() | known | st.text(max_size=5)
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(known | st.text(max_size=3), inner, max_size=6),
        max_leaves=40,
    )


def edited(document: object) -> st.SearchStrategy[str]:
    """Draw texts of a document of which a part is cut out, doubled or replaced."""
    text = document if isinstance(document, str) else json.dumps(document)
    place = st.integers(0, len(text))
    return st.builds(
        lambda first, second, between: text[: min(first, second)] + between + text[max(first, second) :],
        place,
        place,
        st.sampled_from(["", "0", "-1", "null", "[]", "{}", '""', "1e999", "<a>", "</a>", '"', "\\", "é"]),
    )
