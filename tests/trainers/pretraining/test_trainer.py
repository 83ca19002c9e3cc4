"""Pre-training: the published step, the same however it is run, interrupted or spread; and it stops when it must."""

import json
import time
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch
from torch.utils.data import DataLoader

from surgvista_hf import ClipDataset, SurgVistaForPreTraining, load_frame_set
from surgvista_hf.clips import MultiScaleCrop
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.modeling.errors_surgvista import InputError, VideoReadError
from surgvista_hf.trainers.common.checkpoints import MARK, complete_checkpoints
from surgvista_hf.trainers.common.clip_trainer import NonFiniteLossError
from surgvista_hf.trainers.common.schedule import parameter_groups
from surgvista_hf.trainers.pretrain import build_clips
from surgvista_hf.trainers.pretraining.recipe import DataRecipe, SourceRecipe
from surgvista_hf.trainers.pretraining.surgvista import SurgVistaPretrainer

from ...modeling import golden
from .. import tiny

REPOSITORY = Path(__file__).resolve().parents[3]
STEPS = 20  # two epochs of ten


def run(output: Path, frame_set: Path, **changes: object) -> list[dict[str, float]]:
    """Train to the end."""
    trainer = tiny.trainer(frame_set, output, **changes)
    trainer.train(resume_from_checkpoint=True)
    return trainer.state.log_history


def run_until(step: int, frame_set: Path, output: Path) -> None:
    """Train and stop after a step, as a user does with Ctrl-C."""
    trainer = tiny.trainer(frame_set, output)
    trainer.add_callback(tiny.stops(step)[0])
    trainer.train()


def losses(history: list[dict[str, float]]) -> dict[int, tuple[float, ...]]:
    """Return the losses of the log."""
    names = ("loss", "loss_video", "loss_image", "learning_rate")
    return {int(line["step"]): tuple(line[name] for name in names) for line in history if "loss" in line}


@pytest.fixture(scope="module")
def whole(frame_set: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, tuple[float, ...]]]:
    """Return the folder and the losses of an uninterrupted run."""
    output = tmp_path_factory.mktemp("whole")
    return output, losses(run(output, frame_set))


# ------------------------------------------------------------------------------------------- the step


