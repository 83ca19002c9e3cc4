"""Learning rate and weight decay over a run, and which parameters decay, as published for SurgVISTA and V-JEPA."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from .protocols import ParameterGroups

_UNDECAYED_NAMES = ("pos_embed", "cls_token", "position_embeddings")


def warmup_cosine(step: int, warmup_steps: int, total_steps: int, floor: float, start: float = 0.0) -> float:
    """Return the learning rate of a step as a fraction of the peak: a linear warm-up, then half a cosine.

    The warm-up is a line from `start` at step 0 to 1 at step `warmup_steps` - 1.

    Args:
        step: number of the step, from 0.
        warmup_steps: number of steps of the warm-up.
        total_steps: number of steps of the whole schedule.
        floor: fraction of the peak that the cosine reaches one step after the last, 0-1.
        start: fraction of the peak at step 0, 0-1.

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
    """Return the learning rate of a step as a fraction of the peak: a linear warm-up, a plateau, a linear decay (V-JEPA 2).

    Args:
        step: number of the step, from 0.
        warmup_steps: number of steps of the warm-up, see `warmup_cosine`.
        cooldown_steps: number of steps of the decay at the end.
        total_steps: number of steps of the whole schedule.
        floor: fraction of the peak in the last step, 0-1.
        start: fraction of the peak at step 0, 0-1.

    Example:
        >>> [warmup_plateau(step, 2, 2, 6, 0.0) for step in range(6)]
        [0.0, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup_steps:
        return _warmup(step, warmup_steps, start)
    into = max(step + 1 - (total_steps - cooldown_steps), 0)
    return 1.0 - (1.0 - floor) * min(into / max(cooldown_steps, 1), 1.0)


def cosine(first: float, last: float, progress: float) -> float:
    """Interpolate along half a cosine, from `first` at progress 0 to `last` at progress 1 and later.

    Example:
        >>> [cosine(1.0, 0.0, progress) for progress in (0.0, 0.5, 1.0)]
        [1.0, 0.5, 0.0]
    """
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _warmup(step: int, steps: int, start: float) -> float:
    return start + (1 - start) * step / (steps - 1) if steps > 1 else 1.0


def parameter_groups(
    parameters: Iterable[tuple[str, torch.nn.Parameter]], weight_decay: float, *, decay_mask_tokens: bool = True
) -> ParameterGroups:
    """Separate parameters that decay from those that do not: vectors, biases and position tables.

    Args:
        parameters: names and parameters; those without gradient are left out.
        weight_decay: weight decay of the first group.
        decay_mask_tokens: let mask tokens decay. The published program means to spare them but looks for another name, so
            there they decay.

    Returns:
        Two groups for an optimizer, the one that decays first.
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
) -> ParameterGroups:
    """Return parameter groups with a learning rate of their own for every layer (BEiT, ICLR 2022; SurgVISTA's fine-tuning).

    Args:
        parameters: names and parameters; those without gradient are left out.
        layers: number of each parameter's layer, see `modeling.loading.layer_numbers`.
        weight_decay: weight decay of matrices; vectors and biases do not decay.
        layer_decay: learning rate of a layer divided by that of the layer after it.
        learning_rate: learning rate of the last layer.

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
