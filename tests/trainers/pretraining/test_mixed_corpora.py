"""Corpora as they are: frames of different sizes, shapes and rates in one batch, for every objective and for fine-tuning."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import yaml
from torch.utils.data import DataLoader

from surgvista_hf import ClipDataset
from surgvista_hf.cli.main import main
from surgvista_hf.clips import StreamingClipDataset, collate_clips
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.schema.media import PreparationOptions
from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation
from surgvista_hf.evaluation.tasks import Task
from surgvista_hf.modeling.loading import load_classifier, make_classifier_processor
from surgvista_hf.modeling.video_reading_surgvista import VideoReader
from surgvista_hf.trainers.features.clip_features import extract_features
from surgvista_hf.trainers.features.extraction import VideoFeatureExtractor, load_video_features
from surgvista_hf.trainers.finetuning.trainer import SurgicalFinetuner
from surgvista_hf.trainers.pretrain import build_clips, pretrain
from surgvista_hf.trainers.pretraining.recipe import load_recipe

from ...clips.frame_sets import FEATURES
from .. import tiny, tiny_finetuning

REPOSITORY = Path(__file__).resolve().parents[3]
SIZES = {"synthetic": (224, 398), "synthetic_views": (224, 280)}  # height, width; rates 1 and 2 a second
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SURGVISTA = {
    **SMALL,
    "image_size": 32,
    "patch_size": 8,
    "num_frames": 4,
    "video_decoder_hidden_size": 32,
    "video_decoder_num_hidden_layers": 1,
    "video_decoder_num_attention_heads": 2,
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "surgvista": {"model": {**SURGVISTA, "image_decoder_num_hidden_layers": 0}},
    "surgvista with a teacher": {
        "model": {
            **SURGVISTA,
            "image_decoder_hidden_size": 32,
            "image_decoder_num_hidden_layers": 1,
            "image_decoder_num_attention_heads": 2,
            "image_target_size": tiny.TEACHER_WIDTH,
        }
    },
    "mae": {
        "objective": "mae",
        "model": {
            **SMALL,
            "image_size": 32,
            "patch_size": 8,
            "num_frames": 4,
            "intermediate_size": 64,
            "decoder_hidden_size": 32,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 64,
        },
    },
    "jepa": {
        "objective": "jepa",
        "model": {**SURGVISTA, "model_type": "surgvista", "image_decoder_num_hidden_layers": 0},
    },
    "jepa of V-JEPA 2": {
        "objective": "jepa",
        "model": {
            **SMALL,
            "model_type": "vjepa2",
            "crop_size": 32,
            "patch_size": 8,
            "frames_per_clip": 4,
            "hidden_size": 48,
            "mlp_ratio": 2,
            "pred_hidden_size": 48,
            "pred_num_hidden_layers": 1,
            "pred_num_attention_heads": 2,
        },
    },
    "dino": {
        "objective": "dino",
        "model": {
            "model_type": "convnext",
            "image_size": 64,
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "num_stages": 2,
            "head_output_size": 64,
            "head_hidden_size": 32,
            "head_bottleneck_size": 16,
        },
        "training": {"local_size": 32, "local_views": 2},
    },
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """Prepare three sources: rendered at two sizes and rates, and real videos of two other sizes, one of them odd."""
    root = tmp_path_factory.mktemp("mixed")
    for rate, (name, (height, width)) in enumerate(SIZES.items(), 1):
        settings = {"videos": "2", "seconds": "14", "height": str(height), "width": str(width)}
        prepare_frame_set(
            name, None, root / name, options=PreparationOptions(frames_per_second=float(rate)), settings=settings
        )
    (root / "videos").mkdir()
    for name in ("odd_videos/testsrc2_odd_height_and_width_mpeg2.mp4", "clips/02_87.7_92.7_retract.mp4"):
        (root / "videos" / Path(name).name).symlink_to(shared_data / name)
    prepare_frame_set("folder", root / "videos", root / "folder", options=PreparationOptions(frames_per_second=4.0))
    return root


def recipe(corpus: Path, output: Path, objective: str, **training: Any) -> Any:
    """Write a recipe over all sources."""
    own = OBJECTIVES[objective]
    content = {
        **own,
        "data": {
            "root": str(corpus),
            "frame_stride": 1,
            "sources": [{"name": name, "data_dir": name, "split": "all"} for name in (*SIZES, "folder")],
        },
        "training": {
            "output_dir": str(output),
            "num_train_epochs": 1,
            "warmup_epochs": 0,
            "per_device_train_batch_size": 8,
            "max_steps": 4,
            "save_steps": 2,
            "logging_steps": 1,
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
            **own.get("training", {}),
            **training,
        },
    }
    file = output.parent / f"{output.name}.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def history(output: Path, step: int = 4) -> list[dict[str, float]]:
    """Return the losses of a run."""
    return json.loads((output / f"checkpoint-{step}" / "trainer_state.json").read_text())["log_history"]


@pytest.fixture(scope="module", autouse=True)
def small_teacher() -> Iterator[None]:
    """Replace the teacher of recipes by a tiny one."""
    import surgvista_hf.trainers.pretrain as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "build_teacher", lambda teacher: tiny.teacher())
        yield


@pytest.fixture(scope="module")
def whole(corpus: Path, small_teacher: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the folder of an uninterrupted run of an objective, which is trained once."""
    folder = tmp_path_factory.mktemp("whole")

    @cache
    def run(objective: str) -> Path:
        changes = ["teacher.name=tiny"] if "teacher" in objective else []
        output = folder / objective.replace(" ", "_")
        pretrain(load_recipe(recipe(corpus, output, objective), changes))
        return output

    return run


