"""Repetitions of one video in another: hashes find copies and nothing else."""

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from surgvista_hf.curation.stages.duplicates import candidate_pairs
from surgvista_hf.curation.stages.repetition import HALVES, mirrored_hashes, repeated_seconds, shared_seconds
from surgvista_hf.curation.stages.seconds import (
    HASHES_PER_SECOND,
    frames_by_second,
    perceptual_hashes,
    video_hashes,
)
from surgvista_hf.datasets_scripts.synthetic.web_videos import SyntheticWebVideo, write_web_video
from surgvista_hf.modeling.errors_surgvista import InputError

CLIPS = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "clips"


def coded_again(frame: np.ndarray, scale: float, quality: int) -> np.ndarray:
    image = Image.fromarray(frame)
    image = image.resize((round(scale * image.width), round(scale * image.height)), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


OPERATIONS = [SyntheticWebVideo(seed, operation_start=10.0 * seed, height=96, width=128) for seed in range(4)]


def seen(which: int, times: np.ndarray) -> Iterator[np.ndarray]:
    """An operation without what is around and over it."""
    return (OPERATIONS[which]._camera_view(10.0 * which + time) for time in times)


@cache
def operation_hashes() -> list[np.ndarray]:
    times = np.arange(0, 40, 1 / HASHES_PER_SECOND)
    return [perceptual_hashes(seen(which, times)) for which in range(4)]


@pytest.fixture
def hashes() -> list[np.ndarray]:
    return operation_hashes()


@pytest.mark.slow
@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    which=st.integers(0, 3),
    offset=st.floats(0, 25),
    scale=st.floats(0.5, 2.0),
    quality=st.integers(25, 95),
    length=st.integers(9, 14),
)
def test_a_copy_is_found_at_any_offset_size_and_quality(which, offset, scale, quality, length):
    times = offset + np.arange(0, length, 1 / HASHES_PER_SECOND)
    copy = perceptual_hashes(coded_again(frame, scale, quality) for frame in seen(which, times))
    assert shared_seconds(copy, operation_hashes()[which]) >= length - 1
    assert shared_seconds(operation_hashes()[which], copy) >= length - 1
    for other in set(range(4)) - {which}:
        assert shared_seconds(copy, operation_hashes()[other]) == 0
    assert (0, 1 + which) in candidate_pairs([copy, *operation_hashes()])


def test_other_videos_share_nothing_with_one_another(hashes):
    for first in range(4):
        for second in range(4):
            assert shared_seconds(hashes[first], hashes[second]) == (40 if first == second else 0)


def test_pieces_in_another_order_count_and_short_ones_do_not(hashes):
    per_second = HASHES_PER_SECOND
    cut = np.r_[
        hashes[0][20 * per_second : 32 * per_second], hashes[1][: 10 * per_second], hashes[0][: 12 * per_second]
    ]
    assert shared_seconds(cut, hashes[0]) == pytest.approx(24, abs=2)
    assert shared_seconds(cut, hashes[1]) == pytest.approx(10, abs=2)
    assert shared_seconds(hashes[0][: 5 * per_second], hashes[0]) == 0


def test_black_is_like_nothing(hashes):
    black = perceptual_hashes([np.full((40, 60, 3), gray, np.uint8) for gray in (0, 0, 90)])
    assert black.tolist() == [0, 0, 0]
    assert shared_seconds(np.zeros(400, np.uint64), np.zeros(400, np.uint64)) == 0
    assert candidate_pairs([np.zeros(400, np.uint64)] * 2) == []
    hidden = hashes[0].copy()
    hidden[10 * HASHES_PER_SECOND :] = 0
    assert shared_seconds(hidden, hashes[0]) <= 11


@pytest.mark.parametrize("wrong", [{"run": 0}, {"per_second": 0}])
def test_a_repetition_lasts_at_least_a_second(wrong):
    with pytest.raises(InputError, match="at least 1"):
        shared_seconds(np.ones(9, np.uint64), np.ones(9, np.uint64), **wrong)


@pytest.mark.slow
def test_copies_of_coded_videos_are_found(tmp_path, hashes):
    """Through files: the copy begins between two frames of the grid of hashes and is coded coarsely."""
    upload = SyntheticWebVideo(
        9, operation_seed=2, operation_start=23.6, surgical_seconds=16, height=128, width=170, frames_per_second=12
    )
    write_web_video(upload, tmp_path / "a.mp4", crf=32)
    start, end = upload.truth()["surgical_part"]
    found = video_hashes(tmp_path / "a.mp4", start=start + 0.03, end=end)
    assert shared_seconds(found, hashes[2]) >= 14
    assert shared_seconds(found, hashes[1]) == 0


@pytest.mark.slow
@pytest.mark.skipif(not CLIPS.exists(), reason="the real clips are not here")
def test_real_clips_are_found_again_and_do_not_resemble_one_another():
    clips = [video_hashes(path) for path in sorted(CLIPS.glob("*.mp4"))]
    path = CLIPS / "cholecystectomy_720p_25fps.mp4"
    coarse = [coded_again(frame, 0.4, 40) for _, frame in frames_by_second(path, HASHES_PER_SECOND, start=1.03)]
    copy = perceptual_hashes(coarse)
    assert shared_seconds(copy, clips[-1], run=4) >= 8
    for number, other in enumerate(clips[:-1]):
        assert shared_seconds(copy, other, run=4) == 0
        for another in clips[number + 1 :]:
            assert shared_seconds(other, another, run=4) == 0


