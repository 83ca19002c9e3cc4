"""A classifier of any family: encoder kept to the bit, head made anew with a remark, layers numbered."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVideoClassification,
    VideoMAEConfig,
    VideoMAEForPreTraining,
)

from surgvista_hf import SurgVistaConfig, SurgVistaForVideoClassification, convert_checkpoint
from surgvista_hf.modeling.conversion import CheckpointError
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.loading import (
    is_head,
    layer_numbers,
    load_any_encoder,
    load_classifier,
    make_classifier_processor,
)
from surgvista_hf.modeling.modeling_surgical_encoder import SurgicalEncoderForVideoClassification

from . import golden
from .conversion.families import FAMILIES, LABELS, SINGLE, clips, encoder, fields


@pytest.fixture(autouse=True)
def _warnings_are_seen(caplog):
    logging.getLogger("transformers").propagate = True
    caplog.set_level(logging.WARNING)
    yield
    logging.getLogger("transformers").propagate = False


@pytest.mark.parametrize("pooling", [None, "attentive"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_its_encoder_and_gets_a_head(family, pooling, tmp_path, caplog):
    caplog.set_level("INFO", "surgvista_hf")
    start = encoder(family, tmp_path)
    model = load_classifier(start, LABELS, SINGLE, num_frames=4, pooling=pooling).eval()
    assert "new and untrained" in caplog.text
    assert "3 classes" in caplog.text
    assert list(model.config.id2label.values()) == LABELS
    saved = AutoModel.from_pretrained(start).state_dict()
    encoder_weights = {name.split(".", 1)[1]: value for name, value in model.state_dict().items() if not is_head(name)}
    shared = saved.keys() & encoder_weights.keys()
    assert len(shared) >= 0.8 * len(encoder_weights)
    assert all(torch.equal(saved[name], encoder_weights[name]) for name in shared)
    with torch.no_grad():
        assert model(**{model.main_input_name: clips(family)}).logits.shape == (2, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_classifier_says_the_same_when_loaded_and_keeps_its_head_for_the_same_classes(family, tmp_path):
    model = load_classifier(encoder(family, tmp_path / "e"), LABELS, SINGLE, num_frames=4).eval()
    torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(tmp_path / "c")
    inputs = {model.main_input_name: clips(family)}
    for again in (
        AutoModelForVideoClassification.from_pretrained(tmp_path / "c"),
        load_classifier(tmp_path / "c", LABELS, SINGLE),
    ):
        with torch.no_grad():
            assert torch.equal(again.eval()(**inputs).logits, model(**inputs).logits)


def test_a_head_for_as_many_but_other_classes_is_made_anew(tmp_path, caplog):
    caplog.set_level("INFO", "surgvista_hf")
    torch.manual_seed(0)
    names = dict(enumerate(LABELS))
    config = SurgVistaConfig(**FAMILIES["surgvista"], id2label=names, label2id={v: k for k, v in names.items()})
    old = SurgVistaForVideoClassification(config)
    torch.nn.init.normal_(old.classifier.weight)
    old.save_pretrained(tmp_path)
    new = load_classifier(tmp_path, ["Incision", "Rhexis", "Suture"], SINGLE)
    assert not new.classifier.weight.any()  # the published head starts at zero
    assert "new and untrained: classifier" in caplog.text
    assert torch.equal(load_classifier(tmp_path, LABELS, SINGLE).classifier.weight, old.classifier.weight)


def test_pre_training_models_are_a_start_too(tmp_path):
    torch.manual_seed(0)
    config = VideoMAEConfig(**FAMILIES["videomae"], use_mean_pooling=True)
    whole = VideoMAEForPreTraining(config)
    whole.save_pretrained(tmp_path)
    model = load_classifier(tmp_path, LABELS, SINGLE)
    first = "encoder.layer.0.attention.attention.query.weight"
    assert torch.equal(model.videomae.get_parameter(first), whole.videomae.get_parameter(first))


def test_layers_are_numbered_from_the_embeddings_to_the_head():
    torch.manual_seed(0)
    model = load_classifier(fields("convnext"), LABELS, SINGLE, num_frames=1)
    numbers = layer_numbers([name for name, _ in model.named_parameters()])
    assert numbers["encoder.embeddings.patch_embeddings.weight"] == 0
    assert numbers["encoder.encoder.stages.0.layers.0.dwconv.weight"] == 1
    assert numbers["encoder.encoder.stages.2.layers.1.dwconv.weight"] == 4
    assert numbers["encoder.encoder.stages.3.downsampling_layer.0.weight"] == 5
    assert numbers["classifier.weight"] == numbers["fc_norm.weight"] == 6


@pytest.mark.parametrize("family", FAMILIES)
def test_the_layers_of_every_family_are_found(family):
    model = load_classifier(fields(family), LABELS, SINGLE, num_frames=4)
    numbers = layer_numbers([name for name, _ in model.named_parameters()])
    blocks = 5 if family == "convnext" else 2
    assert set(numbers.values()) == set(range(blocks + 2))
    assert {name.split(".")[-2] for name, number in numbers.items() if number == 0} & {
        "patch_embeddings",
        "projection",
        "proj",
        "layernorm",
        "embeddings",
    }


def test_the_published_rates_of_the_base_model():
    """Compare with 0.75 to the power of 13 for the patches, 0.75 for the last of twelve blocks, 1 for the head (28 groups)."""
    from surgvista_hf.trainers.common.schedule import layered_groups

    with torch.device("meta"):
        model = SurgVistaForVideoClassification(SurgVistaConfig(num_labels=7))
    named = list(model.named_parameters())
    groups = layered_groups(named, layer_numbers([name for name, _ in named]), 0.05, 0.75, 1.0)
    rates = sorted({round(group["lr"], 6) for group in groups})
    assert rates[:3] == [0.023757, 0.031676, 0.042235]
    assert rates[-2:] == [0.75, 1.0]
    assert len(groups) == 28
    last = [group for group in groups if group["lr"] == 1.0]
    assert {len(group["params"]) for group in last} == {1, 3}  # the head's weight decays; its bias and fc_norm do not


def test_the_processor_keeps_the_mean_and_deviation_of_the_checkpoint(tmp_path):
    from transformers import ViTImageProcessor

    start = encoder("vit", tmp_path)
    ViTImageProcessor(image_mean=[0.5] * 3, image_std=[0.25] * 3).save_pretrained(start)
    model = load_classifier(start, LABELS, SINGLE, num_frames=4)
    processor = make_classifier_processor(model, start, -1)
    assert (*processor.image_mean, *processor.image_std) == (0.5,) * 3 + (0.25,) * 3
    assert (processor.num_frames, processor.frame_stride, dict(processor.size)) == (4, 1, {"height": 32, "width": 32})


@pytest.mark.parametrize(
    ("start", "changes", "message"),
    [
        ("nowhere/at all", {}, "there is no folder nowhere/at all"),
        ({"model_type": "surgvista", "image_size": 33}, {}, "33"),
        ({"model_type": "unheard_of"}, {}, "unheard_of"),
        ({"model_type": "surgvista"}, {"drop_pat_rate": 0.1}, "has no drop_pat_rate"),
    ],
)
def test_what_no_classifier_can_be_made_of_is_refused(start, changes, message):
    with pytest.raises(InputError, match=message):
        load_classifier(start, LABELS, SINGLE, changes=changes)


def test_a_checkpoint_that_lacks_blocks_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    start = encoder("surgvista", tmp_path)
    weights = load_file(start / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "layers.1." not in name},
        start / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(InputError, match="lacks 15 weights of the encoder"):
        load_classifier(start, LABELS, SINGLE)


# ------------------------------------------------------------------------------------------------- attentive heads


def attentive(start: object) -> SurgicalEncoderForVideoClassification:
    """Make a classifier with attentive pooling whose head does not start at zero."""
    torch.manual_seed(0)
    model: Any = load_classifier(start, LABELS, SINGLE, num_frames=4, pooling="attentive").eval()
    assert isinstance(model, SurgicalEncoderForVideoClassification)
    torch.nn.init.normal_(model.classifier.weight)
    return model


def assert_survives_saving(model: Any, folder: Path, inputs: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        expected = model(**inputs).logits
        model.save_pretrained(folder)
        again = AutoModelForVideoClassification.from_pretrained(folder).eval()
        assert torch.equal(again(**inputs).logits, expected)
        assert torch.equal(
            load_classifier(folder, LABELS, SINGLE, pooling="attentive").eval()(**inputs).logits, expected
        )
        assert torch.equal(load_classifier(folder, LABELS, SINGLE).eval()(**inputs).logits, expected)


@pytest.mark.parametrize("family", ["surgvista", "videomae", "vjepa2", "vit"])
def test_an_attentive_head_is_put_on_the_encoder_of_a_trained_classifier(family, tmp_path):
    trained: Any = load_classifier(encoder(family, tmp_path / "e"), LABELS, SINGLE, num_frames=4).eval()
    trained.save_pretrained(tmp_path / "trained")
    model = attentive(tmp_path / "trained")
    pixels = clips(family)
    if family == "surgvista":  # what the new head sees are the tokens of the trained classifier, without another norm
        with torch.no_grad():
            assert torch.equal(model._tokens(pixels), trained.surgvista(pixels).last_hidden_state)
    assert_survives_saving(model, tmp_path / "c", {"pixel_values": pixels})


@pytest.mark.parametrize(
    ("family", "fixture"),
    [
        ("mvd", "tiny_classify_video_3d_sincos"),
        ("surgvista", "tiny_classify_video_3d_sincos"),
        ("umt", "tiny_classify_video_1d_sincos"),
        ("videomae", "tiny_classify_video_1d_sincos"),
        ("mae", "tiny_classify_image_2d"),
        ("supervised", "tiny_classify_image_2d"),
    ],
)
@pytest.mark.parametrize("headless", [False, True])
def test_an_attentive_head_is_put_on_converted_models(family, fixture, headless, tmp_path):
    if headless and family == "surgvista":
        pytest.skip("SurgVISTA's own files have a head, or the norm of the encoder")
    tensors = golden.part(golden.load(fixture), "model.")
    if headless:
        tensors = {name: value for name, value in tensors.items() if not name.startswith(("head.", "fc_norm."))}
    torch.save({"model": tensors}, tmp_path / "a.pth")
    if (
        headless and family == "supervised"
    ):  # its released file has timm's classifier, which tells it from MAE's and DINO's
        with pytest.raises(CheckpointError, match=r"no classifier over the class token.* mae or dino"):
            convert_checkpoint(tmp_path / "a.pth", tmp_path / "out", family=family, config=golden.UNREADABLE_SIZES)
        return
    convert_checkpoint(tmp_path / "a.pth", tmp_path / "out", family=family, config=golden.UNREADABLE_SIZES)
    config: Any = AutoConfig.from_pretrained(tmp_path / "out")
    whole: Any = AutoModelForVideoClassification.from_pretrained(tmp_path / "out").eval()
    torch.manual_seed(0)
    model: Any = load_classifier(tmp_path / "out", LABELS, SINGLE, pooling="attentive").eval()
    torch.nn.init.normal_(model.classifier.weight)
    pixels = torch.randn(2, config.num_frames, 3, *config.frame_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        if config.architectures == ["SurgVistaForVideoClassification"]:
            assert torch.equal(model._tokens(pixels), whole.surgvista(pixels).last_hidden_state)
    assert_survives_saving(model, tmp_path / "c", {"pixel_values": pixels})


def test_features_of_an_encoder_taken_from_a_classifier_have_no_norm_that_nobody_trained(tmp_path):
    load_classifier(encoder("surgvista", tmp_path / "e"), LABELS, SINGLE, num_frames=4).save_pretrained(tmp_path / "c")
    model: Any = load_any_encoder(tmp_path / "c")
    assert model.encoder.layernorm is None
    assert load_any_encoder(tmp_path / "e").encoder.layernorm is not None


def test_another_pooling_than_the_trained_one_is_made_anew(tmp_path, caplog):
    caplog.set_level("INFO", "surgvista_hf")
    attentive(encoder("vit", tmp_path / "e")).save_pretrained(tmp_path / "c")
    model: Any = load_classifier(tmp_path / "c", LABELS, SINGLE, pooling="mean")
    assert model.pooling is None
    assert "new and untrained" in caplog.text
