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
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

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

if TYPE_CHECKING:
    from peft import PeftModel

Method = Literal["full", "probe", "lora", "dora", "ia3"]
Layers = Literal["attention", "all"]
_ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)
BASE_FILE = "adapter_base.json"
_KEYS_VALUES = re.compile(r"(^|\.|_)(k|v|key|value)(_proj)?$")


@dataclass(frozen=True)
class AdapterRecipe:
    """Says which parameters of a model are trained.

    Args:
        method: `"full"`: all parameters; `"probe"`: the head on a frozen encoder; `"lora"` (arXiv 2106.09685), `"dora"`
            (arXiv 2402.09353) or `"ia3"` (arXiv 2205.05638): an adapter and the head.
        rank: rank of LoRA's and DoRA's matrices.
        alpha: numerator of their scale, which is alpha / rank.
        dropout: dropout rate before them.
        layers: `"attention"`, or `"all"` linear layers of the blocks.
        bits: 8 or 4, to hold the frozen weights in so many bits through bitsandbytes; `None`: as they are.

    Raises:
        InputError: a value out of range, or a combination that does not work.

    Example:
        >>> AdapterRecipe("lora", rank=8).is_peft
        True
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
        """Return whether peft makes the adapter."""
        return self.method in ("lora", "dora", "ia3")


@dataclass(frozen=True)
class Parameters:
    """Holds the number of parameters of a model.

    Args:
        trained: number of parameters that a run changes, those of the head included.
        all: number of all parameters, those of the base included.
        bytes: size of all weights in memory.
    """

    trained: int
    all: int
    bytes: int

    @property
    def fraction(self) -> float:
        """Return the fraction of parameters that are trained, 0-1."""
        return self.trained / self.all


def count_parameters(model: nn.Module) -> Parameters:
    """Count parameters; weights in 4 bits, which are packed, count as the numbers that they stand for.

    Example:
        >>> count_parameters(nn.Linear(3, 2)).all
        8
    """
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

        small: nn.Module = (
            bitsandbytes.nn.Linear8bitLt(64, 64, has_fp16_weights=False)
            if bits == 8
            else bitsandbytes.nn.Linear4bit(64, 64, quant_type="nf4")
        )
        small.to(device)(torch.zeros(1, 64, device=device))
    except Exception as error:  # of a library that was built for other machines; it says so in many ways
        raise InputError(f"weights in {bits} bits cannot be computed on {device} here: {first_line(error)}") from error


def quantization(bits: int | None) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that load the blocks in few bits; head and patches stay as they are.

    Args:
        bits: 8 or 4; `None`: no arguments.

    Raises:
        InputError: bitsandbytes is not installed.
    """
    if bits is None:
        return {}
    require("few_bits")
    _silence_kernel_warnings(bits)
    skipped = ["classifier", "fc_norm", "pooler", "pooling", "patch_embeddings.projection"]
    options: dict[str, Any] = (
        {"load_in_8bit": True} if bits == 8 else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    )
    device: int | str = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    return {
        "quantization_config": BitsAndBytesConfig(**options, llm_int8_skip_modules=skipped),
        "device_map": {"": device},
    }


