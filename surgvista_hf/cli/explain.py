"""`surgvista explain`: the heat map of a model for one second of a video, and the nearest known seconds."""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.console import Steps
from .common import add_detector_arguments, add_frame_stride_argument, detector_of

if TYPE_CHECKING:
    import numpy as np

    from ..inference.models.out_of_body import OutOfBodyDetector
    from ..modeling.video_reading_surgvista import VideoReader


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `surgvista explain`."""
    parser.epilog = (
        "examples:\n"
        "  surgvista explain operation.mp4 --model my-phase-model --second 754 --output heat.png\n"
        "  surgvista explain operation.mp4 --model my-phase-model --second 754 --features features --output heat.png\n"
        "where `surgvista extract-features my-phase-model …` made the folder `features`"
    )
    parser.add_argument("video", type=Path, help="video file")
    parser.add_argument("--model", required=True, help="folder or Hub id of a trained video classifier or adapter")
    parser.add_argument("--second", type=int, required=True, help="second that is predicted")
    parser.add_argument("--class", dest="label", help="class that the heat map explains (default: the most probable)")
    parser.add_argument("--method", choices=("gradient", "rollout"), default="gradient", help="default: gradient")
    add_frame_stride_argument(parser)
    parser.add_argument("--features", type=Path, help="features of known videos, by the same model")
    add_detector_arguments(parser)
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument("--output", type=Path, required=True, help="image to write, .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Draw the heat map of a second, and print its nearest neighbors."""
    import numpy as np

    from ..inference.explanations import attention_rollout, draw_heatmap, gradient_heatmap
    from ..inference.models.clip_model import ClipModel
    from ..inference.prediction.redaction import blurred
    from ..modeling.video_processing_surgvista import online_clip_seconds
    from ..modeling.video_reading_surgvista import VideoReader
    from ..trainers.features.extraction import check_features_of
    from ..util.errors import InputError

    if arguments.output.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"--output is {arguments.output}; an image is .png, .svg or .pdf")
    if arguments.second < 0:
        raise InputError(f"--second is {arguments.second}; 0 is the first")
    with Steps()(f"load {arguments.model}"):
        model = ClipModel.load(
            arguments.model, device=arguments.device, dtype="float32", frame_stride=arguments.frame_stride
        )
        detector = detector_of(arguments)
    if arguments.label is not None and arguments.label not in model.class_names:
        raise InputError(f"there is no class {arguments.label!r}; there are {', '.join(model.class_names)}")
    seconds = [float(second) for second in online_clip_seconds(arguments.second, *model.spacing)]
    with VideoReader(arguments.video, damaged="skip") as reader:
        if arguments.second > reader.last_second:
            raise InputError(f"--second is {arguments.second}; the video ends at {reader.last_second:.1f}")
        frames = reader.frames_at(seconds)
        if detector is not None:
            shown = ~_outside(detector, reader, frames, seconds)
        for remark in reader.remarks:
            logging.getLogger(__name__).warning("%s: %s", arguments.video, remark)
    if arguments.features is not None:
        check_features_of(arguments.features, model.fingerprint, arguments.model)
    clip = model.prepare(frames)
    probabilities, features = model.run(clip[None])
    number = int(probabilities[0].argmax()) if arguments.label is None else model.class_names.index(arguments.label)
    heat = gradient_heatmap(model, clip, number) if arguments.method == "gradient" else attention_rollout(model, clip)
    title = f"{arguments.video.name}, second {arguments.second}: {model.class_names[number]} {probabilities[0, number]:.0%}"
    if detector is not None:
        frames = np.stack([each if show else blurred(each) for each, show in zip(frames, shown, strict=True)])
    draw_heatmap(frames, heat, arguments.output, title)
    found = _neighbors(features[0], arguments.features) if arguments.features else []
    if arguments.json:
        result = {
            "class": model.class_names[number],
            "probability": float(probabilities[0, number]),
            "neighbors": found,
        }
        print(json.dumps(result))
        return
    print(title)
    for each in found:
        print(f"  {each['similarity']:.3f}  {each['video']} second {each['second']:g}  {each['label']}")
    print(f"written: {arguments.output}")


def _outside(
    detector: "OutOfBodyDetector", reader: "VideoReader", frames: "np.ndarray", seconds: Sequence[float]
) -> "np.ndarray":
    """Return which frames are outside the patient, or nearer than the detector's margin to such, (frames,) bool."""
    from ..inference.models.out_of_body import scan_video

    around = detector.margin + 1.0  # so that the detector also sees frames before the first one and after the last
    mask = scan_video(detector, reader, start=max(min(seconds) - around, 0.0), stop=max(seconds) + around)
    near = [mask.covers(second) for second in seconds]
    return (detector.predict_proba(frames) >= detector.threshold) | near


def _neighbors(query: "np.ndarray", folder: Path) -> list[dict[str, Any]]:
    import numpy as np

    from ..inference.explanations import nearest_neighbors
    from ..trainers.features.extraction import load_video_features

    videos = load_video_features(folder)
    names = json.loads((folder / "settings.json").read_text(encoding="utf-8"))["classes"]
    owners = np.repeat(np.arange(len(videos)), [len(video.seconds) for video in videos])
    firsts = np.cumsum([0, *(len(video.seconds) for video in videos)])
    found = []
    for each in nearest_neighbors(query, np.concatenate([video.values for video in videos]), groups=owners):
        video, row = videos[owners[each.index]], int(each.index - firsts[owners[each.index]])
        single = names and video.labels.ndim == 1 and video.labels[row] >= 0
        found.append(
            {
                "video": f"{video.source}/{video.name}",
                "second": float(video.seconds[row]),
                "label": names[int(video.labels[row])] if single else None,
                "similarity": each.similarity,
            }
        )
    return found
