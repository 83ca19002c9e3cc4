"""Speed of a pre-training step, side by side in one run: SurgVISTA at base size with its ViT-L teacher, files to new weights.

Two clips of 16 × 224² a step, of one synthetic operation at 854×480. The contestants go from the recipe as one would plainly
write it to what the trainer does, one change at a time:

  plain          PNG files of full size opened one by one, cropped and resized by Pillow frame by frame; fp32; attention
                 written out
  + frame set    JPEG frame set of 256 pixels, crops in one piece where the model runs
  + sdpa         fused attention
  + bf16         teacher in bf16, student under autocast
  + fused        fused AdamW: this is what the trainer does
  + compiled     the teacher through torch.compile

    python -m benchmarks.pretraining_speed --output benchmarks/results/pretraining_speed_cpu.json
    python -m benchmarks.pretraining_speed --cost       # what the published recipe costs, computed
"""

import argparse
import itertools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import ViTConfig, ViTModel

from surgvista_hf import ClipDataset, SurgVistaConfig, SurgVistaForPreTraining, load_frame_set
from surgvista_hf.clips import ClipMasking, MultiScaleCrop, collate_clips, normalize_clips, online_seconds
from surgvista_hf.clips.transforms.augmentation import crop_and_resize
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation, write_video
from surgvista_hf.modeling.video_reading_surgvista import VideoReader
from surgvista_hf.trainers.common.flops import PEAKS
from surgvista_hf.trainers.common.schedule import parameter_groups
from surgvista_hf.trainers.pretraining.float8 import use_float8
from surgvista_hf.trainers.pretraining.teachers import ImageTeacher

from .timing import ratio, save, side_by_side

SECONDS, BATCH, SIZE, GRID = 120, 2, 224, (8, 14, 14)
CLIPS_OF_AN_EPOCH, EPOCHS = 3_550_000, 201
GFLOP_STUDENT, GFLOP_TEACHER, GFLOP_WITHOUT = 306, 985, 247  # counted: tests/trainers/common/test_flops.py


def make_files(work: Path) -> None:
    """Make one operation as a video, as a frame set, and as PNG files."""
    video = work / "raw" / "operation.mp4"
    video.parent.mkdir(parents=True)
    write_video(SyntheticOperation(1, float(SECONDS), height=480, width=854), video)
    prepare_frame_set("folder", video.parent, work / "frame_set")
    with VideoReader(video) as reader:
        for second, frame in enumerate(reader.frames_at([float(second) for second in range(SECONDS)])):
            Image.fromarray(np.asarray(frame)).save(work / f"{second:05d}.png")


def teacher_model(attention: str) -> ViTModel:
    """Return the published teacher with random weights."""
    torch.manual_seed(1)
    config = ViTConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
    config._attn_implementation = attention
    return ViTModel(config, add_pooling_layer=False)


def student_model(attention: str) -> SurgVistaForPreTraining:
    """Return the published student with random weights."""
    torch.manual_seed(0)
    return SurgVistaForPreTraining(SurgVistaConfig(attn_implementation=attention)).train()


def plain_clips(work: Path) -> Callable[[int], torch.Tensor]:
    """Return a function that loads clips from PNG files, (batch, 16, 3, 224, 224), normalized."""
    crop = MultiScaleCrop(SIZE)

    def load(step: int) -> torch.Tensor:
        """Load the clips of a step."""
        clips = []
        for index in samples(step):
            frames = []
            for second in online_seconds(index, 16, 4):
                with Image.open(work / f"{second:05d}.png") as image:
                    image = image.convert("RGB")
                    box = crop.box(*image.size, 0, index)
                    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
                    small = image.crop(corners).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
                frames.append((torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255 - MEAN) / STD)
            clips.append(torch.stack(frames))
        return torch.stack(clips)

    return load


MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def frame_set_clips(work: Path) -> Callable[[int], torch.Tensor]:
    """Return a function that loads the same clips from the frame set, as the trainer prepares them."""
    data = ClipDataset(load_frame_set("folder", work / "frame_set", "all"), num_frames=16, frame_stride=4)
    crop = MultiScaleCrop(SIZE)

    def load(step: int) -> torch.Tensor:
        """Load the clips of a step."""
        indices = samples(step)
        batch = collate_clips([data[index] for index in indices])["pixel_values"]
        boxes = [crop.box(batch.shape[-1], batch.shape[-2], 0, index) for index in indices]
        clips = [crop_and_resize(clip, box, SIZE) for clip, box in zip(batch, boxes, strict=True)]
        return normalize_clips(torch.stack(clips))

    return load