def test_the_loss_and_all_gradients_of_the_trainer_are_those_of_the_original(frame_set, tmp_path, monkeypatch):
    """Send the golden batch through the trainer in place of a batch of clips."""
    numbers = golden.load("tiny_pretraining")
    from surgvista_hf import convert_checkpoint

    checkpoint = golden.training_checkpoint(tmp_path / "student.pth", golden.part(numbers, "student."))
    sizes = golden.UNREADABLE_SIZES | golden.UNREADABLE_DECODER_SIZES
    convert_checkpoint(checkpoint, tmp_path / "student", family="surgvista", config=sizes)
    student = SurgVistaForPreTraining.from_pretrained(tmp_path / "student")
    trainer = SurgVistaPretrainer(student, tiny.arguments(tmp_path / "run"), tiny.clips(frame_set))
    monkeypatch.setattr(trainer, "prepare_pixels", lambda batch: numbers["io.videos_bcthw"].transpose(1, 2))
    trainer.teacher = lambda clips, grid: numbers["io.teacher_features_all"]
    count = len(numbers["io.mask"])
    batch = {
        "masks": {"bool_masked_pos": numbers["io.mask"]},
        "drop_path_keys": torch.arange(count),
        "index": torch.arange(count),
    }
    trainer.create_optimizer_and_scheduler(10)
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer.training_step(student, batch)
    assert abs(float(loss) - float(numbers["io.loss"])) <= 1e-5
    ours = sum(float(parameter.grad.norm() ** 2) for parameter in student.parameters()) ** 0.5
    gradients = golden.part(numbers, "grad.")
    assert gradients
    assert ours == pytest.approx(sum(float(g.norm() ** 2) for g in gradients.values()) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_an_update_equals_a_step_written_by_hand(frame_set, tmp_path, accumulation):
    """Compare with a plain loop over the same clips and torch's AdamW."""
    changes = {"per_device_train_batch_size": 6 // accumulation, "gradient_accumulation_steps": accumulation}
    trainer = tiny.trainer(frame_set, tmp_path, max_steps=3, **changes)
    loader = DataLoader(
        trainer.train_dataset, batch_size=6 // accumulation, sampler=trainer.sampler, collate_fn=trainer.data_collator
    )
    batches = [batch for batch, _ in zip(loader, range(3 * accumulation), strict=False)]
    student, teacher = tiny.model().train(), tiny.teacher()
    optimizer = torch.optim.AdamW(
        parameter_groups(student.named_parameters(), 0.05), lr=1.0, betas=(0.9, 0.95), eps=1e-8
    )
    trainer.train()
    rates = [line["learning_rate"] for line in trainer.state.log_history if "loss" in line]
    for update in range(3):
        for batch in batches[update * accumulation : (update + 1) * accumulation]:
            clips = trainer.prepare_pixels(batch)
            student.set_drop_path_keys(batch["drop_path_keys"])
            output = student(clips, batch["masks"]["bool_masked_pos"], teacher(clips, trainer.shape.grid))
            (output.loss / accumulation).backward()
        for group in optimizer.param_groups:
            group["lr"] = rates[update]
        optimizer.step()
        optimizer.zero_grad()
    for (name, ours), theirs in zip(trainer.model.named_parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
def test_a_compiled_run_has_one_graph_for_all_steps_and_the_same_losses(frame_set, tmp_path):
    """Verify that stochastic depth, whose keys change every step, does not compile anew."""
    eager = tiny.trainer(frame_set, tmp_path / "eager", max_steps=5, save_steps=100)
    eager.train()
    torch._dynamo.utils.counters.clear()
    compiled = tiny.trainer(frame_set, tmp_path / "compiled", max_steps=5, save_steps=100, torch_compile=True)
    compiled.train()
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    expected = losses(eager.state.log_history)
    for step, values in losses(compiled.state.log_history).items():
        assert values == pytest.approx(expected[step], rel=1e-5)


def test_clips_are_cropped_and_masked_by_their_keys(frame_set, tmp_path):
    trainer = tiny.trainer(frame_set, tmp_path)
    items = [trainer.train_dataset[index] for index in (5, 17)]
    batch, swapped = trainer.data_collator(items), trainer.data_collator(items[::-1])
    clips = trainer.prepare_pixels(batch)
    assert clips.shape == (2, 4, 3, 32, 32)
    assert torch.equal(clips, trainer.prepare_pixels(swapped).flip(0))
    assert torch.equal(batch["masks"]["bool_masked_pos"], swapped["masks"]["bool_masked_pos"].flip(0))
    assert torch.equal(batch["drop_path_keys"], swapped["drop_path_keys"].flip(0))
    assert batch["boxes"][0] == list(MultiScaleCrop(32, 42).box(64, 48, 0, 5))


def test_workers_crop_exactly_as_the_device_does(frame_set, tmp_path):
    """Crop in the workers, as on a CPU, and where the model runs; clips of two sizes of frames in one batch."""
    trainer = tiny.trainer(frame_set, tmp_path)
    assert trainer.data_collator.size == 32  # a test of a CPU
    items = [trainer.train_dataset[index] for index in (5, 17, 40)]
    items[1]["pixel_values"] = items[1]["pixel_values"][..., :40, :36]
    cropped = trainer.data_collator(items)
    whole = replace(trainer.data_collator, size=None)(items)
    assert cropped["pixel_values"].shape == (3, 4, 3, 32, 32)
    assert [clip.shape[-2:] for clip in whole["pixel_values"]] == [(48, 64), (40, 36), (48, 64)]
    assert torch.equal(trainer.prepare_pixels(cropped), trainer.prepare_pixels(whole))


def test_training_lowers_both_losses(whole):
    _, table = whole
    assert len(table) == STEPS
    assert table[STEPS][1] < table[1][1]
    assert table[STEPS][2] < table[1][2]


# ------------------------------------------------------------------------------------------- the same again


@pytest.mark.slow
def test_stopped_and_resumed_it_is_the_same_run_bit_for_bit(whole, frame_set, tmp_path):
    """Stop in the middle of an epoch and resume with other random states and another number of workers."""
    run_until(7, frame_set, tmp_path)
    torch.manual_seed(99)
    history = run(tmp_path, frame_set, dataloader_num_workers=2)
    output, table = whole
    resumed = losses(history)
    assert {step: resumed[step] for step in range(5, STEPS + 1)} == {step: table[step] for step in range(5, STEPS + 1)}
    tiny.assert_same_weights(tmp_path, output)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_frame_sets_of_one_kind_are_one_corpus_in_any_order(frame_set, tmp_path_factory, order):
    """Combine recordings of two hospitals that have the same kind of frame set, and may have the same names."""
    other = tmp_path_factory.mktemp("other") / "set"
    prepare_frame_set("synthetic", None, other, settings={**tiny.VIDEOS, "seed": "9", "height": "48", "width": "96"})
    folders = [frame_set, other]
    sources = tuple(SourceRecipe("synthetic", str(folders[number]), split="all") for number in order)
    clips = build_clips(DataRecipe(sources, frame_stride=2), 4, seed=0)
    single = [len(load_frame_set("synthetic", folder, "all")) for folder in folders]
    assert len(clips) == sum(single)
    assert list(clips.clip_index.source_names) == ["synthetic", "synthetic 2"]
    assert len({clips[number]["pixel_values"].shape for number in (0, len(clips) - 1)}) == 2


@pytest.mark.slow
def test_a_finished_run_that_ended_within_an_epoch_is_not_trained_on(frame_set, tmp_path):
    """Make three of ten updates of an epoch: the stock loop would make a fourth."""
    run(tmp_path, frame_set, max_steps=3, save_steps=3)
    before = tiny.final_weights(tmp_path)
    again = tiny.trainer(frame_set, tmp_path, max_steps=3, save_steps=3)
    assert again.train(resume_from_checkpoint=True).global_step == 3
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["checkpoint-3"]
    saved = again.model.state_dict()
    assert all(torch.equal(saved[name], value) for name, value in before.items())
    longer = tiny.trainer(frame_set, tmp_path, max_steps=4, save_steps=4)
    assert longer.train(resume_from_checkpoint=True).global_step == 4


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(whole, frame_set, tmp_path):
    assert losses(run(tmp_path, frame_set, dataloader_num_workers=2)) == whole[1]
    tiny.assert_same_weights(tmp_path, whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["checkpoint-8", "checkpoint-8/complete"])
def test_killed_at_any_point_and_resumed_it_ends_the_same(whole, frame_set, tmp_path, processes, moment):
    """Killed while a checkpoint is written, or right after it."""
    output = tmp_path / "run"
    process = processes.start("tests.trainers.tiny", frame_set, output)
    deadline = time.monotonic() + 120
    while not (output / moment).exists() and process.running and time.monotonic() < deadline:
        time.sleep(0.0005)
    process.kill()
    assert (output / moment).exists()
    run(output, frame_set)
    tiny.assert_same_weights(output, whole[0])
    assert [path.name for path in complete_checkpoints(output)][-1] == f"checkpoint-{STEPS}"


@pytest.mark.slow
def test_a_checkpoint_without_its_mark_is_not_resumed_from(whole, frame_set, tmp_path):
    run_until(8, frame_set, tmp_path)
    (tmp_path / "checkpoint-8" / MARK).unlink()
    (tmp_path / "checkpoint-8" / "model.safetensors").write_bytes(b"half")
    trainer = tiny.trainer(frame_set, tmp_path)
    trainer.train(resume_from_checkpoint=True)
    tiny.assert_same_weights(tmp_path, whole[0])


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_whole_batch(frame_set, tmp_path, processes):
    """Gloo on the CPU; equal up to the order in which gradients are added."""
    changes = ("per_device_train_batch_size=3", "max_steps=8")
    for rank in processes.run_ranks(2, 29611, "tests.trainers.tiny", frame_set, tmp_path / "two", *changes):
        assert rank.returncode == 0, rank.stderr[-2000:]
    history = run(tmp_path / "one", frame_set, max_steps=8)
    state = json.loads((tmp_path / "two" / "checkpoint-8" / "trainer_state.json").read_text())
    for step, values in losses(history).items():
        assert losses(state["log_history"])[step] == pytest.approx(values, rel=1e-4), step
    two, one = tiny.final_weights(tmp_path / "two"), tiny.final_weights(tmp_path / "one")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-5, msg=name)


# ------------------------------------------------------------------------------------------- log, checkpoints, errors


def test_the_log_says_how_fast_and_how_long_it_waited(frame_set, tmp_path):
    history = run(tmp_path, frame_set, max_steps=2)
    line = history[0]
    assert line["clips_per_second"] > 0
    assert 0 <= line["data_wait_fraction"] <= 1
    assert line["loss"] == pytest.approx(line["loss_video"] + 0.05 * line["loss_image"], rel=1e-5)


def test_only_the_newest_complete_checkpoints_are_kept(frame_set, tmp_path):
    run(tmp_path, frame_set, save_total_limit=2)
    assert [path.name for path in complete_checkpoints(tmp_path)] == ["checkpoint-16", "checkpoint-20"]
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-16", "checkpoint-20"]


def test_the_peak_follows_the_batch_unless_it_is_given(tmp_path):
    published = tiny.arguments(tmp_path, per_device_train_batch_size=64, gradient_accumulation_steps=32)
    assert published.total_batch == 2048
    assert tiny.arguments(tmp_path, base_learning_rate=1.5e-4, base_min_learning_rate=1e-4).floor == pytest.approx(
        2 / 3
    )
    assert published.peak_learning_rate == pytest.approx(2e-2 * 8)
    assert tiny.arguments(tmp_path, learning_rate=0.5).peak_learning_rate == 0.5


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_clips(frame_set, tmp_path):
    class NotFinite(SurgVistaPretrainer):
        """A trainer whose loss is not a number with clip 23."""

        def clip_loss(self, model, batch):
            """Return not a number if clip 23 is in the batch."""
            loss, parts = super().clip_loss(model, batch)
            return (loss * float("nan") if 23 in batch["index"].tolist() else loss), parts

    trainer = NotFinite(tiny.model(), tiny.arguments(tmp_path, logging_steps=3), tiny.clips(frame_set))
    with pytest.raises(NonFiniteLossError, match=r"first with the clips .*synthetic/operation_000001 frame 3"):
        trainer.train()
    assert all(
        torch.isfinite(w).all()
        for path in complete_checkpoints(tmp_path)
        for w in tiny.final_weights(tmp_path).values()
    )


def with_a_broken_frame(frame_set: Path, **options: str) -> ClipDataset:
    """Make row 31, frame 11 of the second video, unreadable."""
    whole = load_frame_set("synthetic", frame_set, "all")
    rows = [dict(row) for row in whole.cast_column("image", datasets.Image(decode=False))]
    rows[31]["image"] = {"bytes": b"\xff\xd8\xffnot a picture", "path": None}
    broken = datasets.Dataset.from_list(rows, features=whole.features)
    return ClipDataset(broken, num_frames=4, frame_stride=2, **options)


def test_an_incomplete_last_batch_is_trained_on_when_it_is_not_dropped(frame_set, tmp_path):
    changes = {"dataloader_drop_last": False, "per_device_train_batch_size": 7, "num_train_epochs": 1}
    history = run(tmp_path, frame_set, **changes)
    assert history[-1]["step"] == 9  # 60 clips: eight batches of 7, one of 4


def test_a_frame_that_cannot_be_read_stops_the_run_and_is_named(frame_set, tmp_path):
    clips = with_a_broken_frame(frame_set)
    trainer = SurgVistaPretrainer(tiny.model(), tiny.arguments(tmp_path, per_device_train_batch_size=30), clips)
    with pytest.raises(VideoReadError, match="frame 11 of video operation_000001 cannot be decoded"):
        trainer.train()


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_clips_are_replaced_counted_and_listed_on_request(frame_set, tmp_path, workers):
    """Expect the clips that end with frames 11, 13, 15 and 17, which frame 11 is part of."""
    clips = with_a_broken_frame(frame_set, on_unreadable="replace")
    arguments = tiny.arguments(tmp_path, dataloader_num_workers=workers)
    trainer = SurgVistaPretrainer(tiny.model(), arguments, clips)
    trainer.train()
    lost = [31, 33, 35, 37]
    assert clips.unreadable == lost
    assert [clips[index]["index"] for index in lost] == [32, 34, 36, 38]
    assert [line.get("unreadable_clips", 0) for line in trainer.state.log_history if "loss" in line][-1] == 4
    listed = (tmp_path / "unreadable_clips_0.txt").read_text().splitlines()
    assert listed == [f"synthetic/operation_000001 frame {frame}" for frame in (11, 13, 15, 17)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"num_frames": 8}}, "clips have 4 frames; the model takes 8"),
        ({"model": {"image_size": [32, 40]}}, "square"),
        ({"model": {"image_target_size": 7}}, "features have 24 numbers; image_target_size is 7"),
        ({"model": {"image_decoder_num_hidden_layers": 0}}, "no image decoder"),
        ({"arguments": {"per_device_train_batch_size": 1000}}, "one update needs 1000 clips; an epoch has 60"),
        ({"arguments": {"warmup_epochs": 5}}, "warmup_epochs 5 .* do not fit into 2"),
        ({"arguments": {"base_min_learning_rate": 1.0}}, "must not exceed"),
    ],
)
def test_what_does_not_fit_together_is_refused_at_once(frame_set, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        SurgVistaPretrainer(
            tiny.model(**changes.get("model", {})),
            tiny.arguments(tmp_path, **changes.get("arguments", {})),
            tiny.clips(frame_set),
            teacher=tiny.teacher(),
        )
