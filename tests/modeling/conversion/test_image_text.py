"""SurgVLP and SurgCLIP give the pixels and features of their authors' own programs, and are taken by the stock pipeline.

The files of the authors' programs are those of `test_authors_programs`; where they are absent, the tests that need them are
skipped. The others make a file of the same layout from transformers' own BERT and from the formulas.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForVideoClassification,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    AutoVideoProcessor,
    BertConfig,
    BertModel,
    pipeline,
)

from surgvista_hf import convert_checkpoint
from surgvista_hf.modeling.conversion import FAMILIES, CheckpointError, restore_checkpoint
from surgvista_hf.modeling.loading import load_any_encoder, load_classifier, make_classifier_processor
from surgvista_hf.modeling.processors import prepare_clips
from surgvista_hf.util.errors import InputError

from .published import PUBLISHED
from .test_authors_programs import ROOT, available, facts_of, golden_pixels

WIDTH, PATCH, FRAMES, HEADS, DEPTH = 24, 4, 3, 2, 2
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "clip", "##ping", "of", "duct", "the", "gall", "##bladder"]
Tensors = dict[str, torch.Tensor]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    assert expected.std() > 1e-3, "tells nothing"
    return float((found - expected).abs().max() / expected.abs().max())


def vocabulary(folder: Path, words: list[str] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words or WORDS) + "\n")
    return folder


# ------------------------------------------------------------------------------------- the authors' programs


@pytest.fixture(scope="module")
def surgvlp_golden(tmp_path_factory) -> tuple[Path, Tensors]:
    folder = tmp_path_factory.mktemp("surgvlp") / "model"
    facts = facts_of("surgvlp")
    heads = {"num_attention_heads": facts["size"]["bert"]["heads"]}
    tokenizer = vocabulary(folder.parent / "tokenizer", facts["vocabulary"])
    file = ROOT / "surgvlp" / facts["checkpoint"]["file"]
    report = convert_checkpoint(file, folder, family="surgvlp", config=heads, tokenizer=tokenizer)
    assert (report.ignored, report.initialized) == ({}, ())
    return folder, load_file(ROOT / "surgvlp" / "golden.safetensors")


@pytest.fixture(scope="module")
def surgclip_golden(tmp_path_factory) -> tuple[Path, Tensors]:
    folder = tmp_path_factory.mktemp("surgclip") / "model"
    facts = facts_of("surgclip-b")
    file = ROOT / "surgclip-b" / facts["checkpoint"]["file"]
    report = convert_checkpoint(
        file, folder, family="surgclip-b", config={"num_attention_heads": facts["size"]["heads"]}
    )
    assert (report.ignored, report.initialized) == ({}, ())
    return folder, load_file(ROOT / "surgclip-b" / "golden.safetensors")


@pytest.mark.skipif(not (ROOT / "surgvlp").is_dir(), reason="the goldens of the original programs are not here")
def test_surgvlp_prepares_and_encodes_images_and_texts_as_its_authors_program(surgvlp_golden):
    folder, golden = surgvlp_golden
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    expected = golden_pixels("surgvlp", golden)
    frame = golden["frames"].numpy()
    std = torch.tensor(processor.image_processor.image_std)[:, None, None]
    of_clip = prepare_clips(AutoVideoProcessor.from_pretrained(folder), frame[None])[0]
    for pixels in (
        processor(images=Image.fromarray(frame))["pixel_values"],
        AutoImageProcessor.from_pretrained(folder)(images=frame, return_tensors="pt")["pixel_values"],
        of_clip,
    ):
        assert float(((pixels - expected) * std * 255).abs().max()) < 0.01
        with torch.no_grad():
            assert relative(model.get_image_features(pixels).pooler_output, golden["image_embedding"]) < 1e-4
    with torch.no_grad():
        pooled = model.vision_model(expected).pooler_output.flatten(1)
        texts = model.get_text_features(golden["input_ids"], golden["attention_mask"]).pooler_output
        of_clips = model.get_image_features(expected.expand(2, -1, -1, -1)[None]).pooler_output
    assert relative(pooled, golden["resnet_pooled"]) < 1e-4
    assert relative(texts, golden["text_embedding"]) < 1e-4
    assert relative(of_clips[0, 1:], golden["image_embedding"]) < 1e-4
    prepared = processor(text=["this is the preparation phase", "clipping of cystic duct and artery"])
    assert prepared["input_ids"].shape == (2, 77)
    assert torch.equal(prepared["input_ids"][:, :24], golden["input_ids"])


@pytest.mark.skipif(not (ROOT / "surgclip-b").is_dir(), reason="the goldens of the original programs are not here")
def test_surgclip_prepares_and_encodes_clips_and_texts_as_its_authors_program(surgclip_golden):
    folder, golden = surgclip_golden
    model = AutoModel.from_pretrained(folder).eval()
    pixels = prepare_clips(AutoVideoProcessor.from_pretrained(folder), golden["frames"].numpy())
    images = AutoImageProcessor.from_pretrained(folder)(images=list(golden["frames"].numpy()), return_tensors="pt")
    expected = golden_pixels("surgclip-b", golden)[None]
    assert float(((pixels - expected) * 0.5 * 255).abs().max()) < 0.01
    assert float(((images["pixel_values"] - expected[0]) * 0.5 * 255).abs().max()) < 0.01
    with torch.no_grad():
        seen = model.vision_model(pixels)
        video = model.get_image_features(pixels).pooler_output
        texts = model.get_text_features(golden["input_ids"], golden["attention_mask"])
        compared = model(golden["input_ids"], pixels, golden["attention_mask"])
    assert relative(seen.last_hidden_state.view(golden["vision_tokens"].shape), golden["vision_tokens"]) < 1e-4
    assert relative(seen.pooler_output, golden["vision_pooled"]) < 1e-4
    assert relative(video, golden["video_embedding"]) < 1e-4
    read = golden["attention_mask"].bool()
    assert relative(texts.last_hidden_state[read], golden["text_tokens"][read]) < 1e-4
    assert relative(texts.pooler_output, golden["text_embedding"]) < 1e-4
    assert relative(compared.logits_per_image, golden["similarity"]) < 1e-4
    assert torch.equal(compared.logits_per_text, compared.logits_per_image.T)


@pytest.mark.parametrize("folder", [pytest.param(name, marks=available(name)) for name in ("surgvlp", "surgclip-b")])
def test_the_way_back_gives_the_authors_file(folder, request):
    converted, _ = request.getfixturevalue(f"{folder.removesuffix('-b')}_golden")
    original = torch.load(ROOT / folder / facts_of(folder)["checkpoint"]["file"], weights_only=True)
    restored = restore_checkpoint(converted, family=folder)
    assert set(restored) == set(original)
    assert all(torch.equal(restored[name], original[name]) for name in original)


# ------------------------------------------------------------------------------------- files made from the formulas


def bert_tensors(prefix: str, pooler: bool) -> tuple[BertModel, Tensors]:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 5, "num_attention_heads": HEADS, "intermediate_size": 40}
    torch.manual_seed(3)
    model = BertModel(BertConfig(vocab_size=len(WORDS), **sizes), add_pooling_layer=pooler).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return model, {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}


def surgvlp_file(folder: Path) -> tuple[Path, BertModel, Tensors]:
    from torchvision.models import resnet50

    torch.manual_seed(1)
    images = {f"backbone_img.model.{name}": t for name, t in resnet50().state_dict().items() if "fc." not in name}
    bert, texts = bert_tensors("backbone_text.model.", pooler=True)
    projection = {
        "backbone_img.global_embedder.weight": 0.1 * torch.randn(WIDTH, 2048),
        "backbone_img.global_embedder.bias": 0.1 * torch.randn(WIDTH),
    }
    tensors = {**images, **projection, **texts}
    torch.save(tensors, folder / "SurgVLP.pth")
    return folder / "SurgVLP.pth", bert, tensors


def surgclip_file(folder: Path) -> tuple[Path, BertModel, Tensors]:
    torch.manual_seed(2)
    bert, texts = bert_tensors("text_encoder.", pooler=False)
    own: dict[str, Any] = {"cls_token": (1, 1, WIDTH), "pos_embed": (1, 5, WIDTH), "time_embed": (1, FRAMES, WIDTH)}
    own |= {"patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH), "patch_embed.proj.bias": (WIDTH,)}
    for number in range(DEPTH):
        layer = f"blocks.{number}."
        for attention in ("attn", "temporal_attn"):
            own |= {f"{layer}{attention}.qkv.weight": (3 * WIDTH, WIDTH), f"{layer}{attention}.qkv.bias": (3 * WIDTH,)}
            own |= {f"{layer}{attention}.proj.weight": (WIDTH, WIDTH), f"{layer}{attention}.proj.bias": (WIDTH,)}
        own |= {f"{layer}temporal_fc.weight": (WIDTH, WIDTH), f"{layer}temporal_fc.bias": (WIDTH,)}
        own |= {f"{layer}mlp.fc1.weight": (50, WIDTH), f"{layer}mlp.fc1.bias": (50,)}
        own |= {f"{layer}mlp.fc2.weight": (WIDTH, 50), f"{layer}mlp.fc2.bias": (WIDTH,)}
        own |= {f"{layer}{norm}.{kind}": (WIDTH,) for norm in ("norm1", "norm2", "temporal_norm1") for kind in KINDS}
    own |= {f"{norm}.{kind}": (WIDTH,) for norm in ("norm", "pool_norm") for kind in KINDS}
    shapes = {f"vision_encoder.model.{name}": shape for name, shape in own.items()}
    shapes |= {f"vision_layernorm.{kind}": (WIDTH,) for kind in KINDS}
    shapes |= {f"{part}_proj.weight": (8, WIDTH) for part in ("vision", "text")}
    shapes |= {f"{part}_proj.bias": (8,) for part in ("vision", "text")}
    tensors = {name: 0.3 * torch.randn(shape) for name, shape in shapes.items()} | texts | {"temp": torch.tensor(0.05)}
    torch.save({"model": {f"module.{name}": tensor for name, tensor in tensors.items()}}, folder / "surgclip_beta.pth")
    return folder / "surgclip_beta.pth", bert, tensors


KINDS = ("weight", "bias")
HEADS_OF_ALL = {"num_attention_heads": HEADS}


@pytest.fixture(scope="module")
def surgvlp_made(tmp_path_factory) -> tuple[Path, BertModel, Tensors]:
    folder = tmp_path_factory.mktemp("made_surgvlp")
    file, bert, tensors = surgvlp_file(folder)
    tokenizer = vocabulary(folder / "tokenizer")
    convert_checkpoint(file, folder / "out", family="surgvlp", config=HEADS_OF_ALL, tokenizer=tokenizer)
    return folder / "out", bert, tensors


@pytest.fixture(scope="module")
def surgclip_made(tmp_path_factory) -> tuple[Path, BertModel, Tensors]:
    folder = tmp_path_factory.mktemp("made_surgclip")
    file, bert, tensors = surgclip_file(folder)
    tokenizer = vocabulary(folder / "tokenizer") / "vocab.txt"
    convert_checkpoint(file, folder / "out", family="surgclip-b", config=HEADS_OF_ALL, tokenizer=tokenizer)
    return folder / "out", bert, tensors


def texts_by_words(bert: BertModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sum pieces to words up to [SEP], average over all positions, sum the last four layers: the rule, word for word."""
    layers = bert(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-4:]
    features = []
    for row, numbers in enumerate(ids.tolist()):
        feature = torch.zeros(WIDTH)
        for layer in layers:
            words: list[torch.Tensor] = []
            for position, number in enumerate(numbers):
                piece = layer[row, position]
                if WORDS[number].startswith("##"):
                    words[-1] = words[-1] + piece
                else:
                    words.append(piece)
                if WORDS[number] == "[SEP]":
                    break
            words += [torch.zeros(WIDTH)] * (len(numbers) - len(words))
            feature = feature + torch.stack(words).mean(dim=0)
        features.append(feature)
    return torch.stack(features)


