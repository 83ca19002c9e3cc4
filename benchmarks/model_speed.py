"""Speed of the SurgVISTA models against transformers' VideoMAE, side by side in one run, on the same clips.

Base size, clips of 16 × 224². Three contests, each in fp32 and in bf16:
  forward       our classifier (sdpa) against VideoMAEForVideoClassification (sdpa)
  attention     our classifier with sdpa against the same with eager attention
  pretraining   one step (forward, backward, AdamW) of our model without teacher against VideoMAEForPreTraining, with the
                same masks (90 % tubes) and decoder (384 wide, 4 blocks)

    python -m benchmarks.model_speed --output benchmarks/results/model_speed_cpu.json
"""

import argparse
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification

from surgvista_hf import SurgVistaConfig, SurgVistaForPreTraining, SurgVistaForVideoClassification

from .timing import ratio, save, side_by_side

MASK_RATIO = 0.9


def tube_mask(config: SurgVistaConfig, batch: int, generator: torch.Generator) -> torch.Tensor:
    """Draw a mask (batch, tokens), at base size 1568: the same 176 of 196 tokens masked at each of the 8 temporal indices."""
    time, rows, columns = config.token_grid(config.num_frames, *config.frame_size)
    order = torch.rand(batch, rows * columns, generator=generator).argsort(dim=1)
    return (order < math.floor(MASK_RATIO * rows * columns)).repeat(1, time)


def forward_pass(model: torch.nn.Module, clips: torch.Tensor) -> Callable[[], Any]:
    """Return a function that runs the model once."""
    model.eval()

    @torch.no_grad()
    def run() -> Any:
        """Run the model once."""
        return model(pixel_values=clips)

    return run


def training_step(model: torch.nn.Module, clips: torch.Tensor, mask: torch.Tensor) -> Callable[[], Any]:
    """Return a function that trains the model for one step."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-4, fused=True)

    def run() -> None:
        """Train the model for one step."""
        model(pixel_values=clips, bool_masked_pos=mask).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def contests(
    dtype: torch.dtype, device: str, batch: int, rounds: int, sizes: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Run all three contests in one precision, at base size or with the sizes of another encoder."""
    sizes = sizes or {}
    widths = {"intermediate_size": 4 * sizes["hidden_size"]} if "hidden_size" in sizes else {}
    config = SurgVistaConfig(mask_ratio=MASK_RATIO, image_decoder_num_hidden_layers=0, **sizes)
    generator = torch.Generator().manual_seed(0)
    shape = (batch, config.num_frames, 3, *config.frame_size)
    clips = torch.randn(shape, generator=generator).to(device, dtype)
    mask = tube_mask(config, batch, generator).to(device)
    with torch.device(device):
        ours = SurgVistaForVideoClassification(SurgVistaConfig(num_labels=7, **sizes)).to(dtype)
        eager = SurgVistaConfig(num_labels=7, attn_implementation="eager", **sizes)
        eager = SurgVistaForVideoClassification(eager).to(dtype)
        theirs = VideoMAEConfig(num_labels=7, attn_implementation="sdpa", **sizes, **widths)
        theirs = VideoMAEForVideoClassification(theirs).to(dtype)
    forward = side_by_side(
        {
            "surgvista": forward_pass(ours, clips),
            "videomae": forward_pass(theirs, clips),
            "surgvista_eager": forward_pass(eager, clips),
        },
        rounds=rounds,
    )
    del ours, eager, theirs
    with torch.device(device):
        surgvista = SurgVistaForPreTraining(config).to(dtype)
        videomae = VideoMAEForPreTraining(VideoMAEConfig(attn_implementation="sdpa", **sizes, **widths)).to(dtype)
    pretraining = side_by_side(
        {
            "surgvista": training_step(surgvista, clips, mask),
            "videomae": training_step(videomae, clips, mask),
        },
        rounds=rounds,
    )
    return {
        "forward": {"seconds": forward, "surgvista_over_videomae": ratio(forward, "surgvista", "videomae")},
        "attention": {"sdpa_over_eager": ratio(forward, "surgvista", "surgvista_eager")},
        "pretraining": {
            "seconds": pretraining,
            "surgvista_over_videomae": ratio(pretraining, "surgvista", "videomae"),
        },
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=1, help="clips at a time")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    results = {
        str(dtype).removeprefix("torch."): contests(dtype, device, arguments.batch, arguments.rounds)
        for dtype in (torch.float32, torch.bfloat16)
    }
    save({"batch": arguments.batch, "rounds": arguments.rounds, **results}, arguments.output)


if __name__ == "__main__":
    main()
