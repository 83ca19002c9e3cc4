"""CholecT50 and CholecT45: action triplets in cholecystectomies (Nwoye et al., Medical Image Analysis 78, 2022)."""

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from ..schema.annotation_files import as_integer, read_json, read_table
from ..schema.builder import FRAMES, FilePattern, FrameSetBuilder, RawVideo
from ..schema.info import AnnotationError, DatasetInfo, Label, Protocol, triplet_labels
from ..schema.label_tracks import RowTrack, Track
from ..schema.triplets import TripletTable

TABLE = TripletTable.read(resources.files(__package__) / "tables" / "cholect50_triplets.csv")
PHASES = (
    "preparation",
    "carlot-triangle-dissection",  # spelled so in the files
    "clipping-and-cutting",
    "gallbladder-dissection",
    "gallbladder-packaging",
    "cleaning-and-coagulation",
    "gallbladder-extraction",
)
_INSTANCE = 15  # numbers of an instance: triplet, instrument + 5, verb, target + 5, phase
_FOLDS = (
    (79, 2, 51, 6, 25, 14, 66, 23, 50, 111),
    (80, 32, 5, 15, 40, 47, 26, 48, 70, 96),
    (31, 57, 36, 18, 52, 68, 10, 8, 73, 103),
    (42, 29, 60, 27, 65, 75, 22, 49, 12, 110),
    (78, 43, 62, 35, 74, 1, 56, 4, 13, 92),
)
_RENDEZVOUS = {
    "train": (
        1, 15, 26, 40, 52, 65, 79, 2, 18, 27, 43, 56, 66, 92, 4, 22, 31, 47, 57, 68, 96, 5, 23, 35, 48, 60, 70, 103, 13,
        25, 36, 49, 62, 75, 110,
    ),
    "validation": (
        8, 12, 29, 50, 78,
    ),
    "test": (
        6, 51, 10, 73, 14, 74, 32, 80, 42, 111,
    ),
}  # fmt: skip
_CHALLENGE = {
    "train": (
        1, 15, 26, 40, 52, 79, 2, 27, 43, 56, 66, 4, 22, 31, 47, 57, 68, 23, 35, 48, 60, 70, 13, 25, 49, 62, 75, 8, 12, 29,
        50, 78, 6, 51, 10, 73, 14, 32, 80, 42,
    ),
    "validation": (
        5, 18, 36, 65, 74,
    ),
    "test": (
        92, 96, 103, 110, 111,
    ),
}  # fmt: skip


def _ids(numbers: tuple[int, ...] | list[int]) -> tuple[str, ...]:
    return tuple(f"VID{number:02d}" for number in numbers)