def _silence_kernel_warnings(bits: int | None) -> None:
    """Keep bitsandbytes quiet about kernels for 4 bits, which it misses whenever it is imported; peft imports it always."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.NOTSET if bits == 4 else logging.ERROR)


def adapted_layers(model: nn.Module, layers: Layers) -> list[str]:
    """Return the names of the linear layers of the encoder that adapters sit in.

    Args:
        model: classifier whose encoder is adapted.
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
    """Freeze the parameters that are not trained, and add the adapter.

    Args:
        model: classifier, see `loading.load_classifier`.
        recipe: parameters that are trained.
        start: checkpoint that the model came from, which a saved adapter names.

    Returns:
        The model, or a `PeftModel` around it.

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
    _silence_kernel_warnings(recipe.bits)
    from peft import IA3Config, LoraConfig, PeftConfig, get_peft_model, prepare_model_for_kbit_training

    if recipe.bits:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    trained = [name for name in heads if any(True for _ in getattr(model, name).parameters())]
    targets: Sequence[str] = adapted_layers(model, "all" if recipe.method == "ia3" else recipe.layers)
    if not targets:
        raise InputError(f"{start}: no linear layers in blocks were found for an adapter")
    config: PeftConfig
    if recipe.method == "ia3":
        # Table 3 of the paper: keys, values, and the second layer of each MLP, which makes the width smaller.
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
    """Return a Hub id as it is and a folder as an absolute path, so that peft finds it from any working directory too."""
    name = folder_or_hub_name(start)
    return str(Path(name).absolute()) if Path(name).exists() else name


def _narrows(model: nn.Module, name: str) -> bool:
    layer = model.get_submodule(name)
    return isinstance(layer, nn.Linear) and layer.in_features > layer.out_features


# ------------------------------------------------------------------------------------------- the base of an adapter


def complete_adapter(folder: str | Path, model: PreTrainedModel, start: str | Path) -> None:
    """Write beside a saved adapter what is needed to load it without its recipe.

    That is the configuration of the whole model and, where the base is a folder, the way there from the adapter's own folder
    with a hash of the base's weights: the two may move together, and another model in the folder of the base is refused.

    Args:
        folder: folder of the adapter.
        model: adapted model, without peft around it.
        start: checkpoint that the model came from.
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
        folder: folder of the adapter.

    Raises:
        InputError: the base is not found, or another model is there.
    """
    folder = Path(folder)
    named = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    record: dict[str, str] = {}
    if (folder / BASE_FILE).is_file():
        record = json.loads((folder / BASE_FILE).read_text(encoding="utf-8"))
    is_certain = record or Path(named).is_absolute()
    paths = [Path(named).expanduser()] if is_certain else _paths_of_older_adapters(folder, named)
    if "folder" in record:
        paths.insert(0, folder.resolve() / record["folder"])
    found = [path for path in dict.fromkeys(map(_normal, paths)) if path.is_dir()]
    for path in found:
        if "weights" not in record or base_weights_hash(path) == record["weights"]:
            return str(path)
    if found:
        raise InputError(
            f"the base of the adapter {folder} was retrained or replaced: {found[0]} has other weights than those that the "
            "adapter was trained on. Restore them, or train the adapter again"
        )
    if is_certain:
        tried = ", ".join(dict.fromkeys(str(_normal(path)) for path in paths))
        raise InputError(
            f"the base of the adapter {folder} is not there; looked for {tried}. Put it back, or move adapter and base "
            "together. An adapter without its base predicts nothing: `surgvista merge` makes one model of both"
        )
    return folder_or_hub_name(named)


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _paths_of_older_adapters(folder: Path, named: str) -> list[Path]:
    """Return where a relative path that an older adapter names may lead: from here, or from a folder around the adapter."""
    return [Path(named).expanduser(), *(parent / named for parent in folder.resolve().parents)]


def merge_adapter(folder: str | Path) -> PreTrainedModel:
    """Merge a saved adapter into its base; the result needs neither any more.

    Args:
        folder: folder of the adapter.

    Returns:
        A plain model in full precision.

    Raises:
        InputError: there is no adapter, or its base cannot be loaded.
    """
    adapted = load_adapted(folder)
    adapted.merge_adapter()
    return _unwrapped(adapted.get_base_model())


def _unwrapped(model: nn.Module) -> PreTrainedModel:
    """Remove peft's layers. Its own `unload` fails where a head that was trained is no single layer (IA3)."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        parent, _, own = name.rpartition(".")
        if isinstance(module, BaseTunerLayer):
            setattr(model.get_submodule(parent), own, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            setattr(model.get_submodule(parent), own, module.modules_to_save[module.active_adapters[0]])
    return cast(PreTrainedModel, model)


def load_adapted(folder: str | Path, **loading: Any) -> "PeftModel":
    """Load a saved adapter on its base.

    Args:
        folder: folder of the adapter, with the configuration of the whole model beside it.
        loading: further arguments of the base's `from_pretrained`, such as `quantization_config`.

    Returns:
        A `PeftModel` in evaluation mode.

    Raises:
        InputError: there is no adapter, or its base cannot be loaded.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} with an adapter")
    if not (folder / "adapter_config.json").is_file() or not (folder / "config.json").is_file():
        raise InputError(
            f"{folder} holds no adapter of this package: adapter_config.json and config.json are expected"
        )
    require("adapter")
    quantized = loading.get("quantization_config")
    _silence_kernel_warnings(4 if getattr(quantized, "load_in_4bit", False) else None)
    from peft import PeftModel

    base = find_base(folder)
    revision = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("revision")
    if revision and not Path(base).is_dir():
        loading["revision"] = revision  # of the Hub: what the adapter was trained on, not what is there today
    config = AutoConfig.from_pretrained(folder)
    pooling = getattr(config, "pooling", None)
    model = load_classifier(
        base, class_names(config), config.problem_type, num_frames=clip_length(config), pooling=pooling, **loading
    )
    model.config.frame_stride = getattr(config, "frame_stride", None)  # the adapter's, not that of its base
    return PeftModel.from_pretrained(model, str(folder)).eval()
