"""What can be done with a person's labels on this machine: enough or not, which head, which operations are held out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from ..datasets_scripts.frame_sets.inspection import Inspection
from ..datasets_scripts.frame_sets.label_table import LabelColumn
from ..datasets_scripts.schema.info import shuffled
from ..util.errors import InputError
from ..util.messages import preview
from ..util.pages import clock

Head = Literal["probe", "tcn", "lora"]
HEADS: tuple[Head, ...] = get_args(Head)
SMALL_ENCODER, LARGE_ENCODER = "facebook/dinov2-small", "facebook/dinov2-large"
_MOST_FOLDS = 5
_FEW = 8  # operations, below which a number says little
_TEMPORAL_OPERATIONS = 6  # from which on the order of classes can be learned
_ADAPTER_OPERATIONS, _ADAPTER_SECONDS = 20, 10_000  # from which on changing the encoder pays
_LEAST_FOR_ADAPTER = 10
_SHORT_CLASS = 60.0  # seconds in all


@dataclass(frozen=True)
class Labels:
    """Amounts of the labels of one column.

    Args:
        column: name of the label column.
        classes: names of the classes.
        multi_label: whether a frame may have several.
        seconds: labeled seconds of each video by its name, without videos that have no label.
        class_seconds: seconds of each class by its name.
        holders: names of the videos that have each class, by its name.
    """

    column: str
    classes: tuple[str, ...]
    multi_label: bool
    seconds: Mapping[str, float]
    class_seconds: Mapping[str, float]
    holders: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, inspection: Inspection, column: LabelColumn) -> "Labels":
        """Count the labels of a column."""
        seconds = {
            video.name: float(video.durations[column.labeled[video.rows]].sum())
            for video in inspection.table.videos
            if column.labeled[video.rows].any()
        }
        holders = {column.names[number]: videos for number, videos in inspection.holders(column).items()}
        of_class = {name: inspection.seconds_of(column, column.names.index(name)) for name in holders}
        return cls(column.name, column.names, column.kind == "classes", seconds, of_class, holders)


@dataclass(frozen=True)
class Plan:
    """Encoder, head and held-out operations of a first model, with the reasons.

    Args:
        model: folder or Hub id of the encoder.
        head: `"probe"`: logistic regression on frozen features; `"tcn"`: MS-TCN over frozen features; `"lora"`: an adapter.
        folds: names of the held-out operations of each training; every operation is held out once. Empty for an adapter,
            which is trained once on a split of the data set's protocol.
        reasons: sentences on the choices.
        warnings: sentences on what the labels do not suffice for.
    """

    model: str
    head: Head
    folds: tuple[tuple[str, ...], ...]
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())


def insufficient(labels: Labels) -> str:
    """Return a sentence that says why nothing can be trained; empty if something can.

    Example:
        >>> insufficient(Labels("phase", ("a", "b"), False, {"monday": 60.0}, {"a": 30.0, "b": 30.0}, {}))[:40]
        'one labeled operation is not enough: a m'
    """
    if not labels.seconds:
        return f"no frame has a label in the column {labels.column!r}: there is nothing to learn from"
    if len(labels.holders or labels.class_seconds) < 2 and not labels.multi_label:
        return f"all labels are {preview(list(labels.class_seconds))}: a model needs two classes at least to tell them apart"
    if len(labels.seconds) < 2:
        return (
            "one labeled operation is not enough: a model that was trained on it cannot be tested, since frames of one "
            "operation look alike. Label a second operation; eight or more give a number that means something"
        )
    return ""


def weaknesses(labels: Labels) -> list[str]:
    """Return sentences on what the labels do not suffice for, although a model can be trained."""
    found = []
    count = len(labels.seconds)
    if count < _FEW:
        found.append(
            f"{count} labeled operations are few: one odd operation decides the result. Read it as a first impression, and "
            f"label {_FEW} or more before you believe a number"
        )
    single = [name for name, videos in labels.holders.items() if len(videos) == 1]
    if single:
        found.append(
            f"{preview([repr(name) for name in single])}: labeled in one operation only. When this operation is held out, "
            "the model has never seen the class, so it cannot be found; label it in other operations, or leave it out"
        )
    short = [name for name, seconds in labels.class_seconds.items() if seconds < _SHORT_CLASS and name not in single]
    if short:
        found.append(f"{preview([repr(name) for name in short])}: less than a minute is labeled in all")
    absent = [name for name in labels.classes if name not in labels.class_seconds]
    if absent:
        found.append(f"{preview([repr(name) for name in absent])}: named as classes and never labeled")
    return found


def make_plan(
    labels: Labels,
    *,
    has_gpu: bool,
    model: str | None = None,
    head: Head | None = None,
    seed: int = 0,
    patients: Mapping[str, str] | None = None,
) -> Plan:
    """Choose encoder, head and held-out operations.

    Args:
        labels: amounts of the labels.
        has_gpu: whether there is a GPU.
        model: encoder that the person wants; by default one for the machine.
        head: head that the person wants; by default one for the amount of labels.
        seed: seed of the order in which operations are held out.
        patients: patient of each operation, as far as known.

    Returns:
        The plan.

    Raises:
        InputError: nothing can be trained, or the head does not fit the labels.

    Example:
        >>> seconds = {f"day{number}": 600.0 for number in range(8)}
        >>> plan = make_plan(Labels("phase", ("a", "b"), False, seconds, {"a": 2400.0, "b": 2400.0}, {}), has_gpu=False)
        >>> plan.head, len(plan.folds)
        ('tcn', 5)
    """
    if reason := insufficient(labels):
        raise InputError(reason)
    if head == "tcn" and labels.multi_label:
        raise InputError("MS-TCN gives one class a frame; the labels hold several: take the head probe")
    count, whole = len(labels.seconds), sum(labels.seconds.values())
    if head == "lora" and count < _LEAST_FOR_ADAPTER:
        raise InputError(
            f"an adapter needs {_LEAST_FOR_ADAPTER} labeled operations at least, for training, validation and test; there are "
            f"{count}: take the head probe or tcn"
        )
    chosen = head or _head_for(labels, has_gpu)
    reasons = [_why_model(model, has_gpu), _why_head(chosen, head, count, whole, labels.multi_label, has_gpu)]
    folds: tuple[tuple[str, ...], ...] = ()
    if chosen == "lora":
        reasons.append(
            "training an adapter takes long, so it is trained once: the split of the data set's protocol says which "
            "operations are held out"
        )
    else:
        folds = held_out(tuple(labels.seconds), _MOST_FOLDS, seed, patients)
        if len(folds) < 2:
            raise InputError(
                f"all {count} labeled operations are of one patient, so none can be held out; label operations of others"
            )
        unit = "patient" if patients else "operation"
        reasons.append(
            f"every one of the {count} operations is held out once, in {len(folds)} trainings: a frame is never tested by a "
            f"model that has seen its {unit}. The model that you get is trained on all of them"
        )
    return Plan(
        model or (LARGE_ENCODER if has_gpu else SMALL_ENCODER),
        chosen,
        folds,
        tuple(reasons),
        tuple(weaknesses(labels)),
    )


def held_out(
    videos: Sequence[str], most: int, seed: int, patients: Mapping[str, str] | None = None
) -> tuple[tuple[str, ...], ...]:
    """Divide operations into groups that are held out one after the other.

    Args:
        videos: names of the operations.
        most: largest number of groups; with so many operations or fewer, each is a group of its own.
        seed: seed of the order.
        patients: patient of each operation, as far as known; the operations of one patient are in one group.

    Returns:
        The groups, of sizes that differ by one at most where every operation is of another patient. They depend on names and
        seed only.

    Example:
        >>> [len(group) for group in held_out([f"day{number}" for number in range(7)], 5, 0)]
        [2, 2, 1, 1, 1]
    """
    of_patient: dict[tuple[str, str], list[str]] = {}
    for video in sorted(videos):
        known = (patients or {}).get(video)
        of_patient.setdefault(("video", video) if known is None else ("patient", known), []).append(video)
    inseparable = {own[0]: own for own in of_patient.values()}
    order = shuffled(tuple(inseparable), f"guide:{seed}")
    count = min(most, len(order))
    return tuple(
        tuple(sorted(video for first in order[start::count] for video in inseparable[first])) for start in range(count)
    )


def _head_for(labels: Labels, has_gpu: bool) -> Head:
    count, whole = len(labels.seconds), sum(labels.seconds.values())
    if has_gpu and count >= _ADAPTER_OPERATIONS and whole >= _ADAPTER_SECONDS:
        return "lora"
    return "tcn" if count >= _TEMPORAL_OPERATIONS and not labels.multi_label else "probe"


def _why_model(model: str | None, has_gpu: bool) -> str:
    if model is not None:
        return f"encoder: {model}, as you wish"
    where = "a GPU, so a large encoder" if has_gpu else "no GPU, so a small encoder"
    return (
        f"encoder: {LARGE_ENCODER if has_gpu else SMALL_ENCODER}: this machine has {where}. It has seen everyday photographs "
        "only; an encoder that was trained on surgery, such as LemonFM, may be better (--model)"
    )


def _why_head(head: Head, wanted: Head | None, count: int, seconds: float, multi_label: bool, has_gpu: bool) -> str:
    names = {
        "probe": "a linear probe on the frozen encoder",
        "tcn": "MS-TCN, which learns the order of classes, over features of the frozen encoder",
        "lora": "a LoRA adapter in the encoder",
    }
    if wanted is not None:
        return f"head: {names[head]}, as you wish"
    labeled = f"{count} operations with {clock(seconds)} of labels"
    if head == "lora":
        return f"head: {names[head]}: there are {labeled} and a GPU"
    if head == "tcn":
        return f"head: {names[head]}: there are {labeled}"
    why = "a frame may have several classes" if multi_label else f"{labeled} are too few to learn an order"
    return f"head: {names[head]}: {why}"
