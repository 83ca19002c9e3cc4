"""Splits of videos: stratified, by groups such as patients, in folds, or with one hospital held out.

Nothing here is ever split by frame: a video, and a group of videos, is in one split as a whole.
"""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence

from ...util.messages import preview
from .info import SPLITS, DatasetError, shuffled

Labels = Mapping[str, Collection[Hashable]]  # labels by video or by group
Split = dict[str, tuple[str, ...]]  # sorted video ids by the name of the split
_EVERY = ""  # a label that every group has, so that those without another one are divided too


def stratified_splits(
    labels: Mapping[str, Sequence[Hashable]],
    fractions: Mapping[str, float],
    seed: int | str,
    *,
    strata: Mapping[str, Hashable] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Divide videos so that each split has its fraction of every label, as far as whole videos allow.

    Labels are taken from the rarest to the most frequent (iterative stratification: Sechidis et al., ECML PKDD 2011). Of the n
    videos of a label each split is to have its fraction, rounded, and at least one if there are three; of two videos, training
    and test get one each; a single video goes to training. The videos that are not yet assigned are taken in an order that
    depends on a hash of their ids, and each goes to the split that lacks most of its videos of this label.

    Args:
        labels: labels of each video, by its id.
        fractions: fraction of the videos for each of the splits `train`, `validation` and `test`.
        seed: seed of the order of the videos.
        strata: a second property of each video. The videos of a label are assigned value by value, so that
            every split gets its fraction of each value as well.

    Returns:
        Sorted ids by split. They depend on the arguments only, not on their order.

    Example:
        >>> videos = {f"video{number}": ["rare" if number < 3 else "frequent"] for number in range(30)}
        >>> splits = stratified_splits(videos, {"train": 0.8, "validation": 0.1, "test": 0.1}, seed=0)
        >>> {name: (len(ids), sum(video in ("video0", "video1", "video2") for video in ids)) for name, ids in splits.items()}
        {'train': (22, 1), 'validation': (4, 1), 'test': (4, 1)}
    """
    holders: dict[Hashable, list[str]] = {}
    for video in shuffled(tuple(labels), seed):
        for label in labels[video]:
            holders.setdefault(label, []).append(video)
    assigned: dict[str, str] = {}  # video -> split
    for label in sorted(holders, key=lambda name: (len(holders[name]), str(name))):
        due = _videos_per_split(len(holders[label]), fractions)
        got = Counter(assigned[video] for video in holders[label] if video in assigned)
        free = [video for video in holders[label] if video not in assigned]
        if strata is not None:
            free = _grouped(free, strata, f"{seed}:{label}")
        for video in free:
            # The fraction of its videos of this label that each split still lacks; ties go to the smaller split.
            lack = {split: (count - got[split]) / count for split, count in due.items() if count}
            best = max(lack, key=lambda split: (round(lack[split], 9), -due[split], SPLITS.index(split)))
            assigned[video] = best
            got[best] += 1
    return {
        split: tuple(sorted(video for video, chosen in assigned.items() if chosen == split)) for split in fractions
    }


def _videos_per_split(count: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Return how many of the `count` videos of a label each split should have."""
    least = {"test": count >= 2, "validation": count >= 3}
    due = {split: max(round(fraction * count), int(least.get(split, 0))) for split, fraction in fractions.items()}
    return {**due, "train": count - sum(number for split, number in due.items() if split != "train")}


def _grouped(videos: Sequence[str], strata: Mapping[str, Hashable], seed: str) -> list[str]:
    """Return the videos grouped by the values of a second property, whose order depends on the seed."""
    order = shuffled(tuple({str(strata[video]) for video in videos}), seed)
    return sorted(videos, key=lambda video: order.index(str(strata[video])))


# ------------------------------------------------------------------------------------------- groups and folds


def grouped_split(
    labels: Labels, groups: Mapping[str, str], *, test: float, validation: float, seed: int | str
) -> Split:
    """Divide videos into training, validation and test, so that no group is in two of them.

    Groups are divided by `stratified_splits`. A label that only validation or test would have goes back to the training,
    unless that empties one of them.

    Args:
        labels: labels of each video, by its id.
        groups: group of each video, such as its patient.
        test: fraction of the groups for the test, above 0.
        validation: fraction of the groups for the validation; 0 for none.
        seed: seed of the order of the groups.

    Returns:
        Sorted ids by split; the validation is left out if it is empty.

    Raises:
        DatasetError: there is only one group.

    Example:
        >>> patients = {"a1": "a", "a2": "a", "b1": "b", "c1": "c"}
        >>> split = grouped_split(dict.fromkeys(patients, ()), patients, test=0.3, validation=0, seed=0)
        >>> sorted(map(len, split.values())) in ([1, 3], [2, 2])
        True
    """
    held = _labels_of_groups(labels, groups)
    if len(held) < 2:
        raise DatasetError(f"all {len(groups)} videos are of one group, {preview(sorted(held))}: none can be held out")
    if len(held) < 3:  # one is tested, and the other has to be trained on
        validation = 0
    fractions = {"train": 1 - test - validation, "validation": validation, "test": test}
    return _ids_by_split(_divided(held, {name: part for name, part in fractions.items() if part}, seed), groups)


def grouped_folds(
    labels: Labels, groups: Mapping[str, str], *, folds: int, validation: float, seed: int | str
) -> list[Split]:
    """Divide videos into folds for cross-validation: every video is in the test of one fold, and no group in two splits.

    Groups are assigned by their labels from the rarest to the most frequent (Sechidis et al., ECML PKDD 2011), each to the
    fold that has the fewest groups with this label, then to the smallest. Groups are exchanged afterwards as long as that
    brings a label back which two groups have and only one fold: its training would lack it. The validation of a fold is drawn
    from the rest by `stratified_splits`.

    Args:
        labels, groups, validation, seed: arguments of `grouped_split`; `validation` is a fraction of what is not in the test.
        folds: number of folds.

    Returns:
        The splits of each fold.

    Raises:
        DatasetError: there are fewer than two folds, or fewer groups than folds.

    Example:
        >>> videos = {f"op{number}": () for number in range(6)}
        >>> folds = grouped_folds(videos, {video: video for video in videos}, folds=3, validation=0, seed=0)
        >>> [len(fold["test"]) for fold in folds]
        [2, 2, 2]
    """
    held = _labels_of_groups(labels, groups)
    if not 2 <= folds <= len(held):
        raise DatasetError(f"{folds} folds of {len(held)} groups of videos; 2 to as many folds as groups are possible")
    assigned = _assign_folds(held, Counter(groups.values()), folds, seed)
    tests = [[group for group, number in assigned.items() if number == fold] for fold in range(folds)]
    return [_with_test(held, groups, test, validation, f"{seed}:{number}") for number, test in enumerate(tests)]


def held_out_folds(
    labels: Labels,
    groups: Mapping[str, str],
    held_out: Mapping[str, str],
    *,
    validation: float,
    seed: int | str,
    only: str | None = None,
) -> list[Split]:
    """Hold one hospital, or whatever else videos have in common, out as the test of each fold.

    Args:
        labels, groups, validation, seed: arguments of `grouped_folds`.
        held_out: value of each video that decides which fold tests it, such as its hospital.
        only: single value to hold out; by default each value once.

    Returns:
        The splits of each fold, in the order of the values.

    Raises:
        DatasetError: there is only one value, `only` is none of them, or a group has two.

    Example:
        >>> hospitals = {"op1": "Bern", "op2": "Bern", "op3": "Strasbourg"}
        >>> alone = {video: video for video in hospitals}
        >>> [fold["test"] for fold in held_out_folds(dict.fromkeys(hospitals, ()), alone, hospitals, validation=0, seed=0)]
        [('op1', 'op2'), ('op3',)]
    """
    values = sorted(set(held_out.values()))
    if len(values) < 2 or (only is not None and only not in values):
        wanted = "two values at least" if len(values) < 2 else f"{only!r}"
        raise DatasetError(f"videos cannot be held out by the values {preview(values)}; {wanted} would be needed")
    of_groups: dict[str, set[str]] = {}
    for video, group in groups.items():
        of_groups.setdefault(group, set()).add(held_out[video])
    torn = [f"{group} ({', '.join(sorted(found))})" for group, found in sorted(of_groups.items()) if len(found) > 1]
    if torn:
        raise DatasetError(f"groups of videos would be in training and test: {preview(torn)}")
    held = _labels_of_groups(labels, groups)
    folds = []
    for value in values if only is None else [only]:
        test = [group for group, found in of_groups.items() if value in found]
        folds.append(_with_test(held, groups, test, validation, f"{seed}:{value}"))
    return folds


def _labels_of_groups(labels: Labels, groups: Mapping[str, str]) -> dict[str, set[Hashable]]:
    held: dict[str, set[Hashable]] = {group: {_EVERY} for group in sorted(set(groups.values()))}
    for video, group in groups.items():
        held[group].update(labels[video])
    return held


def _divided(held: Mapping[str, set[Hashable]], fractions: Mapping[str, float], seed: int | str) -> dict[str, str]:
    """Return the split of each group, after labels that training lacks were brought back."""
    drawn = stratified_splits({group: sorted(own, key=str) for group, own in held.items()}, fractions, seed)
    assigned = {group: split for split, members in drawn.items() for group in members}
    for label in sorted({label for own in held.values() for label in own}, key=str):
        holders = [group for group in sorted(assigned) if label in held[group]]
        if any(assigned[group] == "train" for group in holders):
            continue
        sizes = Counter(assigned.values())
        movable = [group for group in holders if sizes[assigned[group]] > 1]
        if movable:  # from the validation rather than from the test
            assigned[max(movable, key=lambda group: assigned[group] == "validation")] = "train"
    for split in ("train", "test", "validation"):
        if split in fractions and split not in assigned.values():
            _fill(assigned, held, split, seed)
    return assigned


def _fill(assigned: dict[str, str], held: Mapping[str, set[Hashable]], split: str, seed: int | str) -> None:
    """Move a group to an empty split, if another has two: the one whose labels the training loses least by."""
    sizes = Counter(assigned.values())
    training = Counter(label for group, part in assigned.items() if part == "train" for label in held[group])

    def cost(group: str) -> tuple[int, bool]:
        """Return how many labels the training would lose, and whether the group is not in the training."""
        from_training = assigned[group] == "train"
        return sum(training[label] == 1 for label in held[group]) if from_training else 0, not from_training

    movable = [group for group in shuffled(tuple(sorted(held)), seed) if sizes[assigned[group]] > 1]
    if movable:
        assigned[min(movable, key=cost)] = split


def _with_test(
    held: Mapping[str, set[Hashable]], groups: Mapping[str, str], test: Collection[str], validation: float, seed: str
) -> Split:
    """Return the splits of a fold whose test groups are chosen already."""
    rest = {group: own for group, own in held.items() if group not in set(test)}
    assigned = dict.fromkeys(rest, "train")
    if validation and len(rest) > 1:
        assigned = _divided(rest, {"train": 1 - validation, "validation": validation}, seed)
    return _ids_by_split({**assigned, **dict.fromkeys(test, "test")}, groups)


def _ids_by_split(assigned: Mapping[str, str], groups: Mapping[str, str]) -> Split:
    found = {
        split: tuple(sorted(video for video, group in groups.items() if assigned[group] == split)) for split in SPLITS
    }
    return {split: videos for split, videos in found.items() if videos}


def _assign_folds(
    held: Mapping[str, set[Hashable]], sizes: Mapping[str, int], folds: int, seed: int | str
) -> dict[str, int]:
    """Return the number of the fold that tests each group."""
    holders: dict[Hashable, list[str]] = {}
    for group in sorted(shuffled(tuple(sorted(held)), seed), key=lambda name: -sizes[name]):  # a stable sort
        for label in held[group]:
            holders.setdefault(label, []).append(group)
    assigned: dict[str, int] = {}
    videos = [0] * folds
    for label in sorted(holders, key=lambda name: (len(holders[name]), str(name))):
        got = Counter(assigned[group] for group in holders[label] if group in assigned)
        for group in holders[label]:
            if group in assigned:
                continue
            rare = label != _EVERY  # what all groups have says nothing beside the sizes
            fold = min(range(folds), key=lambda number: (got[number] if rare else 0, videos[number], number))
            assigned[group] = fold
            got[fold] += 1
            videos[fold] += sizes[group]
    _exchange(assigned, holders, sizes)
    return assigned


def _exchange(assigned: dict[str, int], holders: Mapping[Hashable, list[str]], sizes: Mapping[str, int]) -> None:
    """Exchange groups of two folds as long as that leaves fewer labels in one fold only."""
    shared = {label: own for label, own in holders.items() if len(own) > 1}

    def lacking() -> list[Hashable]:
        """Return the labels whose groups are all in one fold."""
        return [label for label, own in shared.items() if len({assigned[group] for group in own}) == 1]

    lost = sorted(lacking(), key=str)
    while lost:
        before = len(lost)
        for group in sorted(shared[lost[0]]):
            partners = [other for other in sorted(assigned) if assigned[other] != assigned[group]]
            for other in sorted(partners, key=lambda name: abs(sizes[name] - sizes[group])):
                assigned[group], assigned[other] = assigned[other], assigned[group]
                if len(lacking()) < before:
                    break
                assigned[group], assigned[other] = assigned[other], assigned[group]
            else:
                continue
            break
        else:
            del shared[lost[0]]  # no exchange helps
        lost = sorted(lacking(), key=str)
