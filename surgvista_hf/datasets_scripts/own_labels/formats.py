"""The one door to labels of one's own: finds the reader of each file, and merges what several files say of one video."""

import importlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ...util.errors import InputError
from ...util.file_search import VIDEO_SUFFIXES, SkippedFiles, is_image, is_unfinished, is_video, walk
from ...util.messages import did_you_mean
from ..schema.info import AnnotationError, MissingFilesError
from .documents import read_head
from .model import LabelReader, LabelTier, VideoLabels
from .tables import merge_labels

# In the order in which they are asked: those that know their format by its content come before the table, which takes any.
MODULES = ("elan", "boris", "cvat", "via", "label_studio", "coco", "camma", "hugging_face", "tables")
_NO_LABELS = ("classes.txt", "mapping.yaml", "mapping.yml", "readme.txt", "license.txt")
_KINDS = r"phases?|steps?|tools?|instruments?|triplets?|actions?|labels?|annotations?|timestamps?|skills?"
_FILE_OF_A_KIND = re.compile(rf"^(.+?)[-_ .]({_KINDS})$", re.IGNORECASE)
# What `surgvista suggest-labels` writes beside the labels: tables for people, and a tier of reasons like `3: unsure`.
_SUGGESTIONS = (
    frozenset(("order", "video", "start", "end", "tier", "label", "score", "reason")),
    frozenset(("video", "seconds", "labeled_seconds", "uncertainty", "unlike_training", "suggestions")),
)
_REASON_TIER, _REASON = "suggestion", re.compile(r"\d+: .")
_GENERAL = ("label", "value", "annotation")  # names of tiers that say nothing


@dataclass(frozen=True)
class LabelFiles:
    """The labels of a file or folder.

    Args:
        videos: labels of each video, by its name in the files.
        formats: format of each file or folder that was read.
        passed: sentence on the files that were passed over; empty if there are none.
    """

    videos: tuple[VideoLabels, ...]
    formats: dict[Path, str]
    passed: str = ""


@cache
def readers() -> dict[str, LabelReader]:
    """Return the readers of all formats, by their names on the command line."""
    here = __name__.rpartition(".")[0]
    modules = [importlib.import_module(f"{here}.{name}") for name in MODULES]
    return {module.FORMAT: module for module in modules}


def find_reader(path: Path, format_name: str = "") -> LabelReader | None:
    """Return the reader of a file, or of a folder that is read as a whole; `None` if no format is recognized.

    Args:
        path: file or folder.
        format_name: name of the format of files, where their content should not decide.

    Raises:
        InputError: there is no format of that name.
    """
    known = readers()
    if format_name and format_name not in known:
        hint = did_you_mean(format_name, known, f"there are {', '.join(known)}")
        raise InputError(f"there is no format {format_name!r} of labels; {hint}")
    if format_name and not path.is_dir():
        return known[format_name]
    chosen = [known[format_name]] if format_name else known.values()
    return next((reader for reader in chosen if reader.recognizes(path)), None)


def read_labels(path: Path, format_name: str = "") -> LabelFiles:
    r"""Read the labels of all videos from a file, or from a folder of files.

    A folder may hold one file or several for each video, and files with many videos. What they say of one video is merged.

    Args:
        path: file or folder.
        format_name: name of the format, see `readers`; by default it is recognized.

    Returns:
        The labels, in the order of the files.

    Raises:
        MissingFilesError: there is no such file, or a folder without labels.
        AnnotationError: a file cannot be understood; the message names the cell or element.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "op1_phase.csv").write_text("second,phase\n0,cut\n")
        >>> _ = (folder / "op1_tool.csv").write_text("second,hook\n0,1\n")
        >>> labels = read_labels(folder)
        >>> [(video.video, [tier.name for tier in video.tiers]) for video in labels.videos]
        [('op1', ['phase', 'hook'])]
    """
    if not path.exists():
        raise MissingFilesError(f"there are no labels at {path}")
    reader = find_reader(path, format_name)
    if reader is not None:
        return _label_files([(path, reader.FORMAT, labels) for labels in reader.read(path)], "")
    if path.is_file():
        raise AnnotationError(f"{path} has none of the formats {', '.join(readers())}; name one with --format")
    passed = SkippedFiles()
    found = list(_read_folder(path, format_name, passed))
    if not found:
        raise MissingFilesError(f"{path} holds no files with labels ({', '.join(readers())}){passed}")
    return _label_files(found, str(passed).removeprefix("; "))


def _read_folder(root: Path, format_name: str, passed: SkippedFiles) -> Iterator[tuple[Path, str, VideoLabels]]:
    """Yield the labels of each file below a folder, with its path and format."""
    for here, _, names in walk(root, passed):
        for path in (here / name for name in names):
            if is_video(path) or is_image(path) or path.name.lower() in _NO_LABELS:
                continue
            if _is_suggestions(path):
                passed.add(path, "tables of suggestions")
                continue
            reader = None if is_unfinished(path) else find_reader(path, format_name)
            if reader is None:
                passed.add(path, "files that are no labels")
                continue
            yield from ((path, reader.FORMAT, labels) for labels in reader.read(path))


def _is_suggestions(path: Path) -> bool:
    """Return whether a file is a table of suggestions what to label next, whose labels stand in documents beside it."""
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        return False
    first = read_head(path).partition("\n")[0]
    return frozenset(cell.strip().strip('"') for cell in re.split("[,;\t]", first)) in _SUGGESTIONS