@torch.no_grad()
def test_surgvlps_texts_follow_the_rule_of_words(surgvlp_made):
    folder, bert, _ = surgvlp_made
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    inputs = processor(text=["Clipping of the duct", "the gallbladder"])
    expected = texts_by_words(bert, inputs["input_ids"], inputs["attention_mask"])
    assert relative(model.get_text_features(**inputs).pooler_output, expected) < 1e-5
    assert relative(model.get_text_features(inputs["input_ids"]).pooler_output, expected) < 1e-5
    short = processor(text=["Clipping of the duct", "the gallbladder"], padding=True)
    assert short["input_ids"].shape[1] < 10
    found = model.get_text_features(**short).pooler_output
    assert torch.allclose(functional.normalize(found), functional.normalize(expected), atol=1e-5)


@torch.no_grad()
def test_surgvlps_images_pass_torchvisions_network_and_pillows_resize(surgvlp_made):
    from torchvision.models import resnet50

    folder, _, tensors = surgvlp_made
    frame = np.random.default_rng(0).integers(0, 256, (123, 211, 3), dtype=np.uint8)
    pixels = AutoProcessor.from_pretrained(folder)(images=frame)["pixel_values"]
    squeezed = np.array(Image.fromarray(frame).resize((640, 360), Image.Resampling.BILINEAR))
    middle = torch.from_numpy(squeezed[68:292, 208:432]).permute(2, 0, 1) / 255
    expected = (middle - torch.tensor((0.485, 0.456, 0.406))[:, None, None]) / torch.tensor((0.229, 0.224, 0.225))[
        :, None, None
    ]
    assert torch.allclose(pixels[0], expected, atol=1e-5)
    network = resnet50().eval()
    network.fc = torch.nn.Linear(2048, WIDTH)
    names = {
        name: name.removeprefix("backbone_img.model.").replace("backbone_img.global_embedder", "fc")
        for name in tensors
    }
    network.load_state_dict(
        {names[name]: tensor for name, tensor in tensors.items() if name.startswith("backbone_img")}
    )
    model = AutoModel.from_pretrained(folder).eval()
    assert relative(model.get_image_features(pixels).pooler_output, network(pixels)) < 1e-4


