"""The example video of the web demo: a rendered operation."""

from pathlib import Path

from ..datasets_scripts.synthetic.surgery import SyntheticOperation, write_video
from ..util.files import atomic_file


def rendered_operation(folder: Path, seed: int = 424242, seconds: int = 60) -> Path:
    """Write an H.264 file of a rendered operation that no model has seen and no patient is in, unless it is there.

    Args:
        folder: folder of the file.
        seed: seed of the operation.
        seconds: length of the operation.

    Returns:
        The file.
    """
    file = folder / "rendered_operation.mp4"
    if not file.is_file():
        operation = SyntheticOperation(seed=seed, duration_seconds=seconds, frames_per_second=5.0)
        with atomic_file(file) as temporary:
            write_video(operation, temporary)
    return file
