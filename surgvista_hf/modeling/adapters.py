"""Training few parameters: adapters (LoRA, DoRA, IA3), frozen encoders, and bases in 8 or 4 bits.

Adapters are peft's. Which layers they sit in is found from the model itself, so it works for every family: LoRA and DoRA in
the linear layers of attention (of ConvNeXt in its pointwise layers), IA3 in keys, values and the second layer of each MLP.
"""

import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import nn
from transformers import AutoConfig, BitsAndBytesConfig, PreTrainedModel

from ..util.errors import InputError
from ..util.files import write_json
from ..util.fingerprint import base_weights_hash
from ..util.messages import first_line
from ..util.requirements import require
from ..util.values import PositiveAmount, Rate, check_fields
from .errors_surgvista import folder_or_hub_name
from .loading import class_names, clip_length, is_head, load_classifier

Method = Literal["full", "probe", "lora", "dora", "ia3"]
Layers = Literal["attention", "all"]
_ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)
BASE_FILE = "adapter_base.json"
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
    rank: Annotated[int, Field(ge=1, le=65536)] = 16
    alpha: PositiveAmount = 32
    dropout: Rate = 0.05
    layers: Layers = "attention"
    bits: Literal[4, 8] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
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
    def fraction(self) -> float:
        """Of the trained ones."""
        return self.trained / self.all


def count_parameters(model: nn.Module) -> Parameters:
    """Count parameters; weights in 4 bits, which lie packed, as what they stand for."""
    total = trained = size = 0
    for parameter in model.parameters():
        shape = getattr(getattr(parameter, "quant_state", None), "shape", None)
        number = int(torch.Size(shape).numel()) if shape is not None else parameter.numel()
        total += number
        trained += number * parameter.requires_grad
        size += parameter.numel() * parameter.element_size()
    return Parameters(trained, total, size)


def check_bits(bits: int) -> None:
    """Make sure that this device can compute with weights in few bits, by one small layer.

    Raises:
        MissingPackageError: bitsandbytes is not installed.
        InputError: the device cannot.
    """
    require("few_bits")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        import bitsandbytes

        small: Any = (
            bitsandbytes.nn.Linear8bitLt(64, 64, has_fp16_weights=False)
            if bits == 8
            else bitsandbytes.nn.Linear4bit(64, 64, quant_type="nf4")
        )
        small.to(device)(torch.zeros(1, 64, device=device))
    except Exception as error:  # of a library that was built for other machines; it says so in many ways
        raise InputError(f"weights in {bits} bits cannot be computed on {device} here: {first_line(error)}") from error


def quantization(bits: int | None) -> dict[str, Any]:
    """What `from_pretrained` must be told to load the blocks in few bits; the head and the patches stay as they are.

    Raises:
        InputError: bitsandbytes is not installed.
    """
    if bits is None:
        return {}
    require("few_bits")
    _without_word_of_kernels(bits)
    skipped = ["classifier", "fc_norm", "pooler", "pooling", "patch_embeddings.projection"]
    options: dict[str, Any] = (
        {"load_in_8bit": True} if bits == 8 else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    )
    device: Any = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    return {
        "quantization_config": BitsAndBytesConfig(**options, llm_int8_skip_modules=skipped),
        "device_map": {"": device},
    }


