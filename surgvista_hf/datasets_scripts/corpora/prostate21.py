"""Prostate21, that is ProstaTD: action triplets in robot-assisted prostatectomies, release 1 and release 2.

The releases number twelve triplets differently. An instance carries its components, so the release is checked, never guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from ..schema.annotation_files import as_integer, read_json
from ..schema.builder import FRAMES, FilePattern, FrameSetBuilder, RawVideo
from ..schema.info import AnnotationError, DatasetInfo, Protocol, triplet_labels
from ..schema.label_tracks import RowTrack, Track
from ..schema.triplets import TripletTable

_FILES = resources.files(__package__) / "tables"
TABLE_1 = TripletTable.read(_FILES / "prostate21_triplets.csv")
TABLE_2 = TripletTable.read(_FILES / "prostatd_triplets.csv")
VIDEOS = tuple(
    """esadv1 esadv2 esadv3 esadv4 psiv1 psiv2 psiv3 psiv4 psiv7 psiv14 psiv15 psiv21 pwhv1 pwhv2 pwhv3 pwhv4 pwhv5
    pwhv6 pwhv7 pwhv8 pwhv9""".split()
)
_INSTANCE = 10  # triplet, instrument, verb, target, track, triplet track, box
_FOLDS = {  # test, validation
    "split1": ("esadv1 psiv1 psiv4 pwhv8", "psiv7 pwhv5"),
    "split2": ("esadv2 psiv7 pwhv4 pwhv9", "psiv1 pwhv6"),
    "split3": ("esadv3 psiv14 pwhv1 psiv2", "esadv1 pwhv2"),
    "split4": ("esadv4 psiv15 pwhv2 pwhv7", "esadv3 pwhv3"),
    "split5": ("psiv3 psiv21 pwhv3 pwhv5 pwhv6", "psiv14 pwhv1"),
}


def _fold(name: str) -> Protocol:
    test, validation = (tuple(ids.split()) for ids in _FOLDS[name])
    train = tuple(video for video in VIDEOS if video not in (*test, *validation))
    return Protocol(f"official {name} of release 2", {"train": train, "validation": validation, "test": test})


RELEASE_1 = DatasetInfo(
    name="prostate21",
    title="Prostate21 (ProstaTD, release 1)",
    task="triplet",
    procedure="prostatectomy",
    license="CC-BY-NC-SA-4.0, academic use only",
    homepage="https://github.com/SmartyYYY/ProstaTD",
    access="request form with ethics terms",
    citation="Chen et al., ProstaTD: A Large-scale Multi-source Dataset for Structured Surgical Triplet "
    "Detection, arXiv 2506.01130, 2025",
    labels=triplet_labels(TABLE_1),
    protocols={
        "folders": Protocol("the folders train, val and test of the download (14, 2 and 5 videos)", by_part="folders"),
        **{name: _fold(name) for name in _FOLDS},
    },
    video_ids=VIDEOS,
    totals={"videos": 21, "frames": 60529, "triplets": 89, "instruments": 7, "verbs": 10, "targets": 10},
    unlabeled="drop",
    notes="Contains the eight operations of PSI-AVA. Some frames were removed by the authors: clips bridge the gaps. "
    "Which videos release 1 tests on is not published; the folders say it.",
    triplets=TABLE_1,
)
RELEASE_2 = replace(
    RELEASE_1,
    name="prostatd",
    title="ProstaTD, release 2",
    labels=triplet_labels(TABLE_2),
    protocols={name: _fold(name) for name in ("split5", "split1", "split2", "split3", "split4")},
    notes="Triplets 47-58 are numbered differently from release 1, which SurgVISTA used. Only split5 has its "
    "14, 2 and 5 videos. "
    "The files are expected in the layout of release 1.",
    triplets=TABLE_2,
)


def tracks_1(video: RawVideo) -> list[Track]:
    """Read the triplets of release 1."""
    return [_read(video.files["annos"], TABLE_1, TABLE_2, "2: use the data set prostatd")]


def tracks_2(video: RawVideo) -> list[Track]:
    """Read the triplets of release 2."""
    return [_read(video.files["annos"], TABLE_2, TABLE_1, "1: use the data set prostate21")]


def _read(path: Path, table: TripletTable, other: TripletTable, hint: str) -> RowTrack:
    content = read_json(path)
    if "annotations" not in content:
        raise AnnotationError(f"{path} has no 'annotations'")
    rows = {}
    for frame, instances in content["annotations"].items():
        triplets = {_triplet(path, frame, instance, table, other, hint) for instance in instances}
        rows[as_integer(path, 1, frame)] = table.row(triplets)
    return RowTrack(rows, 1.0, exact=False)  # the file names the labeled frames


def _triplet(
    path: Path, frame: str, instance: Sequence[float], table: TripletTable, other: TripletTable, hint: str
) -> int:
    if len(instance) != _INSTANCE:
        raise AnnotationError(
            f"{path}: an instance of frame {frame} has {len(instance)} numbers, {_INSTANCE} are expected"
        )
    triplet, *components = (int(number) for number in instance[:4])
    if triplet not in range(len(table.components)):
        raise AnnotationError(f"{path}: frame {frame} holds triplet {triplet}; there are {len(table.components)}")
    if -1 not in components and tuple(components) != table.components[triplet]:
        reason = f"this is release {hint}" if tuple(components) == other.components[triplet] else "no release has that"
        raise AnnotationError(
            f"{path}: frame {frame} pairs triplet {triplet} with the components {components}; {reason}"
        )
    return triplet


_FILE_PATTERNS = (
    *(FilePattern(FRAMES, rf"frames/{part}/([a-z]+v\d+)", rate=1.0) for part in ("train", "val", "test")),
    *(FilePattern("annos", rf"annos/{part}/([a-z]+v\d+)\.json") for part in ("train", "val", "test")),
)


def parts(root: Path, found: list[RawVideo], settings: Mapping[str, str]) -> list[RawVideo]:
    """Attach its split to each video: the folder above it."""
    names = {"train": "train", "val": "validation", "test": "test"}
    return [replace(video, parts={"folders": (names[video.files[FRAMES].parent.name.lower()],)}) for video in found]


BUILDERS = (
    FrameSetBuilder(RELEASE_1, _FILE_PATTERNS, tracks_1, needed=("annos",), expand=parts),
    FrameSetBuilder(RELEASE_2, _FILE_PATTERNS, tracks_2, needed=("annos",), expand=parts),
)
