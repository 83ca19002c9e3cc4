"""A teacher is any image model; its features arrive on the student's grid, in the student's order."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import ConvNextConfig, ConvNextModel, Dinov2WithRegistersConfig, Dinov2WithRegistersModel, ViTModel

from surgvista_hf import convert_checkpoint
from surgvista_hf.modeling.errors_surgvista import InputError
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
