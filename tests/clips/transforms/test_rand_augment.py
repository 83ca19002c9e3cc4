"""RandAugment: the published magnitudes, the same for all frames, a function of its keys."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from surgvista_hf.clips.transforms.rand_augment import INVERTING, OPERATIONS, RandAugment, operation
from surgvista_hf.modeling.errors_surgvista import InputError

CLIP = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 24, 32), dtype=np.uint8))


def apply(name: str, magnitude: float, sign: int, pixels: np.ndarray) -> np.ndarray:
    return np.array(operation(name, magnitude, sign)(Image.fromarray(pixels)))


def test_color_operations_have_the_published_arguments_at_magnitude_seven():
    gray = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    values = gray[0, :, 0].astype(int)
    said = {
        name: apply(name, 7.0, 1, gray)[0, :, 0].astype(int)
        for name in ("invert", "posterize", "solarize", "solarize_add")
    }
    assert (said["invert"] == 255 - values).all()
    assert (said["posterize"] == (values & 0b11000000)).all()  # 4 - int(2.8) = 2 bits are kept
    assert (said["solarize"] == np.where(values < 256 - 179, values, 255 - values)).all()
    assert (said["solarize_add"] == np.where(values < 128, values + 77, values)).all()
    bright = apply("brightness", 7.0, 1, gray)[0, :, 0].astype(int)
    np.testing.assert_allclose(bright, np.minimum(values * 1.63, 255), atol=1)
    dark = apply("brightness", 7.0, -1, gray)[0, :, 0].astype(int)
    np.testing.assert_allclose(dark, values * 0.37, atol=1)


def test_posterize_at_the_highest_magnitude_leaves_nothing():
    assert not apply("posterize", 10.0, 1, np.full((2, 2, 3), 255, np.uint8)).any()


def test_a_translation_moves_by_a_share_of_the_image_and_fills_with_gray():
    image = np.zeros((20, 100, 3), np.uint8)
    image[:, 50] = 255
    moved = apply("translate_x", 10.0, 1, image)  # 0.45 of the width
    assert moved[0, :, 0].argmax() == 5
    assert (moved[:, -40:] == 128).all()
    assert apply("translate_x", 10.0, -1, image)[0, :, 0].argmax() == 95


def test_a_rotation_turns_by_three_degrees_a_magnitude():
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    thirty = Image.fromarray(image).rotate(30, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
    assert (apply("rotate", 10.0, 1, image) == np.array(thirty)).all()


@given(st.sampled_from(OPERATIONS), st.floats(0, 10), st.sampled_from((-1, 1)))
@settings(deadline=None)
def test_every_operation_keeps_size_and_kind(name, magnitude, sign):
    assert apply(name, magnitude, sign, CLIP[0].permute(1, 2, 0).numpy()).shape == (24, 32, 3)


def test_all_frames_get_the_same_and_every_sample_and_epoch_its_own():
    augment = RandAugment(seed=3)
    same = CLIP[:1].expand(4, -1, -1, -1).contiguous()
    done = augment(same, epoch=0, index=5)
    assert all(torch.equal(frame, done[0]) for frame in done)
    assert torch.equal(done, augment(same, epoch=0, index=5))
    plans = {str(augment.draw(epoch, index)) for epoch in range(3) for index in range(10)}
    assert len(plans) > 20


def test_half_of_the_drawn_operations_are_applied_around_the_mean_magnitude():
    plans = [RandAugment(seed=0).draw(0, index) for index in range(500)]
    assert sum(map(len, plans)) / 500 == pytest.approx(2.0, abs=0.15)
    magnitudes = [magnitude for plan in plans for _, magnitude, _ in plan]
    assert np.mean(magnitudes) == pytest.approx(7, abs=0.1)
    assert np.std(magnitudes) == pytest.approx(0.5, abs=0.05)


def test_colors_of_no_tissue_can_be_left_out():
    plans = [RandAugment(invert_colors=False).draw(0, index) for index in range(300)]
    assert not {name for plan in plans for name, *_ in plan} & set(INVERTING)


def test_none_is_none_and_an_unknown_one_is_refused():
    assert RandAugment(operations=0)(CLIP, 0, 0) is CLIP
    with pytest.raises(InputError, match="no operation 'blur'"):
        operation("blur", 1, 1)
