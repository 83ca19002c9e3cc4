"""Average precision of action triplets ⟨instrument, verb, target⟩, as the official toolkit defines it.

Nwoye and Padoy, "Data Splits and Metrics for Method Benchmarking on Surgical Action Triplet Datasets" (arXiv 2204.05235).
Scores of a component are the highest of all triplets that contain it. Per video and class average precision; then the mean
over videos that have the class; then over classes. All results lie in 0-1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...util.errors import InputError
from ...util.messages import preview
from .ranking import average_precision

COMPONENTS = ("i", "v", "t", "iv", "it", "ivt")
_COLUMNS: dict[str, tuple[int, ...]] = {"i": (0,), "v": (1,), "t": (2,), "iv": (0, 1), "it": (0, 2)}
Protocol = Literal["video", "global"]


@dataclass(frozen=True)
class TripletMetrics:
    """Result of `triplet_metrics`.

    Args:
        protocol: `"video"` or `"global"`.
        null_classes: indices of the triplets that the mean of `ivt` leaves out.
        by_class: (classes,) average precisions by the name of the component; NaN for a class that never occurs.
        all_classes: mean of `ivt` with the null classes.
        recall_at: fraction of all true triplets that are among the k highest scores of their frame, by k.
    """

    protocol: Protocol
    null_classes: tuple[int, ...]
    by_class: dict[str, np.ndarray]
    all_classes: float
    recall_at: dict[int, float]

    def mean(self, component: str) -> float:
        """Return the mean average precision of a component, one of `COMPONENTS`; NaN if none of its classes occurs."""
        values = self.by_class[component]
        if component == "ivt":
            values = np.delete(values, self.null_classes)
        return _mean(values)

    def to_dict(self) -> dict[str, object]:
        """Return the numbers and names that JSON can hold; what is not defined is `None`."""
        means = {f"ap_{name}": self.mean(name) for name in COMPONENTS}
        means["ap_ivt_all_classes"] = self.all_classes
        return {
            "protocol": self.protocol,
            "classes": len(self.by_class["ivt"]) - len(self.null_classes),
            "null_classes": list(self.null_classes),
            **{name: None if np.isnan(value) else value for name, value in means.items()},
            **{f"recall_at_{k}": value for k, value in self.recall_at.items()},
        }

    def __str__(self) -> str:
        means = "  ".join(f"AP_{name.upper()} {self.mean(name):.1%}" for name in COMPONENTS)
        classes = len(self.by_class["ivt"])
        note = f"IVT over {classes - len(self.null_classes)} classes; over all {classes}: {self.all_classes:.1%}"
        return f"per {self.protocol}: {means}  ({note})"


def triplet_metrics(
    labels: Mapping[str, np.ndarray],
    scores: Mapping[str, np.ndarray],
    *,
    components: str | Sequence[Sequence[int]] | np.ndarray = "cholect50",
    ignore_null: bool | Sequence[int] = True,
    protocol: Protocol = "video",
    top_k: Sequence[int] = (5, 10, 20),
) -> TripletMetrics:
    """Compute the mean average precision of triplets and of their components.

    Args:
        labels: (frames, classes) of 0 and 1 by the name of the video.
        scores: (frames, classes) scores by the name of the video, such as sigmoids of logits.
        components: name of the data set whose table of triplets to use (`"cholect50"` with 100 classes, `"cholect45"`,
            `"prostate21"`, `"prostatd"`, …), or (instrument, verb, target) of each class.
        ignore_null: leave classes in which an instrument does nothing out of the mean of `ivt`, as the official toolkit does
            (94 of 100 classes); components keep them. `False`: none; or the numbers of the classes. Own tables have none
            known.
        protocol: `"video"`, the official one, or `"global"`: frames of all videos together. Never compare the two.
        top_k: numbers of highest scores for the recall.

    Returns:
        The result.

    Raises:
        InputError: the videos, shapes or classes do not fit together.

    Example:
        >>> table = [(0, 0, 0), (0, 1, 0), (1, 1, 1)]
        >>> labels = {"a": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])}
        >>> triplet_metrics(labels, labels, components=table).mean("ivt")
        1.0
    """
    parts, known_null = component_table(components)
    null = tuple(known_null if ignore_null is True else () if ignore_null is False else map(int, ignore_null))
    if protocol not in ("video", "global"):
        raise InputError(f"protocol is {protocol!r}; it must be video or global")
    pairs = _checked(labels, scores, len(parts))
    if null and not 0 <= min(null) <= max(null) < len(parts):
        raise InputError(f"ignore_null names the classes {list(null)}; there are 0 to {len(parts) - 1}")
    if protocol == "global":
        pairs = [tuple(np.concatenate(part) for part in zip(*pairs, strict=True))]  # type: ignore[list-item]
    by_class = {}
    for component in COMPONENTS:
        values = np.stack(
            [average_precision(*(_component(part, parts, component) for part in pair)) for pair in pairs]
        )
        by_class[component] = _mean_over_videos(values)
    return TripletMetrics(
        protocol, null, by_class, _mean(by_class["ivt"]), {k: _recall_at(pairs, k) for k in top_k if k <= len(parts)}
    )


def component_table(components: str | Sequence[Sequence[int]] | np.ndarray) -> tuple[np.ndarray, Sequence[int]]:
    """Return the components of each triplet class, and which classes are null classes.

    Args:
        components: name of a data set of triplets, or (classes, 3) whole numbers.

    Returns:
        (classes, 3) numbers of instrument, verb and target, and the numbers of the null classes.

    Raises:
        InputError: the data set has no table, or the numbers have another shape.
    """
    if isinstance(components, str):
        # The registry imports the readers of all data sets, which whoever has arrays need not wait for.
        from ...datasets_scripts.frame_sets.registry import triplet_table

        table = triplet_table(components)
        return np.array(table.components), table.null
    parts = np.asarray(components)
    if parts.ndim != 2 or parts.shape[1] != 3 or parts.dtype.kind not in "iu":
        raise InputError(
            f"components has shape {parts.shape}; (classes, 3) whole numbers are expected: instrument, verb, target"
        )
    return parts, ()


def _checked(
    labels: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray], classes: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    if labels.keys() != scores.keys() or not labels:
        odd = preview(sorted(map(str, set(labels) ^ set(scores)))) or "there are no videos"
        raise InputError(f"labels and scores must be of the same videos: {odd}")
    pairs = [(np.asarray(labels[video]), np.asarray(scores[video])) for video in labels]
    for video, (truth, score) in zip(labels, pairs, strict=True):
        if truth.shape != score.shape or truth.ndim != 2 or truth.shape[1] != classes or not len(truth):
            raise InputError(
                f"{video}: labels {truth.shape} and scores {score.shape}; (frames, {classes}) are needed twice"
            )
    return pairs


def _component(values: np.ndarray, parts: np.ndarray, component: str) -> np.ndarray:
    """Return the highest value of all triplets with each component that occurs, in the order of its indices."""
    if component == "ivt":
        return values
    _, member = np.unique(parts[:, _COLUMNS[component]], axis=0, return_inverse=True)
    return np.stack([values[:, member.ravel() == number].max(axis=1) for number in range(member.max() + 1)], axis=1)


def _mean_over_videos(values: np.ndarray) -> np.ndarray:
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(axis=0) / defined.sum(axis=0)


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _recall_at(pairs: list[tuple[np.ndarray, np.ndarray]], k: int) -> float:
    found = total = 0
    for labels, scores in pairs:
        highest = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        found += int(np.take_along_axis(labels, highest, axis=1).sum())
        total += int(labels.sum())
    return found / total if total else 0.0
