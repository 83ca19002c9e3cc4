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
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.trainers.float8 import Float8Linear, to_float8, use_float8
from surgvista_hf.trainers.teachers import ImageTeacher

from ..modeling import golden
from . import tiny

GRID = (2, 4, 4)


@pytest.fixture
def clips() -> torch.Tensor:
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def dinov2() -> Dinov2WithRegistersModel:
    config = Dinov2WithRegistersConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=4, num_register_tokens=3
    )
    return Dinov2WithRegistersModel(config)


def convnext() -> ConvNextModel:
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


def test_tokens_come_in_the_order_slice_row_column(clips):
    """The same picture in both slices gives the same features; the class token is left out."""
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
    with pytest.raises(InputError, match="no final normalisation to leave out"):
        ImageTeacher(torch.nn.Sequential(torch.nn.Linear(2, 2)), final_norm=False)


@pytest.mark.slow
def test_a_compiled_teacher_gives_the_same_features(clips):
    expected = tiny.teacher()(clips, GRID)
    torch.testing.assert_close(ImageTeacher(tiny.teacher().model, compile=True)(clips, GRID), expected)


def vit(width: int) -> ViTModel:
    torch.manual_seed(3)
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "image_size": 32, "patch_size": 8}
    return ViTModel(ViTConfig(num_hidden_layers=4, num_attention_heads=4, **sizes), add_pooling_layer=False)


def test_features_in_fewer_bits_are_near_those_in_32(clips):
    """Relative distance: below 1 % in bf16, below 8 % in 8 bits, with random weights."""
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
