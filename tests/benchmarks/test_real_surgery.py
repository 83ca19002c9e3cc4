"""The experiment on real surgery: clips without gaps, operations left out, and runs of every objective to their end."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import real_surgery
from benchmarks.real_surgery import INSTRUMENTS, Labeled

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "real"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real operations are not here")


@pytest.fixture(scope="module")
def labeled() -> Labeled:
    return Labeled(DATA, side=8)


@needs_data
def test_a_clip_is_made_of_the_seconds_before_its_label_without_a_gap(labeled):
    assert len(labeled.clips) == 1128
    assert sorted(set(labeled.videos)) == ["VID68", "VID70", "VID73", "VID74", "VID75"]
    steps = labeled.clips.diff(dim=1)
    assert set(steps.unique().tolist()) == {0, 1}
    # A frame is repeated only at the beginning, where there is none before it.
    moved = steps.cumsum(dim=1) > 0
    assert (steps[moved] == 1).all()


@needs_data
def test_labels_themselves_are_read_without_a_fault_and_noise_is_not(labeled, monkeypatch):
    """Probe features that hold the labels, and features that hold nothing."""
    classes = np.eye(7)[labeled.phases]
    known = labeled.probe(np.concatenate([labeled.instruments, classes], axis=1))
    assert np.mean(list(known["instruments"].values())) > 99
    noise = labeled.probe(np.random.default_rng(0).normal(size=(1128, 4)))
    assert np.mean(list(noise["phases"].values())) < 35


@pytest.mark.parametrize("objective", list(real_surgery.TRAINERS))
def test_every_objective_is_probed_before_and_after_and_reported_by_operation(objective, monkeypatch):
    monkeypatch.setattr(real_surgery, "BATCH", 4)
    random = np.random.default_rng(0)
    videos = [(name, random.integers(0, 255, (12, 128, 128, 3), dtype=np.uint8)) for name in "ab"]
    seen = []

    def probe(values: np.ndarray) -> dict[str, dict[str, float]]:
        seen.append(values)
        return {"instruments": {"VID1": 10.0 * len(seen), "VID2": 50.0}, "phases": {"VID1": 20.0, "VID2": 30.0}}

    size = real_surgery.SIDE
    pixels = torch.from_numpy(random.integers(0, 255, (10, 3, size, size), dtype=np.uint8))
    clips = torch.arange(8).expand(2, 8)
    fake = SimpleNamespace(pixels=pixels, clips=clips, probe=probe)
    fake.features = lambda model: Labeled.features(fake, model)
    found = real_surgery.run(objective, 0, 2, videos, fake, {}, moments=1)
    assert list(found["probes"]) == ["0", "2"]
    assert all(np.isfinite(values).all() for values in seen)
    assert found["curve"]
    report = real_surgery.report({objective: {"0": found}}, {})
    scores = report["output_of_the_encoder"][objective]["instruments"]
    last = {moment: list(found["probes"][moment].values())[-1]["instruments"] for moment in ("0", "2")}
    assert (scores["untrained"], scores["trained"]) == (last["0"], last["2"])
    assert scores["wilcoxon_one_sided_over_operations"]["pairs"] == 2
    assert len(INSTRUMENTS) == 6
