"""Losses of the classifiers, in a form that gradient accumulation does not change. This file travels with a checkpoint."""

import torch
from torch.nn import functional as F
from transformers import PreTrainedConfig

NO_LABEL = -100  # marks what is not judged, as everywhere in PyTorch and transformers


def classification_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    config: PreTrainedConfig,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Return the mean loss of a batch, or its part of the mean over all batches of one optimizer step.

    transformers' `Trainer` gives a model that takes `**kwargs` the number of labels of the whole step and does not divide
    by the number of batches any more; transformers' own loss for several labels ignores that number.

    Args:
        logits: scores of the model, (B, classes).
        labels: class numbers (B,), or floats (B, classes) for several labels; -100 where something is not judged.
        config: configuration of the model; `problem_type` chooses the loss and is set from the labels where it is `None`.
        num_items_in_batch: number of labels of the whole step that are not -100, in all its batches.

    Returns:
        Loss, a scalar.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> config = PreTrainedConfig(num_labels=2)
        >>> round(classification_loss(logits, torch.tensor([0, -100]), config).item(), 4)  # the second is not judged
        0.1269
    """
    if config.problem_type is None:
        if config.num_labels == 1:
            config.problem_type = "regression"
        else:
            is_multi = labels.is_floating_point()
            config.problem_type = "multi_label_classification" if is_multi else "single_label_classification"
    labels = labels.to(logits.device)
    if config.problem_type == "single_label_classification":
        return cross_entropy(logits, labels, num_items_in_batch=num_items_in_batch)
    known = labels != NO_LABEL
    kind = torch.promote_types(labels.dtype, logits.dtype)
    targets, judged = torch.where(known, labels, 0).to(kind), known.to(kind)
    if config.problem_type == "regression":
        logits = logits.view_as(targets)
        loss = F.mse_loss(logits * judged, targets)
    else:
        loss = F.binary_cross_entropy_with_logits(logits, targets, weight=judged)
    # `loss` is a sum over all labels of the batch, divided by their number with those that are not judged.
    return loss * (labels.numel() / _count(known.sum() if num_items_in_batch is None else num_items_in_batch, logits))


def cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    class_weights: torch.Tensor | None = None,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Return the cross-entropy of a batch, or its part of that of a whole optimizer step; see `classification_loss`.

    Args:
        logits: scores of the model, (B, classes), or (B, classes, T).
        labels: class numbers, (B,) or (B, T); -100 where something is not judged.
        class_weights: weights of the classes, (classes,). Within one batch the weighted sum is divided by the sum of the
            weights, as PyTorch does; for a step of several batches that sum is not known, and the number of labels takes its
            place.
        num_items_in_batch: number of labels of the whole step that are not -100.

    Returns:
        Loss, a scalar.
    """
    if num_items_in_batch is None:
        return F.cross_entropy(logits, labels, class_weights, ignore_index=NO_LABEL)
    total = F.cross_entropy(logits, labels, class_weights, ignore_index=NO_LABEL, reduction="sum")
    return total / _count(num_items_in_batch, logits)


def _count(items: torch.Tensor | int, logits: torch.Tensor) -> torch.Tensor | int:
    return items.to(logits.device) if isinstance(items, torch.Tensor) else items