def _lists(splits: dict[str, tuple[int, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: _ids(numbers) for name, numbers in splits.items()}


def _fold(number: int, folds: tuple[tuple[int, ...], ...]) -> Protocol:
    """Return the protocol of a fold: it is the test, and the last five videos of the others are for validation."""
    rest = [video for k, fold in enumerate(folds, start=1) if k != number for video in fold]
    return Protocol(
        f"official cross-validation, fold {number}",
        {"train": _ids(rest[:-5]), "validation": _ids(rest[-5:]), "test": _ids(folds[number - 1])},
    )


def _folds(folds: tuple[tuple[int, ...], ...]) -> dict[str, Protocol]:
    return {f"fold{number}": _fold(number, folds) for number in range(1, 6)}


T50 = DatasetInfo(
    name="cholect50",
    title="CholecT50",
    task="triplet",
    procedure="cholecystectomy",
    license="CC-BY-NC-SA-4.0",
    homepage="https://github.com/CAMMA-public/cholect50",
    access="request form",
    citation="Nwoye et al., Rendezvous: Attention Mechanisms for the Recognition of Surgical Action Triplets in "
    "Endoscopic Videos, Medical Image Analysis 78, 2022",
    labels={**triplet_labels(TABLE), "phase": Label("class", PHASES)},
    protocols={
        "challenge": Protocol(
            "CholecTriplet challenge, used by SurgVISTA; none of its test videos is in Cholec80", _lists(_CHALLENGE)
        ),
        "rendezvous": Protocol("Rendezvous paper; most of its test videos are in Cholec80", _lists(_RENDEZVOUS)),
        **_folds(_FOLDS),
    },
    video_ids=_ids(sorted(video for fold in _FOLDS for video in fold)),
    totals={"videos": 50, "frames": 100863, "triplets": 100, "instruments": 6, "verbs": 10, "targets": 15},
    notes="Frames without any triplet are kept (an empty list); SurgVISTA drops them as samples, also in the test: "
    "ClipDataset(..., drop_empty=True).",
    triplets=TABLE,
)
T45 = replace(
    T50,
    name="cholect45",
    title="CholecT45",
    protocols=_folds(tuple(fold[:-1] for fold in _FOLDS)),
    video_ids=_ids(sorted(video for fold in _FOLDS for video in fold[:-1])),
    totals={"videos": 45, "triplets": 100, "instruments": 6, "verbs": 10, "targets": 15},
    labels=triplet_labels(TABLE),
)


def tracks(video: RawVideo) -> list[Track]:
    """Read `labels/VID01.json`, which holds a list of instances per frame, one frame per second."""
    path = video.files["labels"]
    content = read_json(path)
    missing = [key for key in ("fps", "num_frames", "categories", "annotations") if key not in content]
    if missing:
        raise AnnotationError(f"{path} has no {missing}")
    _check_names(path, content["categories"])
    if content["fps"] != 1 or len(content["annotations"]) != content["num_frames"]:
        raise AnnotationError(
            f"{path} announces {content['num_frames']} frames at {content['fps']}/s and holds "
            f"{len(content['annotations'])}; "
            "as many at 1/s are expected"
        )
    return [
        RowTrack(
            {as_integer(path, 1, frame): _row(path, frame, rows) for frame, rows in content["annotations"].items()},
            1.0,
            exact=False,  # the file names the labeled frames; others lie between and after them
        )
    ]


def _check_names(path: Path, categories: Any) -> None:
    """Check that the numbers in the file name the classes of the table."""
    tables = {
        "triplet": TABLE.names,
        "instrument": TABLE.instruments,
        "verb": TABLE.verbs,
        "target": TABLE.targets,
        "phase": PHASES,
    }
    for kind, names in tables.items():
        for number, name in categories.get(kind, {}).items():
            if not number.isdigit() or int(number) >= len(names) or names[int(number)] != name:
                raise AnnotationError(f"{path}: {kind} {number} is {name!r}, not as published for CholecT50")


def _row(path: Path, frame: str, instances: Any) -> dict[str, Any]:
    """Return the labels of a frame. Components are read on their own: an instrument may be known where the triplet is not."""
    # Column of an instance, and number of classes.
    limits = {"triplets": (0, 100), "instruments": (1, 6), "verbs": (7, 10), "targets": (8, 15), "phase": (14, 7)}
    found: dict[str, set[int]] = {name: set() for name in limits}
    for instance in instances:
        if len(instance) != _INSTANCE:
            raise AnnotationError(
                f"{path}: an instance of frame {frame} has {len(instance)} numbers, {_INSTANCE} are expected"
            )
        for name, (index, count) in limits.items():
            number = instance[index]
            if number != -1:
                if number not in range(count):
                    raise AnnotationError(f"{path}: frame {frame} holds {name} {number}; there are {count}")
                found[name].add(int(number))
    if len(found["phase"]) > 1:
        raise AnnotationError(f"{path}: frame {frame} has the phases {sorted(found['phase'])}")
    phase = next(iter(found.pop("phase")), None)
    return {**{name: sorted(numbers) for name, numbers in found.items()}, "phase": phase}


def tracks_t45(video: RawVideo) -> list[Track]:
    """Read the older layout: a text file per component, with rows `frame,0,1,…` and one column per class."""
    widths = {"triplets": 100, "instruments": 6, "verbs": 10, "targets": 15}
    rows: dict[int, dict[str, Any]] = {}
    for name, width in widths.items():
        path = video.files[name]
        for line in read_table(path, width + 1, header=False, delimiter=","):
            frame, *present = (as_integer(path, line.number, cell) for cell in line.cells)
            if not set(present) <= {0, 1}:
                raise AnnotationError(f"{path}:{line.number} holds numbers other than 0 and 1")
            rows.setdefault(frame, {})[name] = [number for number, there in enumerate(present) if there]
    incomplete = [frame for frame, row in rows.items() if len(row) < len(widths)]
    if incomplete:
        raise AnnotationError(
            f"{video.video_id}: the files of triplets and components differ at frame {incomplete[0]}"
        )
    return [RowTrack(rows, 1.0, exact=False)]


_FRAMES = FilePattern(FRAMES, r"(?:videos|data|frames)/VID(\d{2,3})", "VID{:02d}", rate=1.0)
BUILDERS = (
    FrameSetBuilder(
        T50, (_FRAMES, FilePattern("labels", r"labels/VID(\d{2,3})\.json", "VID{:02d}")), tracks, needed=("labels",)
    ),
    FrameSetBuilder(
        T45,
        (
            _FRAMES,
            *(
                FilePattern(name, rf"{name[:-1]}/VID(\d{{2,3}})\.txt", "VID{:02d}")
                for name in ("triplets", "instruments", "verbs", "targets")
            ),
        ),
        tracks_t45,
        needed=("triplets", "instruments", "verbs", "targets"),
    ),
)
