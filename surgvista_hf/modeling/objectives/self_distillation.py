"""Self-distillation (DINO, arXiv 2104.14294) of image encoders: a student says of every view of a sample what a teacher, its
own slow average, says of the two global ones. With views of companion frames it is the "augmented distillation" of SurgFM /
LemonFM (arXiv 2503.19740).

The encoders are transformers' own. The teacher is part of the model, so that a checkpoint holds it, and it stands where a
plain encoder is looked for: a checkpoint loads with `AutoModel` as the teacher's encoder, which is what SurgFM's release is.
Shapes in comments: B samples, V views, K outputs of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

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
        layer_norm_eps: of the last normalization.
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
        student_logits: (V, B, K).
        teacher_logits: (2, B, K).
        feature_std: scalar, standard deviation over samples of the teacher's features of the first view, averaged over
            features: it tends to 0 when the representation collapses.
        teacher_entropy: scalar, of what the teacher says of a view, in nats: it tends to log K or to 0 when that is always the
            same.
    """

    loss: torch.Tensor | None = None
    student_logits: torch.Tensor | None = None
    teacher_logits: torch.Tensor | None = None
    feature_std: torch.Tensor | None = None
    teacher_entropy: torch.Tensor | None = None


def distillation_loss(student: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """Cross-entropy of every view against every target of another view, averaged over these pairs and the batch.

    Args:
        student: (V, B, K) logits; the first views are those of the targets.
        targets: (U, B, K) probabilities.
        temperature: of the student.

    Returns:
        Scalar, in nats.
    """
    said = functional.log_softmax(student / temperature, dim=-1)
    pairs = -torch.einsum("ubk,vbk->uv", targets, said) / student.shape[1]
    own = torch.eye(*pairs.shape, dtype=torch.bool, device=pairs.device)
    return pairs.masked_fill(own, 0).sum() / (pairs.numel() - len(targets))


class DistillationHead(nn.Module):
    """Three layers, then cosine similarities to K directions. `(B, width) -> (B, K)`.

    The published head has a weight-normalized last layer with its gain fixed at 1, which is the same.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, output: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.last_layer = nn.Linear(bottleneck, output, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        point = functional.normalize(self.mlp(features).float(), dim=-1)
        return functional.linear(point, functional.normalize(self.last_layer.weight, dim=-1))


class SelfDistillation(PreTrainedModel):
    """What the models share: two encoders with heads, the loss, and the slow average.

    A subclass says of which encoder. It must give `pooler_output`, treat the images of a batch independently (no batch
    normalization), and take images of several sizes.
    """

    accepts_loss_kwargs = False  # the Trainer divides the loss by the number of batches of a step
    encoder_class: ClassVar[type[PreTrainedModel]]
    config: Any
    center: torch.Tensor

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        widths = [config.hidden_sizes[-1], *(getattr(config, name) for name in _OF_HEAD)]
        setattr(self, self.base_model_prefix, self.encoder_class(config))
        self.teacher_head: Any = DistillationHead(*widths)
        self.student: Any = self.encoder_class(config)
        self.student_head: Any = DistillationHead(*widths)
        self.register_buffer("center", torch.zeros(config.head_output_size))
        self.teacher_drops_paths = False
        self._drop_paths = [_keyed_drop_paths(encoder) for encoder in (self.student, self.teacher)]
        for place, drop_path in enumerate([*self._drop_paths[0], *self._drop_paths[1]]):
            drop_path.place = place
        self.post_init()
        self.reset_teacher()
        for module in (self.teacher, self.teacher_head):
            module.requires_grad_(False)
        self.train(self.training)

    @property
    def teacher(self) -> Any:
        """The teacher's encoder."""
        return getattr(self, self.base_model_prefix)

    def forward(
        self,
        views: Sequence[torch.Tensor],
        keys: torch.Tensor | None = None,
        *,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        **kwargs: Any,
    ) -> SelfDistillationOutput:
        """The loss of a batch.

        Args:
            views: of each sample, each (B, channels, side, side), the two that the teacher sees first.
            keys: (B, V) int64, of which stochastic depth is a function; `None`: PyTorch's generator.
            student_temperature, teacher_temperature: what logits are divided by.
        """
        if len(views) <= TEACHER_VIEWS:
            raise InputError(f"the teacher sees {TEACHER_VIEWS} views, the student more; got {len(views)}")
        with torch.no_grad():
            seen = _encode(self.teacher, views[:TEACHER_VIEWS], keys, self._drop_paths[1])
            teacher = torch.stack([self.teacher_head(features).float() for features in seen])
            targets = torch.softmax((teacher - self.center) / teacher_temperature, dim=-1)
        encoded = _encode(self.student, views, keys, self._drop_paths[0])
        student = self.student_head(torch.cat(encoded)).float().unflatten(0, (len(views), -1))
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
        """Teacher ← momentum · teacher + (1 - momentum) · student."""
        teacher = [*self.teacher.parameters(), *self.teacher_head.parameters()]
        student = [*self.student.parameters(), *self.student_head.parameters()]
        torch._foreach_lerp_(teacher, student, 1 - momentum)

    @torch.no_grad()
    def update_center(self, mean: torch.Tensor, momentum: float) -> None:
        """Center ← momentum · center + (1 - momentum) · mean of the teacher's logits (K,)."""
        self.center.lerp_(mean.to(self.center), 1 - momentum)

    def train(self, mode: bool = True) -> Any:
        """The teacher stays in evaluation mode, unless it is told to drop paths as the published one does."""
        super().train(mode)
        self.teacher.train(mode and self.teacher_drops_paths)
        return self

    def plain_teacher(self) -> PreTrainedModel:
        """The teacher's encoder as a model of transformers, without stochastic depth: what is published of a run."""
        kind: Any = self.encoder_class
        fields = {name: value for name, value in self.config.to_dict().items() if name not in _OF_HEAD}
        fields |= {"architectures": None, "drop_path_rate": 0.0}
        plain = kind(kind.config_class.from_dict(fields))
        plain.load_state_dict(self.teacher.state_dict())
        return cast(PreTrainedModel, plain.to(self.dtype).eval())

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As `PreTrainedModel.from_pretrained`; from a plain encoder both student and teacher start."""
        told = kwargs.pop("output_loading_info", False)
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
        return (model, info) if told else model


class ConvNextForSelfDistillation(SelfDistillation, ConvNextPreTrainedModel):
    """ConvNeXt to be trained by self-distillation, as SurgFM was; see `SelfDistillation`.

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
    """ConvNeXt V2 to be trained by self-distillation; see `SelfDistillation`."""

    config_class = ConvNextV2DistillationConfig
    encoder_class = ConvNextV2Model


def _encode(
    encoder: Any, views: Sequence[torch.Tensor], keys: torch.Tensor | None, drop_paths: Sequence[SurgVistaDropPath]
) -> list[torch.Tensor]:
    """Features of each view, (B, width); views of one size go through the encoder together."""
    features: dict[int, torch.Tensor] = {}
    for shape in dict.fromkeys(view.shape for view in views):
        numbers = [number for number, view in enumerate(views) if view.shape == shape]
        for module in drop_paths:
            module.keys = None if keys is None else keys[:, numbers].T.flatten()
        output = encoder(torch.cat([views[number] for number in numbers])).pooler_output
        features |= zip(numbers, output.flatten(1).split(shape[0]), strict=True)
    return [features[number] for number in range(len(views))]


def _keyed_drop_paths(encoder: nn.Module) -> list[SurgVistaDropPath]:
    """Put stochastic depth that depends on keys in the place of the encoder's own."""
    put: list[SurgVistaDropPath] = []
    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__.endswith("DropPath"):
                put.append(SurgVistaDropPath(float(child.drop_prob)))  # type: ignore[arg-type]
                setattr(parent, name, put[-1])
    return put
