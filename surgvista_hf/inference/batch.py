"""Thousands of videos: sharded over processes, resumed where it was stopped, each result whole or not there."""

import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState
from tqdm.auto import tqdm

from ..modeling.errors_surgvista import InputError, VideoReadError
from ..util.files import atomic_file, atomic_folder, claim
from .prediction import DEFAULT_FORMATS, check_formats, save_predictions
from .predictor import SurgicalVideoPredictor

SUFFIXES = frozenset(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .wmv .flv .mxf .ogv".split())


@dataclass(frozen=True)
class BatchReport:
    """What one process did.

    Args:
        predicted: videos of this run.
        earlier: videos that had been predicted before.
        unreadable: videos that cannot be decoded, with the reason.
    """

    predicted: list[str]
    earlier: list[str]
    unreadable: dict[str, str]


def find_videos(folder: Path) -> list[Path]:
    """Video files below a folder by their suffix, sorted; hidden ones are left out.

    Raises:
        InputError: there are none.
    """
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
    folder, output, state = Path(folder), Path(output), PartialState()
    videos = find_videos(folder)
    settings = {
        "models": {name: model.source for name, model in predictor.models.items()},
        "temporal": {name: head.source for name, head in predictor.heads.items()},
        "formats": sorted(formats),
    }
    if state.is_main_process:
        claim(output, settings)
    state.wait_for_everyone()
    report = BatchReport([], [], {})
    facts = {name: model.facts() for name, model in predictor.models.items()}
    mine = videos[state.process_index :: state.num_processes]
    for video in tqdm(mine, unit="video", disable=not progress or not state.is_local_main_process):
        name = video.relative_to(folder).as_posix()
        target = output / name
        if target.is_dir():
            report.earlier.append(name)
            continue
        try:
            with atomic_folder(target) as temporary:
                save_predictions(predictor.predict_all(video), temporary, formats, video=video, facts=facts)
        except VideoReadError as error:
            if not skip_unreadable:
                raise
            report.unreadable[name] = str(error)
            with atomic_file(output / f"unreadable_{state.process_index}.json") as temporary:
                temporary.write_text(json.dumps(report.unreadable, indent=1) + "\n", encoding="utf-8")
            continue
        report.predicted.append(name)
    state.wait_for_everyone()
    return report
