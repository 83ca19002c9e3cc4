"""Crops are those of the published family, their pixels those of Pillow, and each is a function of its keys."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from surgvista_hf.clips import MultiScaleCrop, RandomResizedCrop, normalize_clips
from surgvista_hf.clips.transforms.augmentation import CropBox, crop_and_resize, crop_boxes, crop_sides
from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation
from surgvista_hf.modeling.errors_surgvista import InputError


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """(2, 320, 512, 3): rendered surgery and noise, on which resizing is easiest to get wrong."""
    surgery = SyntheticOperation(3, duration_seconds=60, height=320, width=512).frame(20)
    return np.stack([surgery, np.random.default_rng(0).integers(0, 256, surgery.shape).astype(np.uint8)])


def as_clip(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)


def with_pillow(frames: np.ndarray, box: CropBox, size: int) -> np.ndarray:
    left, top, width, height = box[:4]
    return np.stack(
        [
            np.asarray(
                Image.fromarray(frame)
                .crop((left, top, left + width, top + height))
                .resize((size, size), Image.Resampling.BILINEAR)
            )
            for frame in frames
        ]
    )


def test_sides_by_hand():
    assert crop_sides(512, 320) == [320, 280, 240, 211]
    assert crop_sides(341, 256) == [256, 224, 192, 168]
    assert crop_sides(300, 300) == [300, 262, 224, 198]  # 225 snaps
    assert crop_sides(222, 400) == [224, 194, 166, 146]
    assert crop_sides(64, 64, size=32) == [64, 56, 48, 42]


def test_ten_pairs_of_neighboring_sides_at_thirteen_places():
    boxes = crop_boxes(512, 320)
    assert len(boxes) == 130
    pairs = Counter((box.width, box.height) for box in boxes)
    sides = [320, 280, 240, 211]
    assert set(pairs) == {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}
    assert set(pairs.values()) == {13}


def test_places_by_hand():
    places = [(box.left, box.top) for box in crop_boxes(512, 320) if (box.width, box.height) == (240, 280)]
    on_halves = [(0, 0), (272, 0), (0, 40), (272, 40), (136, 20), (0, 20), (272, 20), (136, 40), (136, 0)]
    on_quarters = [(68, 10), (204, 10), (68, 30), (204, 30)]
    assert sorted(places) == sorted(on_halves + on_quarters)


def test_places_without_room_coincide_and_keep_their_weight():
    places = Counter((box.left, box.top) for box in crop_boxes(512, 320) if (box.width, box.height) == (320, 320))
    assert places == {(0, 0): 3, (192, 0): 3, (96, 0): 3, (48, 0): 2, (144, 0): 2}


def test_crops_of_a_image_a_little_too_small_begin_outside():
    boxes = [box for box in crop_boxes(222, 222) if (box.width, box.height) == (224, 224)]
    assert {box.left for box in boxes} == {0, -1, -2, -3, -4}


@pytest.mark.parametrize(
    "box",
    [
        CropBox(0, 0, 320, 320),
        CropBox(136, 20, 240, 280),
        CropBox(301, 109, 211, 211),
        CropBox(68, 30, 224, 224),
        CropBox(-4, -2, 224, 240),
        CropBox(400, 200, 224, 224),
        CropBox(10, 10, 150, 100),
    ],
)
def test_pixels_are_within_one_of_pillow(frames, box):
    ours = crop_and_resize(as_clip(frames), box, 224)
    assert ours.dtype == torch.uint8
    assert ours.shape == (2, 3, 224, 224)
    difference = ours.permute(0, 2, 3, 1).numpy().astype(int) - with_pillow(frames, box, 224)
    assert np.abs(difference).max() <= 1


def test_all_frames_of_a_clip_get_one_crop_which_depends_on_its_keys_only(frames):
    crop = MultiScaleCrop(size=64)
    clip = as_clip(frames[[1, 1, 1]])
    batch = crop(torch.stack([clip, clip, clip]), epoch=1, indices=[5, 6, 7])
    assert (batch == batch[:, :1]).all()
    assert torch.equal(crop(clip[None], epoch=1, indices=[6])[0], batch[1])
    boxes = {crop.box(512, 320, epoch, index) for epoch in range(2) for index in range(20)}
    assert len(boxes) > 25
    assert crop.box(512, 320, 0, 1) != MultiScaleCrop(size=64, seed=1).box(512, 320, 0, 1)


def test_every_crop_is_drawn_equally_often():
    crop = MultiScaleCrop()
    expected = Counter(crop_boxes(512, 320))
    drawn = Counter(crop.box(512, 320, 0, index) for index in range(6500))
    assert set(drawn) == set(expected)
    chi_squared = sum((drawn[box] - 50 * weight) ** 2 / (50 * weight) for box, weight in expected.items())
    assert chi_squared < 200  # about 1e-5 of fair draws exceed this with at most 129 degrees of freedom


def test_clips_of_different_size_are_cropped_together(frames):
    wide, tall = as_clip(frames), as_clip(frames).transpose(2, 3)
    assert MultiScaleCrop(size=32)([wide, tall], epoch=0, indices=[0, 1]).shape == (2, 2, 3, 32, 32)


def test_normalization_by_hand():
    clip = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [(0 - 0.485) / 0.229, (1 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert normalize_clips(clip).flatten().tolist() == pytest.approx(expected, abs=1e-6)
    assert normalize_clips(clip, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_what_cannot_be_cropped_is_refused(frames):
    with pytest.raises(InputError, match="uint8"):
        crop_and_resize(as_clip(frames).float(), CropBox(0, 0, 9, 9), 8)
    with pytest.raises(InputError, match="indices"):
        MultiScaleCrop()(as_clip(frames)[None], epoch=0, indices=[0, 1])
    with pytest.raises(InputError, match="too small"):
        crop_boxes(1, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_crops_on_the_device_are_within_one_of_those_on_the_host(frames):
    crop, clips = MultiScaleCrop(), as_clip(frames)[None].repeat(4, 1, 1, 1, 1)
    host = crop(clips, epoch=0, indices=range(4))
    device = crop(clips.cuda(), epoch=0, indices=range(4))
    assert (host.int() - device.cpu().int()).abs().max() <= 1


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 10**6))
@settings(deadline=None)
def test_random_crops_lie_in_the_image_with_the_asked_area_and_shape(width, height, index):
    box = RandomResizedCrop(32).box(width, height, 0, index)
    assert 0 <= box.left <= box.left + box.width <= width
    assert 0 <= box.top <= box.top + box.height <= height
    if min(width, height) >= 100 and max(width, height) <= 1.3 * min(width, height):
        assert 0.29 <= box.width * box.height / (width * height) <= 1.0
        assert 0.73 <= box.width / box.height <= 1.37


def test_half_of_the_random_crops_are_flipped_and_a_flip_exchanges_left_and_right(frames):
    crop = RandomResizedCrop(32)
    flips = [crop.box(320, 240, 0, index).flip for index in range(1000)]
    assert abs(np.mean(flips) - 0.5) < 0.05
    box = CropBox(10, 10, 100, 80)
    flipped = crop_and_resize(as_clip(frames), box._replace(flip=True), 32)
    assert torch.equal(flipped, crop_and_resize(as_clip(frames), box, 32).flip(-1))
