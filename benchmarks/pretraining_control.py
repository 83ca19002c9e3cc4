"""Does every objective of pre-training learn where there is something to learn? Moving digits, five seeds.

Each objective pre-trains a tiny encoder on clips of moving digits without labels, by the trainer of its recipes. Then the
encoder is frozen, and a linear and a k-NN probe read digits and motion from other clips. The same is done with the encoder
before training. The video objectives have encoders of the same size and see the same clips as often. The results are written
after every run, and a run that is in the working folder is not made again.

    python -m benchmarks.pretraining_control --work control --output benchmarks/results/pretraining_control_cpu.json
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional
from transformers import (
    PreTrainedModel,
    VideoMAEConfig,
    VideoMAEForPreTraining,
    ViTConfig,
    ViTModel,
    VJEPA2Config,
)
from transformers.utils import logging

from surgvista_hf import SurgVistaConfig
from surgvista_hf.clips import normalize_clips
from surgvista_hf.evaluation.label_efficiency import measure_clips
from surgvista_hf.evaluation.probes import Features, knn_probe, linear_probe
from surgvista_hf.modeling.features import FeatureExtractor
from surgvista_hf.modeling.modeling_surgvista import SurgVistaForPreTraining
from surgvista_hf.modeling.objectives.joint_embedding import SurgVistaForJointEmbedding, VJEPA2ForJointEmbedding
from surgvista_hf.modeling.objectives.self_distillation import ConvNextDistillationConfig, ConvNextForSelfDistillation
from surgvista_hf.trainers.common.arguments import PretrainingArguments
from surgvista_hf.trainers.pretraining.dino import DinoArguments, DinoPretrainer
from surgvista_hf.trainers.pretraining.jepa import JepaArguments, JepaPretrainer
from surgvista_hf.trainers.pretraining.mae import MaeArguments, MaePretrainer
from surgvista_hf.trainers.pretraining.surgvista import SurgVistaPretrainer
from surgvista_hf.trainers.pretraining.teachers import ImageTeacher
from surgvista_hf.util.files import atomic_file

from .moving_digits import DIGITS, FRAMES, MOTIONS, SIDE, digit_clips, digit_frames, draw_clips
from .repeatable import Runs, curve_of, encoder_of, parse_experiment, run_experiment
from .timing import save

CORPUS, LABELED, TESTED = 6000, 2000, 1000  # clips
PATCH, WIDTH, LAYERS, HEADS = 8, 64, 4, 2
DECODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
BATCH = 64
CHANCE = {"digits": 20.0, "motion": 12.5}  # percent
INITIAL = 0.1  # standard deviation of initial weights; the usual 0.02 fits widths near 768

Sizes = dict[str, Any]


@dataclass(frozen=True)
class Objective:
    """An objective with its settings.

    Args:
        build: function that makes the untrained model.
        trainer: trainer of the objective.
        arguments: class of its arguments.
        settings: arguments that differ from the published ones.
        frames: whether it sees single frames with companions in place of clips.
        teacher: whether an image teacher is distilled.
    """

    build: Callable[[], PreTrainedModel]
    trainer: type
    arguments: type[PretrainingArguments]
    settings: Sizes
    frames: bool = False
    teacher: bool = False


def surgvista(**changes: Any) -> SurgVistaConfig:
    """Return the configuration of the video encoder and its decoders."""
    decoder = {f"video_decoder_{name}": value for name, value in DECODER.items()}
    sizes = {"image_size": SIDE, "patch_size": PATCH, "num_frames": FRAMES, "hidden_size": WIDTH}
    layers = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "image_decoder_num_hidden_layers": 0}
    return SurgVistaConfig(**{**sizes, **layers, **decoder, "mask_ratio": 0.75, **changes})


def with_teacher() -> SurgVistaForPreTraining:
    """Return the model with a decoder for the features of the image teacher."""
    decoder = {f"image_decoder_{name}": value for name, value in DECODER.items()}
    weights = {"image_loss_weight": 1.0, "video_loss_weight": 1.0}
    return SurgVistaForPreTraining(
        surgvista(**decoder, image_target_size=WIDTH, norm_teacher_features=True, **weights)
    )


def video_mae() -> VideoMAEForPreTraining:
    """Return transformers' masked autoencoder."""
    decoder = {f"decoder_{name}": value for name, value in DECODER.items()}
    decoder["decoder_intermediate_size"] = 4 * DECODER["hidden_size"]
    sizes = {"image_size": SIDE, "patch_size": PATCH, "num_frames": FRAMES, "hidden_size": WIDTH}
    layers = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 4 * WIDTH}
    return VideoMAEForPreTraining(VideoMAEConfig(**sizes, **layers, **decoder, initializer_range=INITIAL))


