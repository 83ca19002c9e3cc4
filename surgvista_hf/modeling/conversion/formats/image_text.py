"""What the image-text families share: a BERT and the overrides of two encoders."""

from collections.abc import Mapping
from typing import NamedTuple

from transformers import BertConfig, PreTrainedConfig

from ....util.errors import InputError
from ...configuration_surgical_clip import SurgicalClipConfig
from ..family import Sizes, Tensors, Values, make_config, num_blocks, shape_of

UNUSED = ((r"(.*\.)?embeddings\.position_ids$", "the numbers 0, 1, 2, … that older versions of transformers store"),)
_TEXT_LENGTH = 77  # tokens that both programs pad and cut texts to


class Overrides(NamedTuple):
    """Fields of configurations that the caller gives, for each encoder and for the whole model."""

    vision: Sizes
    text: Sizes
    whole: Sizes


def split_overrides(overrides: Values, *, vision_has_heads: bool) -> Overrides:
    """Split what the caller says into that of the two encoders and the rest.

    Args:
        overrides: Fields of `SurgicalClipConfig`; `vision_config` and `text_config` may hold some of the encoders'.
            `num_attention_heads` counts for every encoder that has heads and does not say it.
        vision_has_heads: The vision encoder attends.

    Raises:
        InputError: A part is no mapping.
    """
    whole = dict(overrides)
    parts = {name: whole.pop(name, {}) for name in ("vision_config", "text_config")}
    for name, part in parts.items():
        if not isinstance(part, Mapping):
            raise InputError(
                f"config has {name}={part!r}; a mapping with fields of the encoder's configuration is expected"
            )
    vision, text = (dict(part) for part in parts.values())
    if "num_attention_heads" in whole:
        heads = whole.pop("num_attention_heads")
        text.setdefault("num_attention_heads", heads)
        if vision_has_heads:
            vision.setdefault("num_attention_heads", heads)
    return Overrides(vision, text, whole)


def bert_config(tensors: Tensors, prefix: str, overrides: Values) -> BertConfig:
    """Return the configuration of a BERT whose names begin with a prefix."""
    embeddings = shape_of(tensors, f"{prefix}embeddings.word_embeddings.weight")
    found = {
        "vocab_size": embeddings[0],
        "hidden_size": embeddings[1],
        "max_position_embeddings": shape_of(tensors, f"{prefix}embeddings.position_embeddings.weight")[0],
        "type_vocab_size": shape_of(tensors, f"{prefix}embeddings.token_type_embeddings.weight")[0],
        "num_hidden_layers": num_blocks(tensors, f"{prefix}encoder.layer."),
        "intermediate_size": shape_of(tensors, f"{prefix}encoder.layer.0.intermediate.dense.weight")[0],
    }
    config: BertConfig = make_config(BertConfig, found, overrides)
    return config


def whole_config(found: Values, overrides: Values, vision: PreTrainedConfig, text: BertConfig) -> SurgicalClipConfig:
    """Return the configuration of the whole model.

    Args:
        found: Fields that the tensors show, or that are fixed for the family.
        overrides: Fields that the caller gives.
        vision, text: Configurations of the encoders.
    """
    usual = {"max_text_length": min(_TEXT_LENGTH, text.max_position_embeddings)}
    parts = {"vision_config": vision, "text_config": text}
    config: SurgicalClipConfig = make_config(SurgicalClipConfig, {**found, **parts}, {**usual, **overrides}, ())
    # Saving writes the entries of AutoConfig and AutoModel beside this one.
    config.auto_map = {"AutoModelForZeroShotImageClassification": "modeling_surgical_clip.SurgicalClipModel"}
    return config
