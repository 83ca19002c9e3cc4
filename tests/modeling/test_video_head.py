"""The head over whole videos: weights by the formula, pooling, losses; saved and loaded."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig

from surgvista_hf.modeling import modeling_video_head
from surgvista_hf.modeling.configuration_video_head import VideoHeadConfig
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.modeling_video_head import VideoHeadForClassification, typicality_weights


def by_hand(features: np.ndarray, neighbors: int, smallest: float) -> np.ndarray:
    """Compute the formula with loops."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    weights = []
    for frame in range(len(features)):
        distances = sorted(1 - float(unit[frame] @ unit[other]) for other in range(len(features)) if other != frame)
        weights.append(1 / max(np.mean(distances[:neighbors]), smallest))
    return np.array(weights) / np.sum(weights)


@given(st.integers(0, 1000), st.integers(2, 20), st.integers(1, 25))
@settings(deadline=None, max_examples=30)
def test_a_frame_weighs_one_over_its_mean_distance_to_its_neighbors(seed, frames, neighbors):
    features = np.random.default_rng(seed).normal(size=(frames, 5)).astype(np.float32)
    found = typicality_weights(torch.from_numpy(features), neighbors)
    np.testing.assert_allclose(found.numpy(), by_hand(features.astype(float), neighbors, 1e-3), rtol=1e-3)
    assert float(found.sum()) == pytest.approx(1)


def test_long_videos_in_pieces_have_the_same_weights(monkeypatch):
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    whole = typicality_weights(features, 4)
    monkeypatch.setattr(modeling_video_head, "_ROWS_AT_ONCE", 7)
    torch.testing.assert_close(typicality_weights(features, 4), whole)


def test_a_frozen_image_does_not_take_all_the_weight():
    features = torch.cat([torch.ones(5, 4), torch.randn(5, 4, generator=torch.Generator().manual_seed(0))])
    weights = typicality_weights(features, 3)
    assert torch.isfinite(weights).all()
    assert float(weights.max() / weights.min()) <= 2 / 1e-3
    torch.testing.assert_close(typicality_weights(torch.ones(1, 4), 3), torch.ones(1))


def test_pooling_is_the_weighted_or_the_plain_mean():
    features = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    head = VideoHeadForClassification(VideoHeadConfig(input_size=6, num_neighbors=3))
    torch.testing.assert_close(head.pool(features), typicality_weights(features, 3) @ features)
    plain = VideoHeadForClassification(VideoHeadConfig(input_size=6, pooling="mean"))
    torch.testing.assert_close(plain.pool(features), features.mean(dim=0))


@pytest.mark.parametrize("width", [0, 8])
@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_losses_are_those_of_the_problem_and_what_is_saved_is_loaded(tmp_path, problem, width):
    torch.manual_seed(0)
    config = VideoHeadConfig(input_size=6, hidden_size=width, num_labels=3, problem_type=problem)
    head = VideoHeadForClassification(config).eval()
    pooled = torch.randn(4, 6)
    is_multi = problem.startswith("multi")
    labels = (torch.rand(4, 3) > 0.5).float() if is_multi else torch.tensor([0, 1, 2, 0])
    output = head(pooled, labels=labels)
    expected = torch.nn.BCEWithLogitsLoss() if is_multi else torch.nn.CrossEntropyLoss()
    torch.testing.assert_close(output.loss, expected(output.logits, labels))
    head.save_pretrained(tmp_path)
    again = VideoHeadForClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(pooled).logits, output.logits)
    assert AutoConfig.from_pretrained(tmp_path).pooling == "typicality"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"pooling": "max"}, "must be one of typicality, mean"), ({"num_neighbors": 0}, "at least 1")],
)
def test_what_is_no_head_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        VideoHeadConfig(**change)
    with pytest.raises(InputError, match="pooled features have the shape"):
        VideoHeadForClassification(VideoHeadConfig(input_size=6))(torch.zeros(2, 5))
    with pytest.raises(InputError, match="of one video is expected"):
        typicality_weights(torch.zeros(0, 5), 3)