def test_what_is_painted_over_a_corner_does_not_hide_a_copy(hashes):
    """A picture-in-picture inset in one upload, a caption in the other."""
    times = 5 + np.arange(0, 12, 1 / HASHES_PER_SECOND)
    covered = []
    for frame in seen(1, times):
        frame = frame.copy()
        frame[55:80, 12:45] = (200, 190, 60)
        frame[12:20, 40:110:3] = 255
        covered.append(frame)
    copy = perceptual_hashes(covered)
    assert shared_seconds(copy, hashes[1]) >= 11
    assert [shared_seconds(copy, hashes[other]) for other in (0, 2, 3)] == [0, 0, 0]
    assert (0, 2) in candidate_pairs([copy, *hashes])


def test_long_videos_are_compared_quickly_and_still_ones_end():
    hour = np.random.default_rng(0).integers(1, 2**63, 3600 * HASHES_PER_SECOND, np.uint64)
    assert shared_seconds(hour, hour[12345:]) >= 3600 - 12345 // HASHES_PER_SECOND - 2
    still = np.full(3600 * HASHES_PER_SECOND, 77, np.uint64)
    assert shared_seconds(still, still) == 0


# ------------------------------------------------------------------------------------- exactness


def every_shift(a: np.ndarray, b: np.ndarray, max_distance: float, run: int) -> np.ndarray:
    """Try every shift at which a half of an image is equal, in plain loops, as the definition says."""
    probes, shared = a[::HASHES_PER_SECOND], np.zeros(len(a[::HASHES_PER_SECOND]), bool)
    for shift in range(-len(b), len(a)):
        at = [(n, n * HASHES_PER_SECOND - shift) for n in range(len(probes))]
        at = [(n, m) for n, m in at if 0 <= m < len(b)]
        if not any(probes[n] and any(probes[n] & mask == b[m] & mask for mask in HALVES) for n, m in at):
            continue
        tiles = np.full((len(at), 16), 4)
        for row, (n, m) in enumerate(at):
            if probes[n] and b[m]:
                different = int(probes[n] ^ b[m])
                tiles[row] = [(different >> 4 * tile & 15).bit_count() for tile in range(16)]
        alike = np.sort(tiles, axis=1)[:, :10].sum(axis=1) * 1.6 <= 2 * max_distance
        for begin in range(len(at) - run + 1):
            if np.sort(tiles[begin : begin + run].sum(axis=0))[:10].sum() * 1.6 / run <= max_distance:
                for row in range(begin, begin + run):
                    shared[at[row][0]] |= alike[row]
    return shared


def slow_change(random: np.random.Generator, seconds: int) -> np.ndarray:
    """Make hashes that change as slowly as those of an operation: about 5 of 64 bits from one to the next."""
    changes = random.random((seconds * HASHES_PER_SECOND, 64)) < 0.08
    bits = np.logical_xor.accumulate(np.r_[random.random((1, 64)) < 0.5, changes[1:]], axis=0)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def some_bits_flipped(random: np.random.Generator, hashes: np.ndarray, chance: float) -> np.ndarray:
    noise = np.packbits(random.random((len(hashes), 64)) < chance, axis=1).view(">u8")[:, 0].astype(np.uint64)
    return np.where(hashes == 0, 0, hashes ^ noise).astype(np.uint64)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), noise=st.floats(0, 0.12), run=st.integers(1, 9), limit=st.floats(1, 6))
def test_repetitions_are_those_of_the_definition(seed, noise, run, limit):
    """Also where the copy is near the limit, in pieces, with moments of one color, longer or shorter than the original."""
    random = np.random.default_rng(seed)
    a, b = slow_change(random, 30), slow_change(random, 22)
    for _ in range(2):
        length, start, target = random.integers(20, 90), random.integers(0, 140), random.integers(0, 80)
        piece = some_bits_flipped(random, a[start : start + length], noise)
        b[target : target + len(piece)] = piece[: len(b) - target]
    b[random.integers(0, 170) :][:9] = 0
    a[random.integers(0, 200) :][:9] = 0
    for one, other in ((a, b), (b, a)):
        found = repeated_seconds(one, other, limit, run=run)
        assert found.tolist() == every_shift(one, other, limit, run).tolist()


@given(seed=st.integers(0, 10**6))
def test_the_mirror_of_hashes_is_that_of_images(seed):
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        (160, 120), Image.Resampling.BICUBIC
    )
    hashes = perceptual_hashes([np.asarray(image)])
    assert np.bitwise_count(mirrored_hashes(hashes) ^ perceptual_hashes([np.asarray(ImageOps.mirror(image))]))[0] <= 1
    assert mirrored_hashes(mirrored_hashes(hashes)) == hashes
    assert mirrored_hashes(np.zeros(2, np.uint64)).tolist() == [0, 0]
