"""Heads over whole videos on the common trainer: they learn what typical frames show, resume exactly, keep the best."""

from pathlib import Path

import numpy as np
import pytest
import torch

from surgvista_hf.evaluation.tasks import Task
from surgvista_hf.modeling.configuration_video_head import VideoHeadConfig
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.modeling_video_head import VideoHeadForClassification
from surgvista_hf.trainers.features.extraction import VideoFeatures
from surgvista_hf.trainers.features.video_head import (
    PooledVideos,
    VideoHeadArguments,
    VideoHeadTrainer,
    predict_pooled,
)

from .. import tiny

TASK = Task("video_multi_label", ("appendectomy", "adhesiolysis", "colectomy"))
WIDTH = 6


def videos(count: int, seed: int) -> list[VideoFeatures]:
    """Frames that agree tell the procedures; as many others point anywhere."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(count):
        label = np.eye(3, dtype=np.float32)[number % 3]
        if number % 4 == 0:
            label[(number + 1) % 3] = 1
        typical = np.r_[label * 2, np.zeros(3)] + generator.normal(size=(12, WIDTH)) * 0.05
        others = generator.normal(size=(12, WIDTH)) * 3
        values = generator.permutation(np.concatenate([typical, others])).astype(np.float32)
        seconds = np.arange(len(values), dtype=np.float32)
        made.append(VideoFeatures("lemon", f"video{number}", seconds, values, np.tile(label, (len(values), 1))))
    return made


def head(**changes) -> VideoHeadForClassification:
    torch.manual_seed(0)
    usual = {"input_size": WIDTH, "hidden_size": 16, "num_neighbors": 4, "num_labels": 3, "dropout": 0.2}
    return VideoHeadForClassification(
        VideoHeadConfig(**{**usual, "problem_type": "multi_label_classification", **changes})
    )


def trainer(output: Path, model: VideoHeadForClassification | None = None, **changes) -> VideoHeadTrainer:
    usual = {
        "num_train_epochs": 20,
        "per_device_train_batch_size": 8,
        "base_learning_rate": 3e-2,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": TASK.main_metric,
        "greater_is_better": True,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "dataloader_pin_memory": False,
    }
    model = model or head()
    train, validation = PooledVideos(videos(36, 0), model), PooledVideos(videos(12, 1), model)
    args = VideoHeadArguments(str(output), **{**usual, **changes})
    return VideoHeadTrainer(model, args, train, TASK, eval_dataset=validation)


def test_it_learns_procedures_from_typical_frames_and_keeps_the_best(tmp_path):
    run = trainer(tmp_path / "typical")
    run.train()
    assert run.evaluate()["eval_mean_average_precision"] == run.state.best_metric
    test = PooledVideos(videos(24, 2), run.model)
    found = predict_pooled(run.model, test, TASK)
    metrics = TASK.metrics(TASK.results(found))
    assert metrics["mean_average_precision"] > 0.95
    assert len(found.labels) == len(TASK.by_video(found)) == 24


@pytest.mark.slow
def test_stopped_and_resumed_it_is_the_same_run_bit_for_bit(tmp_path):
    plain = {"num_train_epochs": 6, "load_best_model_at_end": False, "eval_strategy": "no", "save_total_limit": 9}
    tiny.assert_resumes_bit_for_bit(trainer, tmp_path, 12, **plain)


def test_what_no_head_can_learn_from_is_refused(tmp_path):
    model = head()
    with pytest.raises(InputError, match="needs some"):
        PooledVideos([], model)
    phases = VideoFeatures("set", "v", np.zeros(4, np.float32), np.ones((4, WIDTH), np.float32), np.arange(4))
    with pytest.raises(InputError, match="set/v has different labels"):
        PooledVideos([phases], model)
    unlabeled = VideoFeatures("set", "v", phases.seconds, phases.values, np.full(4, -1))
    with pytest.raises(InputError, match="set/v has no label"):
        PooledVideos([unlabeled], model)
    args = VideoHeadArguments(str(tmp_path), use_cpu=True)
    with pytest.raises(InputError, match="the task is workflow"):
        VideoHeadTrainer(model, args, PooledVideos(videos(3, 0), model), Task("workflow", ("a", "b")))
