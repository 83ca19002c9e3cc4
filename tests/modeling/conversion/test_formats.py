"""Released surgical families: what a converted folder computes is what the original program computes."""

from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
)

from surgvista_hf import convert_checkpoint
from surgvista_hf.modeling.conversion import FAMILIES, CheckpointError, restore_checkpoint

from .. import golden
from .originals import MASKED, ORIGINALS


def converted(original, folder):
    return convert_checkpoint(original.save(folder), folder / "out", family=original.family, config=original.overrides)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Name -> a checkpoint, what became of it, and its folder: converted once for the tests that only read it."""

    @cache
    def converted_once(name):
        original, folder = ORIGINALS[name](), tmp_path_factory.mktemp(name)
        return original, converted(original, folder), folder / "out"

    return converted_once


def auto_class(class_name):
    if class_name.endswith("ForVideoClassification"):
        return AutoModelForVideoClassification
    return AutoModelForPreTraining if class_name.endswith("ForPreTraining") else AutoModel


def inputs_of(original, class_name):
    if not class_name.endswith("ForPreTraining"):
        return {}
    mask = torch.zeros(2, 32, dtype=torch.bool)
    mask[:, MASKED] = True
    return {"bool_masked_pos": mask}


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_converted_folder_gives_the_numbers_of_the_original(name, zoo):
    original, report, folder = zoo(name)
    model = auto_class(report.class_name).from_pretrained(folder)
    key = "pixel_values_videos" if model.config.model_type == "vjepa2" else "pixel_values"
    with torch.no_grad():
        expected = original.expected(original.pixels)
        answer = original.answer(model(**{key: original.pixels}, **inputs_of(original, report.class_name)))
    assert expected.std() > 0.01
    assert golden.differences(answer, expected) <= 1e-5 * max(1.0, float(expected.abs().max()))
    assert report.initialized == ()
    assert "not part of the model" not in report.ignored.values()


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_way_back_gives_the_tensors_of_the_original(name, zoo, tmp_path):
    """Where a layout has several programs, those of the release or of the authors."""
    original, report, folder = zoo(name)
    options = {"add_pooling_layer": False} if report.class_name == "ViTModel" else {}
    model = auto_class(report.class_name).from_pretrained(folder, **options)
    model.save_pretrained(tmp_path / "saved")
    restored = restore_checkpoint(tmp_path / "saved", family=original.family)
    if name == "lemonfm_of_timm":
        assert len(restored) == len(original.checkpoint)
        return
    weights = flat(original.checkpoint)
    assert set(restored) == set(weights) - left_out(report)
    assert [key for key in restored if not torch.equal(restored[key], weights[key])] == []


def flat(checkpoint):
    """The tensors that a family reads, under the names of the way back."""
    for part in ("teacher", "encoder", "model"):
        if part in checkpoint:
            inner = {key.removeprefix("module."): value for key, value in checkpoint[part].items()}
            if part == "encoder":
                inner |= {f"predictor.{key.removeprefix('module.')}": t for key, t in checkpoint["predictor"].items()}
            return inner
    return checkpoint


def left_out(report):
    computed = {"backbone.pos_embed"}  # read back from the formula
    stacked = {name for name, why in report.ignored.items() if "stacked" in why}
    return set(report.ignored) - stacked - computed


def test_the_names_of_the_authors_are_those_that_timm_reads():
    """timm's own readers turn the re-created layouts into its weights, so these are the layouts of the programs."""
    import timm
    from timm.models import convnext, metaformer

    from .originals import timm_convnext

    caformer = ORIGINALS["surgenet_caformer"]()
    model = timm.create_model("caformer_s18", num_classes=0)
    theirs = {name: tensor for name, tensor in caformer.checkpoint.items() if not name.startswith("head")}
    read = metaformer.checkpoint_filter_fn(theirs, model)
    assert {name: tensor.shape for name, tensor in read.items()} == shapes(model)
    for version in (1, 2):
        model, tensors = timm_convnext(version, authors=True)
        read = convnext.checkpoint_filter_fn(tensors, model)
        read = {name: tensor.flatten() if ".grn." in name else tensor for name, tensor in read.items()}
        assert {name: tensor.shape for name, tensor in read.items()} == shapes(model)


def shapes(model):
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def test_every_tensor_of_the_released_size_of_lemonfm_has_its_place():
    from torchvision.models import convnext_large

    with torch.device("meta"):
        model = convnext_large()
    model.classifier[2] = torch.nn.Identity()
    tensors = {f"backbone.{name}": tensor for name, tensor in model.state_dict().items()}
    blueprint = FAMILIES["lemonfm"].plan(tensors, {})
    assert len(tensors) == 342
    assert {blueprint.naming(target).key for target in blueprint.targets} == set(tensors)
    config = blueprint.config
    assert (config.hidden_sizes, config.depths) == ([192, 384, 768, 1536], [3, 3, 27, 3])
    assert config.layer_norm_eps == 1e-6


