"""Our models compute what the original implementations computed."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForPreTraining, AutoModelForVideoClassification, ViTModel

from surgvista_hf import SurgVistaForPreTraining, convert_checkpoint
from surgvista_hf.modeling.conversion.mapping import map_tensors, surgvista_naming
from surgvista_hf.modeling.modeling_surgvista import split_tokens

from . import golden

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def numbers() -> dict[str, torch.Tensor]:
    return golden.load("tiny_pretraining")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, numbers: dict[str, torch.Tensor]) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    checkpoint = golden.training_checkpoint(folder / "checkpoint-199.pth", golden.part(numbers, "student."))
    sizes = golden.UNREADABLE_SIZES | golden.UNREADABLE_DECODER_SIZES
    convert_checkpoint(checkpoint, folder / "converted", family="surgvista", config=sizes)
    return folder / "converted"


def clip_of(numbers: dict[str, torch.Tensor]) -> torch.Tensor:
    return numbers["io.videos_bcthw"].transpose(1, 2)


@pytest.fixture(params=["eager", "sdpa", "sdpa, activation checkpointing"])
def model(request: pytest.FixtureRequest, folder: Path) -> SurgVistaForPreTraining:
    attention, _, checkpointing = request.param.partition(", ")
    model = AutoModelForPreTraining.from_pretrained(folder, attn_implementation=attention).train()
    if checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable()
    return model


def test_both_decoders_and_all_losses_equal_the_original(model, numbers):
    output = model(clip_of(numbers), numbers["io.mask"], numbers["io.teacher_features_all"])
    for ours, name in (
        (output.video_logits, "video_decoder_out"),
        (output.image_logits, "image_decoder_out"),
        (output.video_loss[None], "loss_video"),
        (output.image_loss[None], "loss_image"),
        (output.loss[None], "loss"),
    ):
        assert golden.differences(ours, numbers[f"io.{name}"]) <= TOLERANCE, name


def test_every_gradient_equals_the_original(model, numbers):
    model(clip_of(numbers), numbers["io.mask"], numbers["io.teacher_features_all"]).loss.backward()
    parameters = dict(model.named_parameters())
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    expected = map_tensors(shapes, surgvista_naming(), golden.part(numbers, "grad.")).tensors
    assert set(expected) == set(parameters)
    for name, gradient in expected.items():
        assert golden.differences(parameters[name].grad, gradient) <= TOLERANCE * float(gradient.abs().max()), name


def test_encoder_tokens_equal_the_original_with_and_without_a_mask(model, numbers):
    visible = model.surgvista(clip_of(numbers), numbers["io.mask"]).last_hidden_state
    assert golden.differences(visible, numbers["io.encoder_visible"]) <= TOLERANCE
    everything = model.surgvista(clip_of(numbers)).last_hidden_state
    assert golden.differences(everything, numbers["io.encoder_unmasked"]) <= TOLERANCE


def test_targets_equal_the_original(folder, numbers):
    model = AutoModelForPreTraining.from_pretrained(folder)
    _, masked = split_tokens(numbers["io.mask"], 24)
    video = model.video_targets(clip_of(numbers), masked)
    assert golden.differences(video, numbers["io.video_targets"]) <= TOLERANCE
    image = model.image_targets(numbers["io.teacher_features_all"], masked)
    assert golden.differences(image, numbers["io.image_targets"]) == 0


def test_image_loss_with_normalized_teacher_features_equals_the_original(folder, numbers):
    model = AutoModelForPreTraining.from_pretrained(folder, norm_teacher_features=True)
    output = model(clip_of(numbers), numbers["io.mask"], numbers["io.teacher_features_all"])
    assert golden.differences(output.image_loss[None], numbers["io.loss_image_norm_feature"]) <= TOLERANCE


def test_position_tables_repeat_the_stored_ones_bit_for_bit(folder, numbers):
    model = AutoModelForPreTraining.from_pretrained(folder)
    for positions, name in (
        (model.surgvista.embeddings.positions, "pos_embed"),
        (model.video_decoder.positions, "pos_embed_vid"),
        (model.image_decoder.positions, "pos_embed_img"),
    ):
        assert torch.equal(positions.table[None], numbers[f"student.{name}"]), name


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", golden.CLASSIFIERS)
def test_classifier_features_logits_and_positions_equal_the_original(name, attention, tmp_path):
    numbers = golden.load(name)
    family, sizes = golden.CLASSIFIERS[name]
    torch.save(golden.part(numbers, "model."), tmp_path / "model.pth")
    convert_checkpoint(
        tmp_path / "model.pth", tmp_path / "converted", family=family, config=golden.UNREADABLE_SIZES | sizes
    )
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "converted", attn_implementation=attention)
    clip = clip_of(numbers)
    assert golden.differences(model(clip).logits, numbers["io.logits"]) <= TOLERANCE
    assert golden.differences(model.extract_features(clip), numbers["io.pooled_features"]) <= TOLERANCE
    assert torch.equal(model.surgvista.embeddings.positions.table[None], numbers["io.position_table"])


def test_teacher_features_equal_the_original(tmp_path, numbers):
    torch.save(golden.part(numbers, "teacher."), tmp_path / "teacher.pth")
    convert_checkpoint(
        tmp_path / "teacher.pth",
        tmp_path / "converted",
        family="endossl-teacher",
        config={"num_attention_heads": 4},
    )
    teacher = ViTModel.from_pretrained(tmp_path / "converted", add_pooling_layer=False).eval()
    frames = clip_of(numbers)[:, ::2].flatten(0, 1)  # the first frame of every tubelet
    with torch.no_grad():
        features = teacher(frames, output_hidden_states=True).hidden_states[-1][:, 1:]
    expected = numbers["io.teacher_features_all"]
    assert golden.differences(features.reshape(expected.shape), expected) <= TOLERANCE
