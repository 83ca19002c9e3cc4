"""The parts of `benchmarks.on_gpu`: what each measures, and the sizes it measures at."""

import gc
import math
import os
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    ViTConfig,
    ViTModel,
    VJEPA2Config,
    VJEPA2Model,
)

from surgvista_hf import ClipDataset, PretrainingArguments, SurgVistaConfig, SurgVistaForPreTraining, load_frame_set
from surgvista_hf.clips import BlockMasking, SourceBalancedSampler
from surgvista_hf.datasets_scripts.frame_sets.prepare import default_options, prepare_frame_set
from surgvista_hf.datasets_scripts.frame_sets.registry import get_builder
from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation, write_video
from surgvista_hf.evaluation.probes import accuracy_by_video, linear_probe
from surgvista_hf.modeling.modeling_surgvista import SurgVistaLayer, pick_tokens
from surgvista_hf.modeling.objectives.joint_embedding import VJEPA2ForJointEmbedding
from surgvista_hf.modeling.video_reading_surgvista import VideoReader
from surgvista_hf.trainers.common.flops import count_flops, peak_flops
from surgvista_hf.trainers.features.clip_features import extract_features
from surgvista_hf.trainers.pretrain import build_arguments, build_model, build_trainer
from surgvista_hf.trainers.pretraining.recipe import Recipe, load_recipe
from surgvista_hf.trainers.pretraining.surgvista import SurgVistaPretrainer
from surgvista_hf.trainers.pretraining.teachers import ImageTeacher
from surgvista_hf.util.files import write_json

from . import model_speed
from .data_speed import repeat_video
from .inference_speed import ASKED, PlainLoop, make_predictor
from .timing import ratio, side_by_side

REPOSITORY = Path(__file__).resolve().parents[1]
NO_GPU = "skipped: no GPU"
_PREFETCHED = 2  # batches that each worker of a loader reads ahead, PyTorch's default


@dataclass(frozen=True)
class RenderedRun:
    """A short pre-training on rendered operations, and the probe of its encoder.

    Args:
        data: name of the data set, of those that `surgvista prepare` renders.
        corpus, probe: settings of the operations without and with labels; their seeds differ.
        label: label of the probe.
        recipe: changes to the recipe `surgvista_synthetic`.
        clips_per_epoch: clips that are drawn for an epoch; more than a run sees, since the workers begin anew with each.
        frames_per_second: frames a second of both frame sets; the clips of the recipe must find their frames among them.
    """

    data: str
    corpus: Mapping[str, str]
    probe: Mapping[str, str]
    label: str
    recipe: Mapping[str, object]
    clips_per_epoch: int
    frames_per_second: float


@dataclass(frozen=True)
class Sizes:
    """The sizes that everything is measured at.

    Args:
        encoder: changes to the configuration of the base-size encoder.
        teacher: sizes of the image teacher, which is a ViT.
        batch: clips of a step.
        vjepa_batch: clips of a step of V-JEPA.
        rounds: rounds of a contest.
        corpus: settings of the rendered operations that the loader reads, at 854×480 as Cholec80.
        workers: numbers of workers of the loader.
        loader_seconds: seconds that each of them is measured for.
        trainer_seconds: seconds that the whole trainer is measured for.
        processes: processes that render; 0: one a core.
        video_seconds: length of the rendered video.
        video_repeats: number of times that it is shown in a row in the video of the plain loop, and in ours; the plain loop
            needs clips after the first minute, whose 16 frames all differ.
        video_size: its width and height.
        prediction_batches: clips at a time.
        training_seconds: seconds of pre-training.
        rendered: the pre-training.
    """

    encoder: Mapping[str, int]
    teacher: Mapping[str, int]
    batch: int
    vjepa_batch: int
    rounds: int
    corpus: Mapping[str, str]
    workers: tuple[int, ...]
    loader_seconds: float
    trainer_seconds: float
    processes: int
    video_seconds: int
    video_repeats: tuple[int, int]
    video_size: tuple[int, int]
    prediction_batches: tuple[int, ...]
    training_seconds: float
    rendered: RenderedRun


