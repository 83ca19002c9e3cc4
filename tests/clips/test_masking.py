"""Masks hide as many tokens as published, tubes run through all slices, and each mask is a function of its keys."""

import numpy as np
import pytest
import torch

from surgvista_hf.clips import ClipMasking
from surgvista_hf.modeling.errors_surgvista import InputError

COUNTS = {  # ratio: (per slice and in all by tubes, in all by random places)
    0.75: (147, 1176, 1176),
    0.85: (166, 1328, 1332),
    0.9: (176, 1408, 1411),
}


@pytest.mark.parametrize(("ratio", "counts"), COUNTS.items())
def test_published_counts(ratio, counts):
    tubes = ClipMasking(ratio=ratio)(0, range(5))
    anywhere = ClipMasking(ratio=ratio, mask_type="random")(0, range(5))
    assert tubes.dtype == anywhere.dtype == torch.bool
    assert tubes.shape == anywhere.shape == (5, 1568)
    assert tubes.view(5, 8, 196).sum(2).unique().tolist() == [counts[0]]
    assert tubes.sum(1).unique().tolist() == [counts[1]]
    assert anywhere.sum(1).unique().tolist() == [counts[2]]


def test_a_tube_is_the_same_in_every_slice_and_a_random_mask_is_not():
    tubes = ClipMasking()(0, range(3)).view(3, 8, 196)
    assert (tubes == tubes[:, :1]).all()
    anywhere = ClipMasking(mask_type="random")(0, range(3)).view(3, 8, 196)
    assert not (anywhere == anywhere[:, :1]).all()


def test_a_mask_depends_on_seed_epoch_and_index_and_not_on_the_batch():
    masking = ClipMasking()
    batch = masking(1, [7, 3, 9])
    assert torch.equal(batch[1], masking(1, [3])[0])
    others = torch.stack([batch[1], masking(2, [3])[0], masking(1, [4])[0], ClipMasking(seed=1)(1, [3])[0]])
    assert len(others.unique(dim=0)) == 4


@pytest.mark.parametrize("mask_type", ["tube", "random"])
def test_every_place_is_hidden_equally_often(mask_type):
    hidden = ClipMasking(grid=(2, 3, 4), ratio=0.5, mask_type=mask_type)(0, range(4000)).float().mean(0)
    assert np.abs(hidden.numpy() - 0.5).max() < 0.04


def test_impossible_masks_are_refused():
    with pytest.raises(InputError, match="mask_type"):
        ClipMasking(mask_type="stripes")
    with pytest.raises(InputError, match="ratio"):
        ClipMasking(ratio=1.0)(0, [0])
    with pytest.raises(InputError, match="grid"):
        ClipMasking(grid=(8, 0, 14))(0, [0])
