"""Balanced samplers keep their weights and quotas, and their order depends on (seed, epoch) alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.clips import ClusterBalancedSampler, ShuffledSampler, SourceBalancedSampler, temperature_weights
from surgvista_hf.clips.sampling.balance import balanced_quotas
from surgvista_hf.modeling.errors_surgvista import InputError

sizes_of = st.lists(st.integers(1, 500), min_size=1, max_size=12)


@given(sizes_of, st.floats(0, 1))
def test_a_temperature_lies_between_uniform_and_proportional(sizes, alpha):
    weights = temperature_weights(sizes, alpha)
    assert weights.sum() == pytest.approx(1)
    assert np.allclose(temperature_weights(sizes, 0), 1 / len(sizes))
    assert np.allclose(temperature_weights(sizes, 1), np.array(sizes) / sum(sizes))
    assert np.allclose(weights / weights[0], (np.array(sizes) / sizes[0]) ** alpha)


@given(sizes_of, st.data())
def test_quotas_are_as_even_as_the_clusters_allow(sizes, data):
    total = data.draw(st.integers(0, sum(sizes)))
    quotas = balanced_quotas(sizes, total, np.random.default_rng(0))
    assert quotas.sum() == total
    assert (quotas >= 0).all()
    assert (quotas <= sizes).all()
    not_emptied = quotas[quotas < sizes]
    assert not len(not_emptied) or not_emptied.min() >= quotas.max() - 1


def test_quotas_by_hand():
    assert balanced_quotas([100, 3, 50], 43, np.random.default_rng(0)).tolist() == [20, 3, 20]
    odd = [balanced_quotas([100, 3, 50], 44, np.random.default_rng(seed)).tolist() for seed in range(20)]
    assert {tuple(quota) for quota in odd} == {(21, 3, 20), (20, 3, 21)}


def test_sources_are_drawn_by_weight_and_their_samples_alike():
    sources = np.array([0] * 90 + [1] * 10 + [0] * 90 + [2] * 10)
    drawn = np.array([draw.sample for draw in SourceBalancedSampler(sources, [2, 1, 1], num_samples=40_000)])
    assert np.abs(np.bincount(sources[drawn]) / len(drawn) - [0.5, 0.25, 0.25]).max() < 0.015
    for source in range(3):
        members = np.flatnonzero(sources == source)
        counts = np.bincount(drawn, minlength=len(sources))[members]
        assert np.abs(counts / counts.mean() - 1).max() < 0.4


def test_a_source_of_no_weight_is_never_drawn():
    sources = np.repeat([0, 1], 50)
    assert {int(sources[draw.sample]) for draw in SourceBalancedSampler(sources, [0, 1])} == {1}


def test_every_draw_of_an_epoch_is_told_apart_and_counted_over_all_processes():
    sources = np.repeat([0, 1], [40, 4])
    whole = list(SourceBalancedSampler(sources, [1, 1]))
    assert len(set(whole)) == len(whole) == 44
    for sample in {draw.sample for draw in whole}:
        numbers = [draw.number for draw in whole if draw.sample == sample]
        assert numbers == list(range(len(numbers)))
    fractions = [list(SourceBalancedSampler(sources, [1, 1], num_replicas=2, rank=rank)) for rank in (0, 1)]
    assert [draw for pair in zip(*fractions, strict=True) for draw in pair] == whole


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_clusters_are_drawn_evenly_at_every_level_and_no_sample_twice(data):
    coarse = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=80))
    fine = data.draw(st.lists(st.integers(0, 3), min_size=len(coarse), max_size=len(coarse)))
    clusters = np.stack([coarse, fine], axis=1)
    count = data.draw(st.integers(1, len(coarse)))
    drawn = np.array(list(ClusterBalancedSampler(clusters, count)))
    assert len(np.unique(drawn)) == count
    taken = clusters[drawn]
    _assert_even(clusters[:, 0], taken[:, 0])
    for parent in set(coarse):
        _assert_even(fine_of(clusters, parent), fine_of(taken, parent))


def fine_of(clusters: np.ndarray, parent: int) -> np.ndarray:
    return clusters[clusters[:, 0] == parent, 1]


def _assert_even(all_members: np.ndarray, drawn: np.ndarray) -> None:
    sizes, quotas = np.bincount(all_members, minlength=4), np.bincount(drawn, minlength=4)
    not_emptied = quotas[quotas < sizes]
    assert not len(not_emptied) or not_emptied.min() >= quotas.max() - 1


def samplers(seed: int = 0, **fraction: int) -> list:
    sources = np.repeat([0, 1, 2], [50, 5, 20])
    clusters = np.stack([sources, np.arange(75) % 4], axis=1)
    return [
        SourceBalancedSampler(sources, [1, 1, 1], seed=seed, **fraction),
        ClusterBalancedSampler(clusters, 31, seed=seed, **fraction),
    ]


@pytest.mark.parametrize("kind", [0, 1])
@given(world=st.integers(1, 5), epoch=st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_processes_share_out_the_order_of_one(kind, world, epoch):
    whole = samplers()[kind]
    whole.set_epoch(epoch)
    order = list(whole)
    fractions = []
    for rank in range(world):
        sampler = samplers(num_replicas=world, rank=rank)[kind]
        sampler.set_epoch(epoch)
        fractions.append(list(sampler))
        assert len(fractions[-1]) == len(sampler) == len(order) // world
    together = [index for turn in zip(*fractions, strict=True) for index in turn]
    assert together == order[: len(order) // world * world]


@pytest.mark.parametrize("kind", [0, 1])
def test_the_order_changes_with_seed_and_epoch_and_comes_back(kind):
    sampler = samplers()[kind]
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == first != second
    assert list(samplers(seed=1)[kind]) != first


@pytest.mark.parametrize(
    "call",
    [
        lambda: temperature_weights([], 1),
        lambda: temperature_weights([3, 0], 1),
        lambda: temperature_weights([3, 1], 1.5),
        lambda: balanced_quotas([2, 3], 6, np.random.default_rng(0)),
        lambda: SourceBalancedSampler(np.array([0, 1]), [1]),
        lambda: SourceBalancedSampler(np.array([0, 1]), [1, -1]),
        lambda: SourceBalancedSampler(np.array([0, 1]), [0, 0]),
        lambda: SourceBalancedSampler(np.array([0, 0]), [1, 1]),
        lambda: SourceBalancedSampler(np.array([0, 1]), [1, 1], num_replicas=2, rank=2),
        lambda: ClusterBalancedSampler(np.zeros(5, int), 2),
        lambda: ClusterBalancedSampler(np.zeros((5, 1), int), 6),
    ],
)
def test_impossible_balances_are_refused(call):
    with pytest.raises(InputError):
        call()


def test_shuffled_samples_come_once_in_an_order_of_the_epoch():
    sampler = ShuffledSampler(50, seed=3)
    first, again = list(sampler), list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert first == again != second
    assert sorted(first) == sorted(second) == list(range(50))
    fractions = [list(ShuffledSampler(50, seed=3, num_replicas=2, rank=rank)) for rank in range(2)]
    assert [index for pair in zip(*fractions, strict=True) for index in pair] == first
