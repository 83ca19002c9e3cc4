"""The main job from end to end on synthetic surgery: frame set, pre-training, fine-tuning, prediction of an unseen operation.

It may use every room, and no room uses it. Nothing is downloaded, nothing leaves the machine.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import Trainer, TrainingArguments, set_seed

from .clips import ClipDataset, collate_clips
from .datasets_scripts.frame_set import load_frame_set
from .datasets_scripts.media import PreparationOptions
from .datasets_scripts.prepare import prepare_frame_set
from .datasets_scripts.synthetic_surgery import PHASES, synthetic_corpus, write_video
from .inference import SurgicalVideoPredictor, VideoPrediction
from .inference.contact_sheet import draw_contact_sheet
from .inference.timeline import draw_timeline
from .modeling.modeling_surgvista import SurgVistaForVideoClassification
from .modeling.video_processing_surgvista import SurgVistaVideoProcessor
from .trainers.pretrain import pretrain
from .trainers.recipe import load_recipe
from .util.files import atomic_file


@dataclass(frozen=True)
class DemoSettings:
    """Sizes of the demonstration.

    Args:
        operations: synthetic operations to train on.
        seconds: length of each.
        pretraining_epochs: passes over all their seconds without labels.
        epochs: passes over all their seconds with labels.
        seed: of everything.
    """

    operations: int = 16
    seconds: int = 120
    pretraining_epochs: int = 2
    epochs: int = 8
    seed: int = 0


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration found.

    Args:
        accuracy: share of the seconds of the unseen operation whose phase was right, 0-1.
        most_frequent: the same for always saying its most frequent phase, which no model may do worse than.
        pretraining_loss: of reconstructing hidden parts of clips, at the end; always saying their mean costs 0.998.
        files: what was written.
    """

    accuracy: float
    most_frequent: float
    pretraining_loss: float
    files: list[str]


class PhaseClips:
    """Makes a batch of clips ready for the model; a data collator.

    Args:
        processor: resizes and normalises.
    """

    def __init__(self, processor: SurgVistaVideoProcessor) -> None:
        self.processor = processor

    def __call__(self, clips: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = collate_clips(clips)
        pixel_values = self.processor(list(batch["pixel_values"]), return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixel_values, "labels": batch["labels"]}


def phase_model(pretrained: Path) -> SurgVistaForVideoClassification:
    """A classifier of phases on a pre-trained encoder."""
    labels = dict(enumerate(PHASES))
    model: SurgVistaForVideoClassification = SurgVistaForVideoClassification.from_pretrained(
        pretrained,
        id2label=labels,
        label2id={name: number for number, name in labels.items()},
        problem_type="single_label_classification",
    )
    return model


def run_demo(output: Path, *, video: Path | None = None, settings: DemoSettings | None = None) -> DemoResult:
    """Pre-trains and fine-tunes a tiny model and predicts an operation it has not seen; optionally one's own video too.

    Args:
        output: folder for the model, the rendered video, predictions and pictures.
        video: a further video to predict with the model. It has only seen rendered pictures, so on real surgery its answer
            shows that everything runs, not what is going on.
        settings: sizes.

    Returns:
        Accuracy on the unseen operation, loss of the pre-training, and the files.

    Raises:
        VideoReadError: `video` cannot be decoded.
    """
    settings = settings or DemoSettings()
    set_seed(settings.seed)
    frames = _frame_set(output / "frame_set", settings)
    pretrained, loss = _pretrain(output, settings)
    processor = SurgVistaVideoProcessor.from_pretrained(pretrained)
    clips = ClipDataset(
        frames, num_frames=processor.num_frames, frame_stride=processor.frame_stride, label="phase", seed=settings.seed
    )
    _fine_tune(phase_model(pretrained), clips, processor, output / "model", settings)

    *_, unseen = synthetic_corpus(
        settings.operations + 1, settings.seed, duration_seconds=settings.seconds, frames_per_second=10.0
    )

    write_video(unseen, output / "unseen_operation.mp4")
    predictor = SurgicalVideoPredictor(output / "model")
    prediction = predictor.predict(output / "unseen_operation.mp4", progress=True)
    truth = np.array([unseen.labels(second).phase for second in prediction.seconds])
    files = prediction.save(output)
    draw_timeline(prediction, output / "timeline.png", truth)
    sheet = output / "contact_sheet.png"
    draw_contact_sheet(output / "unseen_operation.mp4", prediction, sheet, truth)
    files.append(sheet)
    if video is not None:
        files += _predict_own(predictor, video, output / "your_video")
    return _report(prediction, truth, loss, files, settings, output)


def _frame_set(folder: Path, settings: DemoSettings) -> datasets.Dataset:
    """Operations to train on, as a frame set; left from an earlier run with the same settings, it is used again."""
    asked = {"videos": settings.operations, "seconds": settings.seconds, "seed": settings.seed}
    options = PreparationOptions(short_side=128, quality=95)
    texts = {name: str(value) for name, value in asked.items()}
    prepare_frame_set("synthetic", None, folder, options=options, settings=texts, num_proc=2, progress=True)
    return load_frame_set("synthetic", folder, "train", protocol="everything")


def _pretrain(output: Path, settings: DemoSettings) -> tuple[Path, float]:
    """A masked autoencoder by the package's recipe; its folder and its last loss."""
    folder = output / "pretrained"
    shutil.rmtree(folder, ignore_errors=True)
    source = {"name": "synthetic", "data_dir": str((output / "frame_set").resolve()), "protocol": "everything"}
    recipe = load_recipe(
        "surgvista_synthetic",
        [
            f"data.sources=[{json.dumps(source)}]",
            f"training.output_dir={json.dumps(str(folder))}",
            f"training.num_train_epochs={settings.pretraining_epochs}",
            f"training.seed={settings.seed}",
        ],
    )
    trained = pretrain(recipe)
    state = max(folder.glob("checkpoint-*/trainer_state.json"), key=lambda path: path.stat().st_mtime)
    losses = [line["loss"] for line in json.loads(state.read_text())["log_history"] if "loss" in line]
    return trained, float(losses[-1])


def _fine_tune(
    model: SurgVistaForVideoClassification,
    clips: ClipDataset,
    processor: SurgVistaVideoProcessor,
    folder: Path,
    settings: DemoSettings,
) -> None:
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=32,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        weight_decay=0.05,
        logging_steps=20,
        save_strategy="no",
        seed=settings.seed,
        report_to="none",
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    trainer = Trainer(
        model, arguments, train_dataset=clips, data_collator=PhaseClips(processor), processing_class=processor
    )
    trainer.train()
    trainer.save_model()


def _predict_own(predictor: SurgicalVideoPredictor, video: Path, folder: Path) -> list[Path]:
    prediction = predictor.predict(video, progress=True)
    sheet = folder / "contact_sheet.png"
    files = prediction.save(folder)
    draw_contact_sheet(video, prediction, sheet)
    return [*files, sheet]


def _report(
    prediction: VideoPrediction,
    truth: np.ndarray,
    pretraining_loss: float,
    files: list[Path],
    settings: DemoSettings,
    output: Path,
) -> DemoResult:
    accuracy = float((prediction.labels == truth).mean())
    most_frequent = float(np.bincount(truth).max() / len(truth))
    summary = output / "result.json"
    result = DemoResult(accuracy, most_frequent, round(pretraining_loss, 4), [str(file) for file in (*files, summary)])
    with atomic_file(summary) as temporary:
        temporary.write_text(json.dumps({**asdict(result), "settings": asdict(settings)}, indent=1) + "\n")
    return result
