"""The learning rate over a run, and which parameters decay, as published for SurgVISTA (arXiv 2506.02692)."""

import math
from collections.abc import Iterable
from typing import Any

import torch

_UNDECAYED_NAMES = ("pos_embed", "cls_token", "mask_token")


def warmup_cosine(step: int, warmup_steps: int, total_steps: int, floor: float) -> float:
    """The share of the peak learning rate at a step: a line from 0 to 1, both included, then half a cosine towards the floor.

    Args:
        step: from 0.
        warmup_steps: W; step W - 1 is the first at the peak.
        total_steps: of the run.
        floor: share of the peak that the cosine ends just above, 0-1.

    Returns:
        The share.

    Example:
        >>> [round(warmup_cosine(step, 3, 6, 0.5), 3) for step in range(6)]
        [0.0, 0.5, 1.0, 1.0, 0.875, 0.625]
    """
    if step < warmup_steps:
        return step / max(warmup_steps - 1, 1) if warmup_steps > 1 else 1.0
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def parameter_groups(
    parameters: Iterable[tuple[str, torch.nn.Parameter]], weight_decay: float, *, decay_mask_tokens: bool = True
) -> list[dict[str, Any]]:
    """Parameters that decay, and those that do not: vectors and biases.

    The published program means to spare mask tokens too but looks for another name, so they decay.

    Args:
        parameters: names and parameters; those without gradient are left out.
        weight_decay: of the first group.
        decay_mask_tokens: as published; `False`: as meant.

    Returns:
        Two groups for an optimiser.
    """
    decayed: list[torch.nn.Parameter] = []
    spared: list[torch.nn.Parameter] = []
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        last = name.rsplit(".", 1)[-1]
        is_mask_token = last == "mask_token"
        spare = last == "bias" or (last in _UNDECAYED_NAMES and not is_mask_token)
        spare = spare or (not decay_mask_tokens if is_mask_token else parameter.ndim <= 1)
        (spared if spare else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
