"""Masks hide as many tokens as published, tubes run through all slices, and each mask is a function of its keys."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.clips import BlockMasking, ClipMasking, keyed_generator
from surgvista_hf.clips.transforms.masking import block_mask
from surgvista_hf.modeling.errors_surgvista import InputError

COUNTS = {  # ratio: (per slice and in all by tubes, in all by random places)
    0.75: (147, 1176, 1176),
    0.85: (166, 1328, 1332),
    0.9: (176, 1408, 1411),
}


def hidden(masking: ClipMasking, epoch: int, indices: Sequence[int]) -> torch.Tensor:
    return masking(epoch, indices)["bool_masked_pos"]


@pytest.mark.parametrize(("ratio", "counts"), COUNTS.items())
def test_published_counts(ratio, counts):
    tubes = hidden(ClipMasking(ratio=ratio), 0, range(5))
    anywhere = hidden(ClipMasking(ratio=ratio, mask_type="random"), 0, range(5))
    assert tubes.dtype == anywhere.dtype == torch.bool
    assert tubes.shape == anywhere.shape == (5, 1568)
    assert tubes.view(5, 8, 196).sum(2).unique().tolist() == [counts[0]]
    assert tubes.sum(1).unique().tolist() == [counts[1]]
    assert anywhere.sum(1).unique().tolist() == [counts[2]]


def test_a_tube_is_the_same_in_every_slice_and_a_random_mask_is_not():
    tubes = hidden(ClipMasking(), 0, range(3)).view(3, 8, 196)
    assert (tubes == tubes[:, :1]).all()
    anywhere = hidden(ClipMasking(mask_type="random"), 0, range(3)).view(3, 8, 196)
    assert not (anywhere == anywhere[:, :1]).all()


def test_a_mask_depends_on_seed_epoch_and_index_and_not_on_the_batch():
    masking = ClipMasking()
    batch = hidden(masking, 1, [7, 3, 9])
    assert torch.equal(batch[1], hidden(masking, 1, [3])[0])
    keys = ((masking, 2, [3]), (masking, 1, [4]), (ClipMasking(seed=1), 1, [3]))
    others = torch.stack([batch[1], *(hidden(*key)[0] for key in keys)])
    assert len(others.unique(dim=0)) == 4


@pytest.mark.parametrize("mask_type", ["tube", "random"])
def test_every_place_is_hidden_equally_often(mask_type):
    masking = ClipMasking(grid=(2, 3, 4), ratio=0.5, mask_type=mask_type)
    assert np.abs(hidden(masking, 0, range(4000)).float().mean(0).numpy() - 0.5).max() < 0.04


def test_impossible_masks_are_refused():
    with pytest.raises(InputError, match="mask_type"):
        ClipMasking(mask_type="stripes")
    with pytest.raises(InputError, match="ratio"):
        ClipMasking(ratio=1.0)(0, [0])
    with pytest.raises(InputError, match="grid"):
        ClipMasking(grid=(8, 0, 14))(0, [0])


# ------------------------------------------------------------------------------------------- blocks


@pytest.mark.parametrize(
    ("blocks", "mean", "range_"), [((8, 0.15), 0.63, (0.49, 0.75)), ((2, 0.7), 0.82, (0.71, 0.94))]
)
def test_blocks_hide_the_shares_of_the_published_masks(blocks, mean, range_):
    """Mean, and 5th and 95th percentile, of a 14 × 14 plane."""
    fractions = []
    for index in range(2000):
        generator = keyed_generator(1, 0, index, "test")
        fractions.append(block_mask((14, 14), *blocks, generator.uniform(0.75, 1.5), generator).mean())
    assert abs(np.mean(fractions) - mean) < 0.01
    assert np.abs(np.quantile(fractions, [0.05, 0.95]) - range_).max() < 0.02


@given(
    st.tuples(st.integers(1, 4), st.integers(4, 14), st.integers(4, 14)),
    st.sampled_from(["first", "random"]),
    st.integers(0, 2**40),
)
@settings(max_examples=25, deadline=None)
def test_context_and_targets_are_ascending_disjoint_and_of_one_length_whatever_the_batch(grid, truncation, index):
    masking = BlockMasking(grid, truncation=truncation)
    masks = masking(3, [index, 5, 6])
    alone = masking(3, [index])
    tokens = grid[0] * grid[1] * grid[2]
    for contexts, targets, context, target in zip(
        masks["context_ids"], masks["target_ids"], alone["context_ids"], alone["target_ids"], strict=True
    ):
        assert torch.equal(contexts[:1], context)
        assert torch.equal(targets[:1], target)
        for ids in (contexts, targets):
            assert ids.dtype == torch.int64
            assert (ids.diff(dim=1) > 0).all()
            assert 0 <= ids.min() <= ids.max() < tokens
        for row, other in zip(contexts.tolist(), targets.tolist(), strict=True):
            assert not set(row) & set(other)


def test_a_block_runs_through_all_slices_and_truncation_decides_what_is_left_out():
    places = {}
    for truncation in ("first", "random"):
        ids = BlockMasking(truncation=truncation)(0, range(50))["target_ids"][0]
        places[truncation] = torch.bincount(ids.flatten() // 196, minlength=8) / len(ids)
    assert places["first"][0] > 1.5 * places["first"][7]
    assert (places["random"] / places["random"].mean() - 1).abs().max() < 0.1
    whole = BlockMasking(truncation="random")
    ids = whole(0, [3])["target_ids"][0][0]
    context = whole(0, [3])["context_ids"][0][0]
    assert not set((ids % 196).tolist()) & set((context % 196).tolist())


def test_block_masks_depend_on_seed_epoch_and_index():
    def key(masking: BlockMasking, epoch: int, index: int) -> tuple[int, ...]:
        return tuple(masking(epoch, [index])["target_ids"][0][0].tolist())

    keys = {
        key(BlockMasking(), 1, 3),
        key(BlockMasking(), 2, 3),
        key(BlockMasking(), 1, 4),
        key(BlockMasking(seed=1), 1, 3),
    }
    assert len(keys) == 4


def test_impossible_blocks_are_refused():
    for blocks in (((40, 1.0),), ((0, 0.5),), ((3, 0.0),)):
        with pytest.raises(InputError, match="no context"):
            BlockMasking((2, 4, 4), blocks=blocks)
    with pytest.raises(InputError, match="truncation"):
        BlockMasking(truncation="last")
