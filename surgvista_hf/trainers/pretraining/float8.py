"""Linear layers with products in 8 bits, for a frozen teacher (FP8 formats: arXiv 2209.05433).

Weights and activations are scaled by tensor to the largest number of e4m3, activations anew for every batch; sums and results
are wider. GPUs have such products from compute capability 8.9 (Ada, Hopper) on. A CPU computes the same slowly, so everything
can be tested without such a GPU; torchao refuses to convert a model on a CPU.
"""

import torch
from torch import nn

from ...util.errors import InputError

_FORMAT = torch.float8_e4m3fn
_CAPABILITY = (8, 9)
_MULTIPLE = 16  # of both sides of a matrix


class Float8Linear(nn.Module):
    """A frozen `nn.Linear` with products in 8 bits. `(..., in) -> (..., out)`, in the precision of the input.

    Args:
        linear: layer to convert; both its sizes must be multiples of 16.
    """

    weight: torch.Tensor
    scale: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = to_float8(linear.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Multiply inputs (..., in) with the weight and add the bias: (..., out)."""
        rows, scale = to_float8(hidden_states.flatten(0, -2))  # (rows, in)
        wide = torch.bfloat16 if hidden_states.dtype == torch.float32 else hidden_states.dtype
        product = torch._scaled_mm(rows, self.weight.t(), scale_a=scale, scale_b=self.scale, out_dtype=wide)
        product = product.to(hidden_states.dtype).unflatten(0, hidden_states.shape[:-1])
        return product if self.bias is None else product + self.bias


def to_float8(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return values in 8 bits, and the fp32 scale () that restores them."""
    scale = (values.abs().amax().float() / torch.finfo(_FORMAT).max).clamp(min=1e-12)
    return (values.float() / scale).to(_FORMAT), scale


def use_float8(model: nn.Module) -> nn.Module:
    """Replace all linear layers whose sizes allow it by layers with products in 8 bits; the others stay.

    Args:
        model: model on its device; it is changed.

    Returns:
        The model.

    Raises:
        InputError: a device without such products, or a model without layers of such sizes.

    Example:
        >>> [type(layer).__name__ for layer in use_float8(nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 3)))]
        ['Float8Linear', 'Linear']
    """
    device = next(model.parameters()).device
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < _CAPABILITY:
        raise InputError(f"{torch.cuda.get_device_name(device)} has no products in 8 bits; use bfloat16 or float16")
    convertible = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, nn.Linear) and not (layer.in_features % _MULTIPLE or layer.out_features % _MULTIPLE)
    ]
    if not convertible:
        raise InputError(f"no linear layer of {type(model).__name__} has sizes that are multiples of {_MULTIPLE}")
    for parent, name, layer in convertible:
        setattr(parent, name, Float8Linear(layer))
    return model
