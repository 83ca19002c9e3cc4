"""Fine-tuning of clip classifiers, any family and any task, after SurgVISTA's recipe (arXiv 2506.02692)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import TrainerCallback
from transformers.video_processing_utils import BaseVideoProcessor

from ...clips import (
    ClipDataset,
    RandomResizedCrop,
    SourceBalancedSampler,
    collate_clips,
    keyed_generator,
    normalize_clips,
    temperature_weights,
)
from ...clips.sampling.balance import EpochSampler
from ...clips.transforms.augmentation import CropBox, crop_and_resize
from ...clips.transforms.mixing import Mix, draw_mix, erase, erasing_box, mix_clips, soft_labels
from ...clips.transforms.rand_augment import RandAugment
from ...evaluation.metrics.calibration import negative_log_likelihood
from ...evaluation.tasks import ClipPredictions, Task
from ...modeling.loading import clip_length, layer_numbers
from ...modeling.processors import prepare_clips, smooths
from ...util.console import track
from ...util.errors import InputError
from ..common.arguments import FinetuningArguments
from ..common.clip_trainer import ClipTrainer
from ..common.schedule import layered_groups

_MEAN_FILE = "mean_weights.safetensors"


@dataclass(frozen=True)
class TrainingCollator:
    """Makes a batch, and everything random about it, each a function of (seed, epoch, sample); it runs in the workers.

    The share of mixup and the seed of dropout are one for a batch, as published: functions of its first sample.

    Args:
        args: of the run.
        size: side of the frames that the model takes, in pixels.
    """

    args: FinetuningArguments
    size: int

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        args, seed = self.args, self.args.seed
        keys = [(int(item["epoch"]), int(item["key"])) for item in items]
        colors = RandAugment(args.rand_augment, args.rand_augment_magnitude, args.invert_colors, seed)
        crop = RandomResizedCrop(self.size, seed, (args.crop_scale, 1.0), (3 / 4, 4 / 3), args.flip)
        clips, erased = [], []
        for item, key in zip(items, keys, strict=True):
            clips.append({**item, "pixel_values": colors(item["pixel_values"], *key)})
            box = erasing_box(self.size, args.erasing, seed, *key)
            erased.append(list(box) if box else [])
        sizes = [item["pixel_values"].shape[-2:] for item in items]
        boxes = [list(crop.box(size[1], size[0], *key)) for size, key in zip(sizes, keys, strict=True)]
        mix = draw_mix(self.size, args.mixup_alpha, args.cutmix_alpha, args.cutmix_probability, seed, *keys[0])
        return {
            **collate_clips(clips),
            "boxes": boxes,
            "erased": erased,
            "mix": [mix.lam, list(mix.box or ())] if mix else [],
            "dropout_seed": seeded_dropout(seed, *keys[0]),
        }


@dataclass(frozen=True)
class EvaluationCollator:
    """Makes a batch as the model's processor prepares clips.

    Args:
        processor: of the model.
    """

    processor: BaseVideoProcessor

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        batch = collate_clips(items)
        return {**batch, "pixel_values": prepare_clips(self.processor, list(batch["pixel_values"]))}


class ExponentialMovingAverage:
    """Exponential mean of the trained weights over the steps.

    Args:
        model: whose weights.
        decay: share of the mean that a step keeps.
    """

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.live = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.mean = {name: weight.detach().clone() for name, weight in self.live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of a step in."""
        torch._foreach_lerp_(list(self.mean.values()), list(self.live.values()), 1 - self.decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights and their mean."""
        for name, weight in self.live.items():
            kept = weight.detach().clone()
            weight.copy_(self.mean[name])
            self.mean[name].copy_(kept)


class _UpdateMean(TrainerCallback):
    def __init__(self, trainer: "SurgicalFinetuner") -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.global_step:
            self.trainer.restart_mean()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer.mean is not None
        self.trainer.mean.update()


class SurgicalFinetuner(ClipTrainer):
    """Trains a classifier of clips: SurgVISTA, VideoMAE, V-JEPA 2, or `SurgicalEncoderForVideoClassification` for any other.

    Args:
        model: the classifier, see `families.load_classifier`; or with an adapter, see `adapters.add_adapter`.
        args: arguments.
        train_dataset: clips with labels.
        task: what is predicted.
        processing_class: processor of the model; it prepares the clips of the evaluation.
        eval_dataset: clips of the validation.
        kwargs: see `ClipTrainer` and `transformers.Trainer`.

    Raises:
        InputError: clips, task and model do not fit together.

    Example:
        >>> trainer = SurgicalFinetuner(model, FinetuningArguments("run"), clips, task, processor)  # doctest: +SKIP
        >>> trainer.train(resume_from_checkpoint=True)  # doctest: +SKIP
        >>> task.results(trainer.predict_clips(test_clips))["strict"]["video_accuracy"]  # doctest: +SKIP
    """

    args: FinetuningArguments

    def __init__(
        self,
        model: Any,
        args: FinetuningArguments,
        train_dataset: ClipDataset,
        task: Task,
        processing_class: BaseVideoProcessor,
        *,
        eval_dataset: ClipDataset | None = None,
        **kwargs: Any,
    ) -> None:
        for clips in (train_dataset, *([eval_dataset] if eval_dataset is not None else [])):
            _check(model, clips, task)
        self.task = task
        self.input_name = model.main_input_name
        self.outputs = len(task.names)
        self.component_parts = task.parts if task.kind == "triplet" and args.component_weight else None
        if self.component_parts is not None:
            self.outputs += sum(len(np.unique(column)) for column in self.component_parts.T)
        if model.config.num_labels != self.outputs:
            raise InputError(f"the model's head has {model.config.num_labels} outputs; the task needs {self.outputs}")
        size = cast(Any, processing_class).size
        height, width = size["height"], size["width"]
        if height != width:
            raise InputError(f"the crops of training are square; the model takes {height}×{width}")
        super().__init__(
            model,
            args,
            train_dataset,
            data_collator=TrainingCollator(args, height),
            sampler=class_sampler(train_dataset, task, args),
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        self.eval_collator = EvaluationCollator(processing_class)
        self._frozen = [part for part in model.children() if not any(p.requires_grad for p in part.parameters())]
        self.class_weights = median_frequency(class_counts(train_dataset)) if args.class_weights else None
        self.mean: ExponentialMovingAverage | None = None
        if args.ema_decay is not None:
            if self.shards_model:
                raise InputError("ema_decay needs the whole model in one process: not with FSDP or DeepSpeed")
            self.restart_mean()
            self.add_callback(_UpdateMean(self))

    # ------------------------------------------------------------------------------------------- training

    def parameter_groups(self, model: Any) -> list[dict[str, Any]]:
        named = [(name.removeprefix("module."), parameter) for name, parameter in model.named_parameters()]
        layers = layer_numbers([name for name, _ in named])
        return layered_groups(
            named, layers, self.args.weight_decay, self.args.layer_decay, self.args.peak_learning_rate
        )

    def clip_loss(
        self, model: torch.nn.Module, batch: Mapping[str, Any]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        mix = Mix(batch["mix"][0], CropBox(*batch["mix"][1]) if batch["mix"][1] else None) if batch["mix"] else None
        clips = self.prepared(batch)
        if mix is not None:
            clips = mix_clips(clips, mix)
        for part in self._frozen:
            part.eval()  # no dropout in what is not trained
        with seeded_rng(batch["dropout_seed"], self.args.device):
            logits = model(**{self.input_name: clips}).logits.float()
        return self.loss_of(logits, batch["labels"], mix)

    def loss_of(
        self, logits: torch.Tensor, labels: torch.Tensor, mix: Mix | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of training, and its parts: cross-entropy with soft labels, or binary cross-entropy of every class."""
        own = logits[:, : len(self.task.names)]
        if not self.task.multi_label:
            targets = soft_labels(labels, own.shape[1], self.args.label_smoothing_factor, mix)
            losses = -(targets * own.log_softmax(dim=1))
            if self.class_weights is None:
                return losses.sum(dim=1).mean(), {}
            weights = self.class_weights.to(own.device)
            return (losses * weights).sum() / (targets * weights).sum(), {}
        targets = soft_labels(labels, own.shape[1], mix=mix)
        loss = functional.binary_cross_entropy_with_logits(own, targets)
        if self.component_parts is None:
            return loss, {}
        parts = soft_labels(component_labels(labels, self.component_parts), self.outputs - own.shape[1], mix=mix)
        of_parts = functional.binary_cross_entropy_with_logits(logits[:, own.shape[1] :], parts)
        return loss + self.args.component_weight * of_parts, {"loss_triplets": loss, "loss_components": of_parts}

    @torch.no_grad()
    def prepared(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Crop, resize, normalize and erase on the device: (B, frames, 3, size, size), fp32."""
        processor = cast(Any, self.processing_class)
        size, seed = processor.size["height"], self.args.seed
        keys = zip(batch["epoch"].tolist(), batch["key"].tolist(), strict=True)
        clips = []
        for clip, box, erased, key in zip(batch["pixel_values"], batch["boxes"], batch["erased"], keys, strict=True):
            frames = crop_and_resize(clip, CropBox(*box), size, antialias=smooths(processor))
            if getattr(processor, "do_flip_channel_order", False):  # the encoder was trained on blue, green, red
                frames = frames.flip(-3)
            frames = normalize_clips(frames, processor.image_mean, processor.image_std)
            clips.append(erase(frames, CropBox(*erased), seed, *key) if erased else frames)
        return torch.stack(clips)

    # ------------------------------------------------------------------------------------------- evaluation

    def predict_clips(self, clips: ClipDataset, *, progress: bool = False) -> ClipPredictions:
        """Return the scores of every clip, each once, whatever the number of processes.

        Args:
            clips: with labels.
            progress: show a progress bar.

        Returns:
            Predictions in the order of the frame set.
        """
        _check(self.model, clips, self.task)
        args = self.args
        loader = self.accelerator.prepare_data_loader(
            DataLoader(
                clips,
                batch_size=args.eval_batch_size,
                collate_fn=self.eval_collator,
                num_workers=args.dataloader_num_workers,
                pin_memory=args.dataloader_pin_memory,
            )
        )
        model = self.model_wrapped if self.shards_model else self.accelerator.unwrap_model(self.model)
        model.eval()
        parts: list[list[np.ndarray]] = []
        text = "validation" if clips is self.eval_dataset else "clips"
        with torch.no_grad(), self.ema_weights():
            for batch in track(loader, text, unit="batches", shown=progress and args.should_save):
                with self.autocast_smart_context_manager():
                    logits = model(**{self.input_name: batch["pixel_values"].to(args.device)}).logits
                row = [
                    logits.float()[:, : len(self.task.names)],
                    batch["labels"],
                    batch["index"],
                    batch["frame_index"],
                ]
                row = [value.to(args.device) for value in row] + [batch["timestamp"].float().to(args.device)]
                parts.append([value.cpu().numpy() for value in self.accelerator.gather_for_metrics(row)])
        self.accelerator._dataloaders = [other for other in self.accelerator._dataloaders if other is not loader]
        logits, labels, index, frames, seconds = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.argsort(index, kind="stable")
        if not np.array_equal(index[order], np.arange(len(clips))):
            raise RuntimeError(f"{len(index)} predictions came back for {len(clips)} clips")  # never: each clip once
        names = np.array([clips.video_name(number) for number in range(len(clips))])
        scores = self.task.probabilities(logits[order])
        return ClipPredictions(names, frames[order], seconds[order], labels[order], scores)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The figures of the task on the validation, or on other clips; see `Task.figures`."""
        predictions = self.predict_clips(
            cast(ClipDataset, self.eval_dataset if eval_dataset is None else eval_dataset)
        )
        return log_figures(self, self.task, predictions, metric_key_prefix)

    # ------------------------------------------------------------------------------------------- mean of the weights

    def restart_mean(self) -> None:
        """Begin the mean at the present weights."""
        self.mean = ExponentialMovingAverage(cast(Any, self.model), cast(float, self.args.ema_decay))

    @contextmanager
    def ema_weights(self) -> Iterator[None]:
        """The mean stands in the model's place, if there is one."""
        if self.mean is None:
            yield
            return
        self.mean.swap()
        try:
            yield
        finally:
            self.mean.swap()

    def save_best(self, folder: Path) -> None:
        """Save what is tested: the mean of the weights if there is one, or the weights, with the processor."""
        with self.ema_weights():
            self.save_model(str(folder))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.mean is not None and self.args.should_save:
            folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            save_file(self.mean.mean, folder / _MEAN_FILE)
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.mean is not None:
            self.restart_mean()
            saved = load_file(Path(resume_from_checkpoint) / _MEAN_FILE)
            for name, value in self.mean.mean.items():
                value.copy_(saved[name])


def component_labels(labels: torch.Tensor, parts: np.ndarray) -> torch.Tensor:
    """Return the labels of instruments, verbs and targets from those of triplets, side by side.

    Args:
        labels: (B, triplets) of 0 to 1.
        parts: (triplets, 3) numbers of instrument, verb and target.

    Returns:
        (B, instruments + verbs + targets): the largest of all triplets that have the component.

    Example:
        >>> component_labels(torch.eye(2), np.array([[0, 0, 0], [1, 0, 2]])).tolist()
        [[1.0, 0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0, 1.0]]
    """
    members = [torch.from_numpy(column == number) for column in parts.T for number in np.unique(column)]
    return torch.stack([labels[:, member.to(labels.device)].amax(dim=1) for member in members], dim=1)


def seeded_dropout(seed: int, epoch: int, index: int) -> int:
    """The seed of everything that a model itself draws (dropout, stochastic depth) in a step: one for a batch."""
    return int(keyed_generator(seed, epoch, index, "dropout").integers(2**63 - 1))


@contextmanager
def seeded_rng(seed: int, device: torch.device) -> Iterator[None]:
    """What PyTorch draws inside comes from a seed, see `seeded_dropout`; outside nothing changes."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def log_figures(trainer: ClipTrainer, task: Task, predictions: ClipPredictions, prefix: str) -> dict[str, float]:
    """What an evaluation ends with: the figures of the task and the loss, logged, given to callbacks and returned."""
    figures = {**task.figures(task.results(predictions)), "loss": cross_entropy(predictions, task)}
    named = {f"{prefix}_{name}": value for name, value in figures.items()}
    trainer.log(named)
    trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, named)
    return named


def cross_entropy(predictions: ClipPredictions, task: Task) -> float:
    """Cross-entropy of the predictions without anything that training adds; binary where several classes may be right."""
    return negative_log_likelihood(predictions.labels, predictions.scores, multi_label=task.multi_label)


def class_counts(clips: ClipDataset) -> np.ndarray:
    """(classes,) samples of each class."""
    labels = clips.sample_labels()
    return np.bincount(labels, minlength=len(clips.label_names or ()))


def median_frequency(counts: np.ndarray) -> torch.Tensor:
    """Median frequency balancing (Eigen and Fergus, ICCV 2015): median of the counts over the count; 0 without samples.

    Example:
        >>> median_frequency(np.array([10, 20, 40])).tolist()
        [2.0, 1.0, 0.5]
    """
    seen = counts > 0
    weights = np.where(seen, np.median(counts[seen]) / np.maximum(counts, 1), 0.0)
    return torch.from_numpy(weights.astype(np.float32))


def class_sampler(clips: ClipDataset, task: Task, args: FinetuningArguments) -> EpochSampler | None:
    """Draw classes in proportion to their size to the power of `class_balance`, then samples of them."""
    if args.class_balance is None and not args.class_weights:
        return None
    if task.multi_label:
        raise InputError("class_balance and class_weights need one class a clip; this task has several")
    if args.class_balance is None:
        return None
    counts = class_counts(clips)
    weights = np.zeros(len(counts))
    weights[counts > 0] = temperature_weights(counts[counts > 0], args.class_balance)
    return SourceBalancedSampler(clips.sample_labels(), weights, seed=args.seed)


def _check(model: Any, clips: ClipDataset, task: Task) -> None:
    """Return the clips, labels and model must speak of the same."""
    length = clip_length(model.config)
    if clips.num_frames != length:
        raise InputError(f"clips have {clips.num_frames} frames; the model takes {length}")
    if clips.label is None:
        raise InputError("the clips have no labels: give ClipDataset the label column")
    names = clips.label_names
    if names is not None and tuple(names) != task.names:
        raise InputError(
            f"the label column {clips.label!r} has {len(names)} classes ({names[0]}, …); the task has {len(task.names)} "
            f"({task.names[0]}, …)"
        )
    if clips.multi_label != task.multi_label:
        kind = "several classes" if clips.multi_label else "one class"
        raise InputError(f"the label column {clips.label!r} holds {kind} a frame, which a {task.kind} task cannot use")
