"""Arguments of training runs, in addition to those of `transformers.TrainingArguments`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from transformers import TrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from ...util.errors import InputError
from ...util.values import (
    Amount,
    Count,
    Fraction,
    PositiveAmount,
    PositiveCount,
    PositiveFraction,
    Rate,
    Seed,
    check_fields,
    field_names,
)

_Epochs = Annotated[float, Field(gt=0, le=1e6)]
_Warmup = Annotated[float, Field(ge=0, le=1e6)]
_Strategy = Literal["no", "steps", "epoch"]
# Ranges of fields that every run has. TrainingArguments takes any number, and some fail only in the middle of a run. The
# ranges hold for subclasses too, whatever their defaults.
_RANGES: Mapping[str, Any] = {
    "base_learning_rate": PositiveAmount,
    "base_min_learning_rate": Amount,
    "warmup_epochs": _Warmup,
    "warmup_start": Fraction,
    "cooldown_epochs": _Warmup | None,
    "schedule_stretch": Annotated[float, Field(ge=1, le=1e6)],
    "final_weight_decay": Amount | None,
    "peak_tflops": PositiveAmount | None,
    "output_dir": Annotated[str, Field(min_length=1)],
    "num_train_epochs": _Epochs,
    "max_steps": Annotated[int, Field(ge=-1, le=10**9)],
    "per_device_train_batch_size": PositiveCount,
    "per_device_eval_batch_size": PositiveCount,
    "gradient_accumulation_steps": PositiveCount,
    "eval_accumulation_steps": PositiveCount | None,
    "learning_rate": Amount,
    "lr_scheduler_type": SchedulerType,
    "optim": OptimizerNames,
    "weight_decay": Amount,
    "max_grad_norm": Amount,
    "warmup_steps": Amount,
    "adam_beta1": Rate,
    "adam_beta2": Rate,
    "adam_epsilon": Amount,
    "label_smoothing_factor": Fraction,
    "neftune_noise_alpha": Amount | None,
    "torch_empty_cache_steps": PositiveCount | None,
    "logging_strategy": _Strategy,
    "logging_steps": PositiveAmount,
    "eval_strategy": _Strategy,
    "eval_steps": PositiveAmount | None,
    "eval_delay": Amount,
    "save_strategy": _Strategy | Literal["best"],
    "save_steps": PositiveAmount,
    "save_total_limit": PositiveCount | None,
    "seed": Seed,
    "data_seed": Seed | None,
    "dataloader_num_workers": Annotated[int, Field(ge=0, le=1024)],
    "dataloader_prefetch_factor": PositiveCount | None,
    "dataloader_multiprocessing_context": Literal["fork", "forkserver", "spawn"] | None,
    "ddp_bucket_cap_mb": PositiveCount | None,
    "ddp_timeout": PositiveCount,
    "log_level": Literal["detail", "debug", "info", "warning", "error", "critical", "passive"],
    "log_level_replica": Literal["detail", "debug", "info", "warning", "error", "critical", "passive"],
}


@dataclass
class ClipArguments(TrainingArguments):
    """Arguments of every run over clips.

    The peak learning rate follows from the whole batch (processes × clips × accumulation): it is `base_learning_rate` · batch
    / `reference_batch`, and so is the floor of the schedule. Give `learning_rate` to set the peak itself.
    """

    reference_batch: ClassVar[int] = 256
    ranges: ClassVar[Mapping[str, Any]] = _RANGES

    base_learning_rate: float = field(default=1.5e-4, metadata={"help": "peak learning rate for the reference batch"})
    base_min_learning_rate: float = field(
        default=1e-4, metadata={"help": "floor of the schedule for the reference batch"}
    )
    learning_rate: float = field(default=0.0, metadata={"help": "peak learning rate; 0: from base_learning_rate"})
    warmup_epochs: float = field(default=40.0, metadata={"help": "epochs of linear warm-up"})
    warmup_start: float = field(default=0.0, metadata={"help": "fraction of the peak at which the warm-up starts"})
    cooldown_epochs: float | None = field(
        default=None,
        metadata={"help": "plateau at the peak, then a linear decay to the floor over so many epochs; none: a cosine"},
    )
    schedule_stretch: float = field(
        default=1.0, metadata={"help": "the schedule is longer than the run by this factor"}
    )
    weight_decay: float = field(default=0.05, metadata={"help": "decay of matrices; vectors and biases do not decay"})
    final_weight_decay: float | None = field(
        default=None, metadata={"help": "weight decay at the end, reached along a cosine; none: it is constant"}
    )
    max_grad_norm: float = field(default=0.0, metadata={"help": "norm that gradients are clipped to; 0: not clipped"})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "a loss that is not finite stops the run"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "clips keep their keys"})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "leave out the last incomplete batch"})
    peak_tflops: float | None = field(
        default=None,
        metadata={"help": "peak of one device, for the log's MFU; none: looked up by the device's name"},
    )
    with_code: bool = field(
        default=False, metadata={"help": "write the code files beside the model, for trust_remote_code=True"}
    )
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "all parameters are used"})

    def __post_init__(self) -> None:
        if getattr(self, "activation_checkpointing", False) is None:  # transformers 5.23 deprecates the older name
            self.activation_checkpointing, self.gradient_checkpointing = self.gradient_checkpointing, None
        others = set(field_names(TrainingArguments)) - set(self.ranges)  # transformers checks these itself
        check_fields(self, [name for name in field_names(type(self)) if name not in others])
        super().__post_init__()
        whole = self.num_train_epochs
        if self.warmup_epochs + (self.cooldown_epochs or 0) > whole:
            raise InputError(
                f"warmup_epochs {self.warmup_epochs} and cooldown_epochs {self.cooldown_epochs or 0} do not fit into "
                f"{whole} epochs"
            )
        if self.base_min_learning_rate > self.base_learning_rate:
            raise InputError(
                f"base_min_learning_rate {self.base_min_learning_rate} must not exceed base_learning_rate "
                f"{self.base_learning_rate}"
            )

    @property
    def total_batch(self) -> int:
        """Return the number of clips in one update of the weights, over all processes and accumulated batches."""
        return self.train_batch_size * self.gradient_accumulation_steps * self.world_size

    @property
    def peak_learning_rate(self) -> float:
        """Return the learning rate after the warm-up."""
        return self.learning_rate or self.base_learning_rate * self.total_batch / self.reference_batch

    @property
    def floor(self) -> float:
        """Return the fraction of the peak learning rate at which the schedule ends."""
        return self.base_min_learning_rate / self.base_learning_rate


@dataclass
class PretrainingArguments(ClipArguments):
    """Arguments of pre-training; the defaults are the published recipe's, except for the batch."""

    num_train_epochs: float = field(default=201.0, metadata={"help": "passes over all clips"})
    decay_mask_tokens: bool = field(
        default=True, metadata={"help": "decay mask tokens, as the published program does by mistake"}
    )
    adam_beta2: float = field(default=0.95, metadata={"help": "second moment of AdamW"})
    reconstruction_steps: Count = field(
        default=0, metadata={"help": "steps between two saved images of a reconstruction; 0: none"}
    )


