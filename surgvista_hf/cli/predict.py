"""`surgvista predict`: per-second predictions of a video as tables and a picture."""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: surgvista predict operation.mp4 --model my-phase-model --output result"
    parser.add_argument("video", type=Path, help="video file")
    parser.add_argument("--model", required=True, help="folder or Hub id of a trained video classifier")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for predictions.csv, .json and timeline.png"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="clips at a time (default: 8)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument("--json", action="store_true", help="print the segments and files as JSON")


def run(arguments: argparse.Namespace) -> None:
    from ..inference import SurgicalVideoPredictor
    from ..modeling.errors_surgvista import InputError

    if not arguments.video.is_file():
        raise InputError(f"there is no video at {arguments.video}")
    predictor = SurgicalVideoPredictor(arguments.model, device=arguments.device, batch_size=arguments.batch_size)
    prediction = predictor.predict(arguments.video, progress=True)
    files = [str(file) for file in prediction.save(arguments.output)]
    segments = [] if prediction.multi_label else prediction.segments
    if arguments.json:
        print(json.dumps({"files": files, "segments": [vars(segment) for segment in segments]}))
        return
    for segment in segments:
        print(f"{segment.start:8.1f} - {segment.end:8.1f} s  {segment.label}  ({segment.confidence:.0%})")
    print("written:", *files)
