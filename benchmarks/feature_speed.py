"""Features of an image model, images a second, side by side in one run: `VideoFeatureExtractor` and a plain loop over timm.

The same ConvNeXt-T with the same random weights, in fp32, over the same JPEG frames of rendered operations, shorter side 256,
brought to 224 × 224 bilinearly, to one 768-vector a frame:

  surgvista    `VideoFeatureExtractor.extract` from a frame set, batches of 16, features written to the disk
  timm one     files opened by Pillow, resized, normalized, one image at a time
  timm batch   the same in batches of 16

and without the model: reading and preparing the frames alone, which is what a fast device waits for.

    python -m benchmarks.feature_speed --output benchmarks/results/feature_speed_cpu.json
"""

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import timm
import torch
from PIL import Image
from torchvision.transforms import v2
from transformers import ConvNextConfig, ConvNextModel, ViTImageProcessor
from transformers.utils import logging

from surgvista_hf import load_frame_set
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.trainers.features.extraction import VideoFeatureExtractor, load_video_features
from surgvista_hf.util.batches import batched

from .timing import ratio, save, side_by_side

BATCH, SIZE = 16, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NAMES = {  # timm -> transformers; places in the name are kept
    "stem.0.": "embeddings.patch_embeddings.",
    "stem.1.": "embeddings.layernorm.",
    "head.norm.": "layernorm.",
    "stages.": "encoder.stages.",
    ".downsample.": ".downsampling_layer.",
    ".blocks.": ".layers.",
    ".conv_dw.": ".dwconv.",
    ".norm.": ".layernorm.",
    ".mlp.fc1.": ".pwconv1.",
    ".mlp.fc2.": ".pwconv2.",
    ".gamma": ".layer_scale_parameter",
}


def same_model(theirs: torch.nn.Module) -> ConvNextModel:
    """Return transformers' ConvNeXt-T with the weights of timm's."""
    ours = ConvNextModel(ConvNextConfig(layer_norm_eps=1e-6))
    state = {}
    for name, weight in theirs.state_dict().items():
        for before, after in _NAMES.items():
            name = name.replace(before, after)
        state[name] = weight
    ours.load_state_dict(state, strict=True)
    return ours.eval()


def write_files(frames: datasets.Dataset, folder: Path) -> list[Path]:
    """Write the JPEG files of a frame set as they are."""
    folder.mkdir()
    files = []
    for number, row in enumerate(frames.cast_column("image", datasets.Image(decode=False))):
        files.append(folder / f"{number:05d}.jpg")
        files[-1].write_bytes(dict(row)["image"]["bytes"])
    return files


class PlainLoop:
    """A loop over image files, as in a research script."""

    def __init__(self, model: torch.nn.Module, files: list[Path], batch: int, device: str) -> None:
        self.model, self.files, self.batch, self.device = model, files, batch, device
        steps = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
        self.transform = v2.Compose([v2.Resize((SIZE, SIZE)), *steps])

    def images(self) -> Iterator[torch.Tensor]:
        """Yield prepared images."""
        for file in self.files:
            with Image.open(file) as image:
                yield self.transform(image.convert("RGB"))

    @torch.inference_mode()
    def __call__(self) -> np.ndarray:
        parts = batched(self.images(), self.batch)
        return np.concatenate([self.model(torch.stack(part).to(self.device)).cpu().numpy() for part in parts])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    theirs = timm.create_model("convnext_tiny", pretrained=False, num_classes=0).eval().to(device)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        settings = {"videos": "1", "seconds": str(arguments.images), "height": "256", "width": "455"}
        prepare_frame_set("synthetic", None, work / "frames", settings=settings)
        frames = load_frame_set("synthetic", work / "frames", "all", protocol="everything")
        files = write_files(frames, work / "files")
        same_model(theirs).save_pretrained(work / "model")
        size = {"height": SIZE, "width": SIZE}
        ViTImageProcessor(size=size, image_mean=MEAN, image_std=STD).save_pretrained(work / "model")
        extractor = VideoFeatureExtractor(work / "model", device=device)

        def ours() -> np.ndarray:
            """Extract features with the package."""
            shutil.rmtree(work / "features", ignore_errors=True)
            extractor.extract(frames, work / "features", batch_size=BATCH, progress=False)
            return load_video_features(work / "features")[0].values

        contestants: dict[str, Any] = {
            "surgvista": ours,
            "timm one": PlainLoop(theirs, files, 1, device),
            "timm batch": PlainLoop(theirs, files, BATCH, device),
        }
        values = {name: run() for name, run in contestants.items()}
        largest = float(np.abs(values["timm batch"]).max())
        apart = {name: float(np.abs(own - values["timm batch"]).max()) / largest for name, own in values.items()}
        seconds = side_by_side(contestants, rounds=arguments.rounds, warmup=0)
        reading = {
            "surgvista": lambda: list(extractor._prepared(frames, range(len(frames)), "")),
            "timm": lambda: list(contestants["timm one"].images()),
        }
        alone = side_by_side(reading, rounds=3 * arguments.rounds)
    save(
        {
            "images": len(files),
            "rounds": arguments.rounds,
            "images_per_second": {
                name: round(len(files) / statistics.median(times), 3) for name, times in seconds.items()
            },
            "time_ratio": {
                f"surgvista / {name}": ratio(seconds, "surgvista", name) for name in ("timm one", "timm batch")
            },
            "reading_and_preparing_alone": {
                "images_per_second": {
                    name: round(len(files) / statistics.median(times), 1) for name, times in alone.items()
                },
                "time_ratio": ratio(alone, "surgvista", "timm"),
            },
            "largest_difference_of_features_from_timm_batch_as_share_of_the_largest_feature": apart,
        },
        arguments.output,
    )


if __name__ == "__main__":
    main()
