"""Translating the labels of one data set into the classes of another, so that a model can be tested on other data."""

from collections.abc import Iterable, Mapping, Sequence

import datasets

from ...util.messages import did_you_mean, preview
from .info import DatasetError

_NEW = "__mapped_labels"


def map_classes(
    frames: datasets.Dataset, column: str, names: Sequence[str], mapping: Mapping[str, str | None] | None = None
) -> datasets.Dataset:
    """Return a frame set whose label column has the classes of a model.

    Args:
        frames: frame set with a column of classes, one or several per frame.
        column: name of the column.
        names: classes of the result, in the order of their numbers.
        mapping: class of the result for each class of the frame set; `None` removes the label from its frames (if a frame may
            have several classes, only that class). Classes of equal name need no entry.

    Returns:
        The frame set; the same object where nothing changes.

    Raises:
        DatasetError: the column holds no classes, or a class has no counterpart.

    Example:
        >>> phases = datasets.Features({"phase": datasets.ClassLabel(names=["sew", "cut"])})
        >>> mapped = map_classes(datasets.Dataset.from_dict({"phase": [0, 1]}, phases), "phase", ["cut", "sew"])
        >>> mapped["phase"][:]
        [1, 0]
    """
    feature: object = frames.features[column]
    inner = getattr(feature, "feature", feature)
    if not isinstance(inner, datasets.ClassLabel):
        raise DatasetError(f"the column {column!r} holds {feature}, which are no classes that could be mapped")
    if list(inner.names) == list(names):
        return frames
    mapping = mapping or {}
    for source, target in mapping.items():
        if source not in inner.names:
            hint = did_you_mean(source, inner.names, f"it has {', '.join(inner.names)}")
            raise DatasetError(f"the column {column!r} has no class {source!r}; {hint}")
        if target is not None and target not in names:
            raise DatasetError(f"{source!r} is to be {target!r}, which is no class here: {', '.join(names)}")
    strange = [name for name in inner.names if name not in mapping and name not in names]
    if strange:
        raise DatasetError(
            f"the classes {preview(strange)} of the column {column!r} are none of {', '.join(names)}; say what they are here "
            f"(classes: {{{strange[0]}: …}}), or null to leave them out"
        )
    numbers = {name: number for number, name in enumerate(names)}
    targets = [mapping.get(name, name) for name in inner.names]
    new = [None if target is None else numbers[target] for target in targets]
    classes = datasets.ClassLabel(names=list(names))
    if inner is feature:
        values = [None if value is None or value < 0 else new[value] for value in frames[column][:]]
    else:
        classes = datasets.List(classes)
        values = [None if value is None else _distinct(new[each] for each in value) for value in frames[column][:]]
    # The old column is removed last: without any column a frame set would have no rows.
    return frames.add_column(_NEW, values, feature=classes).remove_columns(column).rename_column(_NEW, column)


def _distinct(classes: Iterable[int | None]) -> list[int]:
    return sorted({number for number in classes if number is not None})
