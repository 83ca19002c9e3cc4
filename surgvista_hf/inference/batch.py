"""Thousands of videos: sharded over processes, resumed where it was stopped, each result whole or not there."""

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from tqdm.auto import tqdm

from ..modeling.errors_surgvista import InputError, VideoReadError
from ..util.files import atomic_file, atomic_folder, claim, content_hash
from .deidentification import Cover, Pseudonyms, deidentify_video
from .prediction import DEFAULT_FORMATS, check_formats, save_predictions
from .predictor import SurgicalVideoPredictor
from .privacy import OutOfBodyDetector

SUFFIXES = frozenset(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .wmv .flv .mxf .ogv".split())


@dataclass(frozen=True)
class BatchReport:
    """What one process did.

    Args:
        done: videos of this run.
        earlier: videos that had been done before.
        unreadable: videos that cannot be decoded, with the reason.
    """

    done: list[str]
    earlier: list[str]
    unreadable: dict[str, str]


def find_videos(folder: Path) -> list[Path]:
    """Video files below a folder by their suffix, sorted, without hidden ones; or the file that `folder` is.

    Raises:
        InputError: there are none, or there is nothing at all.
    """
    if not folder.exists():
        raise InputError(f"there is no video at {folder}")
    if folder.is_file():
        return [folder]
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise InputError(f"{folder} holds no videos ({' '.join(sorted(SUFFIXES))})")
    return found


def predict_folder(
    predictor: SurgicalVideoPredictor,
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    formats: Collection[str] = DEFAULT_FORMATS,
    pseudonyms: Pseudonyms | None = None,
    skip_unreadable: bool = False,
    progress: bool = False,
) -> BatchReport:
    """Predicts every video below a folder; the same call goes on after an interruption.

    Processes that `accelerate launch` started share the videos. The files of a video lie in `output`, in a folder with its
    relative path, and appear together.

    Args:
        predictor: with its models.
        folder: with videos, at any depth.
        output: folder of the results, for these models and formats only.
        formats: see `VideoPrediction.save`.
        pseudonyms: of the relative paths; these stand in folders, files and report instead.
        skip_unreadable: note videos that cannot be decoded in `unreadable_<process>.json` and go on.
        progress: show a progress bar.

    Returns:
        What this process did.

    Raises:
        InputError: no videos, or an unknown format.
        OutputError: `output` holds predictions of other models or in other formats.
        VideoReadError: a video cannot be decoded, unless they are skipped.
    """
    check_formats(formats)
    output, detector = Path(output), predictor.out_of_body
    settings = {
        "models": {name: model.source for name, model in predictor.models.items()},
        "frame_stride": {name: model.frame_stride for name, model in predictor.models.items()},
        "temporal": {name: head.source for name, head in predictor.heads.items()},
        "formats": sorted(formats),
        "out_of_body": detector.facts() if detector else None,
    }
    facts = {name: model.facts() for name, model in predictor.models.items()}

    def predict(video: Path, name: str) -> None:
        with atomic_folder(output / name) as temporary:
            shown = None if pseudonyms is None else f"{name}.mp4"
            found = predictor.predict_all(video, name=shown)
            save_predictions(found, temporary, formats, video=video, facts=facts)

    return _work_through(Path(folder), output, settings, "{}", predict, pseudonyms, skip_unreadable, progress)


def deidentify_folder(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    detector: OutOfBodyDetector | None,
    pseudonyms: Pseudonyms,
    *,
    covers: Sequence[Cover] = (),
    skip_unreadable: bool = False,
    progress: bool = False,
) -> BatchReport:
    """Writes every video below a folder as it may leave the hospital, and beside each what was done, as JSON.

    Args:
        folder: with videos, at any depth; or a video.
        output: folder of the results, for this detector only.
        detector, covers: see `deidentify_video`.
        pseudonyms: of the relative paths; the results are called by them.
        skip_unreadable, progress: see `predict_folder`.

    Returns, Raises:
        See `predict_folder` and `deidentify_video`.
    """
    output = Path(output)
    settings = {
        "out_of_body": detector.facts() if detector else None,
        "covers": [vars(cover) for cover in covers],
    }

    def deidentify(video: Path, name: str) -> None:
        done = deidentify_video(video, output / f"{name}.mp4", detector, covers=covers)
        with atomic_file(output / f"{name}.json") as temporary:  # says that the video is finished
            temporary.write_text(json.dumps(asdict(done), indent=1) + "\n", encoding="utf-8")

    return _work_through(Path(folder), output, settings, "{}.json", deidentify, pseudonyms, skip_unreadable, progress)


def _work_through(
    folder: Path,
    output: Path,
    settings: Mapping[str, Any],
    finished: str,
    work: Callable[[Path, str], None],
    pseudonyms: Pseudonyms | None,
    skip_unreadable: bool,
    progress: bool,
) -> BatchReport:
    """Does something with each video of this process's share that has no file or folder `finished` in `output` yet."""
    state, videos, report = PartialState(), find_videos(folder), BatchReport([], [], {})
    if pseudonyms is not None:  # the folder may be shared: no paths of this machine in it
        settings = {"hash": content_hash(settings)}
    if state.is_main_process:
        claim(output, settings)
    state.wait_for_everyone()
    mine = videos[state.process_index :: state.num_processes]
    for video in tqdm(mine, unit="video", disable=not progress or not state.is_local_main_process):
        original = video.name if video == folder else video.relative_to(folder).as_posix()
        name = original if pseudonyms is None else pseudonyms[original]
        if (output / finished.format(name)).exists():
            report.earlier.append(name)
            continue
        try:
            work(video, name)
        except VideoReadError as error:
            if not skip_unreadable:
                raise
            said = str(error)
            report.unreadable[name] = said if pseudonyms is None else said.replace(str(video), name)
            with atomic_file(output / f"unreadable_{state.process_index}.json") as temporary:
                temporary.write_text(json.dumps(report.unreadable, indent=1) + "\n", encoding="utf-8")
            continue
        report.done.append(name)
    state.wait_for_everyone()
    return report