def v_jepa() -> SurgVistaForJointEmbedding:
    """Return the joint-embedding model on our encoder."""
    return SurgVistaForJointEmbedding(
        surgvista(position_embedding_type="sincos_3d_equal", initialization="normal", initializer_range=INITIAL)
    )


def v_jepa_2() -> VJEPA2ForJointEmbedding:
    """Return the joint-embedding model on transformers' encoder."""
    sizes = {"crop_size": SIDE, "patch_size": PATCH, "frames_per_clip": FRAMES, "hidden_size": WIDTH}
    layers = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "mlp_ratio": 4.0}
    predictor = {
        "pred_hidden_size": 36,
        "pred_num_hidden_layers": 2,
        "pred_num_attention_heads": 2,
        "pred_mlp_ratio": 4.0,
    }
    return VJEPA2ForJointEmbedding(VJEPA2Config(**sizes, **layers, **predictor, initializer_range=INITIAL))


def dino() -> ConvNextForSelfDistillation:
    """Return student and teacher of self-distillation."""
    sizes = {"image_size": SIDE, "patch_size": 4, "num_stages": 3, "depths": [1, 2, 2], "hidden_sizes": [24, 48, 96]}
    head = {"head_hidden_size": 256, "head_bottleneck_size": 64, "head_output_size": 512}
    return ConvNextForSelfDistillation(ConvNextDistillationConfig(**sizes, **head, layer_scale_init_value=0.1))


_MAE = {"learning_rate": 2e-3, "base_min_learning_rate": 1e-5}
_JEPA = {"learning_rate": 5e-4, "base_min_learning_rate": 1e-6, "mask_blocks": [[4, 0.15], [2, 0.5]]}
OBJECTIVES = {
    "SurgVISTA without teacher": Objective(
        lambda: SurgVistaForPreTraining(surgvista()), SurgVistaPretrainer, PretrainingArguments, _MAE
    ),
    "SurgVISTA with teacher": Objective(with_teacher, SurgVistaPretrainer, PretrainingArguments, _MAE, teacher=True),
    "VideoMAE": Objective(video_mae, MaePretrainer, MaeArguments, {**_MAE, "mask_ratio": 0.75}),
    "V-JEPA": Objective(v_jepa, JepaPretrainer, JepaArguments, _JEPA),
    "V-JEPA 2": Objective(v_jepa_2, JepaPretrainer, JepaArguments, _JEPA),
    "DINO with companions": Objective(
        dino,
        DinoPretrainer,
        DinoArguments,
        {
            "learning_rate": 1e-3,
            "base_min_learning_rate": 1e-6,
            "ema_momentum": 0.99,
            "local_size": 24,
            "local_views": 4,
            "local_scale": [0.15, 0.4],
        },
        frames=True,
    ),
}


