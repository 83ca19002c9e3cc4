"""The precision that a trained model computes in: bfloat16 where the device has it in hardware, float32 elsewhere.

In bfloat16 (autocast) matrix products have 8 bits of mantissa, and the weights stay as they are stored. A processor without it
in hardware computes it in float32 and rounds, which takes longer than float32 alone.
"""

from typing import Literal

import torch

from ..util.errors import InputError

DTYPES = ("auto", "float32", "bfloat16")
# Capabilities as `torch.cpu.get_capabilities` names them -> what people call them.
_HARDWARE = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}


def resolve_dtype(dtype: str, device: torch.device | str) -> Literal["float32", "bfloat16"]:
    """Return the precision that a request means on a device.

    Args:
        dtype: `"float32"`, `"bfloat16"`, or `"auto"`: bfloat16 where the device has it in hardware, float32 elsewhere.
        device: device that computes.

    Returns:
        `"float32"` or `"bfloat16"`.

    Raises:
        InputError: there is no such dtype.

    Example:
        >>> resolve_dtype("float32", "cpu")
        'float32'
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}")
    is_fast = dtype == "bfloat16" or (dtype == "auto" and bfloat16_hardware(device))
    return "bfloat16" if is_fast else "float32"


def bfloat16_hardware(device: torch.device | str) -> str:
    """Return what computes bfloat16 on a device, such as `"AMX"`; empty where nothing does.

    On processors these are AMX and AVX512-BF16, and `ATEN_CPU_CAPABILITY`, with which torch can be told to leave AVX512 alone,
    counts.
    """
    device = torch.device(device)
    if device.type == "cuda":
        # Without emulation: cards before Ampere compute it in float32.
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.cuda.get_device_name(device) if has_it else ""
    return _processor_bfloat16() if device.type == "cpu" else ""


def _processor_bfloat16() -> str:
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return ""
    capabilities = torch.cpu.get_capabilities()
    return next((title for name, title in _HARDWARE.items() if capabilities.get(name)), "")


def describe_dtype(dtype: str, device: torch.device | str) -> str:
    """Return a few words on a precision, for people.

    Args:
        dtype: `"float32"` or `"bfloat16"`.
        device: device that computes.

    Example:
        >>> describe_dtype("float32", "cpu")
        'float32'
    """
    hardware = bfloat16_hardware(device) if dtype == "bfloat16" else ""
    return f"{dtype} ({hardware})" if hardware else dtype
