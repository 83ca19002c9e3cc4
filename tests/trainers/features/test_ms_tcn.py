"""Temporal models on the common trainer: they learn what needs memory, resume exactly, and keep the best."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from surgvista_hf.evaluation.tasks import Task
from surgvista_hf.inference.models.temporal_head import TemporalHead
from surgvista_hf.modeling.configuration_ms_tcn import MsTcnConfig
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.modeling_ms_tcn import MsTcnForFrameClassification
from surgvista_hf.trainers.features.extraction import VideoFeatures
from surgvista_hf.trainers.features.ms_tcn import FeatureVideos, TemporalArguments, TemporalTrainer, predict_videos

from .. import tiny

TASK = Task("workflow", ("before", "after"))


def videos(count: int, seed: int) -> list[VideoFeatures]:
    """Phase 1 begins with a signal that lasts one frame: only memory can tell the frames after it from those before."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(count):
        length = int(generator.integers(30, 50))
        begin = int(generator.integers(8, 20))
        values = generator.normal(size=(length, 4)).astype(np.float32) * 0.1
        values[begin, 0] += 3
        labels = (np.arange(length) >= begin).astype(np.int64)
        labels[0] = -1  # a frame without a label
        made.append(VideoFeatures("set", f"video{number}", np.arange(length, dtype=np.float32), values, labels))
    return made


def trainer(output: Path, **changes) -> TemporalTrainer:
    torch.manual_seed(0)
    model = MsTcnForFrameClassification(
        MsTcnConfig(input_size=4, num_layers=5, num_feature_maps=8, dropout=0.2, num_labels=2)
    )
    usual = {
        "num_train_epochs": 30,
        "base_learning_rate": 1e-2,
        "base_min_learning_rate": 1e-3,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "greater_is_better": True,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "dataloader_pin_memory": False,
    }
    args = TemporalArguments(str(output), **{**usual, **changes})
    return TemporalTrainer(model, args, FeatureVideos(videos(8, 0)), TASK, eval_dataset=FeatureVideos(videos(4, 1)))


def test_a_temporal_model_knows_the_rate_of_its_features_and_takes_no_other(tmp_path):
    """Features at five frames a second are not those of one a second."""

    def at_rate(rate: float, made: list[VideoFeatures]) -> list[VideoFeatures]:
        return [replace(video, seconds=(video.seconds / rate).astype(np.float32)) for video in made]

    usual = trainer(tmp_path / "usual")
    assert usual.model.config.frames_per_second == 1.0
    with pytest.raises(InputError, match="trained on 1 features a second; these have 5 a second"):
        predict_videos(usual.model, at_rate(5, videos(2, 3)), TASK)
    mixed = [*videos(2, 0), *at_rate(5, videos(1, 4))]
    with pytest.raises(InputError, match="a temporal model needs one rate"):
        TemporalTrainer(usual.model, usual.args, FeatureVideos(mixed), TASK, eval_dataset=FeatureVideos(videos(1, 5)))
    fast = FeatureVideos(at_rate(5, videos(2, 0)))
    TemporalTrainer(usual.model, usual.args, fast, TASK, eval_dataset=fast)
    usual.model.save_pretrained(tmp_path / "fast")
    with pytest.raises(InputError, match="was trained on 5 features a second; predictions are made once a second"):
        TemporalHead(tmp_path / "fast")


def test_it_learns_what_only_memory_can_tell_and_keeps_the_best(tmp_path):
    run = trainer(tmp_path)
    run.train()
    metrics = run.evaluate()
    assert metrics["eval_video_accuracy"] > 0.95
    best = max(line["eval_video_accuracy"] for line in run.state.log_history if "eval_video_accuracy" in line)
    assert metrics["eval_video_accuracy"] == best == run.state.best_metric
    found = predict_videos(run.model, videos(3, 2), TASK)
    assert len(found.labels) == sum(len(video.labels) - 1 for video in videos(3, 2))


@pytest.mark.slow
def test_stopped_and_resumed_it_is_the_same_run_bit_for_bit(tmp_path):
    plain = {"num_train_epochs": 4, "load_best_model_at_end": False, "eval_strategy": "no", "save_total_limit": 3}
    tiny.assert_resumes_bit_for_bit(trainer, tmp_path, 17, **plain)


def test_what_no_temporal_model_can_learn_from_is_refused(tmp_path):
    with pytest.raises(InputError, match="one class a frame"):
        FeatureVideos([])
    several = VideoFeatures("set", "v", np.zeros(3), np.zeros((3, 4)), np.zeros((3, 5)))
    with pytest.raises(InputError, match="one class a frame"):
        FeatureVideos([several])
    with pytest.raises(InputError, match="must be 1"):
        TemporalArguments(str(tmp_path), per_device_train_batch_size=2, use_cpu=True)