def test_gsvit_in_its_released_size_is_recognized():
    import timm

    from surgvista_hf.modeling.conversion.formats.gsvit import _naming

    with torch.device("meta"):
        model = timm.create_model("efficientvit_m5", num_classes=0)
    naming = _naming("evit.")
    tensors = {naming(f"timm_model.{name}").key: tensor for name, tensor in model.state_dict().items()}
    assert "evit.3.3.mixer.m.attn.attention_biases" in tensors
    blueprint = FAMILIES["gsvit"].plan(tensors, {})
    assert (blueprint.config.architecture, blueprint.config.num_features) == ("efficientvit_m5", 384)


@pytest.mark.parametrize("name", ["lemonfm", "endovit", "gsvit", "surgrec_mae", "surgrec_jepa", "surgmotion"])
def test_a_folder_has_a_processor_of_its_kind_and_a_card_that_says_what_is_unverified(name, zoo):
    original, _, folder = zoo(name)
    video = original.pixels.ndim == 5
    processor = (AutoVideoProcessor if video else AutoImageProcessor).from_pretrained(folder)
    side = original.pixels.shape[-1]
    frames = torch.randint(0, 256, (4, 3, 40, 60), dtype=torch.uint8)
    if video:
        inputs = processor(frames, do_sample_frames=False, return_tensors="pt")
        assert inputs[AutoModel.from_pretrained(folder).main_input_name].shape == original.pixels[:1].shape
    else:
        pixels = processor(list(frames), return_tensors="pt")["pixel_values"]
        assert pixels.shape[-1] == (224 if name == "lemonfm" else side)
    family = FAMILIES[original.family]
    card = (folder / "README.md").read_text()
    for fact in (f"license: {family.license}", family.source, family.checked, family.unknown, family.input):
        assert fact in card
    assert AutoConfig.from_pretrained(folder).converted_from == original.family


def test_endovit_is_normalized_as_it_was_trained(zoo):
    processor = AutoImageProcessor.from_pretrained(zoo("endovit")[2])
    assert list(processor.image_mean) == [0.3464, 0.2280, 0.2228]
    assert list(processor.image_std) == [0.2520, 0.2128, 0.2093]


def test_lemonfm_runs_in_the_pipeline_of_features(zoo):
    from PIL import Image
    from transformers import pipeline

    folder = zoo("lemonfm")[2]
    extract = pipeline("image-feature-extraction", str(folder), pool=True, return_tensors=True)
    picture = Image.new("RGB", (320, 180), (180, 60, 50))
    model = AutoModel.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        expected = model(**processor(picture, return_tensors="pt")).pooler_output
    assert expected.shape == (1, 32)
    torch.testing.assert_close(extract(picture), expected)


def test_the_family_decides_which_v_jepa_a_checkpoint_is_and_the_other_is_named(tmp_path):
    fixed, rotary = ORIGINALS["surgrec_jepa"](), ORIGINALS["surgmotion"]()
    for original, family, right in (
        (fixed, "surgmotion", "surgrec-jepa"),
        (fixed, "vjepa2", "surgrec-jepa"),
        (rotary, "surgrec-jepa", "surgmotion or vjepa2"),
        (rotary, "vjepa", "surgmotion or vjepa2"),
    ):
        with pytest.raises(CheckpointError, match=f"looks like a checkpoint of the family {right}"):
            convert_checkpoint(original.save(tmp_path), tmp_path / family, family=family, config=original.overrides)


def test_a_table_that_a_rotary_network_stores_is_left_out_and_changes_nothing(tmp_path):
    original = ORIGINALS["surgmotion"]()
    expected = original.expected(original.pixels)
    for part in ("encoder", "target_encoder"):
        original.checkpoint[part]["module.backbone.pos_embed"] = torch.randn(1, 32, 48)
    overrides = {**original.overrides, "pred_num_mask_tokens": 3}  # so few as V-JEPA 1 has: said on purpose
    report = convert_checkpoint(original.save(tmp_path), tmp_path / "out", family="surgmotion", config=overrides)
    assert "rotary" in report.ignored["backbone.pos_embed"]
    model = AutoModel.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        answer = original.answer(model(pixel_values_videos=original.pixels))
    assert golden.differences(answer, expected) <= 1e-5 * float(expected.abs().max())