def attention(x: torch.Tensor, tensors: Tensors, name: str) -> torch.Tensor:
    qkv = functional.linear(x, tensors[f"{name}.qkv.weight"], tensors[f"{name}.qkv.bias"])
    q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(-3, -2) for part in qkv.chunk(3, dim=-1))
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
    return linear((weights @ v).transpose(-3, -2).flatten(-2), tensors, f"{name}.proj")


def linear(x: torch.Tensor, tensors: Tensors, name: str) -> torch.Tensor:
    return functional.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def norm(x: torch.Tensor, tensors: Tensors, name: str, eps: float = 1e-6) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps)


def encoded_clip(clip: torch.Tensor, tensors: Tensors) -> torch.Tensor:
    """Return the vectors (frames, WIDTH) of a clip, from a list of tokens in the order of the authors: patch, then frame."""
    own = {name.removeprefix("vision_encoder.model."): tensor for name, tensor in tensors.items()}
    times = len(clip)
    patches = functional.conv2d(clip, own["patch_embed.proj.weight"], own["patch_embed.proj.bias"], PATCH)
    patches = patches.flatten(2).transpose(1, 2) + own["pos_embed"][:, 1:]  # (T, N, D)
    if times > 1:
        table = own["time_embed"][0]
        patches = patches + torch.stack([table[i * len(table) // times] for i in range(times)])[:, None]
    for number in range(DEPTH):
        name = f"blocks.{number}"
        first = patches[:, :1]
        moved = attention(norm(patches, own, f"{name}.temporal_norm1").transpose(0, 1), own, f"{name}.temporal_attn")
        patches = patches + linear(moved, own, f"{name}.temporal_fc").transpose(0, 1)
        found = attention(norm(torch.cat([first, patches], 1), own, f"{name}.norm1"), own, f"{name}.attn")
        whole = torch.cat([found[:, :1] + found[:, :1], patches + found[:, 1:]], dim=1)
        hidden = functional.gelu(linear(norm(whole, own, f"{name}.norm2"), own, f"{name}.mlp.fc1"))
        whole = whole + linear(hidden, own, f"{name}.mlp.fc2")
        patches = whole[:, 1:]
    listed = [whole[time, token] for token in range(whole.shape[1]) for time in range(times)]
    groups = norm(torch.stack(listed), own, "norm").unflatten(0, (times, -1))
    return norm(groups[:, 1:].mean(dim=1), own, "pool_norm")


@pytest.mark.parametrize("frames", [1, 2, FRAMES, 5])
@torch.no_grad()
def test_surgclips_clips_of_any_length_follow_the_formulas(surgclip_made, frames):
    folder, _, tensors = surgclip_made
    model = AutoModel.from_pretrained(folder).eval()
    clip = torch.randn(frames, 3, 8, 8, generator=torch.Generator().manual_seed(frames))
    expected = linear(encoded_clip(clip, tensors), tensors, "vision_proj")
    assert relative(model.get_image_features(clip[None]).pooler_output[0], expected) < 1e-4
    if frames == 1:  # an image is a clip of one frame
        assert relative(model.get_image_features(clip).pooler_output, expected) < 1e-4


@torch.no_grad()
def test_similarity_is_the_mean_cosine_of_a_clips_vectors_over_the_files_temperature(surgclip_made):
    folder, _, _ = surgclip_made
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    clip = np.random.default_rng(1).integers(0, 256, (FRAMES, 12, 17, 3), dtype=np.uint8)
    inputs = processor(videos=clip, text=["a duct", "the gallbladder"])
    output = model(**inputs)
    vectors = model.get_image_features(inputs["pixel_values"]).pooler_output[0]
    texts = model.get_text_features(inputs["input_ids"], inputs["attention_mask"]).pooler_output
    expected = functional.cosine_similarity(vectors[:, None], texts[None], dim=-1).mean(dim=0) / 0.05
    assert relative(output.logits_per_image[0], expected) < 1e-5
    assert float(model.logit_scale.exp()) == pytest.approx(20)
    squeezed = [np.array(Image.fromarray(frame).resize((8, 8), Image.Resampling.BICUBIC)) for frame in clip]
    expected = torch.from_numpy(np.stack(squeezed)).permute(0, 3, 1, 2) / 127.5 - 1
    assert torch.allclose(inputs["pixel_values"][0], expected, atol=1e-5)


# ------------------------------------------------------------------------------------- pipelines, remote code


@pytest.mark.parametrize("made", ["surgvlp_made", "surgclip_made"])
@torch.no_grad()
def test_the_stock_pipeline_takes_a_converted_folder(made, request):
    folder = request.getfixturevalue(made)[0]
    frame = Image.fromarray(np.random.default_rng(2).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    labels = ["clipping of the duct", "the gallbladder"]
    answers = pipeline("zero-shot-image-classification", model=str(folder))(
        frame, candidate_labels=labels, hypothesis_template="{}"
    )
    model = AutoModelForZeroShotImageClassification.from_pretrained(folder).eval()
    expected = model(**AutoProcessor.from_pretrained(folder)(images=frame, text=labels)).logits_per_image.softmax(
        dim=1
    )
    scores = {answer["label"]: answer["score"] for answer in answers}
    assert [scores[label] for label in labels] == pytest.approx(expected[0].tolist(), abs=1e-5)


@pytest.mark.parametrize("made", ["surgvlp_made", "surgclip_made"])
def test_a_converted_folder_works_without_this_package(libraries, made, request, tmp_path):
    folder = request.getfixturevalue(made)[0]
    program = (
        "import sys; sys.modules['surgvista_hf'] = None\n"
        "import numpy as np, torch\n"
        "from PIL import Image\n"
        "from transformers import AutoModel, AutoProcessor, pipeline\n"
        f"options = dict(trust_remote_code=True)\n"
        f"model = AutoModel.from_pretrained({str(folder)!r}, **options).eval()\n"
        f"processor = AutoProcessor.from_pretrained({str(folder)!r}, **options)\n"
        "frame = Image.fromarray(np.arange(2700, dtype=np.uint8).reshape(30, 30, 3))\n"
        "found = model(**processor(images=frame, text=['a duct', 'the gallbladder'])).logits_per_image\n"
        f"pipe = pipeline('zero-shot-image-classification', model={str(folder)!r}, **options)\n"
        "answers = pipe(frame, candidate_labels=['a duct', 'the gallbladder'], hypothesis_template='{}')\n"
        "scores = {answer['label']: answer['score'] for answer in answers}\n"
        "assert abs(scores['a duct'] - float(found.softmax(1)[0, 0])) < 1e-5\n"
        "print('works')"
    )
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path)}
    done = libraries.run_code(program, environment=environment, cwd=tmp_path)
    assert done.stdout.strip().endswith("works"), done.stderr[-2000:]


def test_a_saved_copy_has_the_auto_classes_and_the_same_numbers(surgclip_made, tmp_path):
    model = AutoModel.from_pretrained(surgclip_made[0])
    model.save_pretrained(tmp_path)
    auto = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert set(auto) == {"AutoConfig", "AutoModel", "AutoModelForZeroShotImageClassification"}
    again = AutoModel.from_pretrained(tmp_path)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )


# ------------------------------------------------------------------------------------- as encoders of images and clips


@pytest.mark.parametrize("made", ["surgvlp_made", "surgclip_made"])
@torch.no_grad()
def test_the_vision_encoder_serves_probes_and_fine_tuning(made, request, tmp_path):
    folder = request.getfixturevalue(made)[0]
    video = made == "surgclip_made"
    encoder = load_any_encoder(folder).eval()
    assert encoder.config.num_frames == (FRAMES if video else 1)
    assert encoder.config.encoder_config.converted_from == ("surgclip-b" if video else "surgvlp")
    processor = make_classifier_processor(encoder, folder, keep_geometry=True)
    clip = np.random.default_rng(4).integers(0, 256, (encoder.config.num_frames, 90, 130, 3), dtype=np.uint8)
    pixels = prepare_clips(processor, clip)
    own = prepare_clips(AutoVideoProcessor.from_pretrained(folder), clip)
    assert torch.equal(pixels, own)  # as its authors' program prepares them
    whole = AutoModel.from_pretrained(folder).eval()
    output = whole.vision_model(own if video else own[0])
    expected = output.last_hidden_state.mean(dim=1) if video else output.pooler_output.flatten(1)
    norm = functional.layer_norm(expected, expected.shape[-1:], eps=1e-6)
    assert torch.allclose(encoder.extract_features(pixels), norm, atol=1e-4)
    classifier = load_classifier(folder, ["a", "b", "c"], "single_label_classification", num_frames=2)
    classifier.save_pretrained(tmp_path)
    again = AutoModelForVideoClassification.from_pretrained(tmp_path).eval()
    side = 8 if video else 64
    clips = torch.randn(2, 2, 3, side, side)
    assert torch.equal(again(clips).logits, classifier.eval()(clips).logits)


def test_the_vision_encoder_of_a_folder_without_a_tokenizer_keeps_its_preparation(tmp_path, monkeypatch):
    monkeypatch.setattr("surgvista_hf.modeling.conversion.tokenizers._cached_vocabulary", lambda name: None)
    file, *_ = surgclip_file(tmp_path)
    convert_checkpoint(file, tmp_path / "out", family="surgclip-b", config=HEADS_OF_ALL)
    processor = make_classifier_processor(load_any_encoder(tmp_path / "out"), tmp_path / "out", keep_geometry=True)
    assert (list(processor.image_mean), processor.arithmetic, processor.frame_stride) == ([0.5] * 3, "pillow", 1)


# ------------------------------------------------------------------------------------- tokenizers and bad input


def test_without_a_tokenizer_images_work_and_texts_say_what_is_missing(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("surgvista_hf.modeling.conversion.tokenizers._cached_vocabulary", lambda name: None)
    file, *_ = surgclip_file(tmp_path)
    convert_checkpoint(file, tmp_path / "out", family="surgclip-b", config=HEADS_OF_ALL)
    pixels = AutoImageProcessor.from_pretrained(tmp_path / "out")(np.zeros((9, 9, 3), np.uint8), return_tensors="pt")
    assert pixels["pixel_values"].shape == (1, 3, 8, 8)
    with pytest.raises(InputError, match="has no tokenizer"):
        AutoProcessor.from_pretrained(tmp_path / "out")


def test_the_authors_tokenizer_is_found_in_the_hubs_cache(tmp_path, monkeypatch):
    cache = {"google-bert/bert-base-uncased": str(vocabulary(tmp_path / "cache") / "vocab.txt")}
    monkeypatch.setattr("surgvista_hf.modeling.conversion.tokenizers._cached_vocabulary", cache.get)
    file, *_ = surgclip_file(tmp_path)
    convert_checkpoint(file, tmp_path / "out", family="surgclip-b", config=HEADS_OF_ALL)
    assert len(AutoProcessor.from_pretrained(tmp_path / "out").tokenizer) == len(WORDS)


def test_a_tokenizer_with_another_vocabulary_is_refused_before_anything_is_written(tmp_path):
    file, *_ = surgclip_file(tmp_path)
    other = vocabulary(tmp_path / "other", [*WORDS, "more"])
    with pytest.raises(InputError, match=r"14 tokens.* 13.*bert-base-uncased"):
        convert_checkpoint(file, tmp_path / "out", family="surgclip-b", config=HEADS_OF_ALL, tokenizer=other)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"a\nlist\nof\nwords\n"])
