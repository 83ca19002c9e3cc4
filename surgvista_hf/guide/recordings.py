"""The door for a person's own recordings and labels: videos and label files to a frame set.

Today it takes one label file for each video, in any form that `datasets_scripts.own_labels.phase_files` reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..datasets_scripts.corpora.folder import collect
from ..datasets_scripts.frame_sets.prepare import prepare_frame_set
from ..datasets_scripts.own_labels.phase_files import SUFFIXES
from ..datasets_scripts.schema.builder import FRAMES, VIDEO, RawVideo
from ..datasets_scripts.schema.info import MissingFilesError
from ..util.errors import InputError
from ..util.messages import preview

NAME = "phase_folder"
_CLASSES = "classes.txt"


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


def prepare_own(videos: Path, labels: Path, output: Path, *, num_proc: int = 1) -> OwnFrameSet:
    """Turn a person's recordings and labels into a frame set; what an earlier run finished is not done again.

    Args:
        videos: folder of videos, or of a folder of images for each.
        labels: folder with a label file for each video, of the same name; or the file of a single video.
        output: folder for the frame set, and for links to the recordings.
        num_proc: number of videos at a time.

    Returns:
        The frame set.

    Raises:
        InputError: files are missing, or cannot be understood.
    """
    recordings, frame_set = output / "recordings", output / "frame_set"
    _link_recordings(videos, labels, recordings)
    prepare_frame_set(NAME, recordings, frame_set, num_proc=num_proc, skip_unreadable=True, progress=True)
    argv = (
        "surgvista",
        "prepare",
        NAME,
        "--data-dir",
        str(recordings),
        "--output",
        str(frame_set),
        "--skip-unreadable",
    )
    return OwnFrameSet(NAME, frame_set, argv)


def match_labels(videos: Mapping[str, RawVideo], labels: Path) -> dict[str, Path]:
    """Return the label file of each video.

    Args:
        videos: videos by their ids.
        labels: folder of label files, or the file of a single video.

    Raises:
        MissingFilesError: there are no label files, or none fits a video.
        InputError: two files fit one video, or one table is given for several videos.
    """
    if labels.is_file():
        if len(videos) == 1:
            return {next(iter(videos)): labels}
        raise InputError(
            f"{labels} is one file and there are {len(videos)} videos: give a folder with a file for each, of the same names"
        )
    files = sorted(path for path in labels.glob("*") if path.suffix.lower() in SUFFIXES and path.name != _CLASSES)
    if not files:
        raise MissingFilesError(f"{labels} holds no label files ({', '.join(SUFFIXES)})")
    found: dict[str, Path] = {}
    for file in files:
        for video in videos:
            if video == file.stem or video.rpartition("/")[2] == file.stem:
                if video in found:
                    raise InputError(f"{found[video]} and {file} both are labels of {video}; keep one of them")
                found[video] = file
    if not found:
        raise MissingFilesError(
            f"no label file is named as a video: the videos are {preview(sorted(videos))}, the files "
            f"{preview([file.name for file in files])}"
        )
    return found


def _link_recordings(videos: Path, labels: Path, folder: Path) -> None:
    """Arrange links to videos and label files as a phase folder.

    Raises:
        MissingFilesError: a folder is missing, or nothing fits.
    """
    if not labels.exists():
        raise MissingFilesError(f"there is no {labels} with labels")
    found = {video.video_id: video for video in collect(videos, {})}
    files = match_labels(found, labels)
    wanted: dict[str, Path] = {}
    for video, file in files.items():
        name = video.replace("/", "_")
        role, path = next(iter(found[video].files.items()))
        suffix = path.suffix if role == VIDEO else ""
        wanted[f"{'frames' if role == FRAMES else 'videos'}/{name}{suffix}"] = path
        wanted[f"phases/{name}{file.suffix.lower()}"] = file
    listed = labels / _CLASSES if labels.is_dir() else labels.parent / _CLASSES
    listed = listed if listed.is_file() else labels.parent / _CLASSES
    if listed.is_file():
        wanted[_CLASSES] = listed
    for old in [path for path in folder.rglob("*") if path.is_symlink()]:
        if old.relative_to(folder).as_posix() not in wanted:
            old.unlink()
    for name, target in wanted.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink():
            link.unlink()
        link.symlink_to(target.resolve())
