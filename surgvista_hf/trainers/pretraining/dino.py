"""Self-distillation of image encoders with companion frames, as in SurgFM / LemonFM (arXiv 2503.19740), which follows DINO
(arXiv 2104.14294).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Unpack

import torch
from datasets import Dataset
from pydantic import Field
from transformers import (
    PreTrainedConfig,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    ViTImageProcessor,
)

from ...clips import ClipDataset
from ...clips.companions import NUM_COMPANIONS, SECONDS, CompanionDataset
from ...clips.transforms.views import BLUR_DEVIATION, ViewCollator, make_views, surgfm_views
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
from ..common.protocols import ClipBatch, Loss, ParameterGroups
from ..common.schedule import cosine, parameter_groups
from .trainer import Pretrainer, PretrainerOptions

_Scale = Annotated[list[PositiveFraction], Field(min_length=2, max_length=2)]


@dataclass
class DinoArguments(PretrainingArguments):
    """Arguments of self-distillation; the defaults are SurgFM's, except for the batch, which was 320 frames."""

    base_learning_rate: float = field(default=5e-4, metadata={"help": "peak learning rate for the reference batch"})
    base_min_learning_rate: float = field(default=8e-7, metadata={"help": "1e-6 for 320 frames"})
    warmup_epochs: float = field(default=10.0, metadata={"help": "epochs of linear warm-up"})
    weight_decay: float = field(default=0.04, metadata={"help": "decay of matrices at the start"})
    final_weight_decay: float | None = field(
        default=0.4, metadata={"help": "decay of matrices at the end, reached along a cosine"}
    )
    decay_layer_scale: bool = field(
        default=True, metadata={"help": "decay the layer scales of ConvNeXt, as published, unless they are vectors"}
    )
    adam_beta2: float = field(default=0.999, metadata={"help": "second moment of AdamW"})
    num_train_epochs: float = field(default=100.0, metadata={"help": "passes over all frames"})
    ema_momentum: Fraction = field(default=0.996, metadata={"help": "momentum of the teacher's EMA at the start"})
    final_ema_momentum: Fraction = field(
        default=1.0, metadata={"help": "momentum of the teacher's EMA at the end, reached along a cosine"}
    )
    student_temperature: PositiveAmount = field(default=0.1, metadata={"help": "temperature of the student's softmax"})
    teacher_temperature: PositiveAmount = field(
        default=0.04, metadata={"help": "temperature of the teacher's softmax"}
    )
    center_momentum: Fraction = field(
        default=0.9, metadata={"help": "momentum of the center that is subtracted from the teacher's logits"}
    )
    max_tensor_grad_norm: Amount = field(
        default=3.0,
        metadata={"help": "norm that the gradient of every tensor is clipped to, each by itself; 0: never"},
    )
    frozen_last_layer_epochs: Amount = field(
        default=1.0, metadata={"help": "epochs in which the head's last layer is frozen"}
    )
    teacher_drop_path: bool = field(
        default=False, metadata={"help": "drop paths in the teacher too, as the published program does by mistake"}
    )
    local_size: Annotated[int, Field(ge=1, le=4096)] = field(
        default=96, metadata={"help": "side of local views in pixels; global ones have the model's"}
    )
    local_views: Annotated[int, Field(ge=0, le=1000)] = field(
        default=8, metadata={"help": "number of local views of the frame itself"}
    )
    global_scale: _Scale = field(
        default_factory=lambda: [0.4, 1.0],
        metadata={"help": "fraction of the image's area in a global view: from, to"},
    )
    local_scale: _Scale = field(
        default_factory=lambda: [0.05, 0.4],
        metadata={"help": "fraction of the image's area in a local view: from, to"},
    )
    blur_deviation: Annotated[list[Amount], Field(min_length=2, max_length=2)] = field(
        default_factory=lambda: list(BLUR_DEVIATION),
        metadata={
            "help": "standard deviation of the blur in pixels of a view: from, to; small views need less than the published "
            "values, which are for 224 and 96 pixels"
        },
    )
    companion_seconds: Annotated[list[float], Field(min_length=NUM_COMPANIONS, max_length=NUM_COMPANIONS)] = field(
        default_factory=lambda: list(SECONDS), metadata={"help": "seconds from a frame to its four companions"}
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
                raise InputError(f"{name} is {scale}; the smallest fraction comes first")
        if self.blur_deviation[0] > self.blur_deviation[1]:
            raise InputError(f"blur_deviation is {self.blur_deviation}; the smaller deviation comes first")

    def momentum(self, step: int, total_steps: int) -> float:
        """Return the momentum of the teacher's EMA after update `step`, from 0."""
        return cosine(self.ema_momentum, self.final_ema_momentum, step / total_steps)


class _TeacherCallback(TrainerCallback):
    """Clips and freezes before an update of the weights; moves teacher and center after it."""

    def __init__(self, trainer: "DinoPretrainer") -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Forget the logits of the sample whose operations were counted before the run."""
        self.trainer.teacher_sums = None

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Clip the gradients, and drop those of the head's last layer while it is frozen."""
        model, own = self.trainer.student, self.trainer.args
        if own.max_tensor_grad_norm:
            self.trainer.accelerator.unscale_gradients()
            clip_each(model, own.max_tensor_grad_norm)
        if state.global_step < own.frozen_last_layer_epochs / own.num_train_epochs * state.max_steps:
            model.student_head.last_layer.weight.grad = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Move the teacher towards the student, and the center towards the teacher's logits."""
        own = self.trainer.args
        self.trainer.student.update_teacher(own.momentum(state.global_step - 1, state.max_steps))
        self.trainer.update_center()


@torch.no_grad()
def clip_each(model: torch.nn.Module, largest: float) -> None:
    """Clip the gradient of every tensor to a norm, each by itself, without waiting for the device.

    Args:
        model: model after the backward pass.
        largest: largest norm of a gradient.
    """
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norms = torch._foreach_norm(gradients)
    torch._foreach_mul_(gradients, [(largest / (norm + 1e-6)).clamp(max=1.0) for norm in norms])


class DinoPretrainer(Pretrainer):
    """Trains an image encoder by self-distillation on frames and their companions.

    The student is given 16 views of a sample, the teacher two. The loss of a batch uses the center from before it. The center
    moves once in an update, by the teacher's logits of all batches and processes, so that accumulation changes nothing.

    Args:
        model: student, teacher, heads and center.
        args: arguments of the run.
        train_dataset: frames with companions.
        kwargs: further options, such as `sampler` and `processing_class`.

    Raises:
        InputError: the data set has clips in place of frames with companions, or the views do not fit the model.

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
        self,
        model: SelfDistillation,
        args: DinoArguments,
        train_dataset: CompanionDataset,
        **kwargs: Unpack[PretrainerOptions],
    ) -> None:
        if not isinstance(train_dataset, CompanionDataset):
            raise InputError(f"self-distillation needs a CompanionDataset, not a {type(train_dataset).__name__}")
        if min(args.local_size, _side(model.config)) < _smallest_side(model.config):
            raise InputError(
                f"the encoder takes no images below {_smallest_side(model.config)} pixels; views have "
                f"{_side(model.config)} and {args.local_size}"
            )
        self.student = model
        model.teacher_drops_paths = args.teacher_drop_path
        self.views = surgfm_views(
            _side(model.config),
            args.local_size,
            global_scale=(args.global_scale[0], args.global_scale[1]),
            local_scale=(args.local_scale[0], args.local_scale[1]),
            local_views=args.local_views,
            blur_deviation=(args.blur_deviation[0], args.blur_deviation[1]),
        )
        # (prototypes + 1,) sum of the teacher's logits since the last update, and their number
        self.teacher_sums: torch.Tensor | None = None
        super().__init__(model, args, train_dataset, data_collator=ViewCollator(self.views, args.seed), **kwargs)
        self.add_callback(_TeacherCallback(self))

    @staticmethod
    def processor_for(config: PreTrainedConfig, frame_stride: float) -> ViTImageProcessor:
        """Return an image processor, since the result is an image encoder; `frame_stride` is not used."""
        side = _side(config)
        usual = SurgVistaVideoProcessor
        return ViTImageProcessor(
            size={"height": side, "width": side}, image_mean=list(usual.image_mean), image_std=list(usual.image_std)
        )

    @staticmethod
    def dataset_for(args: PretrainingArguments) -> Callable[..., ClipDataset]:
        """Return a function that makes a `CompanionDataset` of a frame set."""
        assert isinstance(args, DinoArguments)
        seconds, neighbors = args.companion_seconds, args.neighbors

        def with_companions(corpus: Dataset, *, frame_stride: float, **options: Any) -> CompanionDataset:
            """Make the data set; single frames have no stride."""
            return CompanionDataset(corpus, seconds=seconds, neighbors=neighbors, **options)

        return with_companions

    def parameter_groups(self, model: torch.nn.Module) -> ParameterGroups:
        """Return the usual groups, with the layer scales among the parameters that decay if `decay_layer_scale` is set."""
        groups = parameter_groups(model.named_parameters(), self.args.weight_decay)
        if self.args.decay_layer_scale:
            scales = {id(p) for name, p in model.named_parameters() if name.endswith("layer_scale_parameter")}
            decayed, spared = (group["params"] for group in groups)
            decayed += [parameter for parameter in spared if id(parameter) in scales]
            spared[:] = [parameter for parameter in spared if id(parameter) not in scales]
        return groups

    def clip_loss(self, model: torch.nn.Module, batch: ClipBatch) -> Loss:
        """Return the cross-entropy between teacher and student over pairs of views, and add the teacher's logits up."""
        output = model(
            views=make_views(self.views, batch["pixel_values"], batch["views"]),
            keys=batch["views"]["key"],
            student_temperature=self.args.student_temperature,
            teacher_temperature=self.args.teacher_temperature,
        )
        logits = output.teacher_logits.flatten(0, 1)  # (2 views · B, prototypes)
        sums = torch.cat([logits.sum(dim=0), logits.new_tensor([len(logits)])])
        self.teacher_sums = sums if self.teacher_sums is None else self.teacher_sums + sums
        return output.loss, {"feature_std": output.feature_std, "teacher_entropy": output.teacher_entropy}

    def update_center(self) -> None:
        """Move the center by the mean of the teacher's logits since the last update, over all processes."""
        assert self.teacher_sums is not None
        sums = self.accelerator.reduce(self.teacher_sums, "sum")
        self.student.update_center(sums[:-1] / sums[-1], self.args.center_momentum)
        self.teacher_sums = None

    def save_result(self, folder: Path) -> None:
        """Save the teacher's encoder as a plain model; student, heads and center are in the checkpoints."""
        if self.args.should_save:
            self.student.plain_teacher().save_pretrained(folder)
            if self.processing_class is not None:
                self.processing_class.save_pretrained(folder)


def _smallest_side(config: PreTrainedConfig) -> int:
    """Return the side of an image, in pixels, that leaves one pixel in the last stage of a ConvNeXt."""
    return int(config.patch_size) * 2 ** (len(config.depths) - 1)


def _side(config: PreTrainedConfig) -> int:
    height, width = frame_size(config)
    if height != width:
        raise InputError(f"views are square; the model takes {(height, width)}")
    return height
