"""The contact sheet: a page of frames with their predictions, the quickest way to see whether they make sense."""

import os
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...modeling.video_reading_surgvista import VideoReader
from ...util.class_colors import UNFAMILIAR_COLOR, class_color
from ...util.files import atomic_file
from ..prediction.prediction import UNFAMILIAR_LABEL, VideoPrediction
from .timeline import NOTICE

_COLUMNS, _ROWS = 6, 4


def draw_contact_sheet(
    video: str | os.PathLike[str], prediction: VideoPrediction, path: str | Path, truth: np.ndarray | None = None
) -> None:
    """Draw frames at regular times, each with its predicted class and, where it is wrong, the true one.

    Args:
        video: the file that was predicted.
        prediction: the prediction for that video.
        path: image file to write; its suffix decides the format.
        truth: (steps,) true class indices.

    Raises:
        VideoReadError: the video cannot be decoded.
    """
    steps = np.unique(np.linspace(0, len(prediction.seconds) - 1, _COLUMNS * _ROWS).round().astype(int))
    with VideoReader(video, deinterlace=prediction.deinterlace, damaged="any") as reader:
        frames = reader.frames_at([float(prediction.seconds[step]) for step in steps])
    figure = Figure(figsize=(14, 9), layout="constrained")
    FigureCanvasAgg(figure)
    cells = figure.subplots(_ROWS, _COLUMNS).flat
    for axes in cells:
        axes.set_axis_off()
    for axes, step, frame in zip(figure.axes, steps, frames, strict=False):
        label = int(prediction.labels[step])
        caption = f"{prediction.seconds[step]:.0f} s  {prediction.class_names[label]}"
        if truth is not None and truth[step] != label:
            caption += f"\n(true: {prediction.class_names[truth[step]]})"
        axes.set_axis_on()
        axes.set(xticks=(), yticks=())
        axes.imshow(prediction.redacted(frame, float(prediction.seconds[step])))
        unlike = prediction.unfamiliar is not None and prediction.unfamiliar[step]
        axes.set_title(caption, fontsize=8, loc="left", color=UNFAMILIAR_COLOR if unlike else "black")
        for spine in axes.spines.values():
            spine.set(color=class_color(label), linewidth=4)
    title = f"{prediction.video}: frame color = predicted phase"
    if prediction.unfamiliar_spans:
        title += f"; orange = {UNFAMILIAR_LABEL}: {prediction.unfamiliar_fraction:.0%} of the seconds"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    figure.supxlabel(NOTICE, fontsize=9, color="#555555")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
