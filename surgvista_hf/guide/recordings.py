"""The door for a person's own recordings and labels: videos and labels of any form to a frame set."""

from dataclasses import dataclass
from pathlib import Path

from ..datasets_scripts.frame_sets.load import StoredFrameSet
from ..datasets_scripts.frame_sets.prepare import MANIFEST, prepare_frame_set
from ..datasets_scripts.schema.info import PATIENT, MissingFilesError

NAME = "own"


def patients_of(folder: Path) -> dict[str, str]:
    """Return the patient of each video of a frame set, as far as its labels say it."""
    return StoredFrameSet.open(folder).properties(PATIENT) if (folder / MANIFEST).is_file() else {}


@dataclass(frozen=True)
class OwnFrameSet:
    """A frame set, and the command that makes it.

    Args:
        name: name of its data set.
        folder: folder of the frame set.
        command: words of the command line; empty where the frame set was there before.
    """

    name: str
    folder: Path
    command: tuple[str, ...] = ()


def prepare_own(
    videos: Path, labels: Path, output: Path, *, mapping: Path | None = None, num_proc: int = 1
) -> OwnFrameSet:
    """Turn a person's recordings and labels into a frame set; what an earlier run finished is not done again.

    Args:
        videos: folder of videos, or of a folder of images for each.
        labels: file or folder of labels, in any form that the data set `own` reads.
        output: folder for the frame set.
        mapping: file that says what the labels mean; by default derived from them.
        num_proc: number of videos at a time.

    Returns:
        The frame set.

    Raises:
        InputError: files are missing, or cannot be understood.
    """
    if not labels.exists():
        raise MissingFilesError(f"there is no {labels} with labels")
    folder = output / "frame_set"
    if mapping is not None and not mapping.is_file():
        raise MissingFilesError(
            f"there is no {mapping} with the meaning of the labels; `surgvista prepare own --propose` writes one"
        )
    settings = {"labels": str(labels), **({} if mapping is None else {"mapping": str(mapping)})}
    prepare_frame_set(NAME, videos, folder, settings=settings, num_proc=num_proc, skip_unreadable=True, progress=True)
    given = [word for name, value in settings.items() for word in (f"--{name}", value)]
    options = ("--videos", str(videos), *given, "--output", str(folder), "--skip-unreadable")
    return OwnFrameSet(NAME, folder, ("surgvista", "prepare", NAME, *options))
