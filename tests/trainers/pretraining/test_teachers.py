"""A teacher is any image model; its features arrive on the student's grid, in the student's order."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import (
    ConvNextConfig,
    ConvNextModel,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ViTConfig,
    ViTModel,
)

from surgvista_hf import convert_checkpoint
from surgvista_hf.modeling.conversion import family
from surgvista_hf.modeling.conversion.hub import WeightsElsewhereError
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.trainers.pretraining.float8 import Float8Linear, to_float8, use_float8
from surgvista_hf.trainers.pretraining.surgvista import SurgVistaPretrainer
from surgvista_hf.trainers.pretraining.teachers import ImageTeacher

from ...modeling import golden
from ...modeling.conversion.originals import ORIGINALS
from .. import tiny

GRID = (2, 4, 4)


@pytest.fixture
def clips() -> torch.Tensor:
    """Return random clips."""
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def dinov2() -> Dinov2WithRegistersModel:
    """Return a tiny DINOv2 with registers."""
    config = Dinov2WithRegistersConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=4, num_register_tokens=3
    )
    return Dinov2WithRegistersModel(config)


def convnext() -> ConvNextModel:
    """Return a tiny ConvNeXt."""
    return ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2))


def test_the_converted_endossl_teacher_gives_the_features_of_the_original(tmp_path: Path):
    numbers = golden.load("tiny_pretraining")
    checkpoint = golden.training_checkpoint(tmp_path / "teacher.pth", golden.part(numbers, "teacher."))
    config = {"image_size": 32, "num_attention_heads": 4}
    convert_checkpoint(checkpoint, tmp_path / "teacher", family="endossl-teacher", config=config)
    teacher = ImageTeacher(ViTModel.from_pretrained(tmp_path / "teacher", add_pooling_layer=False), final_norm=False)
    clip = numbers["io.videos_bcthw"].transpose(1, 2)
    expected = numbers["io.teacher_features_all"]
    grid = golden.pretraining_config().token_grid(clip.shape[1], *clip.shape[-2:])
    assert golden.differences(teacher(clip, grid), expected) <= 1e-5 * float(expected.abs().max())


def test_only_the_first_frame_of_each_tubelet_counts(clips):
    teacher = tiny.teacher()
    changed = clips.clone()
    changed[:, 1::2] += 1
    assert torch.equal(teacher(clips, GRID), teacher(changed, GRID))
    changed[:, 2] += 1
    assert not torch.equal(teacher(clips, GRID)[:, 16:], teacher(changed, GRID)[:, 16:])


def test_tokens_come_in_the_order_time_row_column(clips):
    """Show the same image in both tubelets: the features are the same, and the class token is left out."""
    teacher = tiny.teacher()
    clips[:, 2] = clips[:, 0]
    features = teacher(clips, GRID)
    assert features.shape == (2, 32, tiny.TEACHER_WIDTH)
    torch.testing.assert_close(features[:, :16], features[:, 16:])
    tokens = teacher.model(pixel_values=clips[:, 0]).last_hidden_state[:, 1:]
    torch.testing.assert_close(features[:, :16], tokens)


def test_class_and_register_tokens_are_left_out_and_finer_grids_reduced(clips):
    model = dinov2()
    teacher = ImageTeacher(model)
    features = teacher(clips, GRID)
    tokens = model(pixel_values=clips[:, 0]).last_hidden_state[:, 4:]
    fine = tokens.transpose(1, 2).unflatten(2, (8, 8))
    coarse = functional.interpolate(fine, (4, 4), mode="bilinear", antialias=True).flatten(2).transpose(1, 2)
    assert teacher.feature_size == 24
    torch.testing.assert_close(features[:, :16], coarse)


def test_a_convolutional_teacher_is_brought_to_the_grid(clips):
    teacher = ImageTeacher(convnext())
    assert teacher.feature_size == 16
    assert teacher(clips, GRID).shape == (2, 32, 16)


def test_batches_of_images_and_training_mode_change_nothing(clips):
    teacher = tiny.teacher()
    expected = teacher(clips, GRID)
    teacher.batch_size = 3
    assert not teacher.train().model.training
    torch.testing.assert_close(teacher(clips, GRID), expected)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_its_own_precision_holds_inside_autocast(clips):
    teacher = tiny.teacher()
    expected = teacher(clips, GRID)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(teacher(clips, GRID), expected)
    half = ImageTeacher(tiny.teacher().model, dtype=torch.bfloat16)(clips, GRID)
    assert half.dtype == torch.float32
    assert 0 < float((half - expected).abs().max()) < 0.1


def test_teachers_that_cannot_be_loaded_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be loaded"):
        ImageTeacher.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="at least one image"):
        ImageTeacher(convnext(), batch_size=0)


# ------------------------------------------------------------------------------------------- faster


def test_without_the_final_norm_features_are_the_last_blocks_output(clips):
    model = tiny.teacher().model
    expected = model(clips[:, ::2].flatten(0, 1), output_hidden_states=True).hidden_states[-1][:, 1:]
    features = ImageTeacher(model, final_norm=False)(clips, GRID)
    assert torch.equal(features.view_as(expected), expected)


def test_a_model_without_a_final_norm_says_so():
    with pytest.raises(InputError, match="no final normalization to leave out"):
        ImageTeacher(torch.nn.Sequential(torch.nn.Linear(2, 2)), final_norm=False)


@pytest.mark.slow
def test_a_compiled_teacher_gives_the_same_features(clips):
    expected = tiny.teacher()(clips, GRID)
    torch.testing.assert_close(ImageTeacher(tiny.teacher().model, compile=True)(clips, GRID), expected)


def vit(width: int) -> ViTModel:
    """Return a tiny ViT."""
    torch.manual_seed(3)
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "image_size": 32, "patch_size": 8}
    return ViTModel(ViTConfig(num_hidden_layers=4, num_attention_heads=4, **sizes), add_pooling_layer=False)


def test_features_in_fewer_bits_are_near_those_in_32(clips):
    """Measure the relative distance: below 1 % in bf16, below 8 % in 8 bits, with random weights."""
    exact = ImageTeacher(vit(64))(clips, GRID)
    for dtype, bound in ((torch.bfloat16, 0.01), (torch.float8_e4m3fn, 0.08)):
        features = ImageTeacher(vit(64), dtype=dtype).to("cpu")(clips, GRID)
        assert features.dtype == torch.float32
        assert 0 < (features - exact).norm() / exact.norm() < bound


def test_a_product_in_8_bits_is_that_of_the_rounded_numbers():
    linear = torch.nn.Linear(32, 48)
    inputs = torch.randn(5, 7, 32)
    rounded = [values.float() * scale for values, scale in (to_float8(inputs), to_float8(linear.weight.detach()))]
    expected = functional.linear(*rounded, linear.bias)
    torch.testing.assert_close(Float8Linear(linear)(inputs), expected, atol=0.02, rtol=0.01)


def test_layers_that_8_bits_cannot_hold_stay_and_a_model_of_only_such_is_refused():
    mixed = use_float8(torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.Linear(32, 3)))
    assert [type(layer).__name__ for layer in mixed] == ["Float8Linear", "Linear"]
    with pytest.raises(InputError, match="multiples of 16"):
        use_float8(torch.nn.Sequential(torch.nn.Linear(3, 3)))


# ------------------------------------------------------------------------------------------- released families, by name

TEACHERS = ("lemonfm", "endovit", "surgenet_convnext", "surgenet_caformer", "surgenet_pvt", "gsvit")


def converted(original, folder: Path) -> Path:
    """Convert a checkpoint of a family."""
    convert_checkpoint(original.save(folder), folder / "teacher", family=original.family, config=original.overrides)
    return folder / "teacher"


@pytest.mark.parametrize("name", TEACHERS)
def test_a_step_of_pre_training_runs_with_every_family_as_teacher(name, frame_set, tmp_path):
    original = ORIGINALS[name]()
    teacher = ImageTeacher.from_pretrained(converted(original, tmp_path))
    side = 224 if name == "gsvit" else 32  # its windows have one size
    student = tiny.model(image_size=side, patch_size=side // 4, image_target_size=teacher.feature_size)
    args = tiny.arguments(tmp_path / "run", max_steps=1, per_device_train_batch_size=2, save_strategy="no")
    trainer = SurgVistaPretrainer(student, args, tiny.clips(frame_set), teacher=teacher)
    features = teacher(torch.randn(1, 4, 3, side, side), trainer.shape.grid)
    assert features.shape == (1, 32, teacher.feature_size)
    trainer.train()
    losses = [entry["loss_image"] for entry in trainer.state.log_history if "loss_image" in entry]
    assert len(losses) == 1
    assert losses[0] > 0


def test_whether_the_final_norm_counts_is_told_by_the_family(tmp_path):
    numbers = golden.load("tiny_pretraining")
    golden.training_checkpoint(tmp_path / "a.pth", golden.part(numbers, "teacher."))
    sizes = {"image_size": 32, "num_attention_heads": 4}
    convert_checkpoint(tmp_path / "a.pth", tmp_path / "endossl", family="endossl-teacher", config=sizes)
    clip = numbers["io.videos_bcthw"].transpose(1, 2)
    grid = golden.pretraining_config().token_grid(clip.shape[1], *clip.shape[-2:])
    expected = numbers["io.teacher_features_all"]
    by_family = ImageTeacher.from_pretrained(tmp_path / "endossl")
    assert golden.differences(by_family(clip, grid), expected) <= 1e-5 * float(expected.abs().max())
    told = ImageTeacher.from_pretrained(tmp_path / "endossl", final_norm=True)
    assert golden.differences(told(clip, grid), expected) > 1e-2


def test_a_teacher_gets_images_normalized_as_it_was_trained(clips, tmp_path):
    original = ORIGINALS["endovit"]()
    teacher = ImageTeacher.from_pretrained(converted(original, tmp_path))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    as_they_come = teacher(clips, GRID)
    teacher.set_input_normalization(mean, std)
    pixels = clips[:, ::2].flatten(0, 1) * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    own_mean, own_std = torch.tensor((0.3464, 0.2280, 0.2228)), torch.tensor((0.2520, 0.2128, 0.2093))
    own = (pixels - own_mean[:, None, None]) / own_std[:, None, None]
    expected = original.expected(own)[:, 1:].detach().reshape(2, 32, -1)
    torch.testing.assert_close(teacher(clips, GRID), expected, atol=1e-4, rtol=1e-4)
    teacher.set_input_normalization((0.3464, 0.2280, 0.2228), (0.2520, 0.2128, 0.2093))
    assert torch.equal(teacher(clips, GRID), as_they_come)


@pytest.fixture
def offline_hub(tmp_path, monkeypatch):
    """Make a cache of the Hub that holds EndoViT's file, without a network."""
    from huggingface_hub import constants

    original = ORIGINALS["endovit"]()
    repository = tmp_path / "hub" / "models--egeozsoy--EndoViT"
    snapshot = repository / "snapshots" / ("a1" * 20)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a1" * 20)
    original.save(snapshot).rename(snapshot / "pytorch_model.bin")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_a_family_is_fetched_by_its_name_and_converted_once(offline_hub, clips, monkeypatch):
    # The published width needs no config; so small a one does.
    monkeypatch.setitem(family._HEADS_OF_WIDTH, 48, 4)
    first = ImageTeacher.from_pretrained("endovit")
    folder = offline_hub / "surgvista_hf" / f"endovit-{'a1' * 6}"
    written = (folder / "model.safetensors").stat().st_mtime_ns
    again = ImageTeacher.from_pretrained("endovit")
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert torch.equal(first(clips, GRID), again(clips, GRID))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("endossl", r"no file of EndoSSL.* is known on the Hub: get the file .*--family endossl-teacher"),
        ("gsvit", "no file of GSViT .* is known on the Hub"),
        ("lemonfm", r"lemonfm.pth of visurg/LemonFM cannot be fetched .*surgvista convert FILE --family lemonfm"),
    ],
)
def test_a_family_that_cannot_be_fetched_says_how_to_get_it(name, reason, offline_hub):
    with pytest.raises(WeightsElsewhereError, match=reason):
        ImageTeacher.from_pretrained(name)


@pytest.mark.parametrize("name", ["surgrec_jepa", "surgmotion", "surgrec_mae"])
def test_video_encoders_are_no_image_teachers(name, tmp_path):
    original = ORIGINALS[name]()
    with pytest.raises(InputError, match="is no image teacher; those are endossl-teacher, endovit"):
        ImageTeacher.from_pretrained(original.family)
    with pytest.raises(InputError, match="encodes clips"):
        ImageTeacher.from_pretrained(converted(original, tmp_path))
