"""Tiny image-text models without training, made from configurations: one that answers (LLaVA), some that compare."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
)

from surgvista_hf.trainers.zero_shot import QUESTIONS, SENTENCES

SIZE, PATCH = 16, 8
SPECIAL = ("<pad>", "<s>", "</s>", "<image>", "<unk>")
TEMPLATE = (
    "<s>{% for message in messages %}user: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %} assistant: {% endif %}"
)
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIZE,
    "patch_size": PATCH,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def tokenizer(names: tuple[str, ...], *, ends: bool = False) -> PreTrainedTokenizerFast:
    """One token a word of the prompts, the options and the class names; `ends` closes each text as CLIP expects."""
    texts = [*QUESTIONS.values(), *(text for group in SENTENCES.values() for text in group), *names, TEMPLATE]
    texts += list("ABCDEFGHIJKLMNOPQRSTUVWXYZ") + [text.lower() for text in names]
    split = Whitespace()
    words = dict.fromkeys(word for text in texts for word, _ in split.pre_tokenize_str(text))
    vocabulary = {
        word: number for number, word in enumerate([*SPECIAL, *(word for word in words if word not in SPECIAL)])
    }
    rules = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    rules.pre_tokenizer = split
    if ends:
        rules.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=rules,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )


def llava(folder: Path, names: tuple[str, ...], *, template: str | None = TEMPLATE) -> Path:
    """A model that answers in words of the prompts."""
    words = tokenizer(names)
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(
            **{**TEXT, "max_position_embeddings": 256}, vocab_size=len(words), num_key_value_heads=2
        ),
        image_token_index=3,
        vision_feature_layer=-1,
        image_seq_length=(SIZE // PATCH) ** 2,
    )
    model = LlavaForConditionalGeneration(config)
    _liven(model)
    model.save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}),
        tokenizer=words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=template,
    ).save_pretrained(folder)
    return folder


def comparer(folder: Path, names: tuple[str, ...], family: str) -> Path:
    """A CLIP or SigLIP model."""
    words = tokenizer(names, ends=True)
    torch.manual_seed(0)
    text: dict[str, Any] = {**TEXT, "vocab_size": len(words)}
    size = {"height": SIZE, "width": SIZE}
    if family == "clip":
        model: Any = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8))
        processor: Any = CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=size), words)
    else:
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))
        processor = SiglipProcessor(SiglipImageProcessor(size=size), words)
    _liven(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _liven(model: torch.nn.Module) -> None:
    """Weights so large that pictures and texts make a difference."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
