"""Stratified splits: every video once, rare labels where they are needed, the same whatever the order."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.schema.splits import stratified_splits

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
