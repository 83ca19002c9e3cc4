"""Convert a checkpoint of a family to a folder that `from_pretrained` loads, and back."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ...util.errors import InputError
from ...util.files import atomic_folder, check_free
from ..configuration_surgical_clip import SurgicalClipConfig
from ..remote_code import add_remote_code
from .card import model_card
from .family import Blueprint, Family, Values
from .formats import FAMILIES
from .likely import advice, explain_leftovers, likely_families
from .mapping import Mapped, map_tensors
from .reading import CheckpointError, read_checkpoint
from .tokenizers import ImageProcessors, image_text_processor

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class ConversionReport:
    """A report on what became of every tensor.

    Args:
        family: name of the family.
        class_name: class of the model that was written.
        output_dir: The folder that was written.
        mapped: name in our model -> name in the checkpoint.
        ignored: name in the checkpoint -> why it was left out.
        initialized: names in our model that the checkpoint did not have and that start fresh.
    """

    family: str
    class_name: str
    output_dir: str
    mapped: dict[str, str]
    ignored: dict[str, str]
    initialized: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Return how many tensors were mapped, ignored and initialized."""
        return {"mapped": len(self.mapped), "ignored": len(self.ignored), "initialized": len(self.initialized)}

    def __str__(self) -> str:
        lines = [f"{self.class_name} from a {self.family} checkpoint -> {self.output_dir}"]
        lines.append(f"  mapped       {len(self.mapped)} tensors")
        lines.append(f"  ignored      {len(self.ignored)} tensors")
        lines += [f"    {name}: {reason}" for name, reason in _shortened(self.ignored).items()]
        lines.append(f"  initialized  {', '.join(self.initialized) or 'none'}")
        return "\n".join(lines)


def _shortened(ignored: Mapping[str, str]) -> dict[str, str]:
    """Merge the lines of numbered blocks."""
    return {re.sub(r"\.\d+\.", ".*.", name): reason for name, reason in ignored.items()}


def convert_checkpoint(
    path: str | Path,
    output_dir: str | Path,
    *,
    family: str,
    config: Values | PreTrainedConfig | None = None,
    part: str | None = None,
    include_code: bool = False,
    leave_out: Sequence[str] = (),
    tokenizer: str | Path | None = None,
) -> ConversionReport:
    """Convert an original checkpoint to a folder that `from_pretrained` loads.

    Nothing is written unless every needed tensor was found in the right shape; the folder appears complete or not at all.

    Args:
        path: `.pth`, `.pt`, `.bin`, `.safetensors`, or a folder with shards. Only tensors are read, no code is run.
        output_dir: a folder that does not exist yet, or an empty one.
        family: one of `FAMILIES`.
        config: Values that cannot be read from the tensors, by names of the configuration: heads of an unusual width,
            frame size, frame count, labels. The published base configuration otherwise.
        part: key of the file that the weights lie under, such as `target_encoder`, where it is not the family's usual one.
        include_code: also write the Python files, so that `trust_remote_code=True` works without this package.
        leave_out: regular expressions for the beginnings of names that the family does not know and that are not wanted.
        tokenizer: folder with the tokenizer of the text encoder of an image-text model, or its `vocab.txt`; by default it
            is taken from the cache of the Hub, if it is there.

    Returns:
        What was mapped, left out and initialized.

    Raises:
        InputError: an unknown family or option.
        CheckpointError: unreadable or unsafe file, wrong family (the likely one is named), missing, misshapen or unknown
            tensors.
        OutputError: the output folder is taken.

    Example:
        >>> convert_checkpoint("SurgVISTA.pth", "surgvista-base", family="surgvista")  # doctest: +SKIP
        >>> AutoModel.from_pretrained("surgvista-base")  # doctest: +SKIP
    """
    layout = family_named(family)
    check_free(output_dir)
    overrides = _overrides(config)
    if tokenizer is not None and not layout.tokenizer:
        raise InputError(f"models of the family {family} read no texts, so they have no tokenizer: leave it out")
    try:
        checkpoint = read_checkpoint(path, layout.containers, layout.beside, part)
        blueprint = layout.plan(checkpoint.tensors, overrides)
        mapped = map_tensors(blueprint.targets, blueprint.naming, blueprint.tensors, blueprint.may_be_absent)
        ignored = explain_leftovers(checkpoint.tensors, mapped.sources.values(), blueprint, leave_out)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{_advice(path, family, overrides, str(error))}") from error
    if twins := [twin for twin in dict.fromkeys(blueprint.twins) if twin != family]:
        logger.warning(
            "nothing in this file tells whether it is of the family %s or %s: it is converted as %s, as it was said to be",
            family,
            " or ".join(twins),
            family,
        )
    if isinstance(blueprint.processor, ImageProcessors):
        model_config = cast(SurgicalClipConfig, blueprint.config)
        whole = image_text_processor(blueprint.processor, model_config, layout.tokenizer, tokenizer)
        blueprint = replace(blueprint, processor=whole)
    report = ConversionReport(
        family,
        blueprint.model_class.__name__,
        str(output_dir),
        mapped.sources,
        ignored,
        mapped.absent,
    )
    # Which file it was tells what it was trained on; the folder counts where files of variants have the same name.
    blueprint.config.converted_file = "/".join(Path(path).absolute().parts[-2:])
    _write(blueprint, mapped, layout, checkpoint.sha256, report, include_code)
    return report