# The data set, its settings and the model of the four minutes of pre-training: all in one place, to be exchanged together.
# Phases of hard operations are told by movements, which frames a second apart do not show.
_HARD = {"difficulty": "hard", "seconds": "40", "height": "120", "width": "160"}
RENDERED = RenderedRun(
    data="synthetic",
    corpus={**_HARD, "videos": "208", "seed": "1"},
    probe={**_HARD, "videos": "40", "seed": "2"},
    label="phase",
    recipe={
        "model.image_size": 112,
        "model.hidden_size": 384,  # ViT-S
        "model.num_hidden_layers": 12,
        "model.num_attention_heads": 6,
        "model.video_decoder_hidden_size": 192,
        "model.video_decoder_num_hidden_layers": 4,
        "model.video_decoder_num_attention_heads": 3,
        "model.mask_ratio": 0.8,
        "training.per_device_train_batch_size": 256,
        "training.base_learning_rate": 1.5e-3,
        "training.base_min_learning_rate": 1.0e-5,
        "training.bf16": True,
        "data.frame_stride": 0.4,
    },
    clips_per_epoch=600_000,
    frames_per_second=2.5,
)
FULL = Sizes(
    encoder={},
    teacher={"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    batch=64,
    vjepa_batch=16,
    rounds=7,
    corpus={"videos": "8", "seconds": "60", "seed": "3", "height": "480", "width": "854"},
    workers=(8, 16),
    loader_seconds=2.5,
    trainer_seconds=6.0,
    processes=0,
    video_seconds=16,
    video_repeats=(5, 3),
    video_size=(854, 480),
    prediction_batches=(1, 8, 32),
    training_seconds=190.0,
    rendered=RENDERED,
)
_TINY_RUN = RenderedRun(
    data=RENDERED.data,
    corpus={**_HARD, "videos": "4", "seconds": "20", "seed": "1", "height": "48", "width": "64"},
    probe={**_HARD, "videos": "6", "seconds": "20", "seed": "2", "height": "48", "width": "64"},
    label=RENDERED.label,
    recipe={
        **RENDERED.recipe,
        "model.image_size": 32,
        "model.num_frames": 4,
        "model.hidden_size": 32,
        "model.num_hidden_layers": 2,
        "model.num_attention_heads": 2,
        "model.video_decoder_hidden_size": 32,
        "model.video_decoder_num_hidden_layers": 1,
        "model.video_decoder_num_attention_heads": 2,
        "training.per_device_train_batch_size": 8,
        "training.bf16": False,
    },
    clips_per_epoch=4_000,
    frames_per_second=RENDERED.frames_per_second,
)
TINY = Sizes(
    encoder={"image_size": 32, "num_frames": 4, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2},
    teacher={
        "hidden_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 96,
        "image_size": 32,
    },
    batch=2,
    vjepa_batch=2,
    rounds=2,
    corpus={"videos": "2", "seconds": "20", "seed": "3", "height": "48", "width": "64"},
    workers=(0, 1),
    loader_seconds=0.3,
    trainer_seconds=0.5,
    processes=1,
    video_seconds=16,
    video_repeats=(5, 1),
    video_size=(64, 48),
    prediction_batches=(1, 4),
    training_seconds=1.0,
    rendered=_TINY_RUN,
)


@dataclass
class Report:
    """The results of a part, written after every measurement, so that a part that is cut leaves what it has measured.

    Args:
        path: JSON file.
        deadline: time by `time.monotonic` at which the part must have ended.
        content: results by name.
    """

    path: Path
    deadline: float
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds_left(self) -> float:
        """Return the seconds until the part must have ended."""
        return self.deadline - time.monotonic()

    def add(self, name: str, result: object) -> None:
        """Add a result, and write the file."""
        self.content[name] = result
        write_json(self.path, self.content)

    def measure(self, name: str, measurement: Callable[[], object], *, needs: float = 0.0) -> None:
        """Add the result of a measurement; if it fails, the error; if less time is left than it needs, a note.

        Args:
            name: name of the result.
            measurement: function that returns the result.
            needs: seconds that it takes, roughly.
        """
        if self.seconds_left < needs:
            self.add(name, f"skipped: {max(self.seconds_left, 0):.0f} s left, {needs:.0f} s needed")
            return
        gc.collect()  # trainers refer to themselves, and the models of the last one would stay in memory
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            self.add(name, measurement())
        except Exception as error:  # one failure must not cost the other measurements
            self.add(name, {"error": describe(error)})


def describe(error: BaseException) -> str:
    """Return the class and the first lines of an error."""
    return f"{type(error).__name__}: {str(error)[:500]}"


def device_name() -> str:
    """Return the device that everything is measured on, as PyTorch names it."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def synchronize() -> None:
    """Wait until the GPU has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# ------------------------------------------------------------------------------------------------- preparation


def prepare(report: Report, sizes: Sizes, work: Path) -> None:
    """Render everything that the other parts read, all at the same time."""
    run, cores = sizes.rendered, sizes.processes or os.cpu_count() or 1
    # The fractions of the cores are those of the work; the video is rendered by one.
    jobs: dict[str, Callable[[], object]] = {
        "rendered": partial(
            render, run.data, run.corpus, work / "rendered", max(cores // 2, 1), run.frames_per_second
        ),
        "corpus": partial(render, "synthetic", sizes.corpus, work / "corpus", max(cores // 4, 1)),
        "probe": partial(render, run.data, run.probe, work / "probe", max(cores // 8, 1), run.frames_per_second),
        "video": partial(_write_videos, sizes, work),
    }
    with ThreadPoolExecutor(len(jobs) if cores > 1 else 1) as pool:
        began = time.monotonic()
        running = {pool.submit(job): name for name, job in jobs.items()}
        for finished in as_completed(running):
            finished.result()
            report.add(f"{running[finished]}_seconds", round(time.monotonic() - began, 1))


def render(
    data: str, settings: Mapping[str, str], folder: Path, processes: int, frames_per_second: float = 1.0
) -> None:
    """Render the operations that are missing in a frame set."""
    options = replace(default_options(get_builder(data).info), frames_per_second=frames_per_second)
    processes = min(processes, int(settings["videos"]))
    prepare_frame_set(data, None, folder, options=options, settings=settings, num_proc=processes)


def _write_videos(sizes: Sizes, work: Path) -> None:
    """Write the videos of the prediction."""
    width, height = sizes.video_size
    operation = SyntheticOperation(1, float(sizes.video_seconds), height=height, width=width)
    part = write_video(operation, work / "part.mp4")
    for name, repeats in zip(("plain_loop", "ours"), sizes.video_repeats, strict=True):
        repeat_video(part, work / f"{name}.mp4", repeats)


# ------------------------------------------------------------------------------------------------- tests


def tests(report: Report, sizes: Sizes, work: Path) -> None:
    """Run the tests that are marked `gpu`; without a GPU all of them are skipped."""
    files = sorted(
        str(file.relative_to(REPOSITORY))
        for file in (REPOSITORY / "tests").rglob("test_*.py")
        if "pytest.mark.gpu" in file.read_text(encoding="utf-8")
    )
    outcomes = work / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider", f"--junitxml={outcomes}"]
    outcomes.unlink(missing_ok=True)
    done = subprocess.run([*command, *files], cwd=REPOSITORY)  # what it prints is the log of this part
    if not outcomes.is_file():
        raise RuntimeError(f"pytest could not run: it ended with status {done.returncode}")
    found = read_outcomes(outcomes)
    report.add("count", Counter(outcome.partition(":")[0] for outcome in found.values()))
    report.add("tests", found)
    failed = [name for name, outcome in found.items() if outcome.startswith("failed")]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(found)} tests failed: {', '.join(failed)}")


def read_outcomes(path: Path) -> dict[str, str]:
    """Return `passed`, or `skipped` or `failed` with the reason, by the names of the tests in a JUnit file."""
    outcomes = {}
    for case in ElementTree.parse(path).iter("testcase"):
        outcome = "passed"
        for kind, verdict in (("skipped", "skipped"), ("failure", "failed"), ("error", "failed")):
            found = case.find(kind)
            if found is not None:
                outcome = f"{verdict}: {(found.get('message') or '').strip()[:300]}"
        outcomes[f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"] = outcome
    return outcomes


# ------------------------------------------------------------------------------------------------- models


def make_trainer(
    sizes: Sizes,
    work: Path,
    *,
    teacher: str | None = None,
    compiled: bool = False,
    callbacks: list[TrainerCallback] | None = None,
    **changes: Any,
) -> SurgVistaPretrainer:
    """Return a trainer of SurgVISTA at base size on the rendered corpus.

    Args:
        sizes: sizes of everything.
        work: folder of the corpus.
        teacher: precision of the image teacher, `"bfloat16"` or `"float8"`; `None`: no teacher.
        compiled: compile the blocks of the student, which then has no stochastic depth, and the teacher.
        callbacks: further callbacks of the trainer.
        changes: changes to the arguments of the run.
    """
    torch.manual_seed(0)
    config = SurgVistaConfig(
        # Every rate of stochastic depth would be compiled by itself.
        drop_path_rate=0.0 if compiled else 0.1,
        image_target_size=sizes.teacher["hidden_size"],
        attn_implementation="sdpa",
        **sizes.encoder,
    )
    with torch.device(device_name()):  # first weights are drawn many times faster there
        student = SurgVistaForPreTraining(config)
    if compiled:
        for module in student.modules():
            if isinstance(module, SurgVistaLayer):  # alike, so they compile once, where the whole model takes a minute
                module.compile(dynamic=False)
    given: dict[str, Any] = {}
    if teacher:
        with torch.device(device_name()):
            model = ViTModel(ViTConfig(**sizes.teacher, attn_implementation="sdpa"), add_pooling_layer=False)
        dtype = torch.float8_e4m3fn if teacher == "float8" else torch.bfloat16
        given["teacher"] = ImageTeacher(model, final_norm=False, dtype=dtype, compile=compiled)
    frames = load_frame_set("synthetic", work / "corpus", "all", protocol="everything")
    clips = ClipDataset(frames, num_frames=config.num_frames, frame_stride=4 if config.num_frames == 16 else 2)
    usual = {
        "per_device_train_batch_size": sizes.batch,
        "num_train_epochs": 1.0,
        "warmup_epochs": 0.1,
        "bf16": True,
        "use_cpu": not torch.cuda.is_available(),
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    args = PretrainingArguments(str(work / "run"), **{**usual, **changes})
    # Drawn with replacement, so that an epoch has no end within the measurement.
    sampler = SourceBalancedSampler(clips.sources, [1.0], num_samples=max(len(clips), 1_000 * sizes.batch))
    return SurgVistaPretrainer(student, args, clips, sampler=sampler, callbacks=callbacks, **given)


class TrainerStep:
    """A step of the trainer on a batch that is on the device: crops, masks, teacher, loss, gradients, new weights.

    Args:
        trainer: trainer of the model.
    """

    def __init__(self, trainer: SurgVistaPretrainer) -> None:
        self.trainer, self.model = trainer, trainer.trained_module.train()
        count = trainer.args.per_device_train_batch_size
        items = [trainer.train_dataset[number % len(trainer.train_dataset)] for number in range(count)]
        self.batch = trainer._prepare_inputs(trainer.data_collator(items))
        self.optimizer = trainer.create_optimizer()

    def __call__(self) -> None:
        """Run one step."""
        with self.trainer.accelerator.autocast():
            loss, _ = self.trainer.clip_loss(self.model, self.batch)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


# Options of `make_trainer` by the name of the result, and the seconds that they take, roughly. Compilation comes last: if time
# runs out, it is what is left out.
VARIANTS: Mapping[str, tuple[Mapping[str, Any], float]] = {
    "without teacher": ({}, 0.0),
    "with teacher": ({"teacher": "bfloat16"}, 0.0),
    "with teacher in fp8": ({"teacher": "float8"}, 5.0),
}
COMPILED: Mapping[str, tuple[Mapping[str, Any], float]] = {
    "without teacher, compiled": ({"compiled": True}, 15.0),
    "with teacher, compiled": ({"compiled": True, "teacher": "bfloat16"}, 25.0),
    "with teacher in fp8, compiled": ({"compiled": True, "teacher": "float8"}, 25.0),
}


def models(report: Report, sizes: Sizes, work: Path) -> None:
    """Measure steps on batches that are on the device already: clips per second, and utilization of the peak."""
    flops: dict[bool, float] = {}  # of a clip, without and with teacher
    for name, (options, needs) in VARIANTS.items():
        report.measure(name, partial(measure_steps, sizes, work, flops, options), needs=needs)
    report.measure("VideoMAE", partial(contest_videomae, sizes), needs=8.0)
    report.measure("V-JEPA", partial(contest_vjepa, sizes), needs=8.0)
    for name, (options, needs) in COMPILED.items():
        if torch.cuda.is_available():
            report.measure(name, partial(measure_steps, sizes, work, flops, options), needs=needs)
        else:
            report.add(name, NO_GPU)


def measure_steps(sizes: Sizes, work: Path, flops: dict[bool, float], options: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the steps of one variant.

    Args:
        sizes: sizes of everything.
        work: folder of the corpus.
        flops: FLOP of a clip without and with teacher; what is missing is counted and added.
        options: options of `make_trainer`.
    """
    trainer = make_trainer(sizes, work, **options)
    has_teacher = "teacher" in options
    if has_teacher not in flops:  # counted in the variant in bf16 that is not compiled, which comes first
        flops[has_teacher] = count_flops(trainer)
    step = TrainerStep(trainer)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    first = side_by_side({"step": step}, rounds=1, warmup=0)["step"][0]
    seconds = statistics.median(side_by_side({"step": step}, rounds=sizes.rounds, warmup=2)["step"])
    rate = sizes.batch / seconds
    result = {
        "clips_per_second": round(rate, 1),
        "seconds_a_step": round(seconds, 4),
        "seconds_of_the_first_step": round(first, 1),
        "gflop_a_clip": round(flops[has_teacher] / 1e9, 1),
        "tflops_per_second": round(rate * flops[has_teacher] / 1e12, 2),
    }
    if torch.cuda.is_available():
        peak = peak_flops(torch.cuda.get_device_name(), half=True)
        result["mfu_of_bf16_peak"] = round(rate * flops[has_teacher] / peak, 4) if peak else None
        result["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return result


def contest_videomae(sizes: Sizes) -> dict[str, Any]:
    """Let SurgVISTA without teacher race transformers' VideoMAE: forward passes, attention, and steps of pre-training."""
    return model_speed.contests(torch.bfloat16, device_name(), sizes.batch, sizes.rounds, sizes.encoder)


def contest_vjepa(sizes: Sizes) -> dict[str, Any]:
    """Let our step of V-JEPA race one on transformers' `VJEPA2Model.forward`, with the same weights, clips and masks.

    Transformers' forward pass encodes all tokens of the clip, and picks the context for the predictor afterwards.
    """
    size, frames = sizes.encoder.get("image_size", 224), sizes.encoder.get("num_frames", 16)
    width, heads = sizes.encoder.get("hidden_size", 768), sizes.encoder.get("num_attention_heads", 12)
    config = VJEPA2Config(
        crop_size=size,
        frames_per_clip=frames,
        hidden_size=width,
        num_hidden_layers=sizes.encoder.get("num_hidden_layers", 12),
        num_attention_heads=heads,
        pred_hidden_size=width // 2,
        pred_num_attention_heads=heads,
        pred_num_hidden_layers=sizes.encoder.get("num_hidden_layers", 12) // 2,
        attn_implementation="sdpa",
    )
    grid = (frames // config.tubelet_size, size // config.patch_size, size // config.patch_size)
    device, count = device_name(), sizes.vjepa_batch
    masks = BlockMasking(grid, blocks=((8, 0.15),))(0, range(count))
    context, target = (masks[name][0].to(device) for name in ("context_ids", "target_ids"))
    clips = torch.randn(count, frames, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    torch.manual_seed(0)
    with torch.device(device):
        ours = VJEPA2ForJointEmbedding(config, mask_token=1).train()  # the token that transformers' forward reads
        theirs = VJEPA2Model(config).train()
    theirs.load_state_dict(ours.vjepa2.state_dict())

    def our_loss() -> torch.Tensor:
        """Return the loss of this package."""
        loss: torch.Tensor = ours(clips, [context], [target]).loss
        return loss

    def their_loss() -> torch.Tensor:
        """Return the loss on transformers' own forward pass; the target encoder is this package's copy of the encoder."""
        with torch.no_grad():
            features = ours.target_encoder(clips).last_hidden_state.float()
            features = functional.layer_norm(features, features.shape[-1:])
        predicted = theirs(clips, context_mask=[context], target_mask=[target]).predictor_output.last_hidden_state
        return functional.l1_loss(predicted.float(), pick_tokens(features, target))

    steps = {
        "ours": _training_step(ours, our_loss),
        "transformers": _training_step(theirs, their_loss),
    }
    seconds = side_by_side(steps, rounds=sizes.rounds, warmup=2)
    return {
        "clips_per_second": {name: round(count / statistics.median(own), 1) for name, own in seconds.items()},
        "context_tokens": context.shape[1],
        "all_tokens": math.prod(grid),
        "ours_over_transformers": ratio(seconds, "ours", "transformers"),
    }


def _training_step(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """Return a function that trains a model for one step, under autocast to bf16."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)

    def step() -> None:
        """Train for one step."""
        with torch.autocast(device_name(), torch.bfloat16):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


# ------------------------------------------------------------------------------------------------- loader


def loader(report: Report, sizes: Sizes, work: Path) -> None:
    """Measure how many of SurgVISTA's clips the loader gives, by workers, and how long the trainer waits for them."""
    report.add("cores", os.cpu_count())
    rates: dict[str, float] = {}
    report.add("clips_per_second", rates)
    trainer = make_trainer(sizes, work)
    for workers in sizes.workers:
        rates[str(workers)] = measure_loader(trainer, workers, sizes.loader_seconds)
        report.add("clips_per_second", rates)
    workers = max(sizes.workers)
    for name, options in (
        ("trainer without teacher", {}),
        ("trainer without teacher, copies that do not wait", {"accelerator_config": {"non_blocking": True}}),
        ("trainer with teacher", {"teacher": "bfloat16"}),
    ):
        report.measure(name, partial(run_trainer, sizes, work, workers, options), needs=sizes.trainer_seconds + 2)


def measure_loader(trainer: SurgVistaPretrainer, workers: int, seconds: float, batch_size: int = 8) -> float:
    """Return the clips per second that the trainer's data set and collator give with so many workers.

    Batches are small, since all workers begin at once: of large ones a short measurement would see the first wave only.
    """
    data = DataLoader(
        trainer.train_dataset,
        batch_size=batch_size,
        sampler=trainer.sampler,
        collate_fn=trainer.data_collator,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
    batches = iter(data)
    for _ in range(_PREFETCHED * workers + 1):  # all workers have started, and what they had prefetched is used up
        next(batches)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        count += len(next(batches)["index"])
    return round(count / (time.perf_counter() - began), 1)


class StopAfter(TrainerCallback):
    """Ends a run some seconds after its first steps, and counts the steps since then.

    Args:
        seconds: seconds of the run that count.
        warmup: steps before them, which do not.
    """

    def __init__(self, seconds: float, warmup: int = 3) -> None:
        self.seconds, self.warmup = seconds, warmup
        self.began = self.elapsed = 0.0
        self.steps = 0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Count a step, and stop when the time is up."""
        if state.global_step < self.warmup:
            return
        if state.global_step == self.warmup:
            synchronize()
            self.began = time.perf_counter()
            return
        self.steps += 1
        self.elapsed = time.perf_counter() - self.began
        control.should_training_stop = control.should_training_stop or self.elapsed >= self.seconds

    @property
    def steps_per_second(self) -> float:
        """Return the steps of a second."""
        return self.steps / self.elapsed if self.elapsed else 0.0


def run_trainer(sizes: Sizes, work: Path, workers: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Run the whole trainer for some seconds, from files to new weights, after what the workers had read ahead is used up."""
    stop = StopAfter(sizes.trainer_seconds, warmup=max(workers, 3))
    reading = {"dataloader_num_workers": workers, "dataloader_prefetch_factor": 1 if workers else None}
    trainer = make_trainer(sizes, work, callbacks=[stop], logging_steps=2, **reading, **options)
    trainer.train()
    settled = [line for line in trainer.state.log_history if "loss" in line and line["step"] > stop.warmup + 2]
    waited = [line["data_wait_fraction"] for line in settled]
    return {
        "clips_per_second": round(stop.steps_per_second * sizes.batch, 1),
        "steps": stop.steps,
        "workers": workers,
        "data_wait_fraction": round(statistics.mean(waited), 4) if waited else None,
    }


# ------------------------------------------------------------------------------------------------- prediction


def prediction(report: Report, sizes: Sizes, work: Path) -> None:
    """Measure whole videos, from the file to probabilities, by batch size, against the plain loop over clips."""
    plain, video = PlainLoop(work / "plain_loop.mp4", device_name(), sizes.encoder), work / "ours.mp4"
    length = sizes.video_seconds * sizes.video_repeats[1]
    contestants: dict[str, Callable[[], object]] = {"plain loop": plain, "decoding alone": partial(decode, video)}
    for dtype, batch in [("float32", 8), *(("bfloat16", batch) for batch in sizes.prediction_batches)]:
        predictor = make_predictor(dtype, batch_size=batch, sizes=sizes.encoder)
        contestants[f"{dtype}, {batch} clips at a time"] = partial(predictor.predict, video)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    took = 0.0
    for turn in range(sizes.rounds + 1):  # the first round warms up, unless there is time for one only
        if report.seconds_left < 1.3 * took:
            break
        began = time.monotonic()
        for name, values in side_by_side(contestants, rounds=1, warmup=0).items():
            if turn == 1:
                seconds[name].clear()
            seconds[name] += [value / (len(ASKED) if name == "plain loop" else length) for value in values]
        took = time.monotonic() - began
        report.add("warmed_up", turn > 0)
        report.add("rounds", max(turn, 1))
        report.add("frames_per_second", {name: round(1 / statistics.median(own), 2) for name, own in seconds.items()})
        report.add("plain_loop_over", {name: ratio(seconds, "plain loop", name) for name in list(seconds)[1:]})
    report.add("plain_loop_decoding_fraction", round(float(np.mean(plain.decoding)), 3))


def decode(video: Path) -> int:
    """Decode the frames that a prediction needs, one a second, and return their number."""
    with VideoReader(video) as reader:
        return sum(1 for _ in reader.iterate(1.0))


# ------------------------------------------------------------------------------------------------- pre-training


def pretraining(report: Report, sizes: Sizes, work: Path) -> None:
    """Pre-train on rendered operations for some minutes, then compare the encoder with an untrained one by a linear probe."""
    run, processes = sizes.rendered, sizes.processes or os.cpu_count() or 1
    for name, settings in (("rendered", run.corpus), ("probe", run.probe)):
        # Only what is missing where the preparation was cut.
        render(run.data, settings, work / name, processes, run.frames_per_second)
    probe_seconds = 40.0 if torch.cuda.is_available() else 0.0
    report.add("settings", asdict(run))
    recipe = partial(rendered_recipe, run, work)
    torch.manual_seed(0)
    untrained = build_model(recipe())
    # What the workers read ahead must be used up before the pace is that of a long run.
    warmup = _PREFETCHED * workers_in_use() + 5
    pace = StopAfter(8.0 if torch.cuda.is_available() else 0.5, warmup)
    train_rendered(recipe(), pace)
    seconds = min(sizes.training_seconds, report.seconds_left - probe_seconds)
    steps = max(round(0.92 * seconds * pace.steps_per_second), 8)
    report.add("calibration", {"steps_per_second": round(pace.steps_per_second, 2), "planned_steps": steps})
    stop = StopAfter(seconds, warmup=1)
    began = time.monotonic()
    trainer = train_rendered(recipe(f"training.max_steps={steps}"), stop)
    logged = [line for line in trainer.state.log_history if "loss" in line]
    report.add(
        "training",
        {
            "seconds": round(time.monotonic() - began, 1),
            "steps": trainer.state.global_step,
            "clips": trainer.state.global_step * trainer.args.total_batch,
            "epochs": round(trainer.state.global_step * trainer.args.total_batch / len(trainer.train_dataset), 2),
            "schedule_completed": trainer.state.global_step >= steps,
            "last_lines": [{name: line[name] for name in sorted(line)} for line in logged[-2:]],
            "losses": [round(line["loss"], 4) for line in logged],
        },
    )
    for name, model in (("untrained", untrained), ("pre-trained", trainer.trained_module)):
        report.measure(f"linear probe, {name}", partial(probe_encoder, model, trainer, run, work))


def workers_in_use() -> int:
    """Return the number of workers of the loader in the pre-training: one a core beside a GPU."""
    return (os.cpu_count() or 1) if torch.cuda.is_available() else 0


def rendered_recipe(run: RenderedRun, work: Path, *changes: str) -> Recipe:
    """Return the recipe of the pre-training, with further changes."""
    overrides = [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in run.recipe.items()
    ]
    return load_recipe(
        "surgvista_synthetic",
        [
            *overrides,
            f"data.sources=[{{name: {run.data}, data_dir: '{work / 'rendered'}', protocol: everything}}]",
            f"training.output_dir={work / 'pretraining'}",
            f"training.use_cpu={str(not torch.cuda.is_available()).lower()}",
            # Drawn with replacement, so that an epoch can be as long as the run.
            "data.balance=1",
            f"data.clips_per_epoch={run.clips_per_epoch}",
            f"training.dataloader_num_workers={workers_in_use()}",
            f"training.dataloader_pin_memory={str(torch.cuda.is_available()).lower()}",
            "training.num_train_epochs=1",
            "training.warmup_epochs=0.1",
            "training.save_strategy=no",
            "training.disable_tqdm=true",
            *changes,
        ],
    )


def train_rendered(recipe: Recipe, stop: StopAfter) -> SurgVistaPretrainer:
    """Train a model from its first weights by a recipe until it is stopped."""
    trainer = build_trainer(recipe, build_arguments(recipe))
    assert isinstance(trainer, SurgVistaPretrainer)
    trainer.add_callback(stop)
    trainer.train()
    return trainer


def probe_encoder(
    model: SurgVistaForPreTraining, trainer: SurgVistaPretrainer, run: RenderedRun, work: Path
) -> dict[str, float]:
    """Return the accuracy of a linear probe of an encoder, averaged over the test videos, and the mean of a constant guess."""
    encoder = model.surgvista.float().to(device_name())
    parts, classes = [], 0
    for split in ("train", "test"):
        frames = load_frame_set(run.data, work / "probe", split)
        classes = len(frames.features[run.label].names)
        clips = ClipDataset(
            frames,
            num_frames=trainer.shape.num_frames,
            frame_stride=trainer.train_dataset.frame_stride,
            label=run.label,
        )
        processor = trainer.processing_class
        parts.append(extract_features(encoder, processor, clips, batch_size=64, num_workers=workers_in_use()))
    train, test = parts
    predicted = linear_probe(train, test, classes).argmax(axis=1)
    by_video = accuracy_by_video(test, predicted)
    most_frequent = np.bincount(train.labels, minlength=classes).argmax()
    constant = accuracy_by_video(test, np.full_like(test.labels, most_frequent))
    return {
        "accuracy": round(float(np.mean(list(by_video.values()))), 4),
        "std_over_videos": round(float(np.std(list(by_video.values()))), 4),
        "test_videos": len(by_video),
        "accuracy_of_the_most_frequent_class": round(float(np.mean(list(constant.values()))), 4),
    }


PARTS: Mapping[str, Callable[[Report, Sizes, Path], None]] = {
    "prepare": prepare,
    "tests": tests,
    "models": models,
    "loader": loader,
    "prediction": prediction,
    "pretraining": pretraining,
}