class ProbeData:
    """Holds the clips of the probes, the same for all objectives and seeds."""

    def __init__(self) -> None:
        self.parts = [draw_clips(LABELED, 1), draw_clips(TESTED, 2, test=True)]

    def features(self, model: PreTrainedModel, part: int) -> np.ndarray:
        """Return the features of an encoder, (clips, width)."""
        model.eval()
        extractor = FeatureExtractor(model, pooling="tubelets")
        clips = self.parts[part][0]
        with torch.no_grad():
            found = [
                extractor(normalize_clips(clips[start : start + 100][:, :, None].expand(-1, -1, 3, -1, -1))).features
                for start in range(0, len(clips), 100)
            ]
        return torch.cat(found).numpy()

    def probe(self, values: Sequence[np.ndarray]) -> dict[str, float]:
        """Probe the features of both parts."""
        scores = {}
        videos = [np.arange(len(part)).astype(str) for part in values]
        for label in ("digits", "motion"):
            labels = [self._labels(part, label) for part in range(2)]
            train, test = (Features(*one) for one in zip(values, labels, videos, strict=True))
            classes = DIGITS if label == "digits" else MOTIONS
            for name, probe in (("linear", linear_probe), ("knn", knn_probe)):
                measures = measure_clips(test.labels, probe(train, test, classes))
                measure = "mean_average_precision" if label == "digits" else "accuracy"
                scores[f"{label}_{name}"] = round(100 * measures[measure], 2)
        return scores

    def _labels(self, part: int, label: str) -> np.ndarray:
        _, digits, motion = self.parts[part]
        return np.eye(DIGITS)[digits].sum(axis=1) if label == "digits" else motion

    def pixels(self, side: int = 12) -> list[np.ndarray]:
        """Return small pictures of every second frame, as a baseline without an encoder."""
        return [
            functional.adaptive_avg_pool2d(clips[:, ::2].float(), side).flatten(1).numpy()
            for clips, _, _ in self.parts
        ]