def test_what_is_no_vocabulary_is_refused_by_name(tmp_path, content):
    file, *_ = surgclip_file(tmp_path)
    given = tmp_path / "words.txt"
    if content is not None:
        given.write_bytes(content)
    with pytest.raises(InputError, match=r"words\.txt"):
        convert_checkpoint(file, tmp_path / "out", family="surgclip-b", config=HEADS_OF_ALL, tokenizer=given)


def test_a_tokenizer_for_a_family_without_texts_is_refused(tmp_path):
    with pytest.raises(InputError, match="read no texts"):
        convert_checkpoint(tmp_path / "x.pth", tmp_path / "out", family="endovit", tokenizer=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "wrong", "right"), [(surgvlp_file, "surgclip-b", "surgvlp"), (surgclip_file, "surgvlp", "surgclip-b")]
)
def test_a_wrong_family_is_refused_with_the_right_one_named(tmp_path, make, wrong, right):
    file, *_ = make(tmp_path)
    with pytest.raises(CheckpointError, match=f"It looks like a checkpoint of the family {right}"):
        convert_checkpoint(file, tmp_path / "out", family=wrong, config=HEADS_OF_ALL)


def test_published_files_have_the_published_sizes():
    sizes = {}
    for family in ("surgvlp", "hecvl", "peskavlp", "surgclip-b"):
        make, _ = PUBLISHED[family, "base"]
        blueprint = FAMILIES[family].plan(make(), {})
        config = blueprint.config
        sizes[family] = (
            config.projection_dim,
            config.num_frames,
            config.max_text_length,
            config.text_config.vocab_size,
        )
        assert config.text_config.num_attention_heads == 12
    assert sizes.pop("surgclip-b") == (256, 16, 77, 30522)
    assert set(sizes.values()) == {(768, 1, 77, 28996)}


