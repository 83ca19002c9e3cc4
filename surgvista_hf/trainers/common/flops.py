"""The number of operations of a training step, and model FLOPs utilization (MFU: PaLM, arXiv 2204.02311)."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .arguments import ClipArguments
from .protocols import Collator, Loss, Sample

# Dense peak in TFLOP/s as the makers state it: in bf16 or fp16, and in fp32 (TF32 where it exists). The first entry whose name
# is part of the device's name counts, so longer names stand before shorter ones.
PEAKS: tuple[tuple[str, float, float], ...] = (
    ("H200", 989.0, 494.0),
    ("H800", 989.0, 494.0),
    ("H100 NVL", 835.0, 417.0),
    ("H100 PCIe", 756.0, 378.0),
    ("H100", 989.0, 494.0),
    ("A100", 312.0, 156.0),
    ("A800", 312.0, 156.0),
    ("L40S", 362.0, 183.0),
    ("A6000", 155.0, 77.0),
    ("A10", 125.0, 62.0),
    ("L4", 121.0, 60.0),
    ("RTX 4090", 165.0, 82.6),
    ("RTX 3090", 71.0, 35.6),
    ("V100", 125.0, 15.7),
    ("T4", 65.0, 8.1),
)


def peak_flops(device_name: str, *, half: bool) -> float | None:
    """Return the FLOP per second that a device can do at most, or `None` if it is not known.

    Args:
        device_name: name of the device, from `torch.cuda.get_device_name`.
        half: return the peak in bf16 or fp16; otherwise in fp32.

    Example:
        >>> peak_flops("NVIDIA A100-SXM4-80GB", half=True)
        312000000000000.0
    """
    for name, in_half, in_full in PEAKS:
        if name.lower() in device_name.lower():
            return (in_half if half else in_full) * 1e12
    return None


class Samples(Protocol):
    """Describe a data set by what `count_flops` reads of it."""

    def __getitem__(self, index: int, /) -> Sample:
        """Return a sample."""


class CountableTrainer(Protocol):
    """Describe what `count_flops` uses of a trainer: transformers' `Trainer` with the loss of a batch of clips."""

    @property
    def args(self) -> ClipArguments:
        """Return the arguments of the run."""

    @property
    def train_dataset(self) -> Samples:
        """Return the training clips."""

    @property
    def data_collator(self) -> Collator:
        """Return the function that makes a batch of samples."""

    @property
    def trained_module(self) -> torch.nn.Module:
        """Return the model that is trained."""

    def _prepare_inputs(self, inputs: dict[str, Any], /) -> dict[str, Any]: ...

    def compute_loss_context_manager(self) -> AbstractContextManager[object]:
        """Return the context of the forward pass: mixed precision, if it is on."""

    def clip_loss(self, model: torch.nn.Module, batch: dict[str, Any], /) -> Loss:
        """Return the loss of a batch."""


def count_flops(trainer: CountableTrainer) -> float:
    """Count the FLOP of one clip in one step: forward and backward of trained modules, forward of frozen ones.

    PyTorch counts them on the first clip of the data set, with attention written out, since it knows no count for every fused
    kernel. A multiplication and an addition are two. What activation checkpointing computes twice counts once. The weights
    and PyTorch's generator stay as they are.

    Returns:
        FLOP of a clip.
    """
    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[0]]))
    model = trainer.trained_module
    was_training = model.training
    devices = [trainer.args.device] if trainer.args.device.type == "cuda" else []
    with torch.random.fork_rng(devices), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        with trainer.compute_loss_context_manager():
            loss, _ = trainer.clip_loss(model.train(), batch)
        loss.backward()
    model.zero_grad()
    model.train(was_training)
    return float(counter.get_total_flops())


def utilization(flops_per_second: float, args: ClipArguments) -> Mapping[str, float]:
    """Return entries for the log: TFLOP per second of one device, and their fraction of its peak (`mfu`) if that is known.

    Args:
        flops_per_second: FLOP per second that one device has done.
        args: arguments of the run; `peak_tflops` stands in for a device that is not in the table.
    """
    peak = args.peak_tflops * 1e12 if args.peak_tflops else None
    if peak is None and args.device.type == "cuda":
        peak = peak_flops(torch.cuda.get_device_name(args.device), half=args.bf16 or args.fp16)
    metrics = {"tflops_per_second": round(flops_per_second / 1e12, 4)}
    return {**metrics, "mfu": round(flops_per_second / peak, 4)} if peak else metrics
