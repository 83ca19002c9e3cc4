"""Training and testing the first model: heads over frozen features with operations held out, or an adapter by a recipe.

Each training is tested on operations that it has not seen. The heads over features are then trained once more on all
operations, and saved as a classifier that `surgvista predict` takes.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from datasets import Dataset
from torch import nn

from ..clips import ClipIndex
from ..clips.sampling.timeline import Timeline
from ..datasets_scripts.frame_sets.registry import get_builder
from ..datasets_scripts.frame_sets.training_videos import TrainingVideos
from ..evaluation.probes import LinearProbe, fit_linear_probe
from ..evaluation.tasks import ClipPredictions, Task
from ..modeling.configuration_ms_tcn import MsTcnConfig
from ..modeling.loading import note_frame_interval, note_frame_stride
from ..modeling.modeling_ms_tcn import MsTcnForFrameClassification
from ..trainers.features.extraction import VideoFeatureExtractor, VideoFeatures, as_clips
from ..trainers.features.ms_tcn import FeatureVideos, TemporalArguments, TemporalTrainer, predict_videos
from ..trainers.finetune import finetune
from ..trainers.finetuning.confidence import build_confidence, calibrate, learn_familiarity
from ..trainers.finetuning.recipe import load_finetuning_recipe
from ..util.console import track
from ..util.files import atomic_file, atomic_folder, write_json
from ..util.fingerprint import weights_fingerprint

_TEMPORAL_STEPS = 1500  # updates of MS-TCN: half of TeCNO's for Cholec80, at a higher rate
_LEAST_EPOCHS, _MOST_EPOCHS = 20, 300
_RATE = 5e-4
_ADAPTER_EPOCHS = 20


@dataclass(frozen=True)
class Trained:
    """A model and its test on operations that were held out.

    Args:
        model: folder of the classifier.
        temporal: folder of the temporal model over its features, if there is one.
        predictions: predictions for all labeled frames of held-out operations.
    """

    model: Path
    temporal: Path | None
    predictions: ClipPredictions


def train_heads(
    extractor: VideoFeatureExtractor,
    videos: Sequence[VideoFeatures],
    folds: Sequence[Sequence[str]],
    task: Task,
    output: Path,
    *,
    frames: Dataset,
    data: str,
    temporal: bool,
    seed: int = 0,
) -> Trained:
    """Train a head over frozen features, test it on held-out operations, and train it again on all of them.

    Args:
        extractor: the encoder that computed the features.
        videos: features of all labeled operations.
        folds: names of the operations that are held out, of each training.
        task: task of the labels.
        output: folder of the model.
        frames: frame set of the operations, whose look is saved with the model.
        data: name of the data set.
        temporal: train MS-TCN; otherwise a linear probe.
        seed: seed of the training.

    Returns:
        The model, trained on all operations, and the predictions of the models that had not seen them.
    """
    videos = _as_classified(extractor, videos)
    predicted = []
    for number, names in enumerate(track(folds, "held-out operations", unit="trainings")):
        file = output / "folds" / f"{number}.parquet"
        if not file.is_file():  # otherwise an interrupted run has done this one
            test = [video for video in videos if _name(video, videos) in names]
            train = [video for video in videos if _name(video, videos) not in names]
            _predict_fold(train, test, task, output / "folds" / str(number), temporal=temporal, seed=seed).save(file)
        predicted.append(ClipPredictions.load(file))
    predictions = ClipPredictions.joined(predicted)
    calibration = calibrate(predictions, task)
    confidence = build_confidence(
        calibration,
        "held-out operations",
        get_builder(data).info,
        learn_familiarity(frames, None, extractor.processor),
    )
    probe = fit_linear_probe(as_clips(videos), len(task.names))
    folder = output / "model"
    interval = Timeline.from_frame_set(frames, ClipIndex.from_frame_set(frames)).interval
    save_probe(extractor, probe, task, folder, frame_interval=interval)
    TrainingVideos.of(frames).save(folder)
    if not temporal:
        confidence.save(folder)
        return Trained(folder, None, predictions)
    build_confidence(None, None, get_builder(data).info, confidence.familiarity).save(folder)
    # The file of the confidence belongs to the folder's fingerprint, so it is written first.
    _fit_temporal(videos, task, output / "temporal", (weights_fingerprint(folder),), seed)
    confidence.save(output / "temporal")
    return Trained(folder, output / "temporal", predictions)


def _predict_fold(
    train: Sequence[VideoFeatures],
    test: Sequence[VideoFeatures],
    task: Task,
    folder: Path,
    *,
    temporal: bool,
    seed: int,
) -> ClipPredictions:
    """Train a head on some operations and predict the others; what the training writes is removed."""
    if not temporal:
        return _predict_probe(fit_linear_probe(as_clips(train), len(task.names)), test)
    model = _fit_temporal(train, task, folder, (), seed)
    shutil.rmtree(folder, ignore_errors=True)
    return predict_videos(model, test, task)


def save_probe(
    extractor: VideoFeatureExtractor,
    probe: LinearProbe,
    task: Task,
    folder: Path,
    *,
    frame_interval: float | None = None,
) -> None:
    """Save an encoder with a linear probe as a classifier; it loads like a fine-tuned one.

    Args:
        extractor: the encoder that computed the features; its head is replaced.
        probe: the fitted probe.
        task: task of the labels.
        folder: folder of the classifier; what is there is replaced.
        frame_interval: seconds between two frames of the frame set, if they are the same in all videos.
    """
    weight, bias = probe.layer
    model = extractor.model
    head = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    model.classifier = head.to(extractor.device)
    config = model.config
    config.id2label = dict(enumerate(task.names))
    config.label2id = {name: number for number, name in enumerate(task.names)}
    config.problem_type = task.problem_type
    model.num_labels = len(task.names)
    note_frame_stride(config, extractor.frame_stride, extractor.name)
    note_frame_interval(config, extractor.processor, extractor.frame_stride, frame_interval)
    with atomic_folder(folder, replace=True) as temporary:
        model.save_pretrained(temporary)
        extractor.processor.save_pretrained(temporary)


def train_adapter(
    model: str,
    name: str,
    frame_set: Path,
    label: str,
    output: Path,
    *,
    has_gpu: bool,
    num_frames: int | None,
    frame_stride: float,
    seed: int = 0,
) -> Trained:
    """Train a LoRA adapter by a recipe, which is written beside the run, and test it on the split of the protocol.

    Args:
        model: folder or Hub id of the encoder.
        name, frame_set, label: data set, its folder and its label column.
        output: folder of the recipe and of the run; an interrupted run goes on there.
        has_gpu: whether to compute in bf16 on a GPU.
        num_frames: frames of a clip, for image encoders.
        frame_stride: seconds between two frames of a clip.
        seed: seed of the training.
    """
    recipe = {
        "model": {"from_pretrained": model, "num_frames": num_frames},
        "data": {"name": name, "data_dir": str(frame_set), "label": label, "frame_stride": frame_stride},
        "adapter": {"method": "lora"},
        "training": {
            "output_dir": str(output / "run"),
            "num_train_epochs": _ADAPTER_EPOCHS,
            "warmup_epochs": _ADAPTER_EPOCHS / 10,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 4,
            "per_device_eval_batch_size": 32,
            "bf16": has_gpu,
            "use_cpu": not has_gpu,
            "save_total_limit": 1,
            "report_to": "none",
            "seed": seed,
        },
    }
    file = output / "recipe.yaml"
    with atomic_file(file) as temporary:
        temporary.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    result = finetune(load_finetuning_recipe(file))
    return Trained(result.folder, None, ClipPredictions.load(result.folder.parent / "predictions.parquet"))


def _as_classified(extractor: VideoFeatureExtractor, videos: Sequence[VideoFeatures]) -> list[VideoFeatures]:
    """Return the features as the last layer of the saved classifier sees them: those of an encoder after its normalization."""
    if not extractor.is_encoder:
        return list(videos)
    norm = extractor.model.fc_norm
    with torch.inference_mode():
        return [
            replace(video, values=norm(torch.from_numpy(np.array(video.values)).to(extractor.device)).cpu().numpy())
            for video in videos
        ]


def most_frequent(predictions: ClipPredictions, task: Task) -> dict[str, float]:
    """Return the accuracy on each operation of always choosing the class that is most frequent in the other operations.

    Args:
        predictions: predictions for held-out operations, whose labels are counted.
        task: task of the labels, with one class a frame.
    """
    labels = predictions.by_video(predictions.labels)
    counts = {video: np.bincount(values, minlength=len(task.names)) for video, values in labels.items()}
    whole = sum(counts.values())
    return {video: float(own[(whole - own).argmax()] / own.sum()) for video, own in counts.items()}


def _name(video: VideoFeatures, videos: Sequence[VideoFeatures]) -> str:
    """Return the name of a video as an inspection gives it: with the source only where there are several."""
    return video.name if len({each.source for each in videos}) > 1 else video.video_id


def _predict_probe(probe: LinearProbe, videos: Sequence[VideoFeatures]) -> ClipPredictions:
    clips = as_clips(videos)
    frames = np.concatenate([video.labeled for video in videos])
    seconds = np.concatenate([video.seconds[video.labeled] for video in videos])
    return ClipPredictions(clips.videos, frames, seconds, clips.labels, probe.probabilities(clips.values))


def _fit_temporal(
    videos: Sequence[VideoFeatures], task: Task, folder: Path, features_from: Sequence[str], seed: int
) -> MsTcnForFrameClassification:
    """Train MS-TCN over the features of whole videos and save it.

    Args:
        videos: features of the videos.
        task: task of the labels.
        folder: folder of the model; an interrupted training goes on there.
        features_from: fingerprints of the encoder whose features these are.
        seed: seed of the training.
    """
    epochs = min(max(round(_TEMPORAL_STEPS / len(videos)), _LEAST_EPOCHS), _MOST_EPOCHS)
    args = TemporalArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        base_learning_rate=_RATE,
        base_min_learning_rate=_RATE / 100,
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=100,
        seed=seed,
    )
    torch.manual_seed(seed)
    names = dict(enumerate(task.names))
    width = videos[0].values.shape[1]
    config = MsTcnConfig(
        input_size=width, num_labels=len(names), id2label=names, features_from=list(features_from) or None
    )
    model = MsTcnForFrameClassification(config)
    trainer = TemporalTrainer(model, args, FeatureVideos(videos), task)
    trainer.train()
    trainer.save_model(str(folder))
    return model.eval()


def note_settings(folder: Path, settings: dict[str, object]) -> None:
    """Write what a training depends on, so that only a run with the same settings goes on with it."""
    write_json(folder / "settings.json", settings)
