"""Copies among many videos: what the index finds is what comparing every pair finds."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.curation.stages import duplicates
from surgvista_hf.curation.stages.duplicates import candidate_pairs, find_repeats
from surgvista_hf.curation.stages.repetition import mirrored_hashes, repeated_seconds
from surgvista_hf.curation.stages.seconds import HASHES_PER_SECOND

from .test_repetition import slow_change, some_bits_flipped


def test_candidates_are_all_pairs_that_share_and_few_others():
    random = np.random.default_rng(0)
    videos = [random.integers(1, 2**63, 800, np.uint64) for _ in range(30)]
    videos[7][100:110] = videos[3][500:510]
    upper = np.uint64(2**64 - 2**32)
    videos[9][100:102] = (videos[4][500:502] & upper) | (videos[9][100:102] & ~upper)  # two upper halves are too few
    assert candidate_pairs(videos) == [(3, 7)]
    assert candidate_pairs(videos, least=2) == [(3, 7), (4, 9)]
    assert candidate_pairs([]) == []


def test_what_everybody_shows_makes_no_candidates():
    card = np.random.default_rng(0).integers(1, 2**63, 50, np.uint64)
    assert candidate_pairs([card] * 101) == []
    assert len(candidate_pairs([card] * 5)) == 10


def every_pair(hashes, seconds, order, never, fraction):
    """Compare each video with all that come before it."""
    repeats = {}
    for number, name in enumerate(order):
        shared = {}
        for other in order[:number]:
            if other not in repeats:
                both = (
                    repeated_seconds(view, hashes[other]) for view in (hashes[name], mirrored_hashes(hashes[name]))
                )
                shared[other] = int(np.any(list(both), axis=0).sum())
        best = max(shared.values(), default=0)
        if name not in never and best and best >= fraction * seconds[name]:
            repeats[name] = (next(other for other, value in shared.items() if value == best), best)
    return repeats


def collection(seed: int, noise: float, count: int = 9, length: int = 25) -> dict[str, np.ndarray]:
    """Make videos of which about half repeat pieces of others: noisy, mirrored, in any order, with gaps."""
    random = np.random.default_rng(seed)
    videos: list[np.ndarray] = []
    for _ in range(count):
        video = slow_change(random, length + int(random.integers(0, 15)))
        for _ in range(random.integers(0, 3) if videos else 0):
            source = videos[random.integers(len(videos))]
            start, size = random.integers(0, len(source) - 60), random.integers(40, 60 + 4 * length)
            piece = some_bits_flipped(random, source[start : start + size], noise)
            piece = mirrored_hashes(piece) if random.random() < 0.3 else piece
            target = random.integers(0, 60)
            video[target : target + len(piece)] = piece[: len(video) - target]
        video[random.integers(0, len(video)) :][: random.integers(0, 40)] = 0
        videos.append(video)
    return {f"{number:02d}": video for number, video in enumerate(videos)}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    noise=st.floats(0, 0.06),
    fraction=st.sampled_from([0.1, 0.5, 0.8]),
    never=st.sets(st.sampled_from(["01", "04", "08"])),
)
def test_the_index_finds_what_comparing_every_pair_finds(seed, noise, fraction, never):
    hashes = collection(seed, noise)
    seconds = {name: int((each[::HASHES_PER_SECOND] != 0).sum()) for name, each in hashes.items()}
    order = sorted(hashes, key=lambda name: (-seconds[name], name))
    found = find_repeats(hashes, seconds, order, never=frozenset(never), fraction=fraction)
    assert found == every_pair(hashes, seconds, order, never, fraction)
    assert found == find_repeats(hashes, seconds, order, never=frozenset(never), fraction=fraction)


def test_a_sample_of_the_index_finds_the_same_copies(monkeypatch, caplog):
    """As in large collections, where one half of an image in 16 is looked at; and in many small steps."""
    hashes = collection(3, 0.02, count=40, length=300)
    seconds = {name: int((each[::HASHES_PER_SECOND] != 0).sum()) for name, each in hashes.items()}
    order = sorted(hashes, key=lambda name: (-seconds[name], name))
    everything = find_repeats(hashes, seconds, order, fraction=0.3)
    assert len(everything) > 5
    total = 6 * sum(map(len, hashes.values()))
    monkeypatch.setattr(duplicates, "_ENTRIES", total // 12)
    monkeypatch.setattr(duplicates, "_CHUNK", 50)
    with caplog.at_level(logging.INFO, "surgvista_hf"):
        assert find_repeats(hashes, seconds, order, fraction=0.3) == everything
    assert "one half in 16 was used" in caplog.text


def test_equal_halves_without_order_in_time_are_no_evidence():
    """Two videos of the same hospital share many images by chance, but not one after the other."""
    random = np.random.default_rng(0)
    first, second = (random.integers(1, 2**63, 9600, np.uint64) for _ in range(2))
    chosen = random.choice(9600, 60, replace=False)
    lower = np.uint64(2**32 - 1)
    shuffled, same = second.copy(), second.copy()
    shuffled[chosen] = first[random.permutation(chosen)] & ~lower | second[chosen] & lower
    same[chosen] = first[chosen] & ~lower | second[chosen] & lower
    assert candidate_pairs([first, shuffled], least=50) == []
    assert candidate_pairs([first, same], least=50) == [(0, 1)]


@pytest.mark.parametrize("rate", [1.04, 1 / 1.04])
def test_a_copy_at_another_speed_is_found(rate):
    """It stays long enough in step with the original, since images change slowly."""
    random = np.random.default_rng(1)
    original = slow_change(random, 200)
    copy = original[np.round(np.arange(int(len(original) / rate)) * rate).astype(int).clip(0, len(original) - 1)]
    hashes = {"a": original, "b": slow_change(random, 200), "c": some_bits_flipped(random, copy, 0.01)}
    found = find_repeats(hashes, {"a": 200, "b": 200, "c": len(copy) // 8}, ["a", "b", "c"])
    assert {name: keeper for name, (keeper, _) in found.items()} == {"c": "a"}


def test_few_or_empty_videos_have_no_repeats():
    assert find_repeats({}, {}, []) == {}
    empty, zeros = np.empty(0, np.uint64), np.zeros(80, np.uint64)
    assert find_repeats({"a": empty, "b": zeros}, {"a": 0, "b": 0}, ["a", "b"]) == {}