def _without_reasons(path: Path, labels: VideoLabels) -> VideoLabels:
    """Return labels without the order, the score and the reason of what `surgvista suggest-labels` has suggested."""
    left = ("order", "score", "reason") if _is_suggestions(path) else ()
    tiers = tuple(tier for tier in labels.tiers if tier.name not in left and not _is_of_reasons(tier))
    return replace(labels, tiers=tiers)


def _is_of_reasons(tier: LabelTier) -> bool:
    return tier.name == _REASON_TIER and all(_REASON.match(span.value) for span in tier.spans)


def _label_files(found: Sequence[tuple[Path, str, VideoLabels]], passed: str) -> LabelFiles:
    parts = [(path, _of_kind(path, _composed(_without_reasons(path, labels)))) for path, _, labels in found]
    repeated = _repeated_tiers(parts)
    videos: dict[str, list[VideoLabels]] = {}
    for path, labels in parts:
        tiers = tuple(_told_apart(tier, path, repeated) for tier in labels.tiers)
        videos.setdefault(without_suffix(labels.video), []).append(replace(labels, tiers=tiers))
    merged = _with_common_names([merge_labels(name, each) for name, each in videos.items()])
    return LabelFiles(merged, {path: name for path, name, _ in found}, passed)


def composed(text: str) -> str:
    """Return a text with composed characters: files of macOS have `a` and an accent where labels have `ä`.

    Example:
        >>> composed("a\N{COMBINING DIAERESIS}") == "ä"
        True
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def plain_name(name: str) -> str:
    """Return what is equal for names of tiers that differ in case, blanks, underscores and hyphens only.

    Example:
        >>> plain_name("Phase_1") == plain_name("phase 1")
        True
    """
    return re.sub(r"[\s_-]+", "", composed(name).casefold())


def _composed(labels: VideoLabels) -> VideoLabels:
    """Return labels in which all names and values have composed characters."""
    tiers = tuple(
        replace(
            tier,
            name=composed(tier.name),
            spans=tier.spans
            if all(span.value.isascii() for span in tier.spans)
            else tuple(replace(span, value=composed(span.value)) for span in tier.spans),
        )
        for tier in labels.tiers
    )
    properties = {composed(name): composed(value) for name, value in labels.properties.items()}
    return replace(labels, video=composed(labels.video), tiers=tiers, properties=properties)


def _with_common_names(videos: Sequence[VideoLabels]) -> tuple[VideoLabels, ...]:
    """Return the labels with one name for tiers, and for properties, whose names differ only in how they are written.

    Names that differ so within one video stay, since they mean two things.
    """
    tiers = _common_names([tier.name for tier in video.tiers] for video in videos)
    properties = _common_names(video.properties for video in videos)
    return tuple(
        replace(
            video,
            tiers=tuple(replace(tier, name=tiers.get(tier.name, tier.name)) for tier in video.tiers),
            properties={properties.get(name, name): value for name, value in video.properties.items()},
        )
        for video in videos
    )


def _common_names(names_by_video: Iterable[Iterable[str]]) -> dict[str, str]:
    """Return the first name for each that is written differently."""
    first: dict[str, str] = {}
    common: dict[str, str] = {}
    apart: set[str] = set()
    for names in map(list, names_by_video):
        plain = [plain_name(name) for name in names]
        apart.update(each for each in plain if plain.count(each) > 1)
        common |= {name: first.setdefault(each, name) for name, each in zip(names, plain, strict=True)}
    return {name: other for name, other in common.items() if plain_name(name) not in apart}


def _of_kind(path: Path, labels: VideoLabels) -> VideoLabels:
    """Return the labels of `op1_phase.csv` as those of `op1`, if no other name of the video stands in the file."""
    match = _FILE_OF_A_KIND.match(composed(path.stem))
    if not match or labels.video != composed(path.stem):
        return labels
    tiers = tuple(replace(tier, name=match[2]) if tier.name in _GENERAL else tier for tier in labels.tiers)
    return replace(labels, video=match[1], tiers=tiers)


def _repeated_tiers(parts: Iterable[tuple[Path, VideoLabels]]) -> set[str]:
    """Return the names of tiers that files of one video in different folders (`phases/op1.csv`, `tools/op1.csv`) share."""
    folders: dict[tuple[str, str], set[Path]] = {}
    for path, labels in parts:
        for tier in labels.tiers:
            folders.setdefault((without_suffix(labels.video), tier.name), set()).add(path.parent)
    return {name for (_, name), found in folders.items() if len(found) > 1}


def _told_apart(tier: LabelTier, path: Path, repeated: set[str]) -> LabelTier:
    if tier.name not in repeated:
        return tier
    general = tier.name in _GENERAL
    return replace(tier, name=path.parent.name if general else f"{path.parent.name} {tier.name}")


def without_suffix(name: str) -> str:
    """Return the name of a video without the suffix of a video file.

    Example:
        >>> without_suffix("videos/op1.MP4"), without_suffix("op1.2")
        ('videos/op1', 'op1.2')
    """
    suffix = Path(name).suffix
    return name[: -len(suffix)] if suffix.lower() in VIDEO_SUFFIXES else name