def family_named(name: str) -> Family:
    """Return a family by its name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in FAMILIES:
        raise InputError(f"there is no family {name!r}; the families are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def _overrides(config: Values | PreTrainedConfig | None) -> Values:
    if isinstance(config, PreTrainedConfig):
        return {name: value for name, value in config.to_diff_dict().items() if hasattr(type(config), name)}
    return config or {}


def _advice(path: str | Path, family: str, overrides: Values, refusal: str) -> str:
    """Name the likely families, unless the file itself is in the way or the family is right and the sizes are not."""
    likely = likely_families(path, family, overrides) if Path(path).exists() else []
    return ("" if refusal.endswith((".", "?")) else ".") + advice(likely) if likely else ""


def _write(
    blueprint: Blueprint,
    mapped: Mapped,
    family: Family,
    sha256: Mapping[str, str],
    report: ConversionReport,
    include_code: bool,
) -> None:
    blueprint.config.converted_from = family.name
    model, processor = _build(blueprint, mapped.tensors), blueprint.processor
    with atomic_folder(report.output_dir) as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        if include_code:
            add_remote_code(folder)
        card = model_card(family, report.class_name, sha256, report.counts, type(processor).__name__)
        (folder / "README.md").write_text(card, encoding="utf-8")


def _build(blueprint: Blueprint, tensors: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """Build the model with these tensors, in the checkpoint's precision."""
    dtype = next(iter(tensors.values())).dtype
    model_class: Any = blueprint.model_class
    model, info = model_class.from_pretrained(
        None,
        config=blueprint.config,
        state_dict=dict(tensors),
        dtype=dtype,
        output_loading_info=True,
        **blueprint.options,
    )
    empty = {name for name, tensor in model.named_parameters() if not tensor.numel()}  # e.g. no register tokens
    if set(info["missing_keys"]) - empty != set(blueprint.targets) - set(tensors) or info["unexpected_keys"]:
        raise CheckpointError(f"transformers did not load the converted tensors as expected: {info}")
    return cast(PreTrainedModel, model)


def restore_checkpoint(folder: str | Path, *, family: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a converted folder under their original names and shapes.

    Args:
        folder: written by `convert_checkpoint`, or saved from such a model.
        family: the family whose names are wanted.

    Returns:
        Original name -> tensor, the position tables of a pre-training checkpoint included. A patch weight that was inflated
        in time stays inflated.

    Raises:
        InputError: an unknown family.
        CheckpointError: the folder does not hold a model of that family.

    Example:
        >>> torch.save({"model": restore_checkpoint("surgvista-base", family="surgvista")}, "a.pth")  # doctest: +SKIP
    """
    ways_back = family_named(family).restore
    tensors = read_checkpoint(folder).tensors
    config = AutoConfig.from_pretrained(folder)
    if config.model_type not in ways_back:
        raise CheckpointError(f"{folder} holds a {config.model_type} model, which is not of the family {family}")
    return ways_back[config.model_type](tensors, config)
