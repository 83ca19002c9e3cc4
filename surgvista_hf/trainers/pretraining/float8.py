"""Linear layers that multiply in 8 bits, for a frozen teacher (FP8 formats: arXiv 2209.05433).

Weights and activations are scaled by tensor to the largest number of e4m3, activations anew for every batch; sums and results
are wider. Chips have it from compute capability 8.9 (Ada, Hopper) on; a CPU computes the same slowly.
"""

import torch
from torch import nn

from ...util.errors import InputError

_FORMAT = torch.float8_e4m3fn
_CAPABILITY = (8, 9)
_MULTIPLE = 16  # of both sides of a matrix


class Float8Linear(nn.Module):
    """A frozen `nn.Linear` in 8 bits. `(..., in) -> (..., out)`, in the precision of the input.

    Args:
        linear: the layer; both its sizes must be multiples of 16.
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
        rows, scale = to_float8(hidden_states.flatten(0, -2))
        wide = torch.bfloat16 if hidden_states.dtype == torch.float32 else hidden_states.dtype
        product = torch._scaled_mm(rows, self.weight.t(), scale_a=scale, scale_b=self.scale, out_dtype=wide)
        product = product.to(hidden_states.dtype).unflatten(0, hidden_states.shape[:-1])
        return product if self.bias is None else product + self.bias


def to_float8(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values in 8 bits, and the fp32 number that they are to be multiplied with."""
    scale = (values.abs().amax().float() / torch.finfo(_FORMAT).max).clamp(min=1e-12)
    return (values.float() / scale).to(_FORMAT), scale


def use_float8(model: nn.Module) -> nn.Module:
    """Put 8-bit layers in the place of all linear layers whose sizes allow it; the rest stays.

    Raises:
        InputError: the device does not have 8-bit products, or no layer's sizes allow them.
    """
    device = next(model.parameters()).device
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < _CAPABILITY:
        raise InputError(f"{torch.cuda.get_device_name(device)} has no products in 8 bits; use bfloat16 or float16")
    places = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, nn.Linear) and not (layer.in_features % _MULTIPLE or layer.out_features % _MULTIPLE)
    ]
    if not places:
        raise InputError(f"no linear layer of {type(model).__name__} has sizes that are multiples of {_MULTIPLE}")
    for parent, name, layer in places:
        setattr(parent, name, Float8Linear(layer))
    return model
