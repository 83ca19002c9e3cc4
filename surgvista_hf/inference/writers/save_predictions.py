"""The writer of each file format, registered with `VideoPrediction.save`, and the files of several models."""

import csv
from collections.abc import Collection, Mapping
from pathlib import Path

from ...modeling.video_reading_surgvista import VideoReader
from ...util.files import atomic_file, write_json
from ..prediction.prediction import DEFAULT_FORMATS, FORMATS, Video, VideoPrediction, check_formats, register_writers
from .annotated_video import write_annotated_video
from .annotations import write_elan, write_webvtt
from .report import write_report
from .timeline import draw_timeline


def save_predictions(
    predictions: Mapping[str, VideoPrediction],
    folder: str | Path,
    formats: Collection[str] = DEFAULT_FORMATS,
    *,
    video: Video | None = None,
    model_info: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Path]:
    """Write the predictions of several models for one video: a folder each, and one report of all.

    Args:
        predictions: predictions by the names of the models; the files of a single one lie in `folder` itself.
        folder, formats, video: the arguments of `VideoPrediction.save`.
        model_info: description of each model by its name, as `ClipModel.describe` gives it.

    Returns:
        The files that were written.

    Raises:
        InputError: there is no such format.
        OutputError: the folder cannot be made.
    """
    folder = Path(folder)
    if len(predictions) == 1:
        ((name, only),) = predictions.items()
        return only.save(folder, formats, video=video, model_info=(model_info or {}).get(name))
    check_formats(formats)
    files = []
    if own := [name for name in formats if name != "html"]:
        for name, prediction in predictions.items():
            files += prediction.save(folder / name, own, video=video)
    if "html" in formats:
        write_video_report(predictions, folder / FORMATS["html"], video, model_info)
        files.append(folder / FORMATS["html"])
    return files


def write_video_report(
    predictions: Mapping[str, VideoPrediction],
    path: Path,
    video: Video | None,
    model_info: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Write a report with images from the video, if there is one; the arguments are those of `write_report`."""
    if video is None:
        write_report(predictions, path, model_info=model_info)
        return
    deinterlace = next(iter(predictions.values())).deinterlace
    with VideoReader(video, deinterlace=deinterlace, damaged="any") as reader:
        write_report(predictions, path, frame_at=lambda second: reader.frames_at([second])[0], model_info=model_info)


def write_prediction_csv(prediction: VideoPrediction, path: Path) -> None:
    """Write a CSV file with a row for each second.

    Args:
        prediction: the prediction to write.
        path: `.csv` file to write.
    """
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            [
                "second",
                "label_id",
                "label",
                "confidence",
                *(f"p({name})" for name in prediction.class_names),
                "unfamiliar",
            ]
        )
        steps = zip(prediction.seconds, prediction.labels, prediction.probabilities, prediction.scores, strict=True)
        for second, label, row, score in steps:
            values = [f"{value:.6f}" for value in row]
            unlike = "unknown" if score is None else str(int(score > 1))
            writer.writerow([f"{second:.3f}", label, prediction.class_names[label], values[label], *values, unlike])


def write_prediction_json(prediction: VideoPrediction, path: Path) -> None:
    """Write a JSON file with segments and seconds, the content of `VideoPrediction.to_dict`.

    Args:
        prediction: the prediction to write.
        path: `.json` file to write.
    """
    write_json(path, prediction.to_dict())


register_writers(
    {
        "csv": lambda prediction, path, video, model_info: write_prediction_csv(prediction, path),
        "json": lambda prediction, path, video, model_info: write_prediction_json(prediction, path),
        "png": lambda prediction, path, video, model_info: draw_timeline(prediction, path),
        "svg": lambda prediction, path, video, model_info: draw_timeline(prediction, path),
        "vtt": lambda prediction, path, video, model_info: write_webvtt(prediction, path),
        "eaf": lambda prediction, path, video, model_info: write_elan(prediction, path),
        "html": lambda prediction, path, video, model_info: write_video_report(
            {"prediction": prediction}, path, video, {"prediction": model_info}
        ),
        "mp4": lambda prediction, path, video, model_info: write_annotated_video(video or b"", prediction, path),
    }
)
