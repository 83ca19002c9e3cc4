"""The cheaper forms of models answer as the published ones."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import (
    RegNetConfig,
    RegNetForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    SegformerConfig,
    SegformerForSemanticSegmentation,
)

from surgvista_hf.curation.models.folding import FoldedHead, fold_head, fold_norms

SMALL = {"hidden_sizes": [8, 16, 16, 24], "depths": [1] * 4, "num_attention_heads": [1] * 4, "decoder_hidden_size": 32}


def model_with_statistics(**changes) -> SegformerForSemanticSegmentation:
    """Return a model in evaluation whose normalization and biases are not those of a new one."""
    torch.manual_seed(0)
    model = SegformerForSemanticSegmentation(SegformerConfig(**{**SMALL, "num_labels": 3, **changes})).eval()
    norm = model.decode_head.batch_norm
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 3)
        for parameter in (norm.weight, norm.bias, *(each.proj.bias for each in model.decode_head.linear_projections)):
            parameter.normal_()
    return model


def folded(model: SegformerForSemanticSegmentation) -> SegformerForSemanticSegmentation:
    """Return a copy of a model with the cheaper head."""
    other = copy.deepcopy(model)
    fold_head(other)
    assert isinstance(other.decode_head, FoldedHead)
    return other


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(33, 150), st.integers(33, 150), st.integers(1, 4))
def test_logits_of_images_of_any_size_are_those_of_the_published_head(count, height, width, classes):
    model = model_with_statistics(num_labels=classes)
    images = torch.randn(count, 3, height, width)
    with torch.inference_mode():
        expected, found = model(images).logits, folded(model)(images).logits
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_the_published_b0_at_512_pixels_answers_the_same():
    torch.manual_seed(0)
    model = SegformerForSemanticSegmentation(SegformerConfig(num_labels=2)).eval()
    images = torch.randn(1, 3, 512, 512)
    with torch.inference_mode():
        assert torch.allclose(folded(model)(images).logits, model(images).logits, atol=1e-5)


def test_in_bfloat16_it_is_no_further_from_float32_than_the_published_head():
    model = model_with_statistics()
    images = torch.randn(8, 3, 96, 96)
    with torch.inference_mode():
        exact = model(images).logits
        errors = [
            (copy.deepcopy(each).bfloat16()(images.bfloat16()).logits.float() - exact).square().mean().sqrt()
            for each in (folded(model), model)
        ]
    assert errors[0] < 1.25 * errors[1]


@pytest.mark.parametrize("changes", [{"reshape_last_stage": False}, {}])
def test_only_heads_that_it_knows_are_replaced(changes):
    model = model_with_statistics(**changes)
    head = model.decode_head
    fold_head(model if changes else model.segformer)
    assert model.decode_head is head


SIZES = {"hidden_sizes": [16, 16, 32, 32], "depths": [1, 2, 1, 1], "embedding_size": 16, "num_labels": 3}


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (ResNetForImageClassification, ResNetConfig(layer_type="basic", **SIZES)),
        (ResNetForImageClassification, ResNetConfig(layer_type="bottleneck", **SIZES)),
        (RegNetForImageClassification, RegNetConfig(groups_width=8, **SIZES)),
    ],
)
def test_convolutions_with_their_normalization_answer_the_same(model_class, config):
    torch.manual_seed(0)
    model = model_class(config).eval()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.bias.normal_()
    other = copy.deepcopy(model)
    fold_norms(other)
    assert norms
    assert not any(isinstance(module, nn.BatchNorm2d) for module in other.modules())
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(other(images).logits, model(images).logits, atol=1e-4, rtol=1e-4)
