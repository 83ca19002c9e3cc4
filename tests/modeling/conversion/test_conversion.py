"""Checkpoints of every family become folders that load, and nothing else is ever written."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, AutoModelForVideoClassification

from surgvista_hf import InputError, SurgVistaConfig, convert_checkpoint
from surgvista_hf.modeling.conversion import FAMILIES, CheckpointError, restore_checkpoint
from surgvista_hf.modeling.conversion.mapping import inflate
from surgvista_hf.modeling.modeling_surgvista import SurgVistaPatchEmbeddings
from surgvista_hf.util.files import OutputError

from .. import golden

SIZES = golden.UNREADABLE_SIZES
PRETRAINING = SIZES | golden.UNREADABLE_DECODER_SIZES


@pytest.fixture
def student() -> dict[str, torch.Tensor]:
    return golden.part(golden.load("tiny_pretraining"), "student.")


@pytest.fixture
def classifier() -> dict[str, torch.Tensor]:
    return golden.part(golden.load("tiny_classify_video_1d_sincos"), "model.")


def clip() -> torch.Tensor:
    return golden.load("tiny_pretraining")["io.videos_bcthw"].transpose(1, 2)


def is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


# ------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize(
    ("fixture", "prefix", "family", "overrides"),
    [
        ("tiny_pretraining", "student.", "surgvista", PRETRAINING),
        ("tiny_pretraining", "teacher.", "endossl-teacher", {"num_attention_heads": 4}),
        ("tiny_classify_video_3d_sincos", "model.", "surgvista", SIZES),
        ("tiny_classify_video_3d_sincos", "model.", "mvd", SIZES),
        ("tiny_classify_image_2d", "model.", "mae", SIZES),
        ("tiny_classify_image_2d", "model.", "supervised", SIZES),
    ],
)
def test_convert_load_save_and_export_again_gives_identical_tensors(fixture, prefix, family, overrides, tmp_path):
    original = golden.part(golden.load(fixture), prefix)
    torch.save(original, tmp_path / "original.pth")
    report = convert_checkpoint(tmp_path / "original.pth", tmp_path / "converted", family=family, config=overrides)
    AutoModel.from_pretrained(tmp_path / "converted")
    class_of = {"SurgVistaForPreTraining": AutoModelForPreTraining, "ViTModel": AutoModel}
    options = {"add_pooling_layer": False} if report.class_name == "ViTModel" else {}
    auto_class = class_of.get(report.class_name, AutoModelForVideoClassification)
    auto_class.from_pretrained(tmp_path / "converted", **options).save_pretrained(tmp_path / "saved")
    restored = restore_checkpoint(tmp_path / "saved", family=family)
    assert set(restored) == set(original)
    for name, tensor in original.items():
        assert torch.equal(restored[name], tensor), name


def test_a_prefixed_checkpoint_goes_back_under_its_prefix(classifier, tmp_path):
    encoder = {
        f"encoder.{name}": tensor for name, tensor in classifier.items() if "head" not in name and "fc" not in name
    }
    encoder |= {f"encoder.{name}": tensor for name, tensor in classifier.items() if ".mlp." in name}
    torch.save({"model": encoder | {"encoder.norm.weight": torch.ones(64)}}, tmp_path / "videomae.pth")
    report = convert_checkpoint(tmp_path / "videomae.pth", tmp_path / "out", family="videomae", config=SIZES)
    assert set(report.ignored) == {"encoder.norm.weight"}
    assert set(report.initialized) == {"fc_norm.weight", "fc_norm.bias", "classifier.weight", "classifier.bias"}
    restored = restore_checkpoint(tmp_path / "out", family="videomae")
    for name, tensor in encoder.items():
        assert torch.equal(restored[name], tensor), name


@pytest.mark.parametrize("container", ["model", "module", None, "safetensors", "shards"])
def test_every_container_gives_the_same_model(container, student, tmp_path):
    source = tmp_path / "checkpoint.pth"
    if container == "safetensors":
        source = tmp_path / "checkpoint.safetensors"
        save_file(student, source)
    elif container == "shards":
        source = tmp_path / "shards"
        source.mkdir()
        halves = [dict(list(student.items())[i::2]) for i in range(2)]
        for i, half in enumerate(halves):
            save_file(half, source / f"model-{i}.safetensors")
        weight_map = {name: f"model-{i}.safetensors" for i, half in enumerate(halves) for name in half}
        (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    else:
        torch.save({container: student, "epoch": 3} if container else student, source)
    convert_checkpoint(source, tmp_path / "out", family="surgvista", config=PRETRAINING)
    restored = restore_checkpoint(tmp_path / "out", family="surgvista")
    assert all(torch.equal(restored[name], tensor) for name, tensor in student.items())


def test_distributed_prefix_is_cut(student, tmp_path):
    torch.save({"model": {f"module.{name}": tensor for name, tensor in student.items()}}, tmp_path / "a.pth")
    report = convert_checkpoint(tmp_path / "a.pth", tmp_path / "out", family="surgvista", config=PRETRAINING)
    assert report.class_name == "SurgVistaForPreTraining"


def test_half_precision_stays_half(student, tmp_path):
    torch.save({name: tensor.half() for name, tensor in student.items()}, tmp_path / "half.pth")
    convert_checkpoint(tmp_path / "half.pth", tmp_path / "out", family="surgvista", config=PRETRAINING)
    model = AutoModelForPreTraining.from_pretrained(tmp_path / "out")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}


def test_a_bare_encoder_becomes_the_base_model(student, tmp_path):
    encoder = {
        name: tensor for name, tensor in student.items() if name.startswith(("patch", "blocks", "norm", "pos_embed"))
    }
    encoder = {name: tensor for name, tensor in encoder.items() if not name.endswith(("_img", "_vid"))}
    torch.save(encoder, tmp_path / "encoder.pth")
    report = convert_checkpoint(tmp_path / "encoder.pth", tmp_path / "out", family="surgvista", config=SIZES)
    assert report.class_name == "SurgVistaModel"
    expected = golden.load("tiny_pretraining")["io.encoder_unmasked"]
    assert golden.differences(AutoModel.from_pretrained(tmp_path / "out")(clip()).last_hidden_state, expected) <= 1e-5


# ------------------------------------------------------------------------------------------------- families


def test_families_get_the_positions_and_biases_they_were_trained_with(classifier, tmp_path):
    image = golden.part(golden.load("tiny_classify_image_2d"), "model.")
    cases = {"mvd": (classifier, "sincos_3d"), "videomae": (classifier, "sincos_1d"), "umt": (classifier, "sincos_1d")}
    cases |= dict.fromkeys(("mae", "dino", "supervised"), (image, "sincos_1d"))
    for family, (tensors, positions) in cases.items():
        torch.save(tensors, tmp_path / "a.pth")
        convert_checkpoint(tmp_path / "a.pth", tmp_path / family, family=family, config=SIZES)
        config = AutoConfig.from_pretrained(tmp_path / family)
        assert (config.position_embedding_type, config.key_bias) == (positions, tensors is image), family


def test_published_base_sizes_need_no_config(tmp_path):
    shapes = json.loads((golden.FOLDER.parent / "base_classifier_shapes.json").read_text())
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(shape, generator=generator).bfloat16() for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "base.safetensors")
    convert_checkpoint(tmp_path / "base.safetensors", tmp_path / "out", family="surgvista")
    config = AutoConfig.from_pretrained(tmp_path / "out")
    default = SurgVistaConfig(num_labels=7)
    for name in (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "patch_size",
        "tubelet_size",
        "num_labels",
    ):
        assert getattr(config, name) == getattr(default, name), name


def test_a_umt_patch_weight_of_one_frame_is_inflated_in_every_container(classifier, tmp_path):
    flat = dict(classifier)
    thin = flat["patch_embed.proj.weight"][:, :, :1].clone()
    flat["patch_embed.proj.weight"] = thin
    for container in (None, "model"):
        torch.save({container: flat} if container else flat, tmp_path / "umt.pth")
        convert_checkpoint(tmp_path / "umt.pth", tmp_path / f"out-{container}", family="umt", config=SIZES)
        model = AutoModelForVideoClassification.from_pretrained(tmp_path / f"out-{container}")
        weight = model.surgvista.embeddings.patch_embeddings.projection.weight.unflatten(1, (3, 2, 8, 8))
        assert torch.equal(weight, thin.repeat(1, 1, 2, 1, 1) / 2)


def test_an_inflated_weight_embeds_a_still_clip_as_the_image_was():
    image_weight = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    embeddings = SurgVistaPatchEmbeddings(golden.pretraining_config())
    with torch.no_grad():
        embeddings.projection.weight.copy_(inflate(image_weight, 3 * 2 * 8 * 8).flatten(1))
        embeddings.projection.bias.zero_()
    frame = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = torch.nn.functional.conv2d(frame, image_weight, stride=8).flatten(2).transpose(1, 2)
    still = frame[:, None].expand(-1, 2, -1, -1, -1)
    assert torch.allclose(embeddings(still), expected, atol=1e-4)


def test_a_supervised_head_over_the_class_token_is_left_out(tmp_path):
    tensors = golden.part(golden.load("tiny_classify_image_2d"), "model.")
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(("fc_norm", "head"))}
    tensors |= {
        "head.weight": torch.zeros(1000, 64),
        "head.bias": torch.zeros(1000),
        "cls_token": torch.zeros(1, 1, 64),
    }
    tensors |= {"norm.weight": torch.ones(64), "norm.bias": torch.zeros(64), "pos_embed": torch.zeros(1, 17, 64)}
    torch.save(tensors, tmp_path / "timm.pth")
    report = convert_checkpoint(
        tmp_path / "timm.pth", tmp_path / "out", family="supervised", config=SIZES | {"num_labels": 5}
    )
    assert set(report.ignored) == {"head.weight", "head.bias", "cls_token", "norm.weight", "norm.bias", "pos_embed"}
    assert "not part of the model" not in report.ignored.values()
    assert AutoModelForVideoClassification.from_pretrained(tmp_path / "out").classifier.out_features == 5


def test_the_folder_holds_model_processor_and_a_card_with_license_source_and_digest(student, tmp_path):
    file = golden.training_checkpoint(tmp_path / "a.pth", student)
    report = convert_checkpoint(file, tmp_path / "out", family="surgvista", config=PRETRAINING)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "model.safetensors", "video_preprocessor_config.json", "README.md"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert hashlib.sha256(file.read_bytes()).hexdigest() in card
    assert "license: cc-by-nc-nd-4.0" in card
    assert "isyangshu/SurgVISTA" in card
    assert "Not a medical device" in card
    assert report.counts == {"mapped": len(report.mapped), "ignored": 3, "initialized": 0}
    assert "ignored      3 tensors" in str(report)


def test_every_family_says_where_it_comes_from():
    for family in FAMILIES.values():
        assert family.paper, family.name
        assert family.source, family.name
        assert family.license, family.name


# ------------------------------------------------------------------------------------------------- refusals


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("code-was-run",)


def broken(kind: str, student: dict[str, torch.Tensor], folder: Path) -> Path:
    file = folder / "input.pth"
    if kind == "truncated":
        torch.save(student, file)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif kind == "truncated safetensors":
        file = folder / "input.safetensors"
        save_file(student, file)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif kind == "text":
        file.write_text("not a checkpoint")
    elif kind == "empty":
        file.touch()
    elif kind == "code":
        torch.save({"model": student, "extra": Malicious()}, file)
    elif kind == "old pickle with code":
        file.write_bytes(pickle.dumps({"model": Malicious()}))
    elif kind == "no tensors":
        torch.save({"epoch": 3}, file)
    elif kind == "shard outside its folder":
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../secret.safetensors"}}')
        return folder
    elif kind == "missing shard":
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')
        return folder
    return file


@pytest.mark.parametrize(
    "kind",
    [
        *("truncated", "truncated safetensors", "text", "empty", "code", "old pickle with code", "no tensors"),
        *("missing", "shard outside its folder", "missing shard"),
    ],
)
def test_a_bad_file_is_refused_runs_no_code_and_leaves_nothing(kind, student, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    source = broken(kind, student, tmp_path / "in")
    with pytest.raises(CheckpointError):
        convert_checkpoint(source, tmp_path / "out" / "model", family="surgvista", config=PRETRAINING)
    assert is_empty(tmp_path / "out")
    assert not (tmp_path / "code-was-run").exists()


@pytest.mark.parametrize(
    ("family", "change", "overrides", "reason"),
    [
        ("videomae", {}, SIZES, "not the sincos_1d table"),
        ("umt", {}, SIZES, "not the sincos_1d table"),
        ("endossl-teacher", {}, {"num_attention_heads": 4}, "blocks.0.attn.q.weight"),
        (
            "mae",
            {"patch_embed.proj.weight": torch.zeros(64, 3, 2, 8, 8), "blocks.0.attn.qkv.bias": torch.zeros(192)},
            SIZES,
            "a decoder, registers or layer scales",
        ),
        ("surgvista", {"blocks.1.attn.qkv.weight": None}, PRETRAINING, "blocks.1.attn.qkv.weight"),
        ("surgvista", {"blocks.2.attn.q_bias": None}, PRETRAINING, "blocks.2.attn.q_bias"),
        ("surgvista", {"decoder_img.head.bias": None}, PRETRAINING, "decoder_img.head.bias"),
        ("surgvista", {"blocks.1.mlp.fc1.weight": torch.zeros(10, 64)}, PRETRAINING, "shape"),
        ("surgvista", {"cls_token": torch.zeros(1, 1, 64)}, PRETRAINING, "class token"),
        ("surgvista", {"pos_embed": torch.zeros(1, 32, 64)}, PRETRAINING, "not the sincos_3d table"),
        ("surgvista", {}, PRETRAINING | {"num_frames": 8}, "say config="),
        ("surgvista", {}, PRETRAINING | {"hidden_size": 128}, "the tensors of the checkpoint say 64"),
    ],
)
def test_a_wrong_family_or_a_missing_or_misshapen_tensor_is_refused(
    family, change, overrides, reason, student, tmp_path
):
    tensors = {name: tensor for name, tensor in {**student, **change}.items() if tensor is not None}
    torch.save(tensors, tmp_path / "in.pth")
    (tmp_path / "out").mkdir()
    with pytest.raises(CheckpointError, match=reason):
        convert_checkpoint(tmp_path / "in.pth", tmp_path / "out" / "model", family=family, config=overrides)
    assert is_empty(tmp_path / "out")


@pytest.mark.parametrize(
    ("family", "overrides", "reason"),
    [
        ("surgvsta", {}, "families are surgvista, mvd"),
        ("surgvista", {"num_atention_heads": 4}, "did you mean num_attention_heads"),
        ("surgvista", {}, "num_attention_heads"),
    ],
)
def test_an_unknown_family_or_option_or_an_unreadable_size_is_explained(family, overrides, reason, student, tmp_path):
    torch.save(student, tmp_path / "in.pth")
    with pytest.raises(InputError, match=reason):
        convert_checkpoint(tmp_path / "in.pth", tmp_path / "out", family=family, config=overrides)


def test_an_existing_output_is_never_overwritten(student, tmp_path):
    torch.save(student, tmp_path / "in.pth")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        convert_checkpoint(tmp_path / "in.pth", tmp_path / "out", family="surgvista", config=PRETRAINING)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious.txt"]