@dataclass
class FinetuningArguments(ClipArguments):
    """Arguments of fine-tuning; the defaults are SurgVISTA's for workflow (arXiv 2506.02692), except for the batch.

    The published reference batch is 64 here. Learning rates are layer-wise: the last of L blocks has `layer_decay` times that
    of the head, each block before it `layer_decay` times that of the next, and the embeddings `layer_decay` to the power of
    L + 1 times that of the head.
    """

    reference_batch: ClassVar[int] = 64

    num_train_epochs: float = field(default=50.0, metadata={"help": "passes over all clips"})
    base_learning_rate: float = field(default=5e-4, metadata={"help": "peak learning rate for 64 clips"})
    base_min_learning_rate: float = field(default=1e-6, metadata={"help": "floor of the schedule for 64 clips"})
    warmup_epochs: float = field(default=5.0, metadata={"help": "epochs of linear warm-up"})
    layer_decay: PositiveFraction = field(
        default=0.75, metadata={"help": "factor of the learning rate from one layer to the one before; 1: none"}
    )
    label_smoothing_factor: float = field(
        default=0.1, metadata={"help": "fraction of a label that is spread over all classes"}
    )
    mixup_alpha: Amount = field(default=0.8, metadata={"help": "α of the Beta distribution of mixup's λ; 0: no mixup"})
    cutmix_alpha: Amount = field(
        default=1.0, metadata={"help": "α of the Beta distribution of CutMix's λ; 0: no CutMix"}
    )
    cutmix_probability: Fraction = field(
        default=0.5, metadata={"help": "probability of CutMix rather than mixup, where both are on"}
    )
    rand_augment: Annotated[int, Field(ge=0, le=100)] = field(
        default=4, metadata={"help": "operations of RandAugment drawn for a clip; 0: none"}
    )
    rand_augment_magnitude: Annotated[float, Field(ge=0, le=10)] = field(
        default=7.0, metadata={"help": "mean magnitude of an operation, 0-10"}
    )
    invert_colors: bool = field(
        default=True, metadata={"help": "let RandAugment invert, solarize and posterize, as published"}
    )
    crop_scale: PositiveFraction = field(
        default=0.7, metadata={"help": "smallest fraction of a frame's area that a crop covers"}
    )
    flip: Fraction = field(
        default=0.5, metadata={"help": "probability that left and right are exchanged, as published"}
    )
    erasing: Fraction = field(default=0.25, metadata={"help": "probability that a rectangle is replaced by noise"})
    class_balance: Fraction | None = field(
        default=None,
        metadata={"help": "draw classes in proportion to their size to this power: 0 equally; none: no balancing"},
    )
    class_weights: Literal["median_frequency"] | None = field(
        default=None, metadata={"help": "`median_frequency` weights the loss of a class by median / frequency"}
    )
    component_weight: Amount = field(
        default=0.0, metadata={"help": "weight of the loss of instruments, verbs and targets beside triplets"}
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = field(
        default=None,
        metadata={
            "help": "decay of an exponential moving average of the weights, which is tested and saved; none: no EMA"
        },
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "when the model is evaluated on the validation"})
    save_strategy: str = field(default="epoch", metadata={"help": "when a checkpoint is written"})