def test_what_a_family_does_not_know_is_refused_and_left_out_only_on_request(tmp_path):
    original = ORIGINALS["endovit"]()
    original.checkpoint["model"]["adapter.weight"] = torch.zeros(2)
    with pytest.raises(CheckpointError, match=r"no place in a ViTModel, such as adapter.weight"):
        converted(original, tmp_path)
    report = convert_checkpoint(
        tmp_path / "original.pth",
        tmp_path / "out",
        family="endovit",
        config=original.overrides,
        leave_out=[r"adapter\."],
    )
    assert report.ignored["adapter.weight"] == "left out on request"


def test_the_average_of_a_joint_embedding_can_be_asked_for(tmp_path):
    original = ORIGINALS["surgrec_jepa"]()
    wanted = {"target_encoder": {name: t - 1 for name, t in original.checkpoint["target_encoder"].items()}}
    torch.save(original.checkpoint | wanted, tmp_path / "a.pt")
    overrides = {"family": "surgrec-jepa", "config": original.overrides}
    convert_checkpoint(tmp_path / "a.pt", tmp_path / "online", **overrides)
    convert_checkpoint(tmp_path / "a.pt", tmp_path / "average", part="target_encoder", **overrides)
    with torch.no_grad():
        same = AutoModel.from_pretrained(tmp_path / "average")(original.pixels).last_hidden_state
    assert golden.differences(same, original.expected(original.pixels)) <= 1e-4
    with pytest.raises(CheckpointError, match=r"no part 'ema'; its parts are encoder, predictor, target_encoder"):
        convert_checkpoint(tmp_path / "a.pt", tmp_path / "none", part="ema", **overrides)


def test_a_rotary_encoder_without_predictor_starts_one_and_says_so(tmp_path):
    original = ORIGINALS["surgmotion"]()
    del original.checkpoint["predictor"]
    overrides = {name: value for name, value in original.overrides.items() if not name.startswith("pred_")}
    sizes = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
    report = convert_checkpoint(
        original.save(tmp_path), tmp_path / "out", family="surgmotion", config={**overrides, **sizes}
    )
    assert report.initialized
    assert all(name.startswith("predictor.") for name in report.initialized)


@pytest.mark.parametrize(
    ("name", "family", "reason"),
    [
        ("surgrec_mae", "lemonfm", "no ConvNeXt in the layout"),
        ("surgrec_mae", "surgenet", "no CAFormer, ConvNeXt V2 or PVT v2"),
        ("surgrec_mae", "gsvit", "neither evit"),
        ("surgrec_mae", "endovit", "decoder_embed.weight"),
        ("lemonfm", "surgrec-mae", "under student, teacher"),
        ("lemonfm_of_timm", "surgrec-mae", "patch_embed.proj.weight"),
        ("lemonfm_of_timm", "surgmotion", "patch_embed.proj.weight"),
        ("endovit", "surgrec-mae", "class token"),
        ("endovit", "vjepa", "class token"),
        ("endovit", "endossl-teacher", "blocks.0.attn.q.weight"),
    ],
)
def test_a_checkpoint_of_another_family_is_refused(name, family, reason, tmp_path):
    original = ORIGINALS[name]()
    with pytest.raises(CheckpointError, match=reason):
        convert_checkpoint(original.save(tmp_path), tmp_path / "out", family=family, config={})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "key", "reason"),
    [
        ("gsvit", "evit.2.1.conv2.c.weight", "fit none of"),
        (
            "surgenet_caformer",
            "stages.3.2.norm2.weight",
            "1 needed tensors are missing, such as stages.3.2.norm2.weight",
        ),
    ],
)
def test_a_network_that_lacks_a_tensor_is_refused(name, key, reason, tmp_path):
    original = ORIGINALS[name]()
    del original.checkpoint[key]
    with pytest.raises(CheckpointError, match=reason):
        converted(original, tmp_path)


def test_a_stored_table_of_another_v_jepa_is_refused(tmp_path):
    original = ORIGINALS["surgrec_jepa"]()
    original.checkpoint["encoder"]["module.backbone.pos_embed"] += 0.1
    with pytest.raises(CheckpointError, match="not the sincos_3d_equal table"):
        converted(original, tmp_path)


