"""Fine-tuning of clip classifiers of any family for any task, after SurgVISTA's recipe (arXiv 2506.02692).

The path of a batch in training: `TrainingCollator` draws its augmentation in the workers, `prepare_pixels` crops on the
device, `clip_loss` mixes clips and runs the model, `training_loss` compares logits with labels. In evaluation:
`EvaluationCollator` prepares clips with the model's processor, `predict_clips` runs the model, and `Task` makes metrics of
the scores.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
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
from ...modeling.protocols import ClipProcessor, TransformersModel
from ...util.console import track
from ...util.errors import InputError
from ..common.arguments import FinetuningArguments
from ..common.clip_trainer import ClipTrainer
from ..common.protocols import ClipBatch, Loss, ParameterGroups, Sample, TrainerOptions
from ..common.schedule import layered_groups

_MEAN_FILE = "mean_weights.safetensors"


@dataclass(frozen=True)
class TrainingCollator:
    """Makes a batch and draws its augmentation, each choice a function of (seed, epoch, sample); it runs in the workers.

    The λ of mixup and the seed of dropout are one for a batch, as published: functions of its first sample.

    Args:
        args: arguments of the run.
        size: side of the frames that the model takes, in pixels.
        antialias: resize crops with antialiasing.
        crop_here: crop the clips in the workers, for a device that would take time from training for it: the CPU.
    """

    args: FinetuningArguments
    size: int
    antialias: bool = True
    crop_here: bool = False

    def __call__(self, items: Sequence[Sample]) -> dict[str, Any]:
        args, seed = self.args, self.args.seed
        keys = [(int(item["epoch"]), int(item["key"])) for item in items]
        colors = RandAugment(args.rand_augment, args.rand_augment_magnitude, args.invert_colors, seed)
        crop = RandomResizedCrop(self.size, seed, (args.crop_scale, 1.0), (3 / 4, 4 / 3), args.flip)
        clips, boxes, erased = [], [], []
        for item, key in zip(items, keys, strict=True):
            pixels = colors(item["pixel_values"], *key)  # (frames, 3, height, width)
            box = crop.box(pixels.shape[-1], pixels.shape[-2], *key)
            if self.crop_here:
                pixels = crop_and_resize(pixels, box, self.size, antialias=self.antialias)
            clips.append({**item, "pixel_values": pixels})
            boxes.append(list(box))
            hole = erasing_box(self.size, args.erasing, seed, *key)
            erased.append(list(hole) if hole else [])
        mix = draw_mix(self.size, args.mixup_alpha, args.cutmix_alpha, args.cutmix_probability, seed, *keys[0])
        return {
            **collate_clips(clips),
            "boxes": boxes,
            "is_cropped": self.crop_here,
            "erased": erased,
            "mix": [mix.lam, list(mix.box or ())] if mix else [],
            "dropout_seed": seeded_dropout(seed, *keys[0]),
        }


@dataclass(frozen=True)
class EvaluationCollator:
    """Makes a batch of clips, prepared by the model's processor.

    Args:
        processor: video processor of the model.
    """

    processor: BaseVideoProcessor

    def __call__(self, items: Sequence[Sample]) -> dict[str, Any]:
        batch = collate_clips(items)
        return {**batch, "pixel_values": prepare_clips(self.processor, list(batch["pixel_values"]))}


class ExponentialMovingAverage:
    """Exponential moving average (EMA) of the trained weights over the steps.

    Args:
        model: model that is trained.
        decay: weight of the old average in a step.
    """

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.live = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.mean = {name: weight.detach().clone() for name, weight in self.live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the weights after a step: mean ← decay · mean + (1 - decay) · weights."""
        torch._foreach_lerp_(list(self.mean.values()), list(self.live.values()), 1 - self.decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights and their average."""
        for name, weight in self.live.items():
            current = weight.detach().clone()
            weight.copy_(self.mean[name])
            self.mean[name].copy_(current)


class _EmaCallback(TrainerCallback):
    """Updates the moving average of the weights after every step."""

    def __init__(self, trainer: "SurgicalFinetuner") -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Begin the average at the first weights, unless the run is resumed."""
        if not state.global_step:
            self.trainer.restart_ema()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Update the average."""
        assert self.trainer.ema is not None
        self.trainer.ema.update()


class SurgicalFinetuner(ClipTrainer):
    """Trains a classifier of clips: SurgVISTA, VideoMAE, V-JEPA 2, or `SurgicalEncoderForVideoClassification` for any other.

    Args:
        model: classifier from `modeling.loading.load_classifier`, or one with an adapter from `modeling.adapters.add_adapter`.
        args: arguments of the run.
        train_dataset: training clips with labels.
        task: task that the labels define.
        processing_class: video processor of the model, which prepares the clips of the evaluation.
        eval_dataset: clips of the validation.
        kwargs: further options of `transformers.Trainer`, such as `callbacks`.

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
        model: PreTrainedModel,
        args: FinetuningArguments,
        train_dataset: ClipDataset,
        task: Task,
        processing_class: BaseVideoProcessor,
        *,
        eval_dataset: ClipDataset | None = None,
        **kwargs: Unpack[TrainerOptions],
    ) -> None:
        for clips in (train_dataset, *([eval_dataset] if eval_dataset is not None else [])):
            _check_compatible(cast(TransformersModel, model), clips, task)
        self.task = task
        self.input_name = model.main_input_name
        self.outputs = len(task.names)
        self.component_parts = task.parts if task.kind == "triplet" and args.component_weight else None
        if self.component_parts is not None:
            self.outputs += sum(len(np.unique(column)) for column in self.component_parts.T)
        if model.config.num_labels != self.outputs:
            raise InputError(f"the model's head has {model.config.num_labels} outputs; the task needs {self.outputs}")
        self.clip_processor = cast(ClipProcessor, processing_class)
        height, width = self.clip_processor.size["height"], self.clip_processor.size["width"]
        if height != width:
            raise InputError(f"the crops of training are square; the model takes {height}×{width}")

        super().__init__(
            model,
            args,
            train_dataset,
            data_collator=TrainingCollator(
                args, height, antialias=smooths(self.clip_processor), crop_here=args.device.type == "cpu"
            ),
            sampler=class_sampler(train_dataset, task, args),
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        self.eval_collator = EvaluationCollator(processing_class)
        self._frozen = [part for part in model.children() if not any(p.requires_grad for p in part.parameters())]
        self.class_weights = median_frequency(class_counts(train_dataset)) if args.class_weights else None
        self.ema: ExponentialMovingAverage | None = None
        if args.ema_decay is not None:
            if self.shards_model:
                raise InputError("ema_decay needs the whole model in one process: not with FSDP or DeepSpeed")
            self.restart_ema()
            self.add_callback(_EmaCallback(self))

    # ------------------------------------------------------------------------------------------- training

    def parameter_groups(self, model: torch.nn.Module) -> ParameterGroups:
        """Return groups with a learning rate of their own for every layer."""
        named = [(name.removeprefix("module."), parameter) for name, parameter in model.named_parameters()]
        layers = layer_numbers([name for name, _ in named])
        return layered_groups(
            named, layers, self.args.weight_decay, self.args.layer_decay, self.args.peak_learning_rate
        )

    def clip_loss(self, model: torch.nn.Module, batch: ClipBatch) -> Loss:
        """Prepare and mix the clips of a batch, run the model and return its loss."""
        mix = Mix(batch["mix"][0], CropBox(*batch["mix"][1]) if batch["mix"][1] else None) if batch["mix"] else None
        clips = self.prepare_pixels(batch)  # (B, frames, 3, size, size)
        if mix is not None:
            clips = mix_clips(clips, mix)  # clip i with clip B - 1 - i
        for part in self._frozen:
            part.eval()  # Trainer puts the whole model into training mode; frozen parts have no dropout
        with seeded_rng(batch["dropout_seed"], self.args.device):
            logits = model(**{self.input_name: clips}).logits.float()  # (B, outputs)
        return self.training_loss(logits, batch["labels"], mix)

    def training_loss(self, logits: torch.Tensor, labels: torch.Tensor, mix: Mix | None = None) -> Loss:
        """Compute the loss of training, and its parts.

        It is the cross-entropy with soft labels where one class is right, and the mean binary cross-entropy of the classes
        where several may be.

        Args:
            logits: (B, outputs), the classes of the task first, then the components of triplets.
            labels: (B,) class numbers, or (B, classes) of 0 and 1.
            mix: mixup or CutMix of the batch.
        """
        classes = logits[:, : len(self.task.names)]  # (B, classes)
        if not self.task.multi_label:
            targets = soft_labels(labels, classes.shape[1], self.args.label_smoothing_factor, mix)  # (B, classes)
            losses = -(targets * classes.log_softmax(dim=1))
            if self.class_weights is None:
                return losses.sum(dim=1).mean(), {}
            weights = self.class_weights.to(classes.device)
            return (losses * weights).sum() / (targets * weights).sum(), {}
        targets = soft_labels(labels, classes.shape[1], mix=mix)
        loss = functional.binary_cross_entropy_with_logits(classes, targets)
        if self.component_parts is None:
            return loss, {}
        # (B, instruments + verbs + targets), from the outputs behind the triplets
        parts = soft_labels(component_labels(labels, self.component_parts), self.outputs - classes.shape[1], mix=mix)
        of_parts = functional.binary_cross_entropy_with_logits(logits[:, classes.shape[1] :], parts)
        return loss + self.args.component_weight * of_parts, {"loss_triplets": loss, "loss_components": of_parts}

    @torch.no_grad()
    def prepare_pixels(self, batch: ClipBatch) -> torch.Tensor:
        """Crop and resize the clips of a batch on the device, unless the workers did, normalize and erase them.

        Returns:
            (B, frames, 3, size, size), fp32.
        """
        processor, seed = self.clip_processor, self.args.seed
        size = processor.size["height"]
        keys = zip(batch["epoch"].tolist(), batch["key"].tolist(), strict=True)
        clips = []
        for clip, box, erased, key in zip(batch["pixel_values"], batch["boxes"], batch["erased"], keys, strict=True):
            frames = clip
            if not batch.get("is_cropped"):
                frames = crop_and_resize(clip, CropBox(*box), size, antialias=smooths(processor))
            if getattr(processor, "do_flip_channel_order", False):  # the encoder was trained on blue, green, red
                frames = frames.flip(-3)
            frames = normalize_clips(frames, processor.image_mean, processor.image_std)
            clips.append(erase(frames, CropBox(*erased), seed, *key) if erased else frames)
        return torch.stack(clips)

    # ------------------------------------------------------------------------------------------- evaluation

    def predict_clips(self, clips: ClipDataset, *, progress: bool = False) -> ClipPredictions:
        """Predict every clip once, whatever the number of processes, with the average of the weights if there is one.

        Args:
            clips: clips with labels.
            progress: show a progress bar.

        Returns:
            Predictions in the order of the frame set.
        """
        _check_compatible(cast(TransformersModel, self.model), clips, self.task)
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
                    logits = model(**{self.input_name: batch["pixel_values"].to(args.device)}).logits  # (B, outputs)
                row = [
                    logits.float()[:, : len(self.task.names)],
                    batch["labels"],
                    batch["index"],
                    batch["frame_index"],
                ]
                row = [value.to(args.device) for value in row] + [batch["timestamp"].float().to(args.device)]
                # From all processes, without the samples that pad the last batch.
                parts.append([value.cpu().numpy() for value in self.accelerator.gather_for_metrics(row)])
        # The accelerator would keep the loader, and with it the clips, until the end of the run.
        self.accelerator._dataloaders = [other for other in self.accelerator._dataloaders if other is not loader]
        logits, labels, index, frames, seconds = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.argsort(index, kind="stable")  # processes take turns, so clips come back out of order
        if not np.array_equal(index[order], np.arange(len(clips))):
            raise RuntimeError(f"{len(index)} predictions came back for {len(clips)} clips")  # never: each clip once
        names = np.array([clips.video_name(number) for number in range(len(clips))])
        scores = self.task.probabilities(logits[order])
        return ClipPredictions(names, frames[order], seconds[order], labels[order], scores)

    def evaluate(
        self,
        eval_dataset: Dataset[Any] | dict[str, Dataset[Any]] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Return the metrics of the task on the validation, or on other clips; see `Task.metrics`."""
        predictions = self.predict_clips(
            cast(ClipDataset, self.eval_dataset if eval_dataset is None else eval_dataset)
        )
        return log_metrics(self, self.task, predictions, metric_key_prefix)

    # ------------------------------------------------------------------------------------------- average of the weights

    def restart_ema(self) -> None:
        """Begin the average at the present weights."""
        self.ema = ExponentialMovingAverage(self.trained_module, cast(float, self.args.ema_decay))

    @contextmanager
    def ema_weights(self) -> Iterator[None]:
        """Put the average of the weights into the model for the time of a `with` block, if there is one."""
        if self.ema is None:
            yield
            return
        self.ema.swap()
        try:
            yield
        finally:
            self.ema.swap()

    def save_best(self, folder: Path) -> None:
        """Save the weights that are tested, or their average if there is one, with the processor."""
        with self.ema_weights():
            self.save_model(str(folder))

    def _save_checkpoint(self, model: torch.nn.Module, trial: dict[str, Any] | None) -> None:
        if self.ema is not None and self.args.should_save:
            folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            save_file(self.ema.mean, folder / _MEAN_FILE)
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.ema is not None:
            self.restart_ema()
            saved = load_file(Path(resume_from_checkpoint) / _MEAN_FILE)
            for name, value in self.ema.mean.items():
                value.copy_(saved[name])


def component_labels(labels: torch.Tensor, parts: np.ndarray) -> torch.Tensor:
    """Return the labels of instruments, verbs and targets from those of triplets, side by side.

    Args:
        labels: labels of triplets, (B, triplets), 0 to 1.
        parts: numbers of instrument, verb and target of every triplet, (triplets, 3).

    Returns:
        Labels (B, instruments + verbs + targets): the largest of all triplets that have the component.

    Example:
        >>> component_labels(torch.eye(2), np.array([[0, 0, 0], [1, 0, 2]])).tolist()
        [[1.0, 0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0, 1.0]]
    """
    members = [torch.from_numpy(column == number) for column in parts.T for number in np.unique(column)]
    return torch.stack([labels[:, member.to(labels.device)].amax(dim=1) for member in members], dim=1)


def seeded_dropout(seed: int, epoch: int, index: int) -> int:
    """Return the seed of everything that a model itself draws in a step (dropout, stochastic depth): one for a batch."""
    return int(keyed_generator(seed, epoch, index, "dropout").integers(2**63 - 1))


@contextmanager
def seeded_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's generators for the time of a `with` block, and restore them afterwards; see `seeded_dropout`."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def log_metrics(trainer: ClipTrainer, task: Task, predictions: ClipPredictions, prefix: str) -> dict[str, float]:
    """Compute the metrics and the loss of an evaluation, log them, pass them to callbacks and return them.

    Args:
        trainer: trainer that has evaluated.
        task: task of the model.
        predictions: predictions of the evaluation.
        prefix: prefix of the metrics' names, such as `"eval"`.
    """
    metrics = {**task.metrics(task.results(predictions)), "loss": cross_entropy(predictions, task)}
    named = {f"{prefix}_{name}": value for name, value in metrics.items()}
    trainer.log(named)
    trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, named)
    return named


def cross_entropy(predictions: ClipPredictions, task: Task) -> float:
    """Return the cross-entropy of predictions, binary where several classes may be right.

    Label smoothing, mixup and class weights, which training adds, have no part in it.
    """
    return negative_log_likelihood(predictions.labels, predictions.scores, multi_label=task.multi_label)


def class_counts(clips: ClipDataset) -> np.ndarray:
    """Return the number of samples of each class, (classes,)."""
    labels = clips.sample_labels()
    return np.bincount(labels, minlength=len(clips.label_names or ()))


def median_frequency(counts: np.ndarray) -> torch.Tensor:
    """Return the weights of median frequency balancing (Eigen and Fergus, ICCV 2015).

    The weight of a class is the median of the counts divided by its count, and 0 without samples.

    Args:
        counts: number of samples of each class, (classes,).

    Returns:
        Weights, (classes,) fp32.

    Example:
        >>> median_frequency(np.array([10, 20, 40])).tolist()
        [2.0, 1.0, 0.5]
    """
    seen = counts > 0
    weights = np.where(seen, np.median(counts[seen]) / np.maximum(counts, 1), 0.0)
    return torch.from_numpy(weights.astype(np.float32))


def class_sampler(clips: ClipDataset, task: Task, args: FinetuningArguments) -> EpochSampler | None:
    """Build the sampler that draws classes in proportion to their size to the power of `class_balance`, then samples of them.

    Returns:
        The sampler, or `None` if classes are not balanced.

    Raises:
        InputError: the task has several classes a clip.
    """
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


def _check_compatible(model: TransformersModel, clips: ClipDataset, task: Task) -> None:
    """Refuse clips whose length or labels do not fit the model and the task."""
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
