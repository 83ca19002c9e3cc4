"""Are hard rendered operations hard, and can they be learned? Pixels against a small network, on unseen operations.

Clips of 8 frames, 0.4 s apart, of rendered operations of one minute. Without an encoder, 8 × 8 pixels of the second and the
last frame, the time in the operation, and both go into a ridge probe, a logistic probe and a vote of neighbors that learn from
16 operations; on hard operations they should be near chance, which is one over the number of phases. With labels of 112
operations, a small 3-D convolutional network should be far above it, so that there is something to learn.

    python -m benchmarks.rendered_baselines --output benchmarks/results/rendered_baselines_cpu.json
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from surgvista_hf.datasets_scripts.corpora.synthetic import DIFFICULTIES, HARD
from surgvista_hf.datasets_scripts.synthetic.hard_surgery import HardOperation
from surgvista_hf.datasets_scripts.synthetic.surgery import INSTRUMENTS, PHASES, SyntheticOperation, synthetic_corpus
from surgvista_hf.evaluation.label_efficiency import measure_clips
from surgvista_hf.evaluation.probes import Features, knn_probe, linear_probe, ridge_probe

from .timing import save

SECONDS, HEIGHT, WIDTH = 60, 72, 96
INTERVAL, FRAMES = 0.4, 8  # seconds between frames of a clip, and their number
LABELED, TRAINING, TEST = 16, 112, 32  # operations: of the probes, of the network, of both tests
CORPUS_SEED = 7


@dataclass(frozen=True)
class Rendered:
    """Rendered operations, `INTERVAL` seconds between frames.

    Args:
        frames: RGB, uint8, (operations, frames, height, width, 3).
        phases: class numbers, (operations, frames).
        instruments: 1 for each instrument in view, (operations, frames, 6).
    """

    frames: torch.Tensor
    phases: torch.Tensor
    instruments: torch.Tensor

    def part(self, chosen: slice) -> "Rendered":
        """Return some of the operations."""
        return Rendered(self.frames[chosen], self.phases[chosen], self.instruments[chosen])


def render(difficulty: str, numbers: Sequence[int]) -> tuple[Rendered, float]:
    """Render operations of the corpus: the frames with labels, and the milliseconds of processor time for a frame."""
    kind = HardOperation if difficulty == HARD else SyntheticOperation
    seconds = np.arange(0, SECONDS, INTERVAL).tolist()
    corpus = synthetic_corpus(max(numbers) + 1, CORPUS_SEED, duration_seconds=SECONDS, height=HEIGHT, width=WIDTH)
    operations = [kind(**asdict(corpus[number])) for number in numbers]
    frames = np.empty((len(operations), len(seconds), HEIGHT, WIDTH, 3), np.uint8)
    start = time.process_time()
    for row, operation in zip(frames, operations, strict=True):
        row[:] = list(operation.frames(seconds))
    milliseconds = 1000 * (time.process_time() - start) / (len(operations) * len(seconds))
    labels = [[operation.labels(second) for second in seconds] for operation in operations]
    phases = np.array([[label.phase for label in row] for row in labels])
    instruments = np.array([[label.instruments for label in row] for row in labels], np.float32)
    return Rendered(*map(torch.from_numpy, (frames, phases, instruments))), milliseconds


def measured(name: str, labels: np.ndarray, scores: np.ndarray) -> float:
    """Return a measure of `measure_clips`, rounded."""
    return round(measure_clips(labels, scores)[name], 4)


# ------------------------------------------------------------------------------------------ without an encoder


def simple_features(operations: Rendered, chosen: range, kind: str) -> tuple[Features, Features]:
    """Return features of clips that end 0.8 s apart, with phases and with instruments.

    Args:
        operations: rendered operations.
        chosen: numbers of those to take.
        kind: `"pixels"`, `"time"` or `"pixels and time"`.
    """
    ends = torch.arange(FRAMES - 1, operations.phases.shape[1], 2)
    frames = torch.stack([operations.frames[chosen][:, ends - FRAMES + 2], operations.frames[chosen][:, ends]], dim=2)
    small = functional.adaptive_avg_pool2d(frames.flatten(0, 2).permute(0, 3, 1, 2).float(), 8)
    pixels = small.reshape(len(chosen) * len(ends), -1).numpy()  # (clips, 2 · 3 · 64)
    moment = np.tile(ends.numpy() / operations.phases.shape[1], len(chosen))[:, None]
    powers = np.concatenate([moment, moment**2, moment**3], axis=1)
    values = {"pixels": pixels, "time": powers, "pixels and time": np.concatenate([pixels, powers], axis=1)}[kind]
    videos = np.repeat([str(number) for number in chosen], len(ends))
    phases = operations.phases[chosen][:, ends].flatten().numpy()
    instruments = operations.instruments[chosen][:, ends].flatten(0, 1).numpy()
    return Features(values, phases, videos), Features(values, instruments, videos)


def probes(operations: Rendered, labeled: int, kind: str) -> dict[str, float]:
    """Return what probes predict of the last `TEST` operations after learning from the first `labeled` ones."""
    count = len(operations.frames)
    train, train_instruments = simple_features(operations, range(labeled), kind)
    test, test_instruments = simple_features(operations, range(count - TEST, count), kind)
    phases = {
        "ridge": np.eye(len(PHASES))[ridge_probe(train, test)],
        "logistic": linear_probe(train, test, len(PHASES)),
        "knn": knn_probe(train, test, len(PHASES)),
    }
    instruments = linear_probe(train_instruments, test_instruments, len(INSTRUMENTS))
    return {
        **{f"phase_{name}": measured("balanced_accuracy", test.labels, scores) for name, scores in phases.items()},
        "instruments_map": measured("mean_average_precision", test_instruments.labels, instruments),
    }


# ------------------------------------------------------------------------------------------ with labels


class ClipNetwork(nn.Module):
    """A small 3-D convolutional network on RGB and its changes from frame to frame: phases and instruments at once.

    It takes clips (clips, frames, height, width, 3), uint8, and returns logits (clips, phases + instruments).

    Args:
        width: channels of the first layer.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        kernels = [((1, 5, 5), (1, 2, 2)), ((3, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((3, 3, 3), (2, 2, 2))]
        layers: list[nn.Module] = []
        channels = 6
        for depth, (kernel, stride) in enumerate(kernels):
            wide = width * 2**depth
            padding = tuple(size // 2 for size in kernel)
            layers += [nn.Conv3d(channels, wide, kernel, stride, padding, bias=False), nn.BatchNorm3d(wide), nn.ReLU()]
            channels = wide
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(2 * channels, len(PHASES) + len(INSTRUMENTS))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Return the logits, (clips, phases + instruments)."""
        pixels = clips.float()
        mean, deviation = pixels.mean((1, 2, 3), keepdim=True), pixels.std((1, 2, 3), keepdim=True)
        pixels = ((pixels - mean) / (deviation + 1)).permute(0, 4, 1, 2, 3)  # (clips, 3, frames, height, width)
        changes = functional.pad(pixels.diff(dim=2), (0, 0, 0, 0, 1, 0))
        found = self.layers(torch.cat([pixels, changes], dim=1))
        return self.head(torch.cat([found.amax((2, 3, 4)), found.mean((2, 3, 4))], dim=1))


def fit_network(
    network: ClipNetwork,
    operations: Rendered,
    loss_of: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    updates: int,
    batch: int,
    rate: float = 3e-3,
) -> ClipNetwork:
    """Train a network on clips of operations.

    Args:
        network: network to train.
        operations: rendered operations, all of which are seen.
        loss_of: function of logits (clips, phases + instruments), phases (clips,) and instruments (clips, 6).
        updates: number of updates.
        batch: clips of an update.
        rate: largest learning rate.
    """
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=updates, pct_start=0.1)
    for _ in range(updates):
        rows = torch.randint(len(operations.frames), (batch,))
        ends = torch.randint(FRAMES - 1, operations.phases.shape[1], (batch,))
        clips = operations.frames[rows[:, None], ends[:, None] + torch.arange(1 - FRAMES, 1)]
        for axis in (2, 3):  # anatomy is turned and mirrored anyway
            if torch.rand(()) < 0.5:
                clips = clips.flip(axis)
        loss = loss_of(network(clips), operations.phases[rows, ends], operations.instruments[rows, ends])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def loss_of_both(logits: torch.Tensor, phases: torch.Tensor, instruments: torch.Tensor) -> torch.Tensor:
    """Return the loss of phases and instruments."""
    loss = functional.cross_entropy(logits[:, : len(PHASES)], phases)
    return loss + functional.binary_cross_entropy_with_logits(logits[:, len(PHASES) :], instruments)


def train_network(operations: Rendered, updates: int, batch: int = 32) -> ClipNetwork:
    """Train the network on all but the last `TEST` operations."""
    torch.manual_seed(0)
    return fit_network(ClipNetwork(), operations.part(slice(-TEST)), loss_of_both, updates=updates, batch=batch)


@torch.no_grad()
def test_network(network: ClipNetwork, operations: Rendered) -> dict[str, float]:
    """Return what the network predicts of clips of the last `TEST` operations."""
    ends = torch.arange(FRAMES - 1, operations.phases.shape[1], 2)
    window = ends[:, None] + torch.arange(1 - FRAMES, 1)
    logits = torch.cat([network(frames[window]) for frames in operations.frames[-TEST:]]).numpy()
    phases = operations.phases[-TEST:][:, ends].flatten().numpy()
    instruments = operations.instruments[-TEST:][:, ends].flatten(0, 1).numpy()
    return {
        "phase": measured("balanced_accuracy", phases, logits[:, : len(PHASES)]),
        "instruments_map": measured("mean_average_precision", instruments, logits[:, len(PHASES) :]),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--updates", type=int, default=600, help="updates of the network, of 32 clips each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, object] = {
        "operations": {"probes": LABELED, "network": TRAINING, "test": TEST, "seconds": SECONDS},
        "frame": [HEIGHT, WIDTH],
        "phase_chance": round(1 / len(PHASES), 4),
    }
    for difficulty in DIFFICULTIES:
        count = (TRAINING if difficulty == HARD else LABELED) + TEST
        operations, milliseconds = render(difficulty, range(count))
        kinds = ("pixels", "time", "pixels and time")
        own: dict[str, object] = {
            "milliseconds_a_frame": round(milliseconds, 2),
            "instruments_prevalence": round(operations.instruments[-TEST:].mean().item(), 4),
            **{f"probes_on_{kind.replace(' ', '_')}": probes(operations, LABELED, kind) for kind in kinds},
        }
        if difficulty == HARD:
            start = time.process_time()
            network = train_network(operations, arguments.updates)
            own["network"] = {
                "updates": arguments.updates,
                "processor_seconds": round(time.process_time() - start, 1),
                **test_network(network, operations),
            }
        results[difficulty] = own
    save(results, arguments.output)


if __name__ == "__main__":
    main()
