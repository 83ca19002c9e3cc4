"""Any folder of videos, or of folders with frames, without labels: for pre-training and for predictions."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...util.file_search import VIDEO_SUFFIXES, SkippedFiles, is_image, is_leftover, is_video, walk, without_duplicates
from ..schema.builder import FRAMES, VIDEO, FrameSetBuilder, RawVideo
from ..schema.info import EVERYTHING, DatasetError, DatasetInfo, MissingFilesError, Protocol
from ..schema.label_tracks import Track

INFO = DatasetInfo(
    name="folder",
    title="A folder of videos",
    task="pre-training",
    procedure="any",
    license="yours",
    homepage="your own disk",
    access="yours",
    citation="",
    labels={},
    protocols={
        "everything": EVERYTHING,
        "seeded_80_10_10": Protocol(
            "drawn at random by video", fractions={"train": 0.8, "validation": 0.1, "test": 0.1}, seed="folder"
        ),
    },
    checked="real clips",
    notes="The id of a video is its path below the folder, without the suffix.",
)
GENSURGERY = replace(
    INFO,
    name="gensurgery",
    title="GenSurgery",
    procedure="general surgery, web videos",
    license="none; rights stay with the uploaders",
    homepage="https://github.com/SamuelSchmidgall/GSViT",
    access="link lists; many links are dead",
    citation="Schmidgall et al., General surgery vision transformer: A video pre-trained foundation model for "
    "general surgery, arXiv 2403.05949, 2024",
    protocols={"surgvista": replace(EVERYTHING, origin="SurgVISTA: videos with at least 60 frames", min_frames=60)},
    notes="A folder of what you collected; SurgVISTA's cleaned list is not published.",
)


def collect(root: Path | None, settings: Mapping[str, str]) -> list[RawVideo]:
    """Find every video file, and every folder that holds images."""
    passed = SkippedFiles()
    found = find_media(root, passed)
    passed.tell()
    return found


def find_media(root: Path | None, passed: SkippedFiles) -> list[RawVideo]:
    """Find every video file and every folder of images below a folder.

    Args:
        root: the folder.
        passed: record of what is left out.

    Raises:
        MissingFilesError: there is no such folder, or it holds neither.
        DatasetError: two would have the same id.
    """
    if root is None or not root.is_dir():
        raise MissingFilesError(f"there is no folder {root} with videos")
    videos, folders = [], []
    for here, _, files in walk(root, passed):
        for path in (here / name for name in files):
            if is_video(path) and path.is_file() and not is_leftover(path):
                videos.append(path)
            elif not is_image(path):
                passed.add(path)
        if here != root and any(is_image(Path(name)) for name in files):
            folders.append(here)
    found: dict[str, RawVideo] = {}
    for path in sorted([*without_duplicates(root, videos, passed), *without_duplicates(root, folders, passed)]):
        role = FRAMES if path.is_dir() else VIDEO
        has_suffix = role == VIDEO and path.suffix.lower() in VIDEO_SUFFIXES  # a DICOM file may be called 1.2.840.7
        name = (path.with_suffix("") if has_suffix else path).relative_to(root).as_posix()
        if name in found:
            raise DatasetError(
                f"{path} and {next(iter(found[name].files.values()))} would both be called {name}; rename one"
            )
        found[name] = RawVideo(name, {role: path})
    if not found:
        raise MissingFilesError(
            f"{root} holds neither videos ({', '.join(VIDEO_SUFFIXES)}) nor folders of images{passed}"
        )
    return list(found.values())


def tracks(video: RawVideo) -> list[Track]:
    """Return no labels: there are only frames."""
    return []


def named_source(root: Path | None, settings: Mapping[str, str]) -> DatasetInfo:
    """Return the description with the source that the user named, to tell folders apart: `--set source=our_hospital`."""
    return replace(INFO, source=settings["source"])


BUILDERS = (
    FrameSetBuilder(INFO, (), tracks, collect=collect, configure=named_source, settings={"source": ""}),
    FrameSetBuilder(GENSURGERY, (), tracks, collect=collect),
)