def test_pixels_of_another_shape_are_refused(surgclip_made):
    model = AutoModel.from_pretrained(surgclip_made[0])
    with pytest.raises(InputError, match=r"\(batch, channels"):
        model.get_image_features(torch.zeros(3, 8, 8))
    with pytest.raises(InputError, match="8, 8"):
        model.get_image_features(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"projection_dim": 5}, "text_projection"),
        ({"text_feature": "mean"}, "text_feature"),
        ({"similarity_temperature": 0}, "positive"),
        ({"max_text_length": 1000}, "512 positions"),
        ({"vision_config": {"model_type": "no_such_encoder"}}, "no_such_encoder"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(fields, message):
    from surgvista_hf.modeling.configuration_surgical_clip import SurgicalClipConfig

    with pytest.raises(InputError, match=message):
        SurgicalClipConfig(**fields)


@pytest.mark.parametrize(
    "first", ["configuration_surgical_clip", "modeling_surgical_clip", "processing_surgical_clip"]
)
def test_each_file_can_be_imported_first(libraries, first, tmp_path):
    program = f"import surgvista_hf.modeling.{first}\nfrom transformers import AutoModel\nprint('works')"
    done = libraries.run_code(program, cwd=tmp_path)
    assert done.stdout.strip() == "works", done.stderr[-2000:]


def test_images_and_clips_at_once_or_nothing_are_refused(surgclip_made):
    processor = AutoProcessor.from_pretrained(surgclip_made[0])
    frame = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(InputError, match="not both"):
        processor(images=frame, videos=frame[None])
    with pytest.raises(InputError, match="give images"):
        processor()
