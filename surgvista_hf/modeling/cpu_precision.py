"""The number format in which models run fastest on a CPU."""

from functools import cache

import torch


@cache
def has_fast_bfloat16() -> bool:
    """Return whether this machine's processor multiplies bfloat16 numbers in hardware (AVX-512 BF16 or AMX).

    Elsewhere bfloat16 is converted in software, which is slower than float32.
    """
    if hasattr(torch.cpu, "get_capabilities"):  # newer than the oldest supported torch
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return torch.cpu._is_avx512_bf16_supported()
