"""Checkpoints that become a model of timm inside transformers' `TimmWrapperModel`; needs the extra `timm`."""

from collections.abc import Sequence

import torch
from transformers import TimmWrapperConfig, TimmWrapperModel

from ....util.errors import InputError
from ....util.requirements import require
from ..family import Blueprint, Processor, Tensors, Values, image_processor, make_config
from ..mapping import Naming
from ..reading import CheckpointError

_SIDE = 224


def plan_timm(
    candidates: Sequence[str],
    tensors: Tensors,
    overrides: Values,
    naming: Naming,
    ignored: tuple[tuple[str, str], ...] = (),
    processor: Processor | None = None,
) -> Blueprint:
    """Plan the first of several architectures that the tensors fit.

    Args:
        candidates: names of timm, the likeliest first.
        tensors: the checkpoint.
        overrides: Values from the caller; `architecture` settles the choice.
        naming: Gives where the tensors of `TimmWrapperModel` lie in the checkpoint.
        ignored: Reasons as in `Blueprint`.
        processor: A processor; by default one that squeezes images, bilinear with antialiasing, with ImageNet's
            mean and deviation.

    Raises:
        MissingPackageError: timm is not installed, or is too old.
        CheckpointError: no architecture fits.
    """
    require("timm")  # before 1.0.23, what timm computes at the start is lost when transformers loads a model
    if "architecture" in overrides:
        candidates = (str(overrides["architecture"]),)
    for architecture in candidates:
        targets, width = _shapes(architecture, overrides.get("model_args"))
        if all(_same(tensors.get(naming(target).key), shape) for target, shape in targets.items()):
            break
    else:
        raise CheckpointError(
            f"the tensors fit none of {', '.join(candidates)}: some are missing or have other shapes. Is this the right "
            "family?"
        )
    config = make_config(TimmWrapperConfig, {"architecture": architecture}, overrides, ())
    config.num_features, config.image_size = width, _SIDE  # timm's own names; the configuration has no others
    return Blueprint(
        TimmWrapperModel, config, tensors, targets, naming, processor or image_processor(_SIDE), ignored=ignored
    )


def _shapes(architecture: str, model_args: Values | None) -> tuple[dict[str, torch.Size], int]:
    """Return the names and shapes of a model's tensors, and the width of its features."""
    config = TimmWrapperConfig(architecture=architecture, model_args=dict(model_args or {}))
    try:
        with torch.device("meta"):
            model = TimmWrapperModel(config)
    except (ImportError, RuntimeError, TypeError) as error:
        raise InputError(f"timm cannot make {architecture}: {error}") from error
    return {name: tensor.shape for name, tensor in model.state_dict().items()}, int(model.timm_model.num_features)


def _same(tensor: torch.Tensor | None, shape: torch.Size) -> bool:
    """Compare shapes; axes of length 1 do not count: a point-wise convolution is a linear layer."""
    return tensor is not None and [n for n in tensor.shape if n > 1] == [n for n in shape if n > 1]
