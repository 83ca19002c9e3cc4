"""Input, reconstruction and errors of masked autoencoders: the figure of SurgVISTA's paper (arXiv 2506.02692)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...util.errors import InputError
from ...util.files import atomic_file

_COLUMNS = 8
_GRAY = 0.75


@dataclass(frozen=True)
class Reconstruction:
    """A clip, its mask, and what models reconstructed.

    Args:
        original: (frames, height, width, 3) clip, 0-1.
        mask: (frames, height, width) bool, `True` where a pixel was masked.
        reconstructed: clips of the shape of the original, by the name of the model.
        patch_size: side in pixels of a patch, over which errors are averaged.

    Raises:
        InputError: the shapes do not fit together.

    Example:
        >>> clip = np.zeros((2, 4, 4, 3))
        >>> Reconstruction(clip, np.ones((2, 4, 4), bool), {"model": clip + 0.5}, 2).mean_error("model")
        0.25
    """

    original: np.ndarray
    mask: np.ndarray
    reconstructed: Mapping[str, np.ndarray]
    patch_size: int

    def __post_init__(self) -> None:
        shapes = {self.original.shape, (*self.mask.shape, 3), *(clip.shape for clip in self.reconstructed.values())}
        if len(shapes) > 1 or any(side % self.patch_size for side in self.mask.shape[1:]):
            raise InputError(f"clips of shapes {shapes} and patches of {self.patch_size} pixels do not fit together")

    @property
    def masked(self) -> np.ndarray:
        """Return the original with gray in place of the masked pixels."""
        return np.where(self.mask[..., None], _GRAY, self.original)

    def errors(self, name: str) -> np.ndarray:
        """Return the mean squared error of each patch, (frames, rows, columns)."""
        frames, height, width = self.mask.shape
        squares = ((self.reconstructed[name] - self.original) ** 2).mean(axis=-1)
        side = self.patch_size
        return squares.reshape(frames, height // side, side, width // side, side).mean(axis=(2, 4))

    def mean_error(self, name: str) -> float:
        """Return the mean squared error of all masked pixels."""
        squares = ((self.reconstructed[name] - self.original) ** 2).mean(axis=-1)
        return float(squares[self.mask].mean())


def draw_reconstruction(reconstruction: Reconstruction, path: str | Path) -> None:
    """Draw frames in columns; in rows the original, the visible patches, and each model's reconstruction and errors.

    Errors share one scale of colors, up to the 99th percentile of all of them.

    Args:
        reconstruction: the clip and its reconstructions.
        path: image file to write; its suffix decides the format.
    """
    shown = np.unique(np.linspace(0, len(reconstruction.original) - 1, _COLUMNS).round().astype(int))
    errors = {name: reconstruction.errors(name) for name in reconstruction.reconstructed}
    highest = max((float(np.quantile(error, 0.99)) for error in errors.values()), default=1.0) or 1.0
    rows: list[tuple[str, np.ndarray, bool]] = [
        ("original", reconstruction.original, False),
        ("visible", reconstruction.masked, False),
    ]
    for name, reconstructed in reconstruction.reconstructed.items():
        rows.append((name, reconstructed, False))
        rows.append((f"error\n{reconstruction.mean_error(name):.4f}", errors[name], True))
    figure = Figure(figsize=(1.35 * len(shown) + 1.6, 1.4 * len(rows) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(shown), squeeze=False)
    for cells, (label, frames, is_error) in zip(grid, rows, strict=True):
        cells[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        for axes, frame in zip(cells, shown, strict=True):
            _draw_frame(axes, frames[frame], highest if is_error else None)
    for axes, frame in zip(grid[0], shown, strict=True):
        axes.set_title(f"frame {frame + 1}", fontsize=8)
    if errors:
        image = grid[3][0].images[0]
        figure.colorbar(image, ax=list(grid[:, -1]), label="mean squared error of a patch", aspect=40)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _draw_frame(axes: Axes, frame: np.ndarray, highest_error: float | None) -> None:
    if highest_error is None:
        axes.imshow(np.clip(frame, 0, 1), interpolation="nearest")
    else:
        axes.imshow(frame, cmap="cividis", vmin=0, vmax=highest_error, interpolation="nearest")
    axes.set(xticks=(), yticks=())