# ------------------------------------------------------------------------------------------- pre-training


def test_batches_hold_different_sizes_shapes_and_rates(corpus, tmp_path):
    read = load_recipe(recipe(corpus, tmp_path / "run", "surgvista"))
    clips = build_clips(read.data, 4, 0)
    shapes = {clips[index]["pixel_values"].shape[-2:] for index in range(0, len(clips), 3)}
    assert len(shapes) >= 4
    assert any(side % 2 for shape in shapes for side in shape)
    batch = collate_clips([clips[0], clips[20], clips[len(clips) - 1]])
    assert isinstance(batch["pixel_values"], list)


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_on_different_sizes_and_resumes_bit_for_bit(objective, corpus, whole, tmp_path):
    losses = [line["loss"] for line in history(whole(objective)) if "loss" in line]
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    parts = shutil.copytree(whole(objective), tmp_path / "parts")
    for file in (parts / "checkpoint-4").iterdir():
        file.unlink()  # as if the run had been killed before it was written
    changes = ["teacher.name=tiny"] if "teacher" in objective else []
    pretrain(load_recipe(recipe(corpus, parts, objective), changes))
    tiny.assert_same_weights(parts, whole(objective))


@pytest.mark.slow
def test_balanced_sources_of_different_sizes_are_drawn_and_resumed(corpus, tmp_path):
    changes = ["data.balance=0.5", "data.clips_per_epoch=32"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for output in (whole, parts):
        pretrain(load_recipe(recipe(corpus, output, "surgvista", dataloader_num_workers=1), changes))
    for file in (parts / "checkpoint-4").iterdir():
        file.unlink()
    pretrain(load_recipe(parts.parent / "parts.yaml", changes))
    tiny.assert_same_weights(parts, whole)


def test_the_count_of_operations_does_not_depend_on_frame_sizes(whole):
    state = json.loads((whole("surgvista") / "checkpoint-4" / "trainer_state.json").read_text())
    per_step = state["total_flos"] / 4
    assert per_step > 0
    assert per_step % 8 == 0  # eight clips of the same number of operations


@pytest.mark.parametrize("objective", ["surgvista", pytest.param("dino", marks=pytest.mark.slow)])
def test_two_processes_train_on_several_sizes_as_one(objective, corpus, whole, tmp_path, processes):
    two = tmp_path / "two"
    file = recipe(corpus, two, objective, per_device_train_batch_size=4, ddp_backend="gloo")
    for rank in processes.run_ranks(2, 29643, "surgvista_hf.trainers.pretrain", file):
        assert rank.returncode == 0, rank.stderr[-3000:]
    pairs = zip(history(whole(objective)), history(two), strict=True)
    for alone, together in pairs:
        if "loss" in alone:
            assert together["loss"] == pytest.approx(alone["loss"], rel=1e-3)


# ------------------------------------------------------------------------------------------- fine-tuning


def labeled_frames() -> datasets.Dataset:
    """Make videos of four sizes, as a data set whose recordings come from several machines has."""
    table = []
    for video, (height, width) in enumerate([(224, 398), (224, 280), (224, 224), (225, 399)]):
        operation = SyntheticOperation(seed=video, duration_seconds=14.0, height=height // 2 * 2, width=width // 2 * 2)
        for frame in range(8):
            pixels = operation.frame(float(frame))
            image = np.pad(pixels, ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)))
            row = {"source": "synthetic", "video_id": f"v{video}", "frame_index": frame, "timestamp": float(frame)}
            table.append({**row, "image": image, "phase": frame % 7, "tools": [frame % 3], "cvs": [0.0, 0.5, 1.0]})
    return datasets.Dataset.from_list(table, features=FEATURES)


@pytest.fixture(scope="module")
def frames() -> datasets.Dataset:
    """Return the frames of a video."""
    return labeled_frames()


