"""Self-distillation of image encoders with companion frames, as SurgFM / LemonFM was trained (arXiv 2503.19740) on the model
of DINO (arXiv 2104.14294).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from transformers import TrainerCallback, ViTImageProcessor

from ...clips import ClipDataset
from ...clips.companions import NUM_COMPANIONS, SECONDS, CompanionDataset
from ...clips.transforms.views import ViewCollator, make_views, surgfm_views
from ...modeling.loading import frame_size
from ...modeling.objectives.self_distillation import (
    ConvNextForSelfDistillation,
    ConvNextV2ForSelfDistillation,
    SelfDistillation,
)
from ...modeling.video_processing_surgvista import SurgVistaVideoProcessor
from ...util.errors import InputError
from ...util.values import Amount, Fraction, PositiveAmount, PositiveFraction
from ..common.arguments import PretrainingArguments
from ..common.schedule import cosine, parameter_groups
from .trainer import Pretrainer

_Scale = Annotated[list[PositiveFraction], Field(min_length=2, max_length=2)]


@dataclass
class DinoArguments(PretrainingArguments):
    """Arguments of self-distillation; the defaults are SurgFM's, except for the batch, which was 320 frames."""

    base_learning_rate: float = field(default=5e-4, metadata={"help": "peak learning rate for the reference batch"})
    base_min_learning_rate: float = field(default=8e-7, metadata={"help": "1e-6 for 320 frames"})
    warmup_epochs: float = field(default=10.0, metadata={"help": "epochs of linear warm-up"})
    weight_decay: float = field(default=0.04, metadata={"help": "of matrices, at the start"})
    final_weight_decay: float | None = field(default=0.4, metadata={"help": "at the end, along a cosine"})
    decay_layer_scale: bool = field(
        default=True, metadata={"help": "decay ConvNeXt's layer scales, as published, where they are no vectors"}
    )
    adam_beta2: float = field(default=0.999, metadata={"help": "second moment of AdamW"})
    num_train_epochs: float = field(default=100.0, metadata={"help": "passes over all frames"})
    ema_momentum: Fraction = field(default=0.996, metadata={"help": "of the teacher, at the start"})
    final_ema_momentum: Fraction = field(default=1.0, metadata={"help": "at the end, along a cosine"})
    student_temperature: PositiveAmount = field(default=0.1, metadata={"help": "of the student's softmax"})
    teacher_temperature: PositiveAmount = field(default=0.04, metadata={"help": "of the teacher's softmax"})
    center_momentum: Fraction = field(
        default=0.9, metadata={"help": "of the mean that the teacher's logits are freed from"}
    )
    max_tensor_grad_norm: Amount = field(
        default=3.0, metadata={"help": "the gradient of every tensor is clipped to it, each by itself; 0: never"}
    )
    frozen_last_layer_epochs: Amount = field(
        default=1.0, metadata={"help": "epochs in which the head's last layer stays"}
    )
    teacher_drop_path: bool = field(
        default=False, metadata={"help": "the teacher drops paths too, as published by mistake"}
    )
    local_size: Annotated[int, Field(ge=1, le=4096)] = field(
        default=96, metadata={"help": "side of local views; global ones have the model's"}
    )
    local_views: Annotated[int, Field(ge=0, le=1000)] = field(default=8, metadata={"help": "of the frame itself"})
    global_scale: _Scale = field(
        default_factory=lambda: [0.4, 1.0], metadata={"help": "share of the picture in a global view"}
    )
    local_scale: _Scale = field(
        default_factory=lambda: [0.05, 0.4], metadata={"help": "share of the picture in a local view"}
    )
    companion_seconds: Annotated[list[float], Field(min_length=NUM_COMPANIONS, max_length=NUM_COMPANIONS)] = field(
        default_factory=lambda: list(SECONDS), metadata={"help": "where the four companions of a frame are in time"}
    )
    neighbors: str | None = field(
        default=None, metadata={"help": "JSON file of retrieved companions, see CompanionDataset"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ema_momentum > self.final_ema_momentum:
            raise InputError(
                f"the teacher's momentum must rise; it goes from {self.ema_momentum} to {self.final_ema_momentum}"
            )
        for name in ("global_scale", "local_scale"):
            scale = getattr(self, name)
            if scale[0] > scale[1]:
                raise InputError(f"{name} is {scale}; the smallest share comes first")

    def momentum(self, step: int, total_steps: int) -> float:
        """Of the teacher after update `step`, from 0."""
        return cosine(self.ema_momentum, self.final_ema_momentum, step / total_steps)


class _Updates(TrainerCallback):
    """Clips and freezes before an update of the weights; moves teacher and center after it."""

    def __init__(self, trainer: "DinoPretrainer") -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.teacher_sums = None  # of the clip whose operations were counted

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model = self.trainer.student
        if args.max_tensor_grad_norm:
            self.trainer.accelerator.unscale_gradients()
            clip_each(model, args.max_tensor_grad_norm)
        if state.global_step < args.frozen_last_layer_epochs / args.num_train_epochs * state.max_steps:
            model.student_head.last_layer.weight.grad = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.student.update_teacher(args.momentum(state.global_step - 1, state.max_steps))
        self.trainer.update_center()


@torch.no_grad()
def clip_each(model: torch.nn.Module, largest: float) -> None:
    """Clip the gradient of every tensor to a norm, each by itself, without waiting for the device."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norms = torch._foreach_norm(gradients)
    torch._foreach_mul_(gradients, [(largest / (norm + 1e-6)).clamp(max=1.0) for norm in norms])


class DinoPretrainer(Pretrainer):
    """Trains an image encoder by self-distillation on frames and their companions.

    The student sees 16 views of a sample, the teacher two. The loss of a batch uses the center from before it. The center
    moves once an update, by what the teacher said in all its batches and processes, so that accumulation changes nothing.

    Args:
        model: student, teacher, heads and center.
        args: arguments.
        train_dataset: frames with companions.
        kwargs: see `ClipTrainer` and `transformers.Trainer`.

    Raises:
        InputError: clips in place of frames with companions, or views that the model cannot take.

    Example:
        >>> frames = CompanionDataset(load_frame_set("cholec80", "frame_sets/cholec80"))  # doctest: +SKIP
        >>> model = ConvNextForSelfDistillation(ConvNextDistillationConfig())  # doctest: +SKIP
        >>> DinoPretrainer(model, DinoArguments("run"), frames).train(resume_from_checkpoint=True)  # doctest: +SKIP
        >>> model.plain_teacher().save_pretrained("encoder")  # doctest: +SKIP
    """

    args: DinoArguments
    arguments_class = DinoArguments
    models = {"convnext": ConvNextForSelfDistillation, "convnextv2": ConvNextV2ForSelfDistillation}

    def __init__(
        self, model: SelfDistillation, args: DinoArguments, train_dataset: CompanionDataset, **kwargs: Any
    ) -> None:
        if not isinstance(train_dataset, CompanionDataset):
            raise InputError(f"self-distillation needs a CompanionDataset, not a {type(train_dataset).__name__}")
        if min(args.local_size, _side(model.config)) < _smallest(model.config):
            raise InputError(
                f"the encoder takes no pictures below {_smallest(model.config)} pixels; views have {_side(model.config)} and "
                f"{args.local_size}"
            )
        self.student = model
        model.teacher_drops_paths = args.teacher_drop_path
        self.views = surgfm_views(
            _side(model.config),
            args.local_size,
            global_scale=(args.global_scale[0], args.global_scale[1]),
            local_scale=(args.local_scale[0], args.local_scale[1]),
            local_views=args.local_views,
        )
        self.teacher_sums: torch.Tensor | None = None
        super().__init__(model, args, train_dataset, data_collator=ViewCollator(self.views, args.seed), **kwargs)
        self.add_callback(_Updates(self))

    @staticmethod
    def processor_for(config: Any, frame_stride: float) -> ViTImageProcessor:
        side = _side(config)
        usual = SurgVistaVideoProcessor
        return ViTImageProcessor(
            size={"height": side, "width": side}, image_mean=list(usual.image_mean), image_std=list(usual.image_std)
        )

    @staticmethod
    def dataset_for(args: DinoArguments) -> Callable[..., ClipDataset]:
        def frames(corpus: Any, *, frame_stride: float, **options: Any) -> CompanionDataset:
            return CompanionDataset(corpus, seconds=args.companion_seconds, neighbors=args.neighbors, **options)

        return frames

    def parameter_groups(self, model: Any) -> list[dict[str, Any]]:
        groups = parameter_groups(model.named_parameters(), self.args.weight_decay)
        if self.args.decay_layer_scale:
            scales = {id(p) for name, p in model.named_parameters() if name.endswith("layer_scale_parameter")}
            decayed, spared = (group["params"] for group in groups)
            decayed += [parameter for parameter in spared if id(parameter) in scales]
            spared[:] = [parameter for parameter in spared if id(parameter) not in scales]
        return groups

    def clip_loss(
        self, model: torch.nn.Module, batch: Mapping[str, Any]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        output = model(
            views=make_views(self.views, batch["pixel_values"], batch["views"]),
            keys=batch["views"]["key"],
            student_temperature=self.args.student_temperature,
            teacher_temperature=self.args.teacher_temperature,
        )
        logits = output.teacher_logits.flatten(0, 1)
        sums = torch.cat([logits.sum(dim=0), logits.new_tensor([len(logits)])])
        self.teacher_sums = sums if self.teacher_sums is None else self.teacher_sums + sums
        return output.loss, {"feature_std": output.feature_std, "teacher_entropy": output.teacher_entropy}

    def update_center(self) -> None:
        """Move the center by the mean of the teacher's logits since the last update, over all processes."""
        sums: Any = self.accelerator.reduce(self.teacher_sums, "sum")
        self.student.update_center(sums[:-1] / sums[-1], self.args.center_momentum)
        self.teacher_sums = None

    def save_result(self, folder: Path) -> None:
        """Save the teacher's encoder as a plain model; student, heads and center are in the checkpoints."""
        if self.args.should_save:
            self.student.plain_teacher().save_pretrained(folder)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(folder)


def _smallest(config: Any) -> int:
    """Side of a picture of which the last stage of a ConvNeXt sees one pixel."""
    return int(config.patch_size) * 2 ** (len(config.depths) - 1)


def _side(config: Any) -> int:
    height, width = frame_size(config)
    if height != width:
        raise InputError(f"views are square; the model takes {(height, width)}")
    return height
