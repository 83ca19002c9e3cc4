"""Views: the published ones in their order, pixels as Pillow and torchvision make them, each a function of its keys."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torchvision.transforms.v2 import functional

from surgvista_hf.clips import keyed_generator
from surgvista_hf.clips.transforms.views import (
    View,
    ViewCollator,
    apply_effects,
    crop_bicubic,
    draw_view,
    keyed_normal,
    make_views,
    surgfm_views,
)
from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return SyntheticOperation(3, duration_seconds=60, height=128, width=192).frame(20)


@pytest.fixture(scope="module")
def pixels(frame) -> torch.Tensor:
    """(2, 3, 64, 64) in 0 … 1."""
    whole = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None]
    boxes = torch.tensor([[0, 0, 192, 128, 0], [40, 20, 80, 80, 0]])
    return torch.cat([crop_bicubic(whole, box[None], 64) for box in boxes])


def drawn(count: int, **changes: Any) -> dict[str, torch.Tensor]:
    """Numbers of views to which nothing is done."""
    nothing = {
        "factors": torch.ones(count, 3),
        "order": torch.arange(3).expand(count, 3),
        "effects": torch.zeros(count, 4),
        "key": torch.arange(count),
    }
    return {**nothing, **changes}


def effects(gray: float = 0, blur: float = 0, noise: float = 0, solarize: float = 0) -> torch.Tensor:
    return torch.tensor([[gray, blur, noise, solarize]] * 2)


# ------------------------------------------------------------------------------------------- the list of views


def test_the_sixteen_views_in_their_order():
    views = surgfm_views()
    assert [view.image for view in views] == [0, 0, 1, 1, 1, 2, 2, 2, *[0] * 8]
    assert [view.size for view in views] == [224, 224, 224, 96, 96, 224, 96, 96, *[96] * 8]
    assert {view.size: view.scale for view in views} == {224: (0.4, 1.0), 96: (0.05, 0.4)}
    assert [view.blur for view in views] == [1.0, 0.1, *[0.5] * 14]
    assert [view.noise for view in views] == [0, 0.2, 0.2, 0, 0, 0.2, *[0] * 10]
    assert [view.solarize for view in views] == [0, 0.2, *[0] * 14]


def test_batches_of_consecutive_sizes_are_the_published_ones():
    runs: list[list[int]] = []
    for view in surgfm_views():
        if runs and runs[-1][1] == view.size:
            runs[-1][0] += 1
        else:
            runs.append([1, view.size])
    assert runs == [[3, 224], [2, 96], [1, 224], [10, 96]]


# ------------------------------------------------------------------------------------------- drawing


def test_everything_is_drawn_as_often_and_from_where_it_shall():
    view = View(0, 96, (0.05, 0.4), blur=0.5, noise=0.2, solarize=0.2)
    many = [draw_view(view, 320, 256, keyed_generator(0, 0, number, "x")) for number in range(3000)]
    gray, blur, noise, solarize = np.stack([one["effects"] for one in many]).T
    fractions = [(part > 0).mean() for part in (gray, blur, noise, solarize)]
    assert fractions == pytest.approx([0.2, 0.5, 0.2, 0.2], abs=0.03)
    assert 0.1 <= blur[blur > 0].min() < 0.2 < 1.9 < blur.max() <= 2.0
    assert noise.max() == pytest.approx(1 / 255)
    factors = np.stack([one["factors"] for one in many])
    jittered = (factors != 1).any(axis=1)
    assert jittered.mean() == pytest.approx(0.8, abs=0.03)
    assert abs(factors - 1).max(axis=0) == pytest.approx([0.4, 0.4, 0.2], rel=0.02)
    assert len(Counter(tuple(one["order"]) for one in many)) == 6
    boxes = np.stack([one["box"] for one in many])
    assert boxes[:, 4].mean() == pytest.approx(0.5, abs=0.03)
    area = boxes[:, 2] * boxes[:, 3] / (320 * 256)
    assert (area > 0.045).all()
    assert (area < 0.41).all()
    ratio = boxes[:, 2] / boxes[:, 3]
    assert 0.72 < ratio.min() < 0.8 < 1.25 < ratio.max() < 1.38
    assert len({int(one["key"]) for one in many}) == 3000


def items(frame: np.ndarray, keys: list[int], epoch: int = 0) -> list[dict[str, Any]]:
    image = torch.from_numpy(frame.copy()).permute(2, 0, 1)
    return [
        {"pixel_values": [image, image.flip(1), image.flip(2)], "epoch": epoch, "key": key, "index": key}
        for key in keys
    ]


def make(frame: np.ndarray, keys: list[int], epoch: int = 0, seed: int = 0) -> list[torch.Tensor]:
    views = surgfm_views(64, 32)
    batch = ViewCollator(views, seed)(items(frame, keys, epoch))
    return make_views(views, batch["pixel_values"], batch["views"])


def test_views_are_functions_of_seed_epoch_and_sample(frame):
    one, again = make(frame, [5, 17]), make(frame, [17, 3, 5])
    assert [tuple(view.shape) for view in one] == [(2, 3, view.size, view.size) for view in surgfm_views(64, 32)]
    for view, other in zip(one, again, strict=True):
        torch.testing.assert_close(view[0], other[2], atol=1e-5, rtol=0)
        torch.testing.assert_close(view[1], other[0], atol=1e-5, rtol=0)
    for changed in (make(frame, [5], epoch=1), make(frame, [5], seed=1), make(frame, [6])):
        assert all(not torch.allclose(view[:1], other) for view, other in zip(one, changed, strict=True))
    locals_ = one[8:]
    assert all(not torch.allclose(locals_[0], other) for other in locals_[1:])


def test_images_of_different_sizes_give_the_same_views(frame):
    views = surgfm_views(64, 32)
    alike = items(frame, [5, 17])
    collator = ViewCollator(views)
    batch = collator(alike)
    expected = make_views(views, batch["pixel_values"], batch["views"])
    ragged = [
        alike[0],
        {**alike[1], "pixel_values": [alike[1]["pixel_values"][0][:, :100], *alike[1]["pixel_values"][1:]]},
    ]
    batch = collator(ragged)
    assert isinstance(batch["pixel_values"], list)
    for number, view in enumerate(make_views(views, batch["pixel_values"], batch["views"])):
        torch.testing.assert_close(view[0], expected[number][0], atol=1e-5, rtol=0)
        assert view.shape == expected[number].shape


def test_pixels_keep_their_precision_under_autocast(frame):
    views = surgfm_views(64, 32)
    batch = ViewCollator(views)(items(frame, [5]))
    plain = make_views(views, batch["pixel_values"], batch["views"])
    with torch.autocast("cpu", torch.bfloat16):
        cast = make_views(views, batch["pixel_values"], batch["views"])
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


# ------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("box", [(0, 0, 192, 128, 0), (30, 20, 100, 75, 1), (150, 100, 20, 25, 0), (7, 3, 64, 64, 1)])
def test_crops_are_those_of_pillow(frame, box):
    """Up to rounding, which Pillow does twice; smaller, larger and of the same size."""
    left, top, width, height, flip = box
    image = Image.fromarray(frame).crop((left, top, left + width, top + height))
    image = image.resize((64, 64), Image.Resampling.BICUBIC)
    expected = np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image)
    ours = crop_bicubic(torch.from_numpy(frame.copy()).permute(2, 0, 1)[None], torch.tensor([box]), 64)
    assert np.abs(ours[0].permute(1, 2, 0).numpy() * 255 - expected).max() < 2


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_colors_are_those_of_torchvision_in_any_order(pixels, order):
    factors = (1.3, 0.7, 1.15)
    turns = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
    expected = pixels
    for kind in order:
        expected = turns[kind](expected, factors[kind])
    numbers = drawn(2, factors=torch.tensor([factors] * 2), order=torch.tensor([order] * 2))
    torch.testing.assert_close(apply_effects(pixels, numbers), expected, atol=2e-3, rtol=0)


def test_gray_blur_and_solarization(pixels):
    torch.testing.assert_close(apply_effects(pixels, drawn(2)), pixels, atol=1e-6, rtol=0)
    gray = apply_effects(pixels, drawn(2, effects=effects(gray=1)))
    torch.testing.assert_close(gray, functional.rgb_to_grayscale(pixels, 3), atol=2e-3, rtol=0)
    blurred = apply_effects(pixels, drawn(2, effects=effects(blur=1.5)))
    expected = gaussian_filter(pixels.numpy(), (0, 0, 1.5, 1.5), truncate=8)
    inside = np.s_[:, :, 10:-10, 10:-10]  # at the edge the weights are normalized
    np.testing.assert_allclose(blurred[inside].numpy(), expected[inside], atol=1e-4)
    solarized = apply_effects(pixels, drawn(2, effects=effects(solarize=1)))
    torch.testing.assert_close(solarized, functional.solarize(pixels, 128 / 255), atol=1e-6, rtol=0)


def test_noise_is_normal_of_one_gray_level_and_belongs_to_its_key(pixels):
    flat = torch.full_like(pixels, 0.5)
    noise = apply_effects(flat, drawn(2, effects=effects(noise=1 / 255))) - flat
    assert float(noise.std() * 255) == pytest.approx(1.0, abs=0.03)
    numbers = keyed_normal(torch.tensor([5, 6, 2**62]), (3, 64, 64))
    assert torch.equal(numbers[1:], keyed_normal(torch.tensor([6, 2**62]), (3, 64, 64)))
    assert numbers.mean(dim=(1, 2, 3)).abs().max() < 0.04
    assert (numbers.std(dim=(1, 2, 3)) - 1).abs().max() < 0.03
    assert abs(float((numbers[0] * numbers[1]).mean())) < 0.04
    assert abs(float((numbers[..., 1:] * numbers[..., :-1]).mean())) < 0.02
