"""Stratified splits: every video once, rare labels where they are needed, the same whatever the order."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.schema.info import DatasetError
from surgvista_hf.datasets_scripts.schema.splits import (
    grouped_folds,
    grouped_split,
    held_out_folds,
    stratified_splits,
)

FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}
LABELS = st.lists(st.sets(st.integers(0, 9), min_size=1, max_size=3), min_size=3, max_size=120)


def videos(labels: list[set[int]]) -> dict[str, list[int]]:
    return {f"video{number}": sorted(each) for number, each in enumerate(labels)}


@given(LABELS, st.integers(0, 100))
@settings(deadline=None, max_examples=60)
def test_every_video_is_in_one_split_whatever_the_order_of_the_list(labels, seed):
    given_videos = videos(labels)
    splits = stratified_splits(given_videos, FRACTIONS, seed)
    assert sorted(video for ids in splits.values() for video in ids) == sorted(given_videos)
    assert stratified_splits(dict(reversed(given_videos.items())), FRACTIONS, seed) == splits


@given(st.dictionaries(st.integers(0, 30), st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 100))
@settings(deadline=None, max_examples=60)
def test_with_one_label_a_video_each_label_is_shared_out_as_it_is_due(sizes, seed):
    made = {f"{label}-{number}": [label] for label, size in sizes.items() for number in range(size)}
    counts = Counter()
    for split, ids in stratified_splits(made, FRACTIONS, seed).items():
        counts.update((split, made[video][0]) for video in ids)
    for label, size in sizes.items():
        assert counts["test", label] == (max(round(0.1 * size), 1) if size >= 2 else 0)
        assert counts["validation", label] == (max(round(0.1 * size), 1) if size >= 3 else 0)
        assert counts["train", label] >= 1


@given(LABELS, st.integers(0, 100))
@settings(deadline=None, max_examples=60)
def test_a_label_of_three_videos_is_in_training_and_test_unless_rarer_labels_take_its_videos(labels, seed):
    made = videos(labels)
    splits = stratified_splits(made, FRACTIONS, seed)
    totals = Counter(label for each in made.values() for label in each)
    found = {split: Counter(label for video in ids for label in made[video]) for split, ids in splits.items()}
    rarest = min(totals, key=lambda label: (totals[label], str(label)))
    for label in (label for label, count in totals.items() if count >= 3):
        alone = sum(min(made[video], key=lambda each: (totals[each], str(each))) == label for video in made)
        if label == rarest or alone >= 3:
            assert found["test"][label]
            assert found["train"][label]


def test_another_property_is_spread_evenly():
    made = {f"video{number}": ["a" if number % 3 else "b"] for number in range(300)}
    robotic = {video: number < 120 for number, video in enumerate(made)}
    for ids in stratified_splits(made, FRACTIONS, 0, strata=robotic).values():
        assert abs(sum(robotic[video] for video in ids) / len(ids) - 0.4) < 0.04


# ------------------------------------------------------------------------------------------- groups and folds

SHAPES = st.lists(st.tuples(st.sets(st.integers(0, 5), max_size=3), st.integers(0, 8)), min_size=2, max_size=30)


def grouped(shapes: list[tuple[set[int], int]]) -> tuple[dict[str, list[int]], dict[str, str]]:
    """Return labels and groups of videos from a list of (labels, number of the group)."""
    labels = {f"video{number}": sorted(own) for number, (own, _) in enumerate(shapes)}
    return labels, {f"video{number}": f"group{group}" for number, (_, group) in enumerate(shapes)}


def check_split(split: dict[str, tuple[str, ...]], labels: dict, groups: dict[str, str]) -> None:
    """Check that every video is in one split and no group in two."""
    assert sorted(video for ids in split.values() for video in ids) == sorted(labels)
    of_groups = [{groups[video] for video in ids} for ids in split.values()]
    assert sum(map(len, of_groups)) == len(set.union(*of_groups))
    assert {"train", "test"} <= set(split)


def lost_in_training(split: dict[str, tuple[str, ...]], labels: dict[str, list[int]]) -> set[int]:
    """Return the labels that the training lacks."""
    return {each for own in labels.values() for each in own} - {each for v in split["train"] for each in labels[v]}


@given(SHAPES, st.sampled_from([0.0, 0.1, 0.3]), st.integers(0, 50))
@settings(deadline=None, max_examples=80)
def test_no_group_is_in_two_splits_and_training_has_every_label_that_it_can(shapes, validation, seed):
    labels, groups = grouped(shapes)
    if len(set(groups.values())) < 2:
        with pytest.raises(DatasetError, match="of one group"):
            grouped_split(labels, groups, test=0.2, validation=validation, seed=seed)
        return
    split = grouped_split(labels, groups, test=0.2, validation=validation, seed=seed)
    check_split(split, labels, groups)
    assert ("validation" in split) == (validation > 0 and len(set(groups.values())) > 2)
    for label in lost_in_training(split, labels):  # only where the split would be empty without it
        for name in ("test", "validation"):
            held = {groups[video] for video in split.get(name, ()) if label in labels[video]}
            assert not held or len({groups[video] for video in split[name]}) == 1


@given(SHAPES, st.integers(2, 5), st.sampled_from([0.0, 0.2]), st.integers(0, 50))
@settings(deadline=None, max_examples=80)
def test_folds_partition_the_videos_and_no_group_is_torn(shapes, count, validation, seed):
    labels, groups = grouped(shapes)
    distinct = len(set(groups.values()))
    if distinct < count:
        with pytest.raises(DatasetError, match="groups of videos"):
            grouped_folds(labels, groups, folds=count, validation=validation, seed=seed)
        return
    folds = grouped_folds(labels, groups, folds=count, validation=validation, seed=seed)
    for fold in folds:
        check_split(fold, labels, groups)
        assert ("validation" in fold) == (
            validation > 0 and len({groups[v] for v in labels} - of_test(fold, groups)) > 1
        )
    assert sorted(video for fold in folds for video in fold["test"]) == sorted(labels)


def of_test(fold: dict[str, tuple[str, ...]], groups: dict[str, str]) -> set[str]:
    """Return the groups of the test."""
    return {groups[video] for video in fold["test"]}


@given(st.lists(st.integers(0, 4), min_size=4, max_size=40), st.integers(2, 6), st.integers(0, 50))
@settings(deadline=None, max_examples=80)
def test_with_one_label_a_group_each_fold_trains_on_every_label_that_two_groups_have(of_groups, count, seed):
    labels = {f"video{number}": [label] for number, label in enumerate(of_groups)}
    groups = {video: video for video in labels}
    count = min(count, len(labels))
    folds = grouped_folds(labels, groups, folds=count, validation=0, seed=seed)
    for label, number in Counter(of_groups).items():
        counts = [sum(labels[video] == [label] for video in fold["test"]) for fold in folds]
        assert max(counts) - min(counts) <= 1  # shared out evenly
        if number > 1:
            assert all(label not in lost_in_training(fold, labels) for fold in folds)
    assert max(len(fold["test"]) for fold in folds) - min(len(fold["test"]) for fold in folds) <= len(set(of_groups))


def test_groups_are_exchanged_where_a_label_would_be_in_one_fold_only():
    """Rare labels alone would put the two groups with "shared" into the same fold."""
    labels = {"g1": ["a", "shared"], "g2": ["b"], "g3": ["c", "shared"], "g4": ["d"]}
    groups = {video: video for video in labels}
    for seed in range(20):
        folds = grouped_folds(labels, groups, folds=2, validation=0, seed=seed)
        assert all("shared" in {each for video in fold["train"] for each in labels[video]} for fold in folds)


@given(SHAPES, st.integers(0, 50), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_the_same_seed_gives_the_same_splits_whatever_the_order(shapes, seed, random):
    labels, groups = grouped(shapes)
    order = list(labels)
    random.shuffle(order)
    other_labels, other_groups = {video: labels[video] for video in order}, {video: groups[video] for video in order}
    if len(set(groups.values())) < 3:
        return
    for draw in (
        lambda *videos: grouped_split(*videos, test=0.3, validation=0.1, seed=seed),
        lambda *videos: grouped_folds(*videos, folds=3, validation=0.1, seed=seed),
    ):
        assert draw(labels, groups) == draw(other_labels, other_groups)


def test_another_seed_gives_other_splits():
    labels = {f"video{number:02d}": [] for number in range(30)}
    groups = {video: video for video in labels}
    drawn = {grouped_split(labels, groups, test=0.2, validation=0.1, seed=seed)["test"] for seed in range(5)}
    assert len(drawn) == 5


def test_each_hospital_is_held_out_once_and_a_patient_of_two_hospitals_is_named():
    hospitals = {"op1": "Bern", "op2": "Bern", "op3": "Paris", "op4": "Rome"}
    alone = {video: video for video in hospitals}
    labels = {video: [] for video in hospitals}
    folds = held_out_folds(labels, alone, hospitals, validation=0.1, seed=0)
    assert [fold["test"] for fold in folds] == [("op1", "op2"), ("op3",), ("op4",)]
    for fold in folds:
        check_split(fold, labels, alone)
    only = held_out_folds(labels, alone, hospitals, validation=0, seed=0, only="Paris")
    assert only == [{"train": ("op1", "op2", "op4"), "test": ("op3",)}]
    patients = {**alone, "op2": "p1", "op3": "p1"}
    with pytest.raises(DatasetError, match=r"training and test: p1 \(Bern, Paris\)"):
        held_out_folds(labels, patients, hospitals, validation=0, seed=0)
    with pytest.raises(DatasetError, match="'Oslo' would be needed"):
        held_out_folds(labels, alone, hospitals, validation=0, seed=0, only="Oslo")
    with pytest.raises(DatasetError, match="two values"):
        held_out_folds(labels, alone, dict.fromkeys(hospitals, "Bern"), validation=0, seed=0)