def finetuner(frames: datasets.Dataset, output: Path, start: Any = tiny_finetuning.MODEL, **changes: Any) -> Any:
    """Return a trainer over the labeled frames."""
    torch.manual_seed(0)
    clips = ClipDataset(frames, num_frames=4, frame_stride=1, label="phase")
    task = Task("workflow", tuple(clips.label_names or ()))
    model = load_classifier(start, task.names, task.problem_type, num_frames=4)
    processor = make_classifier_processor(model, start, 1)
    args = tiny_finetuning.arguments(output, **{"num_train_epochs": 1, "per_device_train_batch_size": 8, **changes})
    return SurgicalFinetuner(model, args, clips, task, processor, eval_dataset=clips)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"rand_augment_magnitude": 9.0, "erasing": 1.0, "mixup_alpha": 0.8, "cutmix_alpha": 0.0},
        {"mixup_alpha": 0.0, "cutmix_alpha": 1.0, "cutmix_probability": 1.0, "ema_decay": 0.9},
        {"class_balance": 0.5, "class_weights": "median_frequency", "mixup_alpha": 0.0, "cutmix_alpha": 0.0},
    ],
    ids=["mixup, erasing", "cutmix, mean of the weights", "balanced classes"],
)
def test_fine_tuning_over_different_sizes_trains_resumes_and_tests_every_clip(changes, frames, tmp_path):
    tiny.assert_resumes_bit_for_bit(
        lambda output, **more: finetuner(frames, output, **more), tmp_path, 2, save_steps=2, **changes
    )
    trainer = finetuner(frames, tmp_path / "whole", **changes)
    predictions = trainer.predict_clips(trainer.train_dataset)
    assert len(predictions.scores) == 32
    alone = [trainer.eval_collator([trainer.train_dataset[index]])["pixel_values"] for index in (0, 31)]
    with torch.no_grad():
        logits = [trainer.model.eval()(clip).logits[0].double().softmax(0) for clip in alone]
    np.testing.assert_allclose(predictions.scores[[0, 31]], torch.stack(logits), atol=1e-5)


def test_features_over_different_sizes_are_those_of_each_video_alone(frames, tmp_path):
    trainer = finetuner(frames, tmp_path / "run")
    extractor = VideoFeatureExtractor(trainer.model, trainer.processing_class, device="cpu")
    extractor.extract(frames, tmp_path / "all", label="phase", progress=False)
    extractor.extract(frames.select(range(24, 32)), tmp_path / "last", label="phase", progress=False)
    together, alone = load_video_features(tmp_path / "all"), load_video_features(tmp_path / "last")
    assert [video.video_id for video in together] == ["v0", "v1", "v2", "v3"]
    np.testing.assert_allclose(together[3].values, alone[0].values, atol=1e-5)


def test_a_probe_of_an_encoder_takes_clips_of_different_sizes(frames, tmp_path):
    trainer = finetuner(frames, tmp_path / "run")
    found = extract_features(trainer.model.surgvista, trainer.processing_class, trainer.train_dataset, batch_size=16)
    assert found.values.shape[0] == 32
    assert np.isfinite(found.values).all()


def test_a_stream_gives_clips_of_different_sizes_to_the_same_collator(frames):
    stream = StreamingClipDataset(frames.to_iterable_dataset(), num_frames=2, frame_stride=1, label="phase")
    sizes = set()
    for batch in DataLoader(stream, batch_size=12, collate_fn=collate_clips):
        sizes |= {tuple(clip.shape[-2:]) for clip in batch["pixel_values"]}
    assert len(sizes) == 4


@pytest.mark.slow
def test_the_verb_fine_tunes_over_real_recordings_of_different_machines(tmp_path, shared_data):
    """Train, choose and test as a user does, on real clips, one of them with an uneven frame rate."""
    data = tmp_path / "data"
    for part in ("videos", "phases"):
        (data / part).mkdir(parents=True)
    clips = [
        shared_data / "clips" / "02_87.7_92.7_retract.mp4",
        shared_data / "odd_videos" / "recorder_06_h263_vfr_sar.3gp",
    ]
    for number in range(10):
        clip = clips[number % 2]
        (data / "videos" / f"op{number}.mp4").symlink_to(clip)
        with VideoReader(clip) as reader:
            rows = "".join(f"{second:.0f} {second % 2:.0f}\n" for second, _ in reader.iterate(1.0))
        (data / "phases" / f"op{number}.txt").write_text(f"s p\n{rows}")
    made = ["--output", str(tmp_path / "set"), "--short-side", "64"]
    assert main(["prepare", "phase_folder", "--data-dir", str(data), *made]) == 0
    changes = ["model.from_pretrained=null", "model.config=" + json.dumps(tiny_finetuning.MODEL)]
    changes += [
        "data.name=phase_folder",
        "data.label=phase",
        f"data.data_dir={tmp_path / 'set'}",
        "data.frame_stride=1",
    ]
    changes += ["training.per_device_train_batch_size=4", "training.max_steps=3", "training.use_cpu=true"]
    changes += [f"training.output_dir={tmp_path / 'run'}", "training.disable_tqdm=true", "training.warmup_epochs=0"]
    assert main(["finetune", "synthetic", *changes]) == 0
    assert (tmp_path / "run" / "results.json").is_file()