def samples(step: int) -> list[int]:
    """Return the numbers of the clips of a step."""
    return [60 + (BATCH * step + number) * 7 % (SECONDS - 60) for number in range(BATCH)]


class Run:
    """One contestant."""

    def __init__(
        self,
        clips: Callable[[int], torch.Tensor],
        *,
        attention: str = "eager",
        half: bool = False,
        fused: bool = False,
        compiled: bool = False,
    ) -> None:
        self.clips, self.half, self.step = clips, half, 0
        self.student = student_model(attention)
        dtype = torch.bfloat16 if half else None
        self.teacher = ImageTeacher(teacher_model(attention), final_norm=False, dtype=dtype, compile=compiled)
        groups = parameter_groups(self.student.named_parameters(), 0.05)
        self.optimizer = torch.optim.AdamW(groups, lr=1e-5, betas=(0.9, 0.95), fused=fused)
        self.masking = ClipMasking(GRID)

    def loss(self, clips: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch."""
        features = self.teacher(clips, GRID)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            masks = self.masking(0, samples(0))
            loss: torch.Tensor = self.student(clips, teacher_features=features, **masks).loss
        return loss

    def __call__(self) -> None:
        self.loss(self.clips(self.step)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1


def feature_errors(clips: torch.Tensor) -> dict[str, float]:
    """Return the relative distance of the teacher's features from those in fp32, with random weights."""
    exact = ImageTeacher(teacher_model("sdpa"), final_norm=False)(clips, GRID)
    half = ImageTeacher(teacher_model("sdpa"), final_norm=False, dtype=torch.bfloat16)(clips, GRID)
    eighth = ImageTeacher(use_float8(teacher_model("sdpa")), final_norm=False)(clips, GRID)
    return {
        name: round(float((features - exact).norm() / exact.norm()), 5)
        for name, features in (("bfloat16", half), ("float8", eighth))
    }


def measure(rounds: int) -> dict[str, Any]:
    """Measure the contestants."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_files(work)
        plain, ours = plain_clips(work), frame_set_clips(work)
        runs: Mapping[str, Run] = {
            "plain": Run(plain),
            "+ frame set": Run(ours),
            "+ sdpa": Run(ours, attention="sdpa"),
            "+ bf16": Run(ours, attention="sdpa", half=True),
            "+ fused": Run(ours, attention="sdpa", half=True, fused=True),
            "+ compiled": Run(ours, attention="sdpa", half=True, fused=True, compiled=True),
        }
        batch = ours(0)
        losses = {name: round(float(run.loss(batch).detach()), 6) for name, run in runs.items()}
        seconds = side_by_side({"load PNG": lambda: plain(0), "load frame set": lambda: ours(0)}, rounds=5)
        steps = side_by_side(runs, rounds=rounds)
        errors = feature_errors(batch[:1])
    names = list(runs)
    return {
        "clips_a_step": BATCH,
        "seconds_a_step": {name: round(sorted(values)[len(values) // 2], 3) for name, values in steps.items()},
        "time_against_plain": {name: ratio(steps, name, "plain") for name in names[1:]},
        "time_against_the_one_before": {
            name: ratio(steps, name, before) for before, name in itertools.pairwise(names)
        },
        "loading": {"time_against_png": ratio(seconds, "load frame set", "load PNG")},
        "same_precision": ratio(steps, "+ sdpa", "plain"),
        "loss_of_the_first_batch": losses,
        "teacher_feature_error_with_random_weights": errors,
    }


def cost() -> str:
    """Return the hours of the published recipe by device, at an assumed utilization, as a Markdown table."""
    rows = ["| device | MFU assumed | with teacher | without |", "|---|---|---|---|"]
    for name, count, fraction in (
        ("H100", 8, 0.4),
        ("A100", 8, 0.45),
        ("H100", 1, 0.4),
        ("L40S", 1, 0.4),
        ("RTX 4090", 1, 0.45),
    ):
        peak = next(half for known, half, _ in PEAKS if known == name) * 1e12 * fraction * count
        days = [
            CLIPS_OF_AN_EPOCH * EPOCHS * gflop * 1e9 / peak / 86400
            for gflop in (GFLOP_STUDENT + GFLOP_TEACHER, GFLOP_WITHOUT)
        ]
        rows.append(f"| {count} × {name} | {fraction:.0%} | {days[0]:.1f} days | {days[1]:.1f} days |")
    return "\n".join(rows)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--cost", action="store_true", help="only compute what the published recipe costs")
    arguments = parser.parse_args()
    if arguments.cost:
        print(cost())
    elif arguments.output:
        save(measure(arguments.rounds), arguments.output)
    else:
        parser.error("give --output or --cost")


if __name__ == "__main__":
    main()
