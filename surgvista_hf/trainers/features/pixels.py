"""Coarse pixels as features: the baseline that tells whether labels can be read without any encoder."""

import numpy as np
import torch
from torch.nn.functional import interpolate

from .extraction import VideoFeatureExtractor


class PixelFeatureExtractor(VideoFeatureExtractor):
    """Computes the colors of a few coarse pixels of the second and the last frame of each clip.

    Files, clips and labels are those of `VideoFeatureExtractor`.

    Args:
        num_frames: number of frames of a clip; of a single one, this frame alone counts.
        frame_stride: seconds between two frames of a clip.
        size: rows and columns of the pixels.

    Example:
        >>> extractor = PixelFeatureExtractor(num_frames=4, frame_stride=2)
        >>> extractor.features(torch.zeros(5, 4, 3, 8, 8)).shape
        (5, 384)
    """

    def __init__(self, num_frames: int, frame_stride: float, size: int = 8) -> None:
        self.name = f"{size} x {size} pixels"
        self.num_frames, self.frame_stride, self.frame_interval = num_frames, frame_stride, None
        self.size, self.pooling, self.dtype = size, "mean", "float32"
        self.fingerprints = (self.name,)

    def prepare(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the mean colors, 0-1, of equal parts of frames (frames, 3, height, width): (frames, 3, size, size)."""
        return interpolate(frames.float() / 255, (self.size, self.size), mode="area")

    def features(self, clips: torch.Tensor) -> np.ndarray:
        """Return the pixels of the second and the last frame of clips (B, frames, 3, size, size)."""
        return clips[:, sorted({min(1, self.num_frames - 1), self.num_frames - 1})].flatten(1).numpy()
