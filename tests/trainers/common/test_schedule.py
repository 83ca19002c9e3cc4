"""The learning rate and the groups of parameters are the published ones."""

import math

import numpy as np
import pytest
import torch

from surgvista_hf import SurgVistaConfig, SurgVistaForPreTraining
from surgvista_hf.trainers.common.schedule import cosine, parameter_groups, warmup_cosine, warmup_plateau


def published(peak: float, floor: float, warmup: int, total: int) -> np.ndarray:
    """Return the table of the published program, written from its description."""
    rest = total - warmup
    cosine = [floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * i / rest)) for i in range(rest)]
    return np.concatenate([np.linspace(0, peak, warmup), cosine])


@pytest.mark.parametrize(("warmup", "total"), [(40, 201), (1, 10), (0, 10), (7, 7)])
def test_the_learning_rate_follows_the_published_table(warmup, total):
    table = published(1.2e-3, 8e-4, warmup, total)
    ours = [1.2e-3 * warmup_cosine(step, warmup, total, 8e-4 / 1.2e-3) for step in range(total)]
    if warmup == 1:
        table[0] = 1.2e-3  # linspace of one value gives 0: a step without effect that is not repeated here
    np.testing.assert_allclose(ours, table, rtol=1e-12)


def test_a_warm_up_may_start_above_zero_and_a_stretched_schedule_does_not_reach_its_floor():
    fractions = [warmup_cosine(step, 5, 125, 0.0, start=0.32) for step in range(100)]
    assert fractions[0] == 0.32
    assert fractions[4] == fractions[5] == 1.0
    assert 0.05 < fractions[-1] < 0.15
    assert fractions[5:] == sorted(fractions[5:], reverse=True)


def test_a_plateau_holds_between_warm_up_and_cool_down():
    fractions = [warmup_plateau(step, 4, 10, 100, 0.1) for step in range(100)]
    assert fractions[:4] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert set(fractions[4:90]) == {1.0}
    np.testing.assert_allclose(np.diff(fractions[89:]), -0.09)
    assert fractions[-1] == pytest.approx(0.1)
    assert {warmup_plateau(step, 4, 0, 100, 0.1) for step in range(4, 100)} == {1.0}


def test_weight_decay_runs_along_half_a_cosine():
    assert [round(cosine(0.04, 0.4, progress), 4) for progress in (0, 0.5, 1, 2)] == [0.04, 0.22, 0.4, 0.4]


def test_after_the_end_the_floor_holds():
    assert warmup_cosine(500, 10, 100, 0.25) == pytest.approx(0.25)


def test_the_groups_of_the_base_model_have_the_published_sizes():
    with torch.device("meta"):
        model = SurgVistaForPreTraining(SurgVistaConfig())
    decayed, spared = parameter_groups(model.named_parameters(), 0.05)
    assert sum(parameter.numel() for parameter in decayed["params"]) == 98_304_768
    assert sum(parameter.numel() for parameter in spared["params"]) == 145_408
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    without, _ = parameter_groups(model.named_parameters(), 0.05, decay_mask_tokens=False)
    assert sum(parameter.numel() for parameter in without["params"]) == 98_304_768 - 2 * 384


def test_frozen_parameters_are_in_no_group():
    model = torch.nn.Linear(3, 3)
    model.bias.requires_grad_(False)
    assert [len(group["params"]) for group in parameter_groups(model.named_parameters(), 0.1)] == [1, 0]
