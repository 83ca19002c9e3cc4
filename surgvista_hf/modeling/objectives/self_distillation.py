"""Self-distillation (DINO, arXiv 2104.14294) of image encoders: a student predicts for every view of a sample what a teacher,
its own moving average, predicts for the two global ones. With views of companion frames it is the "augmented distillation"
of SurgFM / LemonFM (arXiv 2503.19740).

The encoders are transformers' own. The teacher is part of the model, so that a checkpoint holds it, and has the name of a
plain encoder: a checkpoint loads with `AutoModel` as the teacher's encoder, which is what SurgFM's release is. Shapes in
comments: B samples, V views, K outputs of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional
from transformers import (
    ConvNextConfig,
    ConvNextModel,
    ConvNextPreTrainedModel,
    ConvNextV2Config,
    ConvNextV2Model,
    ConvNextV2PreTrainedModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import ModelOutput

from ...util.errors import InputError
from ..modeling_surgvista import SurgVistaDropPath

TEACHER_VIEWS = 2
_OF_HEAD = ("head_hidden_size", "head_bottleneck_size", "head_output_size")


@strict
class ConvNextDistillationConfig(ConvNextConfig):
    """A ConvNeXt and its head; the defaults of what differs from `ConvNextConfig` are SurgFM's.

    Args:
        layer_norm_eps: epsilon of the last normalization.
        head_hidden_size, head_bottleneck_size, head_output_size: widths of the head's layers.
    """

    layer_norm_eps: float = 1e-6
    head_hidden_size: int = 2048
    head_bottleneck_size: int = 256
    head_output_size: int = 65536


@strict
class ConvNextV2DistillationConfig(ConvNextV2Config):
    """A ConvNeXt V2 and its head; see `ConvNextDistillationConfig`."""

    layer_norm_eps: float = 1e-6
    head_hidden_size: int = 2048
    head_bottleneck_size: int = 256
    head_output_size: int = 65536


@dataclass
class SelfDistillationOutput(ModelOutput):
    """Output of a model of self-distillation.

    Args:
        loss: scalar.
        student_logits: the student's scores of all views, (V, B, K).
        teacher_logits: the teacher's scores of the two global views, (2, B, K).
        feature_std: scalar, standard deviation over samples of the teacher's features of the first view, averaged over
            features: it tends to 0 when the representation collapses.
        teacher_entropy: scalar, entropy of the teacher's prediction for a view, in nats: it tends to log K or to 0 when all
            predictions are the same.
    """

    loss: torch.Tensor | None = None
    student_logits: torch.Tensor | None = None
    teacher_logits: torch.Tensor | None = None
    feature_std: torch.Tensor | None = None
    teacher_entropy: torch.Tensor | None = None


def distillation_loss(student: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the cross-entropy of every view against every target of another view, averaged over pairs and batch.

    This is equation 3 of DINO (arXiv 2104.14294).

    Args:
        student: logits (V, B, K); the first views are those of the targets.
        targets: probabilities (U, B, K).
        temperature: temperature of the student's softmax.

    Returns:
        Loss, a scalar, in nats.

    Example:
        >>> distillation_loss(torch.zeros(3, 1, 2), torch.full((2, 1, 2), 0.5), 1.0).item()  # log 2
        0.6931471824645996
    """
    log_probabilities = functional.log_softmax(student / temperature, dim=-1)
    pairs = -torch.einsum("ubk,vbk->uv", targets, log_probabilities) / student.shape[1]  # (U, V)
    own = torch.eye(*pairs.shape, dtype=torch.bool, device=pairs.device)
    return pairs.masked_fill(own, 0).sum() / (pairs.numel() - len(targets))


