"""A tiny fine-tuning run, as a function for tests and as a program for other processes.

python -m tests.trainers.tiny_finetuning FRAME_SET OUTPUT [name=number …]
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from surgvista_hf import ClipDataset, load_frame_set
from surgvista_hf.evaluation.tasks import Task
from surgvista_hf.modeling.loading import load_classifier, make_classifier_processor
from surgvista_hf.trainers.common.arguments import FinetuningArguments
from surgvista_hf.trainers.common.clip_trainer import end_processes
from surgvista_hf.trainers.finetune import task_of
from surgvista_hf.trainers.finetuning.recipe import LabeledData
from surgvista_hf.trainers.finetuning.trainer import SurgicalFinetuner

from . import tiny

MODEL = {"model_type": "surgvista", **tiny.SIZES, "classifier_dropout": 0.5, "drop_path_rate": 0.2}


def arguments(output: Path, **changes: Any) -> FinetuningArguments:
    """Return the arguments of a tiny run."""
    usual = {
        "num_train_epochs": 2,
        "warmup_epochs": 0.5,
        "per_device_train_batch_size": 6,
        "per_device_eval_batch_size": 7,
        "base_learning_rate": 5e-2,
        "base_min_learning_rate": 1e-3,
        "logging_steps": 1,
        "eval_strategy": "no",
        "save_strategy": "steps",
        "save_steps": 4,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return FinetuningArguments(str(output), **{**usual, **changes})


def clips(frame_set: Path, label: str = "phase", **options: Any) -> ClipDataset:
    """Return clips with labels."""
    frames = load_frame_set("synthetic", frame_set, "all")
    return ClipDataset(frames, num_frames=4, frame_stride=2, label=label, **options)


def task(frame_set: Path, label: str = "phase") -> Task:
    """Return the task of a label column."""
    frames = load_frame_set("synthetic", frame_set, "all")
    return task_of(LabeledData("synthetic", str(frame_set), label), frames)


def trainer(
    frame_set: Path, output: Path, label: str = "phase", outputs: int = 0, **changes: Any
) -> SurgicalFinetuner:
    """Return a trainer of a tiny classifier."""
    torch.manual_seed(0)
    requested = task(frame_set, label)
    names = list(requested.names) + [f"part {number}" for number in range(outputs)]
    model = load_classifier(MODEL, names, requested.problem_type)
    data = clips(frame_set, label)
    return SurgicalFinetuner(
        model,
        arguments(output, **changes),
        data,
        requested,
        make_classifier_processor(model, MODEL, 2),
        eval_dataset=data,
    )


if __name__ == "__main__":
    logging.disable_progress_bar()
    frame_set, output, *argv = sys.argv[1:]
    changes: dict[str, Any] = {name: float(number) for name, number in (word.split("=") for word in argv)}
    whole = {name: int(value) if value == int(value) else value for name, value in changes.items()}
    untrained = whole.pop("untrained", 0)
    run = trainer(Path(frame_set), Path(output), **whole)
    if untrained:
        torch.nn.init.normal_(run.model.classifier.weight, generator=torch.Generator().manual_seed(0))
    else:
        run.train(resume_from_checkpoint=True)
    metrics = run.evaluate()
    if run.args.should_save:
        (Path(output) / "metrics.json").write_text(json.dumps(metrics))
    end_processes()
