import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from surgvista_hf.modeling.confidence import CONFIDENCE_FILE, Confidence
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.familiarity import (
    FALSE_ALARMS,
    Familiarity,
    RunningMean,
    VideoAppearance,
    appearance,
    shrunk_covariance,
)


def images(
    seed: int, frames: int = 40, tint: tuple[float, ...] = (0.6, 0.2, 0.2), grain: float = 0.05
) -> torch.Tensor:
    """Return frames (frames, 3, 64, 64): a smooth scene of one color that moves, a little different for each video."""
    random = torch.Generator().manual_seed(seed)
    scene = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8, generator=random), 80, mode="bicubic")[0]
    color = torch.tensor(tint)[:, None, None] + 0.05 * torch.randn(3, 1, 1, generator=random)
    moved = [scene[:, second % 16 : second % 16 + 64, :64] for second in range(frames)]
    noise = grain * torch.randn(frames, 3, 64, 64, generator=random)
    return (torch.stack(moved) * color + noise - 0.45) / 0.22


def video(seed: int, **options: object) -> VideoAppearance:
    values = appearance(images(seed, **options))
    return VideoAppearance(np.arange(len(values), dtype=float), values)


def unfamiliar(known: Familiarity, seen: VideoAppearance) -> float:
    mean = RunningMean()
    means = map(mean.push, seen.seconds.tolist(), known.distances(seen.values).tolist())
    return float(np.mean([known.unfamiliarity(each) > 1 for each in means]))


@pytest.fixture(scope="module")
def known() -> Familiarity:
    return Familiarity.fit([video(seed) for seed in range(12)], [video(seed) for seed in range(20, 24)])


def test_frames_are_described_each_by_itself():
    frames = images(0, 5)
    together = appearance(frames)
    assert together.shape == (5, 36)
    assert together.dtype == np.float64
    np.testing.assert_allclose(together[3:4], appearance(frames[3:4]), rtol=0, atol=1e-9)
    with pytest.raises(InputError, match="3, height, width"):
        appearance(frames[:, :1])


def test_compression_changes_the_description_less_than_another_scene_does():
    pixels = (images(1, 1)[0].permute(1, 2, 0).numpy() * 0.22 + 0.45).clip(0, 1)
    stream = io.BytesIO()
    Image.fromarray((255 * pixels).astype(np.uint8)).save(stream, "JPEG", quality=40)
    again = torch.from_numpy(np.array(Image.open(stream))).permute(2, 0, 1)[None] / 255
    own, coded, other = (appearance(frames) for frames in (images(1, 1), (again - 0.45) / 0.22, images(2, 1)))
    assert np.abs(own - coded).mean() < 0.5 * np.abs(own - other).mean()


def test_new_videos_of_the_same_kind_are_familiar_and_others_are_not(known):
    assert np.mean([unfamiliar(known, video(seed)) for seed in range(50, 70)]) <= 0.15
    assert unfamiliar(known, video(50, tint=(0.2, 0.2, 0.6))) > 0.95
    assert unfamiliar(known, video(50, grain=0.5)) > 0.95


def test_the_limit_leaves_few_of_the_held_out_seconds_beyond_it(known):
    assert known.held_out_videos == 16
    assert known.videos == 12
    assert 0 <= known.false_alarms <= FALSE_ALARMS + 1e-9


def test_the_limit_comes_from_videos_that_the_summary_has_not_seen():
    """Show that one odd video among the training widens the limit: judged with its own frames it would not."""
    usual = [video(seed) for seed in range(6)]
    with_odd = Familiarity.fit([*usual, video(7, grain=0.5)])
    assert with_odd.limit > Familiarity.fit(usual).limit + 0.1


def test_one_video_alone_says_nothing_of_new_ones():
    with pytest.raises(InputError, match="at least two videos"):
        Familiarity.fit([video(0)])
    assert Familiarity.fit([video(0)], [video(1)]).held_out_videos == 1


def test_a_running_mean_forgets_what_is_older_than_its_window():
    mean = RunningMean()
    assert [mean.push(float(second), float(second)) for second in range(40)][39] == np.mean(range(24, 40))
    assert mean.push(1000.0, 5.0) == 5.0


def test_the_shrunk_covariance_is_that_of_scikit_learn():
    covariance = pytest.importorskip("sklearn.covariance")
    values = np.random.default_rng(0).normal(size=(50, 12)) @ np.random.default_rng(1).normal(size=(12, 12))
    np.testing.assert_allclose(shrunk_covariance(values), covariance.ledoit_wolf(values)[0], rtol=1e-6, atol=1e-7)


def test_what_is_saved_is_read_again_and_judges_alike(known, tmp_path):
    trained_on = {"title": "Synthetic surgery", "procedure": "rendered cholecystectomy"}
    Confidence(1.5, {"samples": 3}, trained_on, known).save(tmp_path)
    again = Confidence.load(tmp_path)
    assert (again.temperature, again.calibration, again.trained_on) == (1.5, {"samples": 3}, trained_on)
    assert again.trained_on_rendered is None  # models of earlier versions do not say it
    assert again.familiarity is not None
    odd = video(50, grain=0.5)
    np.testing.assert_array_equal(again.familiarity.distances(odd.values), known.distances(odd.values))
    assert again.familiarity.limit == known.limit
    assert (tmp_path / CONFIDENCE_FILE).stat().st_size < 100_000


def test_a_folder_without_the_file_knows_nothing(tmp_path):
    found = Confidence.load(tmp_path)
    assert found.temperature == 1
    assert found.familiarity is None


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"temperature": 0}',
        '{"temperature": "hot"}',
        '{"familiarity": {"mean": [1]}}',
        '{"familiarity": 3}',
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_of_one_line(tmp_path, content):
    (tmp_path / CONFIDENCE_FILE).write_text(content)
    with pytest.raises(InputError):
        Confidence.load(tmp_path)


def test_a_summary_of_another_width_is_refused(known, tmp_path):
    content = known.to_dict()
    content["mean"] = content["mean"][:-1]
    (tmp_path / CONFIDENCE_FILE).write_text(json.dumps({"familiarity": content}))
    with pytest.raises(InputError, match="shapes"):
        Confidence.load(tmp_path)
