"""The main job from end to end on synthetic surgery: frame set, fine-tuning, prediction of an unseen operation, pictures.

It may use every room, and no room uses it. Nothing is downloaded, nothing leaves the machine.
"""

import json
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
from .modeling.configuration_surgvista import SurgVistaConfig
from .modeling.modeling_surgvista import SurgVistaForVideoClassification
from .modeling.video_processing_surgvista import SurgVistaVideoProcessor
from .util.files import atomic_file


@dataclass(frozen=True)
class DemoSettings:
    """Sizes of the demonstration.

    Args:
        operations: synthetic operations to train on.
        seconds: length of each.
        epochs: passes over all their seconds.
        seed: of everything.
    """

    operations: int = 16
    seconds: int = 120
    epochs: int = 8
    seed: int = 0


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration found.

    Args:
        accuracy: share of the seconds of the unseen operation whose phase was right, 0-1.
        most_frequent: the same for always saying its most frequent phase, which no model may do worse than.
        files: what was written.
    """

    accuracy: float
    most_frequent: float
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


def tiny_model() -> SurgVistaForVideoClassification:
    """A phase model small enough to learn on two cores in a minute."""
    labels = dict(enumerate(PHASES))
    config = SurgVistaConfig(
        image_size=64,
        patch_size=16,
        num_frames=8,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_decoder_num_hidden_layers=0,
        id2label=labels,
        label2id={name: number for number, name in labels.items()},
        problem_type="single_label_classification",
    )
    return SurgVistaForVideoClassification(config)


def run_demo(output: Path, *, video: Path | None = None, settings: DemoSettings | None = None) -> DemoResult:
    """Trains the tiny model and predicts an operation it has not seen; optionally one's own video too.

    Args:
        output: folder for the model, the rendered video, predictions and pictures.
        video: a further video to predict with the model. It has only seen rendered pictures, so on real surgery its answer
            shows that everything runs, not what is going on.
        settings: sizes.

    Returns:
        Accuracy on the unseen operation and the files.

    Raises:
        VideoReadError: `video` cannot be decoded.
    """
    settings = settings or DemoSettings()
    set_seed(settings.seed)
    processor = SurgVistaVideoProcessor(size={"height": 64, "width": 64}, num_frames=8, frame_stride=2)
    clips = ClipDataset(_frame_set(output / "frame_set", settings), num_frames=8, frame_stride=2, label="phase")
    _train(clips, processor, output / "model", settings)

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
    return _report(prediction, truth, files, settings, output)


def _frame_set(folder: Path, settings: DemoSettings) -> datasets.Dataset:
    """Operations to train on, as a frame set; left from an earlier run with the same settings, it is used again."""
    asked = {"videos": settings.operations, "seconds": settings.seconds, "seed": settings.seed}
    options = PreparationOptions(short_side=128, quality=95)
    texts = {name: str(value) for name, value in asked.items()}
    prepare_frame_set("synthetic", None, folder, options=options, settings=texts, num_proc=2, progress=True)
    return load_frame_set("synthetic", folder, "train", protocol="everything")


def _train(clips: ClipDataset, processor: SurgVistaVideoProcessor, folder: Path, settings: DemoSettings) -> None:
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
        tiny_model(), arguments, train_dataset=clips, data_collator=PhaseClips(processor), processing_class=processor
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
    prediction: VideoPrediction, truth: np.ndarray, files: list[Path], settings: DemoSettings, output: Path
) -> DemoResult:
    accuracy = float((prediction.labels == truth).mean())
    most_frequent = float(np.bincount(truth).max() / len(truth))
    summary = output / "result.json"
    result = DemoResult(accuracy, most_frequent, [str(file) for file in (*files, summary)])
    with atomic_file(summary) as temporary:
        temporary.write_text(json.dumps({**asdict(result), "settings": asdict(settings)}, indent=1) + "\n")
    return result
