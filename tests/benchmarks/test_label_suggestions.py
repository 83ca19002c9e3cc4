"""The study of what to label next compares at the same number of labels, on the same operations."""

import numpy as np
import pytest

from benchmarks import label_suggestions as study

MOMENTS = 6


@pytest.fixture
def arrays(monkeypatch):
    """Features of twelve operations, in which class and instruments can be seen."""
    monkeypatch.setattr(study, "POOL", 8)
    monkeypatch.setattr(study, "CHOSEN", 6)
    monkeypatch.setattr(study, "ROUNDS", 2)
    monkeypatch.setattr(study, "LABELS", 5)
    random = np.random.default_rng(0)
    phases = random.integers(len(study.PHASES), size=(12, MOMENTS))
    instruments = (random.random((12, MOMENTS, len(study.INSTRUMENTS))) < 0.4).astype(np.float32)
    values = np.concatenate([np.eye(len(study.PHASES))[phases], instruments], axis=2)
    return {"features": values + random.normal(0, 0.1, values.shape), "phases": phases, "instruments": instruments}


@pytest.mark.parametrize("name", list(study.CHOICES))
def test_every_choice_labels_as_many_moments_as_it_may_and_none_twice(arrays, name):
    pool = study.Pool(arrays["features"][:6], arrays["phases"][:6], 1, 0)
    for turn in range(1, 6):
        rows = study.CHOICES[name](pool, np.linspace(0, 1, len(pool.unlabeled)), 5)
        assert len(set(rows.tolist())) == 5
        assert not pool.labeled[rows].any()
        pool.labeled[rows] = True
        assert pool.labeled.sum() == MOMENTS + 5 * turn


def test_whole_operations_are_finished_before_another_is_begun(arrays):
    pool = study.Pool(arrays["features"][:6], arrays["phases"][:6], 1, 0)
    for _ in range(5):
        rows = study.whole_operations(pool, np.zeros(len(pool.unlabeled)), 5)
        pool.labeled[rows] = True
        begun = [pool.labeled[pool.videos == video].sum() for video in range(6)]
        assert sum(0 < count < MOMENTS for count in begun) <= 1


@pytest.mark.parametrize("task", study.TASKS)
def test_all_choices_begin_alike_and_a_run_repeats(arrays, task):
    run = study.run_seed(arrays, task, 1, 3)
    assert {curve[0] for curve in run["curves"].values()} == {run["curves"][study.RANDOM][0]}
    assert all(len(curve) == 3 for curve in run["curves"].values())
    assert study.run_seed(arrays, task, 1, 3) == run
    assert run["curves"] != study.run_seed(arrays, task, 1, 4)["curves"]


def test_the_summary_is_above_random_by_what_the_curves_are():
    curves = {name: [50.0, 60.0, 70.0] for name in study.CHOICES}
    runs = {str(seed): {"curves": {**curves, study.SUGGESTED: [50.0, 62.0, 70.0 + 4 * seed]}} for seed in range(2)}
    found = study.summarize(runs)[study.SUGGESTED]
    assert found["above_random"] == [0.0, 2.0, 2.0]
    assert found["above_random_over_rounds"] == 2.0
    assert found["seeds_above_random"] == 2
    assert study.summarize(runs)[study.RANDOM]["above_random_over_rounds"] == 0.0