def train_teacher(output: Path, updates: int = 1500) -> None:
    """Train a small ViT with labels on single frames of further clips: what a surgical image model is to surgery."""
    torch.manual_seed(7)
    clips, digits, _ = draw_clips(4000, 3)
    target = torch.from_numpy(np.eye(DIGITS)[digits].sum(axis=1)).float()
    sizes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "image_size": SIDE, "patch_size": PATCH}
    vit = ViTModel(ViTConfig(num_hidden_layers=LAYERS, num_attention_heads=HEADS, **sizes), add_pooling_layer=False)
    head = nn.Linear(WIDTH, DIGITS)
    parameters = [*vit.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=updates)
    for _ in range(updates):
        chosen = torch.randint(len(clips), (BATCH,))
        frames = clips[chosen, torch.randint(FRAMES, (BATCH,))]
        shift = torch.randint(-4, 5, (2,)).tolist()
        frames = torch.roll(frames, shift, (-2, -1))[:, None, None].expand(-1, 1, 3, -1, -1)
        scores = head(vit(normalize_clips(frames)[:, 0]).last_hidden_state[:, 1:].mean(dim=1))
        loss = functional.binary_cross_entropy_with_logits(scores, target[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    vit.save_pretrained(output)


def run(
    name: str, seed: int, epochs: float, data: ProbeData, work: Path, changes: Sizes, clips: int = CORPUS
) -> dict[str, Any]:
    """Train one objective with one seed, and probe its encoder before and after.

    Args:
        name: name of the objective.
        seed: seed of the weights, of the clips and of the trainer.
        epochs: length of the training in rounds through `CORPUS` clips; fewer clips are seen more often.
        data: clips of the probes.
        work: folder of the trainer, and of the image teacher.
        changes: settings of the trainer that differ from the objective's.
        clips: number of clips without labels; drawn anew for each number.
    """
    objective = OBJECTIVES[name]
    torch.manual_seed(seed)
    model = objective.build()
    before = data.probe([data.features(encoder_of(model), part) for part in range(2)])
    corpus = digit_frames(clips, 100 + seed) if objective.frames else digit_clips(clips, 100 + seed)
    rounds = CORPUS / clips
    usual = {
        "warmup_epochs": min(5.0, epochs / 10) * rounds,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    if objective.frames:  # as many samples as the clips: a frame of each
        usual["max_steps"] = round(epochs * CORPUS / BATCH)
    args = objective.arguments(
        str(work / "run"),
        use_cpu=True,
        seed=seed,
        per_device_train_batch_size=BATCH,
        num_train_epochs=epochs * rounds,
        logging_steps=max(1, round(epochs * CORPUS / BATCH / 20)),
        **{**usual, **objective.settings, **changes},
    )
    teacher = {"teacher": ImageTeacher.from_pretrained(str(work / "vit"))} if objective.teacher else {}
    trainer = objective.trainer(model, args, corpus, **teacher)
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    after = data.probe([data.features(encoder_of(model), part) for part in range(2)])
    return {
        "seconds": round(seconds),
        "untrained": before,
        "trained": after,
        "curve": curve_of(trainer.state.log_history),
    }


def main() -> None:
    """Run the benchmark; finished runs in the working folder are not run again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=float, default=12)
    parser.set_defaults(seeds=[0, 1, 2, 3, 4])
    arguments = parse_experiment(parser, list(OBJECTIVES))
    changes, work = arguments.changes, arguments.work
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    data = ProbeData()
    if any(OBJECTIVES[name].teacher for name in arguments.objectives) and not (work / "vit").exists():
        train_teacher(work / "vit")

    def settings(name: str) -> Sizes:
        """Return what the results of an objective depend on."""
        return {"epochs": arguments.epochs, "trainer": {**OBJECTIVES[name].settings, **changes}}

    def train(name: str, seed: int) -> dict[str, Any]:
        """Make a run."""
        return run(name, seed, arguments.epochs, data, work, changes)

    for name, seed, results in run_experiment(arguments, settings, train):
        found = results[name][str(seed)]
        print(name, seed, found["seconds"], found["untrained"], found["trained"], found["curve"][-1], flush=True)
        if arguments.output:
            save(summary(results, data), arguments.output)
            draw(results, arguments.output.with_suffix(".png"))


def draw(results: Runs, path: Path) -> None:
    """Draw what probes read before and after pre-training, a mark for each seed and a line from mean to mean."""
    names = [name for name, runs in results.items() if runs]
    figure = Figure(figsize=(8.4, 0.55 * len(names) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = {
        "motion_linear": "motion, linear probe",
        "motion_knn": "motion, neighbors",
        "digits_linear": "digits, linear",
    }
    for axes, (key, title) in zip(figure.subplots(1, 3, sharey=True), panels.items(), strict=True):
        for row, name in enumerate(names):
            both = [[run[moment][key] for run in results[name].values()] for moment in ("untrained", "trained")]
            for values, color, marker in zip(both, ("#777777", "#0072b2"), "os", strict=True):
                axes.plot(values, [row] * len(values), marker, color=color, markersize=5, alpha=0.6)
            axes.annotate("", (np.mean(both[1]), row), (np.mean(both[0]), row), arrowprops={"arrowstyle": "->"})
        axes.axvline(CHANCE[key.split("_")[0]], color="#999999", linestyle=":")
        axes.set(title=title, xlabel="accuracy, %" if "motion" in key else "mean average precision, %", xlim=(0, 100))
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x", alpha=0.3)
    figure.supxlabel("gray: before training; blue: after; a mark a seed; dotted: chance", fontsize=9)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=130)


def summary(results: Runs, data: ProbeData) -> dict[str, Any]:
    """Return the settings, the mean gain of each objective over its seeds, and all runs."""
    gains = {}
    for name, runs in results.items():
        if runs:
            gain = [
                {key: run["trained"][key] - run["untrained"][key] for key in run["trained"]} for run in runs.values()
            ]
            gains[name] = {
                "seeds": len(gain),
                **{f"{key}_mean": round(float(np.mean([one[key] for one in gain])), 2) for key in gain[0]},
                **{f"{key}_least": round(min(one[key] for one in gain), 2) for key in gain[0]},
            }
    return {
        "clips": {"corpus": CORPUS, "labeled": LABELED, "tested": TESTED, "frames": FRAMES, "side": SIDE},
        "encoder": {"patch": PATCH, "width": WIDTH, "blocks": LAYERS, "heads": HEADS},
        "batch": BATCH,
        "chance": CHANCE,
        "pixels_without_encoder": data.probe(data.pixels()),
        "gain_in_points": gains,
        "runs": results,
    }


if __name__ == "__main__":
    main()
