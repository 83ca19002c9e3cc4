"""The modules of the evaluate library give the numbers of the functions, also when fed batch by batch."""

import numpy as np
import pytest

pytest.importorskip("evaluate")

from surgvista_hf.evaluation.evaluate_metrics import ClipClassification, PhaseRecognition, TripletRecognition
from surgvista_hf.evaluation.metrics.classification import classification_metrics
from surgvista_hf.evaluation.metrics.triplets import triplet_metrics
from surgvista_hf.evaluation.metrics.workflow import phase_metrics

GENERATOR = np.random.default_rng(0)


def test_phases_fed_in_batches_are_those_of_the_function():
    videos = ["a"] * 30 + ["b"] * 20
    truth, said = (GENERATOR.integers(0, 7, 50) for _ in range(2))
    module = PhaseRecognition(keep_in_memory=True)
    for start in range(0, 50, 16):
        part = slice(start, start + 16)
        module.add_batch(predictions=said[part], references=truth[part], videos=videos[part])
    options = {"num_classes": 7, "mode": "relaxed_corrected", "average": "video_then"}
    parts = [{"a": values[:30], "b": values[30:]} for values in (truth, said)]
    assert module.compute(**options) == phase_metrics(*parts, **options).to_dict()


def test_triplets_are_those_of_the_function():
    labels = (GENERATOR.random((12, 100)) < 0.1).astype(int)
    scores = GENERATOR.random((12, 100))
    module = TripletRecognition(keep_in_memory=True)
    found = module.compute(predictions=scores, references=labels, videos=["a"] * 7 + ["b"] * 5)
    expected = triplet_metrics({"a": labels[:7], "b": labels[7:]}, {"a": scores[:7], "b": scores[7:]})
    assert found == expected.to_dict()


def test_clips_are_those_of_the_function():
    probabilities = GENERATOR.dirichlet(np.ones(4), 20)
    labels = GENERATOR.integers(0, 4, 20)
    module = ClipClassification(keep_in_memory=True)
    found = module.compute(predictions=probabilities, references=labels)
    assert found == classification_metrics(labels, probabilities).to_dict()
