"""Fine-tuning: the published step and loss, the same however it is interrupted or spread; each clip is tested once."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from surgvista_hf import convert_checkpoint
from surgvista_hf.clips.transforms.mixing import Mix
from surgvista_hf.evaluation.tasks import Task
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.loading import load_classifier
from surgvista_hf.trainers.common.checkpoints import complete_checkpoints
from surgvista_hf.trainers.finetuning.trainer import (
    ExponentialMovingAverage,
    class_counts,
    component_labels,
    median_frequency,
)

from ...modeling import golden
from .. import tiny, tiny_finetuning

REPOSITORY = Path(__file__).resolve().parents[3]


def history(trainer) -> dict[int, tuple[float, float]]:
    """Return the losses of a run with their learning rates."""
    return {
        line["step"]: (line["loss"], line["learning_rate"]) for line in trainer.state.log_history if "loss" in line
    }


@pytest.fixture(scope="module")
def whole(frame_set: Path, tmp_path_factory: pytest.TempPathFactory):
    """Return an uninterrupted run with dropout, stochastic depth, every augmentation and an average of the weights."""
    output = tmp_path_factory.mktemp("whole")
    trainer = tiny_finetuning.trainer(frame_set, output, ema_decay=0.9)
    trainer.train()
    return output, history(trainer), trainer.evaluate()


# ------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("name", golden.CLASSIFIERS)
def test_the_original_classifiers_keep_their_logits_and_with_other_classes_their_features(name, tmp_path):
    numbers = golden.load(name)
    family, sizes = golden.CLASSIFIERS[name]
    torch.save(golden.part(numbers, "model."), tmp_path / "model.pth")
    folder = tmp_path / "converted"
    convert_checkpoint(tmp_path / "model.pth", folder, family=family, config=golden.UNREADABLE_SIZES | sizes)
    clip = numbers["io.videos_bcthw"].transpose(1, 2)
    classes = numbers["io.logits"].shape[1]
    same = load_classifier(folder, [f"LABEL_{n}" for n in range(classes)], "single_label_classification").eval()
    other = load_classifier(folder, [f"phase {n}" for n in range(classes)], "single_label_classification").eval()
    with torch.no_grad():
        assert golden.differences(same(clip).logits, numbers["io.logits"]) <= 1e-4
        assert golden.differences(other.extract_features(clip), numbers["io.pooled_features"]) <= 1e-4
        assert not other(clip).logits.any()


# ------------------------------------------------------------------------------------------- the loss


def test_the_first_loss_is_that_of_a_head_of_zeros(frame_set, tmp_path):
    trainer = tiny_finetuning.trainer(frame_set, tmp_path / "one", max_steps=1)
    trainer.train()
    assert history(trainer)[1][0] == pytest.approx(np.log(7), abs=1e-5)
    triplets = tiny_finetuning.trainer(frame_set, tmp_path / "several", label="triplets", max_steps=1)
    triplets.train()
    assert history(triplets)[1][0] == pytest.approx(np.log(2), abs=1e-5)


def test_the_loss_is_the_cross_entropy_with_smoothed_and_mixed_labels(frame_set, tmp_path):
    trainer = tiny_finetuning.trainer(frame_set, tmp_path)
    logits, labels = torch.randn(4, 7), torch.tensor([0, 3, 3, 6])
    loss, _ = trainer.training_loss(logits, labels)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=0.1))
    mixed, _ = trainer.training_loss(logits, labels, Mix(0.3))
    partner = F.cross_entropy(logits, labels.flip(0), label_smoothing=0.1)
    torch.testing.assert_close(mixed, 0.3 * loss + 0.7 * partner)


def test_class_weights_divide_by_their_sum_as_pytorch_does(frame_set, tmp_path):
    trainer = tiny_finetuning.trainer(
        frame_set, tmp_path, class_weights="median_frequency", label_smoothing_factor=0.0
    )
    counts = class_counts(trainer.train_dataset)
    assert counts.sum() == len(trainer.train_dataset)
    weights = median_frequency(counts)
    logits, labels = torch.randn(5, 7), torch.tensor([0, 3, 3, 6, 1])
    torch.testing.assert_close(trainer.training_loss(logits, labels)[0], F.cross_entropy(logits, labels, weights))


@given(st.lists(st.integers(0, 99), min_size=0, max_size=4))
@settings(deadline=None)
def test_a_component_is_there_if_one_of_its_triplets_is(triplets):
    parts = Task("triplet", tuple(map(str, range(100)))).parts
    labels = torch.zeros(1, 100)
    labels[0, triplets] = 1
    found = component_labels(labels, parts)[0]
    expected = torch.cat(
        [torch.zeros(size).index_fill_(0, torch.tensor(parts[triplets, column], dtype=torch.long), 1)
         for column, size in enumerate((6, 10, 15))]
    )  # fmt: skip
    assert torch.equal(found, expected)


def test_heads_for_components_add_their_loss_and_change_no_score_of_triplets(frame_set, tmp_path):
    trainer = tiny_finetuning.trainer(
        frame_set, tmp_path, label="triplets", outputs=31, component_weight=0.5, max_steps=2
    )
    logits = torch.randn(3, 131)
    labels = (torch.rand(3, 100) > 0.9).float()
    loss, parts = trainer.training_loss(logits, labels)
    own = F.binary_cross_entropy_with_logits(logits[:, :100], labels)
    torch.testing.assert_close(parts["loss_triplets"], own)
    torch.testing.assert_close(loss, own + 0.5 * parts["loss_components"])
    trainer.train()
    assert trainer.predict_clips(trainer.eval_dataset).scores.shape == (60, 100)


# ------------------------------------------------------------------------------------------- the step


def test_workers_crop_exactly_as_the_device_does(frame_set, tmp_path):
    """Crop in the workers, as on a CPU, and where the model runs, with all of the augmentation around it."""
    trainer = tiny_finetuning.trainer(frame_set, tmp_path, erasing=1.0)
    assert trainer.data_collator.crop_here  # a test of a CPU
    items = [trainer.train_dataset[index] for index in (5, 17, 40)]
    items[1]["pixel_values"] = items[1]["pixel_values"][..., :40, :36]
    cropped = trainer.data_collator(items)
    whole = replace(trainer.data_collator, crop_here=False)(items)
    assert cropped["pixel_values"].shape[-2:] != whole["pixel_values"][0].shape[-2:]
    assert torch.equal(trainer.prepare_pixels(cropped), trainer.prepare_pixels(whole))


def test_an_update_equals_a_step_written_by_hand(frame_set, tmp_path):
    """Leave nothing to chance: two layers of rates, weights that decay and biases that do not."""
    quiet = {"rand_augment": 0, "erasing": 0.0, "flip": 0.0, "mixup_alpha": 0.0, "cutmix_alpha": 0.0}
    trainer = tiny_finetuning.trainer(
        frame_set, tmp_path, max_steps=2, learning_rate=1e-2, warmup_epochs=0, layer_decay=0.5, **quiet
    )
    copy = load_classifier(
        {**tiny_finetuning.MODEL, "drop_path_rate": 0.0, "classifier_dropout": 0.0},
        list(trainer.task.names),
        trainer.task.problem_type,
    )
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if type(module).__name__ == "SurgVistaDropPath":
            module.rate = 0.0
    torch.nn.init.normal_(trainer.model.classifier.weight)  # with the usual zeros, no block would move at first
    copy.load_state_dict(trainer.model.state_dict())
    rates = {"surgvista.embeddings": 1 / 8, "surgvista.encoder.layers.0": 1 / 4, "surgvista.encoder.layers.1": 1 / 2}
    groups = [
        {
            "params": [parameter],
            "lr": 1e-2 * next((rate for start, rate in rates.items() if name.startswith(start)), 1.0),
            "weight_decay": 0.05 if parameter.ndim > 1 else 0.0,
        }
        for name, parameter in copy.named_parameters()
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)
    order = list(trainer.sampler)
    peaks = [group["lr"] for group in groups]
    for step in range(2):
        batch = trainer.data_collator([trainer.train_dataset[index] for index in order[6 * step : 6 * step + 6]])
        loss = F.cross_entropy(
            copy.train()(trainer.prepare_pixels(batch)).logits, batch["labels"], label_smoothing=0.1
        )
        optimizer.zero_grad()
        loss.backward()
        floor = trainer.args.floor
        fraction = floor + (1 - floor) * 0.5 * (1 + np.cos(np.pi * step / 2))
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * fraction
        optimizer.step()
    trainer.train()
    for name, weight in copy.state_dict().items():
        torch.testing.assert_close(trainer.model.state_dict()[name], weight, rtol=1e-4, atol=1e-6, msg=name)


def test_stopped_and_resumed_it_is_the_same_run_bit_for_bit(whole, frame_set, tmp_path):
    """Include dropout, stochastic depth, augmentation, mixup and the average of the weights."""
    first = tiny_finetuning.trainer(frame_set, tmp_path, ema_decay=0.9)
    first.add_callback(tiny.stops(9)[0])
    first.train()
    second = tiny_finetuning.trainer(frame_set, tmp_path, ema_decay=0.9)
    second.train(resume_from_checkpoint=True)
    assert complete_checkpoints(tmp_path)[-1].name == "checkpoint-20"
    again = history(second)
    assert min(again) in (1, 9, 10)
    assert {step: whole[1][step] for step in again} == again
    tiny.assert_same_weights(tmp_path, whole[0])
    assert second.evaluate() == whole[2]


@pytest.mark.slow
def test_fewer_clips_than_a_batch_make_one_update_an_epoch_unless_incomplete_batches_are_left_out(frame_set, tmp_path):
    few = {"per_device_train_batch_size": 100, "num_train_epochs": 3, "save_steps": 1}
    tiny.assert_resumes_bit_for_bit(
        lambda output, **changes: tiny_finetuning.trainer(frame_set, output, **changes),
        tmp_path,
        2,
        dataloader_drop_last=False,
        **few,
    )
    assert complete_checkpoints(tmp_path / "whole")[-1].name == "checkpoint-3"
    with pytest.raises(InputError, match="one update needs 100 clips; an epoch has 60"):
        tiny_finetuning.trainer(frame_set, tmp_path / "other", dataloader_drop_last=True, **few)


@pytest.mark.slow
def test_killed_and_resumed_it_ends_the_same(whole, frame_set, tmp_path, processes):
    program = ("tests.trainers.tiny_finetuning", frame_set, tmp_path, "ema_decay=0.9")
    process = processes.start(*program)
    deadline = time.time() + 120
    while not complete_checkpoints(tmp_path) and process.running and time.time() < deadline:
        time.sleep(0.02)
    process.kill()
    assert complete_checkpoints(tmp_path)
    again = processes.run(*program)
    assert again.returncode == 0, again.stderr[-2000:]
    tiny.assert_same_weights(tmp_path, whole[0])


def test_workers_change_nothing(whole, frame_set, tmp_path):
    trainer = tiny_finetuning.trainer(frame_set, tmp_path, ema_decay=0.9, dataloader_num_workers=2)
    trainer.train()
    assert history(trainer) == whole[1]


# ------------------------------------------------------------------------------------------- evaluation


def test_every_clip_is_tested_once_in_the_order_of_the_frame_set(frame_set, tmp_path):
    trainer = tiny_finetuning.trainer(frame_set, tmp_path)
    torch.nn.init.normal_(trainer.model.classifier.weight)
    found = trainer.predict_clips(trainer.eval_dataset)  # 60 clips in batches of 7
    assert len(found.videos) == 60
    assert found.frames.tolist() == list(range(20)) * 3
    assert found.labels.tolist() == trainer.eval_dataset.sample_labels().tolist()
    model = trainer.model.eval()
    for number in (0, 33, 59):
        item = trainer.eval_dataset[number]
        pixels = trainer.processing_class(item["pixel_values"], do_sample_frames=False, return_tensors="pt")
        with torch.no_grad():
            expected = model(pixels["pixel_values"]).logits.softmax(dim=1)[0]
        np.testing.assert_allclose(found.scores[number], expected.numpy(), atol=1e-5)


def test_two_processes_give_the_metrics_of_one(frame_set, tmp_path, processes):
    """Evaluate 60 clips in batches of 2 × 7: the last batch is padded, and the padding must not be counted."""
    program = ("tests.trainers.tiny_finetuning", frame_set, tmp_path / "two")
    for rank in processes.run_ranks(2, 29631, *program, "untrained=1", "per_device_train_batch_size=3"):
        assert rank.returncode == 0, rank.stderr[-2000:]
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    trainer = tiny_finetuning.trainer(frame_set, tmp_path / "one")
    torch.nn.init.normal_(trainer.model.classifier.weight, generator=torch.Generator().manual_seed(0))
    one = trainer.evaluate()
    assert one["eval_image_accuracy"] > 0
    assert two == pytest.approx(one, abs=1e-6)


def test_the_best_checkpoint_is_kept_and_loaded(frame_set, tmp_path, monkeypatch):
    scores = iter([0.2, 0.7, 0.7, 0.5, 0.4])
    trainer = tiny_finetuning.trainer(
        frame_set,
        tmp_path,
        num_train_epochs=5,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="image_accuracy",
        greater_is_better=True,
        ema_decay=0.5,
    )
    seen = []

    def evaluate(*args, **kwargs):
        """Log the next score instead of evaluating."""
        seen.append({name: value.clone() for name, value in trainer.ema.mean.items()})
        metrics = {"eval_image_accuracy": next(scores)}
        trainer.log(metrics)
        return metrics

    monkeypatch.setattr(trainer, "evaluate", evaluate)
    trainer.train()
    assert trainer.state.best_metric == 0.7
    assert Path(trainer.state.best_model_checkpoint).name == "checkpoint-20"  # the first of two alike
    assert {path.name for path in complete_checkpoints(tmp_path)} == {"checkpoint-20"}
    with trainer.ema_weights():
        for name, value in trainer.model.named_parameters():
            assert torch.equal(value, seen[1][name]), name


def test_the_mean_of_the_weights_is_the_one_written_by_hand():
    layer = torch.nn.Linear(2, 2)
    mean, expected = ExponentialMovingAverage(layer, 0.75), layer.weight.detach().clone()
    for _ in range(3):
        with torch.no_grad():
            layer.weight.add_(1.0)
        mean.update()
        expected = 0.75 * expected + 0.25 * layer.weight.detach()
    torch.testing.assert_close(mean.mean["weight"], expected)
    live = layer.weight.detach().clone()
    mean.swap()
    torch.testing.assert_close(layer.weight.detach(), expected)
    mean.swap()
    torch.testing.assert_close(layer.weight.detach(), live)


def test_rare_classes_are_drawn_as_often_as_requested(frame_set, tmp_path):
    trainer = tiny_finetuning.trainer(frame_set, tmp_path, class_balance=0.0)
    labels = trainer.train_dataset.sample_labels()
    drawn = []
    for epoch in range(40):
        trainer.sampler.set_epoch(epoch)
        drawn += [labels[draw.sample] for draw in trainer.sampler]
    fractions = np.bincount(drawn, minlength=7) / len(drawn)
    present = np.bincount(labels, minlength=7) > 0
    np.testing.assert_allclose(fractions[present], 1 / present.sum(), atol=0.03)


# ------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("label", "changes", "message"),
    [
        ("triplets", {"class_balance": 0.5}, "need one class a clip"),
        ("phase", {"layer_decay": 0.0}, "layer_decay"),
        ("phase", {"class_weights": "inverse"}, "it must be 'median_frequency'"),
        ("phase", {"ema_decay": 1.0}, "ema_decay is 1.0; it must be less than 1"),
        ("phase", {"rand_augment_magnitude": 11}, "must be less than or equal to 10"),
        ("triplets", {"component_weight": 1.0}, "the task needs 131"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_once(frame_set, tmp_path, label, changes, message):
    with pytest.raises(InputError, match=message):
        tiny_finetuning.trainer(frame_set, tmp_path, label=label, **changes)


def test_clips_task_and_model_must_speak_of_the_same(frame_set, tmp_path):
    trainer = tiny_finetuning.trainer(frame_set, tmp_path)
    trainer.task = Task("workflow", tiny_finetuning.task(frame_set, "triplets").names)
    triplets = tiny_finetuning.clips(frame_set, "triplets")
    with pytest.raises(InputError, match="holds several classes a frame"):
        trainer.predict_clips(triplets)
    trainer.task = Task("workflow", ("a", "b"))
    with pytest.raises(InputError, match="has 7 classes"):
        trainer.predict_clips(tiny_finetuning.clips(frame_set))