def test_without_timm_its_extra_is_named(tmp_path, monkeypatch):
    from surgvista_hf import InputError
    from surgvista_hf.util import requirements

    original, version = ORIGINALS["gsvit"](), requirements.metadata.version
    for module, name, value, found in (
        (requirements, "is_installed", lambda package: package != "timm", "needs timm"),
        (
            requirements.metadata,
            "version",
            lambda package: "1.0.15" if package == "timm" else version(package),
            "1.0.23",
        ),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            with pytest.raises(InputError, match=rf"{found}.*surgvista-hf\[timm\]"):
                converted(original, tmp_path)


def test_the_pages_of_the_zoo_are_those_that_the_converters_write():
    from surgvista_hf.modeling.conversion.pages import family_page, zoo_table

    docs = Path(__file__).parents[3] / "docs"
    assert zoo_table() in (docs / "reference" / "models.md").read_text(encoding="utf-8"), "run docs/write_zoo.py"
    for name in FAMILIES:
        page = (docs / "reference" / "zoo" / f"{name}.md").read_text(encoding="utf-8")
        assert page == family_page(name), f"{name}: run docs/write_zoo.py"
    assert {file.stem for file in (docs / "reference" / "zoo").glob("*.md")} == set(FAMILIES)


# ------------------------------------------------------------------------------------------- through the door

OWN_CODE = ["surgenet_caformer", "surgenet_pvt", "gsvit"]
PROGRAM = """
import json, sys
import numpy as np
from transformers import AutoImageProcessor, AutoModel
image = np.arange(60 * 80 * 3, dtype=np.uint8).reshape(60, 80, 3)
found = {}
for name in NAMES:
    options = {"trust_remote_code": True}
    pixels = AutoImageProcessor.from_pretrained(name, **options)(images=image, return_tensors="pt")["pixel_values"]
    output = AutoModel.from_pretrained(name, **options).eval()(pixels)
    found[name] = output.last_hidden_state[0, 0].flatten().tolist()[:5]
print(json.dumps([found, bool(sys.modules.get("surgvista_hf"))]))
"""


@pytest.mark.slow
def test_models_and_processors_of_our_own_load_where_this_package_is_not_installed(libraries, zoo, tmp_path):
    import json

    from ..test_auto import run_python

    for name in OWN_CODE:
        (tmp_path / name).symlink_to(zoo(name)[2])
    answers = []
    for with_package in (False, True):
        program = ("import surgvista_hf\n" if with_package else "") + PROGRAM.replace("NAMES", repr(OWN_CODE))
        done = run_python(
            libraries, program, tmp_path / f"home{with_package}", with_package=with_package, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr[-3000:]
        answers.append(json.loads(done.stdout.splitlines()[-1]))
    (without, loaded), (with_it, _) = answers
    assert not loaded
    for name in OWN_CODE:
        assert without[name] == pytest.approx(with_it[name], abs=1e-5)


USABLE = ["lemonfm", "surgenet_convnext", "surgenet_caformer", "surgenet_pvt", "gsvit", "endovit"]
USABLE += ["surgrec_mae", "surgrec_mae_pretraining", "surgrec_jepa", "surgmotion"]


@pytest.mark.parametrize("name", USABLE)
def test_a_converted_folder_can_be_fine_tuned_and_its_classifier_loaded_again(name, zoo, tmp_path):
    from surgvista_hf.modeling.loading import layer_numbers, load_classifier, make_classifier_processor

    from .families import LABELS, SINGLE

    original, _, folder = zoo(name)
    model = load_classifier(folder, LABELS, SINGLE, num_frames=4)
    side = original.pixels.shape[-1]
    batch = {model.main_input_name: torch.randn(2, 4, 3, side, side), "labels": torch.tensor([0, 2])}
    torch.nn.init.normal_(model.classifier.weight)
    model(**batch).loss.backward()
    trained = [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]
    assert [name for name, tensor in trained if tensor.grad is None] == []
    numbers = layer_numbers([name for name, _ in trained])
    assert set(numbers.values()) == set(range(max(numbers.values()) + 1))
    assert make_classifier_processor(model, folder).num_frames == 4
    model.eval().save_pretrained(tmp_path / "classifier")
    again = AutoModelForVideoClassification.from_pretrained(tmp_path / "classifier").eval()
    inputs = {model.main_input_name: batch[model.main_input_name]}
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize(
    ("name", "width"), [("lemonfm", 32), ("endovit", 48), ("surgenet_caformer", 512), ("gsvit", 192)]
)
def test_the_feature_of_a_frame_is_the_familys(name, width, zoo):
    from surgvista_hf.modeling.loading import load_any_encoder

    original, _, folder = zoo(name)
    model = load_any_encoder(folder, 1).eval()
    with torch.no_grad():
        features = model.frame_features(original.pixels[:, None])[:, 0]
        expected = original.expected(original.pixels)
    if name == "endovit":
        expected = expected[:, 1:].mean(dim=1)  # without the class token
    assert features.shape == (2, width)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)


def test_videomae_pre_trained_with_its_norm_is_fine_tuned_with_the_mean_of_its_tokens(zoo):
    from surgvista_hf.modeling.loading import load_classifier

    from .families import LABELS, SINGLE

    folder = zoo("surgrec_mae_pretraining")[2]
    assert not AutoConfig.from_pretrained(folder).use_mean_pooling
    model = load_classifier(folder, LABELS, SINGLE)
    assert model.config.use_mean_pooling
    assert model.videomae.layernorm is None
    assert model.fc_norm is not None
