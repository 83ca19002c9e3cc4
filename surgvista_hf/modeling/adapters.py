"""Training few parameters: adapters (LoRA, DoRA, IA3), frozen encoders, and bases in 8 or 4 bits.

Adapters are peft's. Which layers they sit in is found from the model itself, so it works for every family: LoRA and DoRA in
the linear layers of attention (of ConvNeXt in its pointwise layers), IA3 in keys, values and the second layer of each MLP.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import nn
from transformers import AutoConfig, BitsAndBytesConfig, PreTrainedModel

from .errors_surgvista import InputError
from .families import class_names, clip_length, is_head, load_classifier

Method = Literal["full", "probe", "lora", "dora", "ia3"]
Layers = Literal["attention", "all"]
_ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)
_KEYS_VALUES = re.compile(r"(^|\.|_)(k|v|key|value)(_proj)?$")


@dataclass(frozen=True)
class AdapterRecipe:
    """How much of a model is trained.

    Args:
        method: `"full"`: all; `"probe"`: the head on a frozen encoder; `"lora"`, `"dora"` or `"ia3"`: an adapter and the head.
        rank: of LoRA and DoRA.
        alpha: their scale is alpha / rank.
        dropout: before them.
        layers: `"attention"`, or `"all"` linear layers of the blocks.
        bits: the frozen weights in 8 or 4 bits through bitsandbytes; `None`: as they are.
    """

    method: Method = "full"
    rank: int = 16
    alpha: float = 32
    dropout: float = 0.05
    layers: Layers = "attention"
    bits: int | None = None

    def __post_init__(self) -> None:
        if self.method not in get_args(Method) or self.layers not in get_args(Layers):
            raise InputError(
                f"adapter.method is {self.method!r} and adapter.layers {self.layers!r}; they must be one of "
                f"{', '.join(get_args(Method))} and one of {', '.join(get_args(Layers))}"
            )
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise InputError(f"adapter.rank is {self.rank} and adapter.dropout {self.dropout}: at least 1, and 0 … 1")
        if self.bits not in (None, 4, 8):
            raise InputError(f"adapter.bits is {self.bits}; 8 or 4 is possible")
        if self.bits and self.method == "full":
            raise InputError("weights in few bits cannot be trained: choose an adapter or a probe as adapter.method")
        if self.bits == 8 and self.method == "dora":
            raise InputError("DoRA does not work over weights in 8 bits: take 4, or LoRA")

    @property
    def is_peft(self) -> bool:
        """Whether peft does it."""
        return self.method in ("lora", "dora", "ia3")


@dataclass(frozen=True)
class Parameters:
    """How many parameters a model has.

    Args:
        trained: that a run changes, with the head.
        all: with those of the base.
        bytes: of all weights as they lie in memory.
    """

    trained: int
    all: int
    bytes: int

    @property
    def share(self) -> float:
        """Of the trained ones."""
        return self.trained / self.all


def count_parameters(model: nn.Module) -> Parameters:
    """Counts parameters; weights in 4 bits, which lie packed, as what they stand for."""
    total = trained = size = 0
    for parameter in model.parameters():
        shape = getattr(getattr(parameter, "quant_state", None), "shape", None)
        number = int(torch.Size(shape).numel()) if shape is not None else parameter.numel()
        total += number
        trained += number * parameter.requires_grad
        size += parameter.numel() * parameter.element_size()
    return Parameters(trained, total, size)


def quantization(bits: int | None) -> dict[str, Any]:
    """What `from_pretrained` must be told to load the blocks in few bits; the head and the patches stay as they are.

    Raises:
        InputError: bitsandbytes is not installed.
    """
    if bits is None:
        return {}
    if find_spec("bitsandbytes") is None:
        raise InputError("weights in 8 or 4 bits need bitsandbytes: pip install 'surgvista-hf[quant]'")
    skipped = ["classifier", "fc_norm", "pooler", "pooling", "patch_embeddings.projection"]
    options: dict[str, Any] = (
        {"load_in_8bit": True} if bits == 8 else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    )
    device: Any = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    return {
        "quantization_config": BitsAndBytesConfig(**options, llm_int8_skip_modules=skipped),
        "device_map": {"": device},
    }


def adapted_layers(model: nn.Module, layers: Layers) -> list[str]:
    """Names of the linear layers of the encoder that adapters sit in.

    Args:
        model: classifier.
        layers: `"attention"`; where there is none (ConvNeXt), or for `"all"`, all linear layers of the blocks.
    """
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not is_head(name) and ".predictor." not in name
    ]
    blocks = [name for name in linear if re.search(r"\.(layers?|blocks?)\.\d+\.", f".{name}")]
    attention = [name for name in blocks if _ATTENTION.search(name)]
    return attention if attention and layers == "attention" else blocks


def add_adapter(model: PreTrainedModel, recipe: AdapterRecipe, start: str | Path) -> Any:
    """Freezes what is not trained and adds the adapter.

    Args:
        model: classifier, see `families.load_classifier`.
        recipe: how much is trained.
        start: the checkpoint it came from, which a saved adapter names.

    Returns:
        The model, or one of peft around it.

    Raises:
        InputError: peft is not installed, or the encoder has no linear layers in blocks.
    """
    heads = [name for name, _ in model.named_children() if is_head(name)]
    if recipe.method == "full":
        return model
    if recipe.method == "probe":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(is_head(name) and parameter.is_floating_point())
        return model
    if find_spec("peft") is None:
        raise InputError(f"{recipe.method} needs peft: pip install 'surgvista-hf[peft]'")
    from peft import IA3Config, LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if recipe.bits:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    trained = [name for name in heads if any(True for _ in getattr(model, name).parameters())]
    targets: Sequence[str] = adapted_layers(model, "all" if recipe.method == "ia3" else recipe.layers)
    if not targets:
        raise InputError(f"{start}: no linear layers in blocks were found for an adapter")
    config: Any
    if recipe.method == "ia3":
        feedforward = [name for name in targets if not _ATTENTION.search(name) and _narrows(model, name)]
        keys = [name for name in targets if _ATTENTION.search(name) and _KEYS_VALUES.search(name)]
        config = IA3Config(target_modules=keys + feedforward, feedforward_modules=feedforward, modules_to_save=trained)
    else:
        config = LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,  # type: ignore[arg-type]  # peft takes fractions too
            lora_dropout=recipe.dropout,
            use_dora=recipe.method == "dora",
            target_modules=list(targets),
            modules_to_save=trained,
        )
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = str(start)
    return adapted


def _narrows(model: nn.Module, name: str) -> bool:
    layer: Any = model.get_submodule(name)
    return bool(layer.in_features > layer.out_features)


def merge_adapter(folder: str | Path) -> PreTrainedModel:
    """The whole model of a saved adapter, which is not needed any more.

    Args:
        folder: of the adapter.

    Returns:
        A plain model in full precision.

    Raises:
        InputError: no adapter, or its base cannot be loaded.
    """
    adapted = load_adapted(folder)
    adapted.merge_adapter()
    return _unwrapped(adapted.get_base_model())


def _unwrapped(model: Any) -> PreTrainedModel:
    """The model without peft's layers. Its own `unload` fails where a head that was trained is no single layer (IA3)."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        parent, _, own = name.rpartition(".")
        if isinstance(module, BaseTunerLayer):
            setattr(model.get_submodule(parent), own, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            setattr(model.get_submodule(parent), own, module.modules_to_save[module.active_adapters[0]])
    return cast(PreTrainedModel, model)


def load_adapted(folder: str | Path, **loading: Any) -> Any:
    """A saved adapter on its base.

    Args:
        folder: of the adapter, with the configuration of the whole model beside it.
        loading: for the base's `from_pretrained`, e.g. `quantization_config`.

    Returns:
        A model of peft.

    Raises:
        InputError: no adapter, or its base cannot be loaded.
    """
    folder = Path(folder)
    if not (folder / "adapter_config.json").is_file() or not (folder / "config.json").is_file():
        raise InputError(
            f"{folder} holds no adapter of this package: adapter_config.json and config.json are expected"
        )
    if find_spec("peft") is None:
        raise InputError("an adapter needs peft: pip install 'surgvista-hf[peft]'")
    from peft import PeftModel

    base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    config: Any = AutoConfig.from_pretrained(folder)
    pooling = getattr(config, "pooling", None)
    model = load_classifier(
        base, class_names(config), config.problem_type, num_frames=clip_length(config), pooling=pooling, **loading
    )
    model.config.frame_stride = getattr(config, "frame_stride", None)  # the adapter's, not that of its base
    return PeftModel.from_pretrained(model, str(folder)).eval()
