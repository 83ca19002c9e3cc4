"""Erasing, mixup, CutMix and soft labels: published numbers, and what always holds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.clips.transforms.augmentation import CropBox
from surgvista_hf.clips.transforms.mixing import Mix, draw_mix, erase, erasing_box, mix_clips, soft_labels


def test_soft_labels_are_those_of_the_published_example():
    """Seven classes, share 0.3, first label 0, its partner's 1."""
    found = soft_labels(torch.tensor([0, 1]), 7, 0.1, Mix(0.3))[0]
    torch.testing.assert_close(found, torch.tensor([0.2843, 0.6443, *[0.0143] * 5]), atol=5e-5, rtol=0)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=7), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_soft_labels_sum_to_one(labels, smoothing, lam):
    found = soft_labels(torch.tensor(labels), 5, smoothing, Mix(lam))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(len(labels)))


def test_several_labels_are_mixed_but_not_smoothed():
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    torch.testing.assert_close(soft_labels(labels, 2, 0.1, Mix(0.75)), torch.tensor([[0.75, 0.125], [0.25, 0.375]]))


def test_mixup_adds_the_reversed_batch_for_any_number_of_clips():
    clips = torch.arange(3.0).view(3, 1, 1, 1, 1)
    assert mix_clips(clips, Mix(0.25)).flatten().tolist() == [1.5, 1.0, 0.5]


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=60)
def test_cutmix_takes_as_much_as_the_labels_say(index):
    mix = draw_mix(32, 0.0, 1.0, 0.5, seed=0, epoch=0, index=index)
    clips = torch.stack([torch.zeros(2, 3, 32, 32), torch.ones(2, 3, 32, 32)])
    mixed = mix_clips(clips, mix)
    assert float(mixed[0].mean()) == pytest.approx(1 - mix.lam, abs=1e-6)
    assert torch.equal(mixed[0, 0], mixed[0, 1])  # the same place in all frames


def test_both_kinds_come_as_often_as_asked_and_depend_on_their_keys_only():
    drawn = [draw_mix(224, 0.8, 1.0, 0.5, 1, 2, index) for index in range(400)]
    assert np.mean([mix.box is not None for mix in drawn]) == pytest.approx(0.5, abs=0.08)
    assert drawn[7] == draw_mix(224, 0.8, 1.0, 0.5, 1, 2, 7) != draw_mix(224, 0.8, 1.0, 0.5, 1, 3, 7)
    assert {draw_mix(224, 0.8, 0.0, 0.5, 0, 0, index).box for index in range(20)} == {None}


@given(st.integers(0, 10_000))
@settings(deadline=None)
def test_an_erased_rectangle_lies_inside_and_has_the_published_size(index):
    box = erasing_box(224, 1.0, seed=0, epoch=0, index=index)
    assert 0 <= box.left <= 224 - box.width
    assert 0 <= box.top <= 224 - box.height
    assert 0.019 < box.width * box.height / 224**2 < 0.34
    assert 0.28 < box.height / box.width < 3.5


def test_a_quarter_of_the_clips_is_erased_with_unit_noise_new_for_every_frame():
    boxes = [erasing_box(64, 0.25, 0, 0, index) for index in range(600)]
    assert np.mean([box is not None for box in boxes]) == pytest.approx(0.25, abs=0.05)
    clip = torch.full((4, 3, 64, 64), 9.0)
    erased = erase(clip, CropBox(8, 16, 32, 40), 0, 0, 1)
    noise = erased[:, :, 16:56, 8:40]
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    assert not torch.equal(noise[0], noise[1])
    assert int((erased == 9).sum()) == 4 * 3 * (64 * 64 - 32 * 40)
    assert torch.equal(erased, erase(clip, CropBox(8, 16, 32, 40), 0, 0, 1))