class DistillationHead(nn.Module):
    """Applies three layers, then measures cosine similarities to K directions. `(B, width) -> (B, K)`.

    The published head has a weight-normalized last layer with its gain fixed at 1, which is the same.
    """

    def __init__(self, width: int, hidden_size: int, bottleneck: int, output: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden_size),
            nn.GELU(),
            nn.Linear(hidden_size, hidden_size),
            nn.GELU(),
            nn.Linear(hidden_size, bottleneck),
        )
        self.last_layer = nn.Linear(bottleneck, output, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Score features (B, width); in fp32, since the loss is sensitive to small differences of the similarities."""
        point = functional.normalize(self.mlp(features).float(), dim=-1)
        return functional.linear(point, functional.normalize(self.last_layer.weight, dim=-1))


class SelfDistillation(PreTrainedModel):
    """Holds what the models share: two encoders with heads, the loss, and the moving average.

    A subclass names the class of the encoder, which must give `pooler_output`, treat the images of a batch independently (no
    batch normalization), and take images of several sizes.
    """

    accepts_loss_kwargs = False  # the Trainer divides the loss by the number of batches of a step
    encoder_class: ClassVar[type[PreTrainedModel]]
    config: Any
    center: torch.Tensor

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        widths = [config.hidden_sizes[-1], *(getattr(config, name) for name in _OF_HEAD)]
        setattr(self, self.base_model_prefix, self.encoder_class(config))
        self.teacher_head = DistillationHead(*widths)
        self.student = self.encoder_class(config)
        self.student_head = DistillationHead(*widths)
        self.register_buffer("center", torch.zeros(config.head_output_size))
        self.teacher_drops_paths = False
        self._drop_paths = [_keyed_drop_paths(encoder) for encoder in (self.student, self.teacher)]
        for index, drop_path in enumerate([*self._drop_paths[0], *self._drop_paths[1]]):
            drop_path.index = index
        self.post_init()
        self.reset_teacher()
        for module in (self.teacher, self.teacher_head):
            module.requires_grad_(False)
        self.train(self.training)

    @property
    def teacher(self) -> PreTrainedModel:
        """Return the teacher's encoder."""
        return cast(PreTrainedModel, getattr(self, self.base_model_prefix))

    def forward(
        self,
        views: Sequence[torch.Tensor],
        keys: torch.Tensor | None = None,
        *,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        **kwargs: object,
    ) -> SelfDistillationOutput:
        """Compute the loss of a batch.

        Args:
            views: V views of each sample, (B, channels, side, side) each; the two that the teacher sees come first.
            keys: int64 numbers (B, V), of which stochastic depth is a function; `None`: PyTorch's generator is used.
            student_temperature, teacher_temperature: numbers that the logits are divided by.
            kwargs: further arguments of the Trainer, which are ignored.

        Raises:
            InputError: too few views.
        """
        if len(views) <= TEACHER_VIEWS:
            raise InputError(f"the teacher sees {TEACHER_VIEWS} views, the student more; got {len(views)}")
        with torch.no_grad():
            seen = _encode(self.teacher, views[:TEACHER_VIEWS], keys, self._drop_paths[1])
            teacher = torch.stack([self.teacher_head(features).float() for features in seen])  # (2, B, K)
            targets = torch.softmax((teacher - self.center) / teacher_temperature, dim=-1)
        encoded = _encode(self.student, views, keys, self._drop_paths[0])
        student = self.student_head(torch.cat(encoded)).float().unflatten(0, (len(views), -1))  # (V, B, K)
        return SelfDistillationOutput(
            loss=distillation_loss(student, targets, student_temperature),
            student_logits=student,
            teacher_logits=teacher,
            feature_std=seen[0].float().std(dim=0, correction=0).mean(),
            teacher_entropy=torch.special.entr(targets).sum(dim=-1).mean(),
        )

    # ------------------------------------------------------------------------------------------- teacher

    @torch.no_grad()
    def reset_teacher(self) -> None:
        """Make the teacher a copy of the student."""
        self.update_teacher(0.0)

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher: teacher ← momentum · teacher + (1 - momentum) · student."""
        teacher: list[torch.Tensor] = [*self.teacher.parameters(), *self.teacher_head.parameters()]
        student: list[torch.Tensor] = [*self.student.parameters(), *self.student_head.parameters()]
        torch._foreach_lerp_(teacher, student, 1 - momentum)

    @torch.no_grad()
    def update_center(self, mean: torch.Tensor, momentum: float) -> None:
        """Move the center: center ← momentum · center + (1 - momentum) · `mean` (K,) of the teacher's logits."""
        self.center.lerp_(mean.to(self.center), 1 - momentum)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; the teacher stays in evaluation mode unless `teacher_drops_paths`."""
        super().train(mode)
        self.teacher.train(mode and self.teacher_drops_paths)
        return self

    def plain_teacher(self) -> PreTrainedModel:
        """Return the teacher's encoder as a model of transformers, without stochastic depth; it is the result of a run."""
        kind: Any = self.encoder_class
        fields = {name: value for name, value in self.config.to_dict().items() if name not in _OF_HEAD}
        fields |= {"architectures": None, "drop_path_rate": 0.0}
        plain = kind(kind.config_class.from_dict(fields))
        plain.load_state_dict(self.teacher.state_dict())
        return cast(PreTrainedModel, plain.to(self.dtype).eval())

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a model as `PreTrainedModel.from_pretrained` does; a plain encoder becomes both student and teacher."""
        with_info = kwargs.pop("output_loading_info", False)
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, info = loaded
        for module in (model.teacher, model.teacher_head):
            module.requires_grad_(False)
        missing = set(info["missing_keys"])
        if any(name.startswith("student.") for name in missing):
            model.student.load_state_dict(model.teacher.state_dict())
        if any(name.startswith("teacher_head.") for name in missing):
            model.teacher_head.load_state_dict(model.student_head.state_dict())
        if "center" in missing:
            model.center.zero_()
        info["missing_keys"] = {name for name in missing if name.startswith(f"{cls.base_model_prefix}.")}
        return (model, info) if with_info else model


class ConvNextForSelfDistillation(SelfDistillation, ConvNextPreTrainedModel):
    """Trains ConvNeXt by self-distillation, as SurgFM was; see `SelfDistillation`.

    Example:
        >>> config = ConvNextDistillationConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 8, 16], head_output_size=32)
        >>> model = ConvNextForSelfDistillation(config)
        >>> views = [torch.zeros(2, 3, side, side) for side in (64, 64, 32)]
        >>> model(views).student_logits.shape
        torch.Size([3, 2, 32])
    """

    config_class = ConvNextDistillationConfig
    encoder_class = ConvNextModel


class ConvNextV2ForSelfDistillation(SelfDistillation, ConvNextV2PreTrainedModel):
    """Trains ConvNeXt V2 by self-distillation; see `SelfDistillation`."""

    config_class = ConvNextV2DistillationConfig
    encoder_class = ConvNextV2Model


def _encode(
    encoder: nn.Module,
    views: Sequence[torch.Tensor],
    keys: torch.Tensor | None,
    drop_paths: Sequence[SurgVistaDropPath],
) -> list[torch.Tensor]:
    """Return the features of each view, (B, width); views of one size go through the encoder together."""
    features: dict[int, torch.Tensor] = {}
    for shape in dict.fromkeys(view.shape for view in views):
        numbers = [number for number, view in enumerate(views) if view.shape == shape]
        for module in drop_paths:
            module.keys = None if keys is None else keys[:, numbers].T.flatten()  # (views of this size · B,)
        output = encoder(torch.cat([views[number] for number in numbers])).pooler_output
        features |= zip(numbers, output.flatten(1).split(shape[0]), strict=True)
    return [features[number] for number in range(len(views))]


def _keyed_drop_paths(encoder: nn.Module) -> list[SurgVistaDropPath]:
    """Replace the encoder's stochastic depth by one that depends on keys; return the new modules."""
    new: list[SurgVistaDropPath] = []
    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__.endswith("DropPath"):
                new.append(SurgVistaDropPath(float(child.drop_prob)))  # type: ignore[arg-type]
                setattr(parent, name, new[-1])
    return new
