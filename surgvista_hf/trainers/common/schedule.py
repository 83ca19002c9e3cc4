"""Learning rate and weight decay over a run, and which parameters decay, as published for SurgVISTA and V-JEPA."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

_UNDECAYED_NAMES = ("pos_embed", "cls_token", "position_embeddings")


def warmup_cosine(step: int, warmup_steps: int, total_steps: int, floor: float, start: float = 0.0) -> float:
    """The share of the peak learning rate at a step: a line from `start` to 1, both included, then half a cosine to the floor.

    Args:
        step: from 0.
        warmup_steps: W; step W - 1 is the first at the peak.
        total_steps: of the schedule.
        floor: share of the peak that the cosine ends just above, 0-1.
        start: share of the peak at step 0, 0-1.

    Returns:
        The share.

    Example:
        >>> [round(warmup_cosine(step, 3, 6, 0.5), 3) for step in range(6)]
        [0.0, 0.5, 1.0, 1.0, 0.875, 0.625]
    """
    if step < warmup_steps:
        return _warmup(step, warmup_steps, start)
    return cosine(1.0, floor, (step - warmup_steps) / max(total_steps - warmup_steps, 1))


def warmup_plateau(
    step: int, warmup_steps: int, cooldown_steps: int, total_steps: int, floor: float, start: float = 0.0
) -> float:
    """As `warmup_cosine`, but it stays at the peak and falls along a line in the last `cooldown_steps` (V-JEPA 2).

    Example:
        >>> [warmup_plateau(step, 2, 2, 6, 0.0) for step in range(6)]
        [0.0, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup_steps:
        return _warmup(step, warmup_steps, start)
    into = max(step + 1 - (total_steps - cooldown_steps), 0)
    return 1.0 - (1.0 - floor) * min(into / max(cooldown_steps, 1), 1.0)


def cosine(first: float, last: float, progress: float) -> float:
    """From `first` at progress 0 to `last` at 1, along half a cosine."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _warmup(step: int, steps: int, start: float) -> float:
    return start + (1 - start) * step / (steps - 1) if steps > 1 else 1.0


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
        Two groups for an optimizer.
    """
    decayed: list[torch.nn.Parameter] = []
    spared: list[torch.nn.Parameter] = []
    for name, parameter in parameters:
        if parameter.requires_grad:
            (decayed if _decays(name, parameter, decay_mask_tokens) else spared).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]


def _decays(name: str, parameter: torch.nn.Parameter, decay_mask_tokens: bool) -> bool:
    last = name.rsplit(".", 1)[-1]
    if last == "mask_token":
        return decay_mask_tokens
    return last != "bias" and last not in _UNDECAYED_NAMES and parameter.ndim > 1


def layered_groups(
    parameters: Iterable[tuple[str, torch.nn.Parameter]],
    layers: Mapping[str, int],
    weight_decay: float,
    layer_decay: float,
    learning_rate: float,
) -> list[dict[str, Any]]:
    """Return the groups with a learning rate of their own for every layer (BEiT, ICLR 2022; SurgVISTA's fine-tuning).

    Args:
        parameters: names and parameters; those without gradient are left out.
        layers: number of each parameter's layer, see `loading.layer_numbers`.
        weight_decay: of matrices.
        layer_decay: the layer before has this share of a layer's learning rate.
        learning_rate: of the last layer.

    Returns:
        Groups for an optimizer, at most two for each layer, the first layer first.

    Example:
        >>> one = torch.nn.Parameter(torch.zeros(2, 2))
        >>> [group["lr"] for group in layered_groups([("a", one), ("b", one)], {"a": 0, "b": 1}, 0.05, 0.5, 1.0)]
        [0.5, 1.0]
    """
    last = max(layers.values())
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        key = (layers[name], _decays(name, parameter, decay_mask_tokens=False))
        rate = learning_rate * layer_decay ** (last - key[0])
        group = groups.setdefault(key, {"params": [], "weight_decay": weight_decay * key[1], "lr": rate})
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]
