"""The annotated video: each frame with its prediction below, without sound and without metadata."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...modeling.video_reading_surgvista import VideoReader
from ...util.class_colors import UNFAMILIAR_COLOR, class_color
from ...util.errors import InputError
from ..prediction.prediction import UNFAMILIAR_LABEL, VideoPrediction
from .timeline import NOTICE
from .video_writing import video_writer

_INK, _PAPER = (240, 240, 240), (24, 24, 28)


def write_annotated_video(
    video: str | os.PathLike[str] | bytes,
    prediction: VideoPrediction,
    path: str | Path,
    *,
    frames_per_second: float = 10.0,
    height: int = 480,
) -> None:
    """Write an H.264 file: each frame, and below it the class, its confidence and a ribbon of the whole operation.

    Sound is left out: people talk in operating rooms. So is all metadata of the original. Of frames that must not be shown
    only one color is left. Seconds that are unlike the training videos are marked.

    Args:
        video: the file that was predicted.
        prediction: the prediction for that video.
        path: `.mp4` file to write.
        frames_per_second: frame rate of the result.
        height: largest height of the frames in pixels; the aspect ratio is kept.

    Raises:
        VideoReadError: the video cannot be decoded.
        VideoWriteError: its frames cannot be encoded.
        OutputError: nothing can be written at `path`.
        InputError: the rate is not positive, or the height is below 16.
    """
    if frames_per_second <= 0 or height < 16:
        raise InputError(f"a video of {frames_per_second} frames a second and {height} pixels cannot be written")
    with VideoReader(video, deinterlace=prediction.deinterlace, damaged="any") as reader:
        scale = min(1.0, height / reader.info.height)
        size = _even(reader.info.width * scale), _even(reader.info.height * scale)
        panel = _Panel(prediction, size[0], max(64, _even(size[1] * 0.14)))
        with video_writer(path, size[0], size[1] + panel.height, frames_per_second, source=reader.name) as write:
            for second, pixels in reader.iterate(1 / frames_per_second, blank_damaged=True):
                shown = Image.fromarray(prediction.redacted(pixels, second))
                image = np.asarray(shown.resize(size, Image.Resampling.BILINEAR))
                write(np.vstack([image, panel.draw(second)]), second)


class _Panel:
    """The panel below the frames: caption, confidence, and a ribbon of the whole operation with a cursor."""

    def __init__(self, prediction: VideoPrediction, width: int, height: int) -> None:
        self.prediction, self.width, self.height = prediction, width, height
        self.bar = height // 3
        self.rows = prediction.regular_rows()
        self.text = ImageFont.load_default(size=max(11, height // 4))
        self.small = ImageFont.load_default(size=max(9, height // 6))
        self.blank = Image.new("RGB", (width, height), _PAPER)
        if not prediction.multi_label:
            draw = ImageDraw.Draw(self.blank)
            rows = self.rows[np.arange(width) * len(self.rows) // width]  # (width,) row of each column of pixels
            for column, row in enumerate(rows):
                if row >= 0:
                    color = class_color(int(prediction.labels[row]))
                    draw.line([(column, height - self.bar), (column, height)], fill=color)
            if prediction.unfamiliar is not None:
                for column in np.flatnonzero((rows >= 0) & prediction.unfamiliar[rows]).tolist():
                    draw.line([(column, height - max(self.bar // 4, 3)), (column, height)], fill=UNFAMILIAR_COLOR)

    def draw(self, second: float) -> np.ndarray:
        """Return the panel at a time in seconds, (height, width, 3), uint8."""
        prediction = self.prediction
        step = max(int(np.searchsorted(prediction.seconds, second + 1e-6, side="right")) - 1, 0)
        row = prediction.probabilities[step]
        image = self.blank.copy()
        draw = ImageDraw.Draw(image)
        lacks = any(start <= second < end for start, end in prediction.missing)
        if lacks:
            caption = "no answer: the video is damaged here"
        elif prediction.multi_label:
            found = [prediction.class_names[number] for number in np.flatnonzero(row > 0.5)]
            caption = ", ".join(found) or "nothing above 50 %"
        else:
            caption = f"{prediction.class_names[row.argmax()]}  {row.max():.0%}"
        if not prediction.multi_label:
            passed = (prediction.seconds[step] - prediction.seconds[0]) / prediction.step
            cursor = round(passed / max(len(self.rows) - 1, 1) * (self.width - 3))
            draw.rectangle([cursor, self.height - self.bar - 3, cursor + 2, self.height], fill=(255, 255, 255))
        draw.text((8, 4), caption, fill=_INK, font=self.text)
        if not lacks and prediction.unfamiliar is not None and prediction.unfamiliar[step]:
            width = draw.textlength(UNFAMILIAR_LABEL, font=self.small) + 12
            high = self.height // 6 + 8
            draw.rectangle([self.width - width, 0, self.width, high], fill=UNFAMILIAR_COLOR)
            draw.text((self.width - 6, high / 2), UNFAMILIAR_LABEL, fill=(0, 0, 0), font=self.small, anchor="rm")
        draw.text((8, self.height - self.bar - 6), NOTICE, fill=(170, 170, 170), font=self.small, anchor="ls")
        return np.asarray(image)


def _even(value: float) -> int:
    return max(2, 2 * round(value / 2))
