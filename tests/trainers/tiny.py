"""A tiny pre-training run, as a function for tests and as a program for other processes.

python -m tests.trainers.tiny FRAME_SET OUTPUT [name=number …]
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, ViTConfig, ViTModel
from transformers.utils import logging

from surgvista_hf import ClipDataset, SurgVistaConfig, SurgVistaForPreTraining, load_frame_set
from surgvista_hf.trainers.common.arguments import PretrainingArguments
from surgvista_hf.trainers.common.clip_trainer import end_processes
from surgvista_hf.trainers.pretraining.surgvista import SurgVistaPretrainer
from surgvista_hf.trainers.pretraining.teachers import ImageTeacher

VIDEOS = {"videos": "3", "seconds": "20", "height": "48", "width": "64"}
RECIPE_TRAINING = {
    "num_train_epochs": 1,
    "warmup_epochs": 0,
    "per_device_train_batch_size": 8,
    "use_cpu": True,
    "report_to": "none",
    "disable_tqdm": True,
    "logging_steps": 1,
}
TEACHER_WIDTH = 24
SIZES = {
    "image_size": 32,
    "patch_size": 8,
    "num_frames": 4,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def model(**changes: Any) -> SurgVistaForPreTraining:
    """Return a tiny student with both decoders."""
    torch.manual_seed(0)
    sizes = {
        **SIZES,
        "video_decoder_hidden_size": 32,
        "video_decoder_num_hidden_layers": 1,
        "video_decoder_num_attention_heads": 2,
        "image_decoder_hidden_size": 32,
        "image_decoder_num_hidden_layers": 1,
        "image_decoder_num_attention_heads": 2,
        "image_target_size": TEACHER_WIDTH,
        "drop_path_rate": 0.3,
        "mask_ratio": 0.75,
    }
    return SurgVistaForPreTraining(SurgVistaConfig(**{**sizes, **changes}))


def teacher() -> ImageTeacher:
    """Return a tiny image teacher."""
    torch.manual_seed(1)
    config = ViTConfig(
        hidden_size=TEACHER_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    return ImageTeacher(ViTModel(config, add_pooling_layer=False))


def arguments(output: Path, kind: type[PretrainingArguments] = PretrainingArguments, **changes: Any) -> Any:
    """Return the arguments of a tiny run."""
    usual = {
        "num_train_epochs": 2,
        "warmup_epochs": 0.5,
        "per_device_train_batch_size": 6,
        "gradient_accumulation_steps": 1,
        "base_learning_rate": 2e-2,
        "base_min_learning_rate": 1e-2,
        "logging_steps": 1,
        "save_steps": 4,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return kind(str(output), **{**usual, **changes})


def clips(frame_set: Path) -> ClipDataset:
    """Return the clips of a frame set."""
    return ClipDataset(load_frame_set("synthetic", frame_set, "all"), num_frames=4, frame_stride=2)


def trainer(frame_set: Path, output: Path, **changes: Any) -> SurgVistaPretrainer:
    """Return a trainer of the tiny student."""
    return SurgVistaPretrainer(model(), arguments(output, **changes), clips(frame_set), teacher=teacher())


def final_weights(output: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the newest checkpoint."""
    from safetensors.torch import load_file

    newest = max(output.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return load_file(newest / "model.safetensors")


def stops(step: int | None) -> list[TrainerCallback]:
    """Return a callback that ends a run after a step."""

    class Stop(TrainerCallback):
        """Ends the run."""

        def on_step_end(self, args, state, control, **kwargs):
            """Stop at the step."""
            control.should_training_stop = state.global_step == step

    return [Stop()]


def assert_same_weights(one: Path, other: Path) -> None:
    """Compare the final weights of two runs bit by bit."""
    first, second = final_weights(one), final_weights(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def assert_resumes_bit_for_bit(make: Callable[..., Any], folder: Path, step: int, **changes: Any) -> None:
    """Verify that a stopped and resumed run ends as an uninterrupted one; `make(output, **changes)` returns a trainer."""
    make(folder / "whole", **changes).train()
    first = make(folder / "parts", **changes)
    first.add_callback(stops(step)[0])
    first.train()
    make(folder / "parts", **changes).train(resume_from_checkpoint=True)
    assert_same_weights(folder / "parts", folder / "whole")


if __name__ == "__main__":
    logging.disable_progress_bar()
    frame_set, output, *argv = sys.argv[1:]
    changes = {name: int(number) for name, number in (word.split("=") for word in argv)}
    trainer(Path(frame_set), Path(output), **changes).train(resume_from_checkpoint=True)
    end_processes()
