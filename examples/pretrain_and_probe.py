"""Pre-train a masked autoencoder without labels, then ask by a linear probe what its features know of phases.

Needs nothing: the operations are rendered. The encoder is compared with the same encoder without training, which is a strong
baseline on rendered operations; at this size do not expect the pre-trained one to be better.

    python examples/pretrain_and_probe.py --operations 12 --seconds 60 --epochs 5
"""

import argparse
import json
from pathlib import Path

from transformers import VideoMAEConfig, VideoMAEForPreTraining

from surgvista_hf import ClipDataset, MaeArguments, MaePretrainer, load_frame_set
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.trainers.benchmark.run import run_suite
from surgvista_hf.trainers.benchmark.suite import load_suite

SIZE = {"image_size": 64, "num_frames": 4, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
DECODER = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}


def main() -> None:
    """Render, pre-train, save an untrained twin, probe both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--output", type=Path, default=Path("runs/probe_example"))
    arguments = parser.parse_args()
    settings = {"videos": str(arguments.operations), "seconds": str(arguments.seconds)}
    prepare_frame_set("synthetic", None, arguments.output / "frame_set", settings=settings, progress=True)

    frames = load_frame_set("synthetic", arguments.output / "frame_set", "train")
    clips = ClipDataset(frames, num_frames=4, frame_stride=4)
    model = VideoMAEForPreTraining(VideoMAEConfig(**SIZE, **DECODER, intermediate_size=128))
    folders = {name: arguments.output / name for name in ("untrained", "pretrained")}
    processor = MaePretrainer.processor_for(model.config, frame_stride=4)
    model.save_pretrained(folders["untrained"])
    options = {"num_train_epochs": arguments.epochs, "warmup_epochs": 0, "report_to": "none"}
    training = MaeArguments(str(arguments.output / "run"), per_device_train_batch_size=16, **options)
    MaePretrainer(model, training, clips).train()
    model.save_pretrained(folders["pretrained"])
    for folder in folders.values():
        processor.save_pretrained(folder)

    data = {"root": str(arguments.output.resolve()), "data_dir": "frame_set"}
    suite = {"prepare": {}, "models": {name: {"from_pretrained": str(folder)} for name, folder in folders.items()}}
    suite |= {"data": {"phases": {"recipe": "synthetic", "data": data}}, "protocols": {"linear": {"kind": "linear"}}}
    suite |= {"output": str(arguments.output / "suite"), "baseline": "untrained"}
    for cell in run_suite(load_suite("synthetic", [f"{key}={json.dumps(value)}" for key, value in suite.items()])):
        print(f"{cell.model:12} linear probe: {cell.metrics['video_accuracy']:.1%} of the seconds")


if __name__ == "__main__":
    main()
