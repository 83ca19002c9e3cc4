"""Tiny image-text models without training, made from configurations: one that answers (LLaVA), some that compare."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertTokenizer,
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
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
    VideoMAEVideoProcessor,
    ViTImageProcessor,
)

from surgvista_hf.modeling.configuration_surgical_clip import SurgicalClipConfig
from surgvista_hf.modeling.modeling_surgical_clip import SurgicalClipModel
from surgvista_hf.modeling.processing_surgical_clip import SurgicalClipProcessor
from surgvista_hf.trainers.benchmark.zero_shot import QUESTIONS, SENTENCES

SIZE, PATCH = 16, 8
SPECIAL = (
    "<pad>",
    "<s>",
    "</s>",
    "<image>",
    "<unk>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
)
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
    """Make a tokenizer of the words of prompts, options and class names; `ends` closes each text as CLIP expects."""
    texts = [*QUESTIONS.values(), *(text for group in SENTENCES.values() for text in group), *names, TEMPLATE]
    texts += list("ABCDEFGHIJKLMNOPQRSTUVWXYZ") + [text.lower() for text in names]
    split = Whitespace()
    words_of_texts = dict.fromkeys(word for text in texts for word, _ in split.pre_tokenize_str(text))
    vocabulary = {
        word: number
        for number, word in enumerate([*SPECIAL, *(word for word in words_of_texts if word not in SPECIAL)])
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
        additional_special_tokens=list(SPECIAL[3:4] + SPECIAL[5:]),
    )


def llava(folder: Path, names: tuple[str, ...], *, template: str | None = TEMPLATE) -> Path:
    """Save a model that answers in words of the prompts."""
    words_of_texts = tokenizer(names)
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(
            **{**TEXT, "max_position_embeddings": 256}, vocab_size=len(words_of_texts), num_key_value_heads=2
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
        tokenizer=words_of_texts,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=template,
    ).save_pretrained(folder)
    return folder


def qwen(folder: Path, names: tuple[str, ...]) -> Path:
    """Save a model whose images become as many tokens as their size requires."""
    words_of_texts = tokenizer(names)
    torch.manual_seed(0)
    text = {key: value for key, value in TEXT.items() if key != "max_position_embeddings"}
    config = Qwen2_5_VLConfig(
        text_config={
            **text,
            "vocab_size": len(words_of_texts),
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
            "patch_size": PATCH,
            "window_size": 4 * PATCH,
            "fullatt_block_indexes": [1],
        },
        image_token_id=5,
        video_token_id=6,
        vision_start_token_id=7,
        vision_end_token_id=8,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    _liven(model)
    model.save_pretrained(folder)
    pixels = {"shortest_edge": (2 * PATCH) ** 2, "longest_edge": (6 * PATCH) ** 2}
    Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(patch_size=PATCH, size=pixels),
        words_of_texts,
        Qwen2VLVideoProcessor(patch_size=PATCH),
        chat_template=TEMPLATE.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>"),
    ).save_pretrained(folder)
    return folder


def contrastive(folder: Path, names: tuple[str, ...], family: str) -> Path:
    """Save a CLIP or SigLIP model."""
    words_of_texts = tokenizer(names, ends=True)
    torch.manual_seed(0)
    text: dict[str, Any] = {**TEXT, "vocab_size": len(words_of_texts)}
    size = {"height": SIZE, "width": SIZE}
    if family == "clip":
        model: Any = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8))
        processor: Any = CLIPProcessor(
            CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=size), words_of_texts
        )
    else:
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))
        processor = SiglipProcessor(SiglipImageProcessor(size=size), words_of_texts)
    _liven(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def surgical_clip(folder: Path, *, video: bool) -> Path:
    """Save a tiny SurgVLP (a ResNet) or SurgCLIP (a video model of three frames), whose tokenizer knows the letters."""
    letters = [*"abcdefghijklmnopqrstuvwxyz,.:'-()/"]
    words_of_texts = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    torch.manual_seed(0)
    text = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
    text |= {"vocab_size": len(words_of_texts), "max_position_embeddings": 128}
    size = {"height": SIZE, "width": SIZE}
    if video:
        vision = {**VISION, "model_type": "frame_timesformer", "num_frames": 3}
        options: dict[str, Any] = {"text_feature": "first", "num_frames": 3, "frame_stride": 2.0}
        options |= {"text_projection": True, "learned_temperature": True, "similarity_temperature": 0.07}
    else:
        vision = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1]}
        options = {}
    model = SurgicalClipModel(SurgicalClipConfig(vision, text, projection_dim=16, **options))
    _liven(model)
    model.save_pretrained(folder)
    normalization = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    SurgicalClipProcessor(
        ViTImageProcessor(size=size, **normalization),
        VideoMAEVideoProcessor(size=size, crop_size=size, do_center_crop=False, **normalization),
        BertTokenizer(vocab={word: number for number, word in enumerate(words_of_texts)}, model_max_length=77),
    ).save_pretrained(folder)
    return folder


def _liven(model: torch.nn.Module) -> None:
    """Draw weights so large that images and texts make a difference."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
