"""Checkpoints that count only when they are complete."""

import shutil
from pathlib import Path

from ...util.files import atomic_file, sync

MARK = "complete"
_PREFIX = "checkpoint-"


def mark_complete(checkpoint: Path) -> None:
    """Write every file of a checkpoint through to the disk, then mark the checkpoint as complete."""
    for path in sorted(checkpoint.rglob("*")):
        sync(path)
    with atomic_file(checkpoint / MARK) as temporary:
        temporary.write_text("")


def complete_checkpoints(output_dir: Path) -> list[Path]:
    """Return the complete checkpoints of a run, the oldest first."""
    found = [path for path in output_dir.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdigit()]
    return sorted((path for path in found if (path / MARK).exists()), key=_step)


def remove_incomplete(output_dir: Path) -> list[Path]:
    """Remove the checkpoints that a killed run left half-written, and return their folders."""
    complete = set(complete_checkpoints(output_dir))
    broken = [path for path in output_dir.glob(f"{_PREFIX}*") if path not in complete and path.is_dir()]
    for path in broken:
        shutil.rmtree(path)
    return broken


def keep_newest(output_dir: Path, limit: int | None, *, best: Path | None = None) -> None:
    """Remove all but the newest complete checkpoints and the best.

    Args:
        output_dir: folder of the run.
        limit: number of checkpoints to keep; `None` or 0: all.
        best: checkpoint that is kept in any case.
    """
    for path in complete_checkpoints(output_dir)[: -limit if limit else 0]:
        if best is not None and path.name == best.name:
            continue
        (path / MARK).unlink()  # first: whenever the run is killed, no marked checkpoint is half removed
        shutil.rmtree(path)


def _step(path: Path) -> int:
    return int(path.name.removeprefix(_PREFIX))
