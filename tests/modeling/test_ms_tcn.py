"""MS-TCN: the published sizes, causality, reach, loss; saved and loaded."""

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig

from surgvista_hf.modeling.configuration_ms_tcn import MsTcnConfig
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.modeling_ms_tcn import MsTcnForFrameClassification

SMALL = {"input_size": 6, "num_layers": 3, "num_feature_maps": 4, "num_labels": 3}


def small(**changes) -> MsTcnForFrameClassification:
    torch.manual_seed(0)
    return MsTcnForFrameClassification(MsTcnConfig(**{**SMALL, **changes})).eval()


@pytest.mark.parametrize(
    ("classes", "layers", "maps", "parameters"),
    [(7, 8, 32, 132_846), (8, 8, 32, 132_944), (11, 9, 64, 430_550), (10, 9, 64, 430_356), (19, 9, 64, 432_102)],
)
def test_the_sizes_are_the_published_ones(classes, layers, maps, parameters):
    model = MsTcnForFrameClassification(MsTcnConfig(num_labels=classes, num_layers=layers, num_feature_maps=maps))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == {"stage1", "stages"}
    assert "stages.0.layers.0.conv_dilated.weight" in dict(model.named_parameters())


def test_a_prediction_depends_on_the_past_within_its_reach_and_on_nothing_else():
    model = small()
    features = torch.randn(1, 80, 6, dtype=torch.float64)
    model.double()
    reach = model.config.receptive_field
    assert reach == 29
    changed = features.clone()
    changed[0, 40] += 1
    with torch.no_grad():
        moved = (model(features).logits - model(changed).logits).abs().sum(dim=2)[0].nonzero().flatten().tolist()
    assert moved[0] == 40
    assert moved[-1] == 40 + reach - 1


def test_the_first_frames_are_the_same_whether_or_not_the_video_goes_on():
    model, features = small(), torch.randn(1, 50, 6)
    with torch.no_grad():
        torch.testing.assert_close(model(features).logits[:, :20], model(features[:, :20]).logits)


def test_without_causality_it_looks_both_ways():
    model, features = small(causal=False), torch.randn(1, 60, 6)
    changed = features.clone()
    changed[0, 30] += 1
    with torch.no_grad():
        moved = (model(features).logits - model(changed).logits).abs().sum(dim=2)[0].nonzero().flatten()
    assert moved.min() < 30 < moved.max()


def test_the_loss_is_the_mean_over_stages_of_the_weighted_cross_entropy():
    weights = [1.0, 0.5, 2.0]
    model, features = small(class_weights=weights), torch.randn(1, 12, 6)
    labels = torch.tensor([[0, 0, 1, 1, 2, 2, -100, 0, 1, 2, 2, -100]])
    output = model(features, labels)
    seen = labels[0] >= 0
    parts = []
    for logits in output.stage_logits[:, 0, seen]:
        per_frame = F.cross_entropy(logits, labels[0, seen], reduction="none")
        weight = torch.tensor(weights)[labels[0, seen]]
        parts.append((per_frame * weight).sum() / weight.sum())
    torch.testing.assert_close(output.loss, torch.stack(parts).mean())
    torch.testing.assert_close(output.logits, output.stage_logits[-1])


def test_the_published_double_softmax_cannot_fall_below_its_floor():
    """Compute the loss of a certain and right prediction of seven classes still costs 1.165."""
    model = small(num_labels=7, legacy_double_softmax=True)
    labels = torch.zeros(1, 5, dtype=torch.long)
    certain = torch.zeros(1, 7, 5)
    certain[:, 0] = 100
    assert float(model._loss(certain, labels)) == pytest.approx(1.165, abs=1e-3)


def test_saved_and_loaded_it_says_the_same(tmp_path):
    model, features = small(class_weights=[1.0, 2.0, 3.0]), torch.randn(1, 9, 6)
    model.save_pretrained(tmp_path)
    again = MsTcnForFrameClassification.from_pretrained(tmp_path)
    labels = torch.tensor([[0, 1, 2] * 3])
    torch.testing.assert_close(again(features, labels).loss, model(features, labels).loss, rtol=0, atol=0)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), MsTcnConfig)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"\(videos, frames, 6\) is expected"):
        small()(torch.zeros(1, 4, 5))
    with pytest.raises(InputError, match="2 class_weights for 3 classes"):
        MsTcnConfig(num_labels=3, class_weights=[1, 2])
    with pytest.raises(InputError, match="at least 1"):
        MsTcnConfig(num_layers=0)