def _without_word_of_kernels(bits: int | None) -> None:
    """Keep bitsandbytes quiet about kernels for 4 bits, which it misses whenever it is imported; peft imports it always."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.NOTSET if bits == 4 else logging.ERROR)


def adapted_layers(model: nn.Module, layers: Layers) -> list[str]:
    """Return the names of the linear layers of the encoder that adapters sit in.

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
    """Freeze what is not trained and adds the adapter.

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
    require("adapter")
    _without_word_of_kernels(recipe.bits)
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
    adapted.peft_config["default"].base_model_name_or_path = _name_of_base(start)
    adapted.peft_config["default"].revision = getattr(model.config, "_commit_hash", None)
    return adapted


def _name_of_base(start: str | Path) -> str:
    """A Hub id as it is, a folder from the root, so that peft by itself finds it from any working directory too."""
    name = folder_or_hub_name(start)
    return str(Path(name).absolute()) if Path(name).exists() else name


def _narrows(model: nn.Module, name: str) -> bool:
    layer: Any = model.get_submodule(name)
    return bool(layer.in_features > layer.out_features)


# ------------------------------------------------------------------------------------------- the base of an adapter


def complete_adapter(folder: str | Path, model: PreTrainedModel, start: str | Path) -> None:
    """Write beside a saved adapter what is needed to load it without its recipe.

    That is the configuration of the whole model and, where the base is a folder, the way there from the adapter's own folder
    with a hash of the base's weights: the two may move together, and another model in the base's place is refused.

    Args:
        folder: of the adapter.
        model: the adapted model, without peft around it.
        start: the checkpoint it came from.
    """
    folder = Path(folder)
    model.config.save_pretrained(folder)
    base = Path(folder_or_hub_name(start))
    if not base.is_dir():
        return
    content = {
        "folder": Path(os.path.relpath(base.resolve(), folder.resolve())).as_posix(),
        "weights": base_weights_hash(base),
    }
    write_json(folder / BASE_FILE, content)


def find_base(folder: str | Path) -> str:
    """Return the folder or Hub id of the base of a saved adapter, from any working directory and after both have moved.

    Args:
        folder: of the adapter.

    Raises:
        InputError: the base is nowhere, or another model is in its place.
    """
    folder = Path(folder)
    named = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    noted: dict[str, str] = {}
    if (folder / BASE_FILE).is_file():
        noted = json.loads((folder / BASE_FILE).read_text(encoding="utf-8"))
    places = [Path(named).expanduser()] if noted or Path(named).is_absolute() else _places_of_older(folder, named)
    if "folder" in noted:
        places.insert(0, folder.resolve() / noted["folder"])
    found = [place for place in dict.fromkeys(map(_normal, places)) if place.is_dir()]
    for place in found:
        if "weights" not in noted or base_weights_hash(place) == noted["weights"]:
            return str(place)
    if found:
        raise InputError(
            f"the base of the adapter {folder} was retrained or replaced: {found[0]} has other weights than those that the "
            "adapter was trained on. Restore them, or train the adapter again"
        )
    if noted or Path(named).is_absolute():
        looked = ", ".join(dict.fromkeys(str(_normal(place)) for place in places))
        raise InputError(
            f"the base of the adapter {folder} is not there; looked for {looked}. Put it back, or move adapter and base "
            "together. An adapter without its base predicts nothing: `surgvista merge` makes one model of both"
        )
    return folder_or_hub_name(named)


def _normal(place: Path) -> Path:
    return Path(os.path.normpath(place.absolute()))


def _places_of_older(folder: Path, named: str) -> list[Path]:
    """Where a path that an older adapter noted as it was typed may lead: from here, or from a folder around the adapter."""
    return [Path(named).expanduser(), *(parent / named for parent in folder.resolve().parents)]


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
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} with an adapter")
    if not (folder / "adapter_config.json").is_file() or not (folder / "config.json").is_file():
        raise InputError(
            f"{folder} holds no adapter of this package: adapter_config.json and config.json are expected"
        )
    require("adapter")
    quantized: Any = loading.get("quantization_config")
    _without_word_of_kernels(4 if getattr(quantized, "load_in_4bit", False) else None)
    from peft import PeftModel

    base = find_base(folder)
    revision = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("revision")
    if revision and not Path(base).is_dir():
        loading["revision"] = revision  # of the Hub: what the adapter was trained on, not what is there today
    config: Any = AutoConfig.from_pretrained(folder)
    pooling = getattr(config, "pooling", None)
    model = load_classifier(
        base, class_names(config), config.problem_type, num_frames=clip_length(config), pooling=pooling, **loading
    )
    model.config.frame_stride = getattr(config, "frame_stride", None)  # the adapter's, not that of its base
    return PeftModel.from_pretrained(model, str(folder)).eval()
