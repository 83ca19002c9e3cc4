"""Joint-embedding prediction: V-JEPA (arXiv 2404.08471), V-JEPA 2 (arXiv 2506.09985), SurgRec-JEPA (arXiv 2603.29966)."""

from dataclasses import dataclass, field
from typing import Annotated, Literal, Unpack

import torch
from pydantic import Field
from transformers import (
    BaseVideoProcessor,
    PreTrainedConfig,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    VJEPA2Config,
)

from ...clips import BlockMasking, ClipDataset, RandomResizedCrop
from ...modeling.configuration_surgvista import SurgVistaConfig
from ...modeling.objectives.joint_embedding import JointEmbedding, SurgVistaForJointEmbedding, VJEPA2ForJointEmbedding
from ...modeling.processors import make_processor, make_surgvista_processor, stride_in_use
from ...util.errors import InputError
from ...util.values import Amount, Fraction, PositiveAmount
from ..common.arguments import PretrainingArguments
from ..common.protocols import ClipBatch, Loss
from .trainer import ClipShape, MaskedPretrainer, PretrainerOptions, surgvista_clip_shape

_Blocks = Annotated[list[PositiveAmount], Field(min_length=2, max_length=2)]


@dataclass
class JepaArguments(PretrainingArguments):
    """Arguments of joint-embedding prediction; the defaults are V-JEPA's with ViT-L, whose batch was 3072 clips."""

    base_learning_rate: float = field(default=5.2083e-5, metadata={"help": "6.25e-4 for 3072 clips"})
    base_min_learning_rate: float = field(default=8.3333e-8, metadata={"help": "1e-6 for 3072 clips"})
    warmup_start: float = field(default=0.32, metadata={"help": "2e-4 of 6.25e-4"})
    weight_decay: float = field(default=0.04, metadata={"help": "decay of matrices at the start"})
    final_weight_decay: float | None = field(
        default=0.4, metadata={"help": "decay of matrices at the end, reached along a cosine"}
    )
    adam_beta2: float = field(default=0.999, metadata={"help": "second moment of AdamW"})
    num_train_epochs: float = field(default=300.0, metadata={"help": "passes over all clips"})
    schedule_stretch: float = field(
        default=1.25, metadata={"help": "schedules are longer than the run by this factor"}
    )
    ema_momentum: Fraction = field(
        default=0.998, metadata={"help": "momentum of the target encoder's EMA at the start"}
    )
    final_ema_momentum: Fraction = field(
        default=1.0, metadata={"help": "momentum of the target encoder's EMA at the end, reached along a line"}
    )
    max_part_grad_norm: Amount = field(
        default=10.0,
        metadata={
            "help": "norm that the gradients of encoder and predictor are each clipped to after the warm-up; 0: never"
        },
    )
    mask_blocks: Annotated[list[_Blocks], Field(min_length=1, max_length=100)] = field(
        default_factory=lambda: [[8, 0.15], [2, 0.7]],
        metadata={"help": "for each set of masks, number of blocks and the fraction of a frame's tokens in each"},
    )
    mask_truncation: Literal["first", "random"] = field(
        default="first", metadata={"help": "first (as published) or random; see BlockMasking"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ema_momentum > self.final_ema_momentum:
            raise InputError(
                f"the target encoder's momentum must rise; got ema_momentum {self.ema_momentum}, "
                f"final_ema_momentum {self.final_ema_momentum}"
            )
        for count, fraction in self.mask_blocks:
            if count > 1000 or count % 1 or fraction > 1:
                raise InputError(
                    f"mask_blocks is {self.mask_blocks}; each needs a whole number of blocks and their fraction, up to 1"
                )

    def momentum(self, step: int, total_steps: int) -> float:
        """Return the momentum of the target encoder's EMA after update `step`, from 0."""
        progress = step / (total_steps * self.schedule_stretch)
        return self.ema_momentum + (self.final_ema_momentum - self.ema_momentum) * progress


class _TargetEncoderCallback(TrainerCallback):
    """Clips the gradients of encoder and predictor before an update, and moves the target encoder after it."""

    def __init__(self, trainer: "JepaPretrainer") -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Clip the gradients of each part by its own norm."""
        own = self.trainer.args
        if own.max_part_grad_norm and state.global_step >= own.warmup_epochs / own.num_train_epochs * state.max_steps:
            for part in self.trainer.parts():
                self.trainer.accelerator.clip_grad_norm_(part, own.max_part_grad_norm)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Move the target encoder towards the context encoder."""
        self.trainer.student.update_target(self.trainer.args.momentum(state.global_step - 1, state.max_steps))


class JepaPretrainer(MaskedPretrainer):
    """Trains a joint-embedding model on clips: context encoder, predictor, and a slow target encoder saved with them.

    With `VJEPA2ForJointEmbedding` positions are rotary (V-JEPA 2); with `SurgVistaForJointEmbedding` they are a sin-cos table,
    as in V-JEPA 1 and most likely SurgRec-JEPA.

    Args:
        model: one of the two.
        args: arguments of the run.
        train_dataset: clips without labels.
        kwargs: further options, such as `sampler` and `processing_class`.

    Raises:
        InputError: the clips do not fit the model, or a VJEPA2 model has stochastic depth, which would be drawn from PyTorch's
            global generator.

    Example:
        >>> trainer = JepaPretrainer(VJEPA2ForJointEmbedding(config), JepaArguments("run"), clips)  # doctest: +SKIP
    """

    args: JepaArguments
    arguments_class = JepaArguments
    models = {"surgvista": SurgVistaForJointEmbedding, "vjepa2": VJEPA2ForJointEmbedding}

    def __init__(
        self,
        model: SurgVistaForJointEmbedding | VJEPA2ForJointEmbedding,
        args: JepaArguments,
        train_dataset: ClipDataset,
        **kwargs: Unpack[PretrainerOptions],
    ) -> None:
        shape = (
            surgvista_clip_shape(model.config)
            if isinstance(model.config, SurgVistaConfig)
            else _vjepa2_clip_shape(model.config)
        )
        masks = BlockMasking(
            shape.grid,
            blocks=tuple((int(count), scale) for count, scale in args.mask_blocks),
            truncation=args.mask_truncation,
            seed=args.seed,
        )
        crop = RandomResizedCrop(shape.size, args.seed)
        super().__init__(model, args, train_dataset, shape, masks, crop=crop, **kwargs)
        self.student: JointEmbedding = model
        self.add_callback(_TargetEncoderCallback(self))

    @staticmethod
    def processor_for(config: PreTrainedConfig, frame_stride: float) -> BaseVideoProcessor:
        """Return the video processor of a SurgVISTA or V-JEPA 2 model."""
        if isinstance(config, SurgVistaConfig):
            return make_surgvista_processor(config, frame_stride)
        size = (int(config.crop_size), int(config.crop_size))
        return make_processor("vjepa2", size, config.frames_per_clip, frame_stride=stride_in_use(frame_stride))

    def parts(self) -> list[list[torch.nn.Parameter]]:
        """Return the trained parameters in two lists: those of the context encoder, and all others."""
        encoder = list(self.student.online_encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        trained = (parameter for parameter in self.student.parameters() if parameter.requires_grad)
        return [encoder, [parameter for parameter in trained if id(parameter) not in known]]

    def clip_loss(self, model: torch.nn.Module, batch: ClipBatch) -> Loss:
        """Return the distance of predicted from target features, and how much features vary, which shows a collapse."""
        if isinstance(self.student, SurgVistaForJointEmbedding):
            self.student.set_drop_path_keys(batch["drop_path_keys"])
        output = model(pixel_values=self.prepare_pixels(batch), **batch["masks"])
        return output.loss, {"feature_std": output.feature_std}


def _vjepa2_clip_shape(config: VJEPA2Config) -> ClipShape:
    if config.drop_path_rate:
        raise InputError(f"drop_path_rate is {config.drop_path_rate}; runs of VJEPA2 models repeat only without it")
    if not isinstance(config.patch_size, int):
        raise InputError(f"patches must be square; patch_size is {config.patch_size}")
    side = config.crop_size // config.patch_size
    grid = (config.frames_per_clip // config.tubelet_size, side, side)
    return ClipShape(config.frames_per_clip, config.crop_size, grid)
