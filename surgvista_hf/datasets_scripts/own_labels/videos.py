"""Which video files the names in label files mean, and which files are parts of one operation."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from .formats import composed, without_suffix
from .mapping import VideoMapping

_GOPRO = re.compile(
    r"^(?P<base>G[HXL])(?P<part>\d{2})(?P<number>\d{4})$|^GOPR(?P<first>\d{4})$|^GP(?P<later>\d{2})(?P<of>\d{4})$",
    re.IGNORECASE,
)
_PART_WORD = re.compile(
    r"^(?P<base>.+?)[\s_.-]*(?:part|pt|teil|chapter|disc|cd)[\s_.-]*(?P<part>\d{1,2})$", re.IGNORECASE
)
_NUMBERED = re.compile(r"^(?P<base>.+?)[\s_-]+(?P<part>\d{1,2})$")
_YEAR_OR_DATE = re.compile(r"^(?:19|20)\d{2}(?:[-_. ]?\d{2}){0,2}$")


@dataclass(frozen=True)
class JoinableFiles:
    """Files whose names count the parts of one recording.

    Args:
        base: name of the recording.
        files: its files, in order.
        evident: whether the names alone show it, as `part` does; otherwise labels must name the recording as a whole.
    """

    base: str
    files: tuple[str, ...]
    evident: bool


@dataclass(frozen=True)
class VideoAssignment:
    """The videos that labels are about.

    Args:
        videos: videos by their id.
        without_video: names in the labels for which there is no file.
        without_labels: files that no labels are about.
        ambiguous: files that a name may mean, where it means several.
        apart: files whose names look like parts of one recording, and that are videos of their own nevertheless.
    """

    videos: Mapping[str, VideoMapping]
    without_video: tuple[str, ...] = ()
    without_labels: tuple[str, ...] = ()
    ambiguous: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    apart: tuple[JoinableFiles, ...] = ()


def assign_videos(
    names: Sequence[str], files: Sequence[str], patients: Mapping[str, str] | None = None
) -> VideoAssignment:
    """Find the files that names in labels mean.

    A name is the path of a file, with or without folder and suffix, whatever the case; or the name of an operation whose
    files are numbered (`op1-1.mp4`, `op1-2.mp4`; `op1_part2`; chapters of a GoPro), or that lie in a folder of its name; or a
    number, if only one file has it. Files that labels name one by one are joined only if their names call them parts, or if
    the labels also name the whole, and never if they are of different patients.

    Args:
        names: names of videos in the labels.
        files: paths of the files below the folder of the videos; folders of frames end with `/`.
        patients: patient by the name in the labels, as far as they say it.

    Returns:
        Videos, and what could not be assigned.

    Example:
        >>> found = assign_videos(["op1", "op2.mp4"], ["op1-1.mp4", "op1-2.mp4", "op2.mp4"])
        >>> {name: video.files for name, video in found.videos.items()}
        {'op1': ('op1-1.mp4', 'op1-2.mp4'), 'op2': ('op2.mp4',)}
    """
    named = {name: exact_files(name, files) for name in names}
    found_groups = joinable_files(files)
    groups = [group for group in found_groups if _is_joinable(group, named, patients or {})]
    joined = {file: group for group in groups if _is_joined(group, named) for file in group.files}
    labels: dict[tuple[str, ...], list[str]] = {}
    ids: dict[tuple[str, ...], str] = {}
    missing: list[str] = []
    ambiguous: dict[str, tuple[str, ...]] = {}
    for name in names:
        found = named[name]
        if not found:
            found, video_id = _recording(name, files, groups)
        elif len(found) == 1:
            group = joined.get(found[0])
            found, video_id = (group.files, group.base) if group else (found, video_id_of(found[0]))
        else:
            ambiguous[name] = found
            continue
        if not found:
            missing.append(name)
            continue
        labels.setdefault(found, []).append(name)
        ids[found] = video_id
    videos = {ids[each]: VideoMapping(each, tuple(labels[each])) for each in labels}
    used = {file for video in videos.values() for file in video.files}
    alone = {video.files[0] for video in videos.values() if len(video.files) == 1}
    apart = [group for group in found_groups if _may_be_parts(group) and len(alone & set(group.files)) > 1]
    without_labels = tuple(file for file in files if file not in used)
    return VideoAssignment(videos, tuple(missing), without_labels, ambiguous, tuple(apart))


def video_id_of(file: str) -> str:
    """Return the id of the video of one file: its path without the suffix, with composed characters."""
    return composed(without_suffix(file.rstrip("/")))


def joinable_files(files: Iterable[str]) -> list[JoinableFiles]:
    """Find files in one folder whose names number the parts of a recording from 0 or 1 on without a gap.

    Example:
        >>> [group.base for group in joinable_files(["GH010001.MP4", "GH020001.MP4", "b-1.avi", "b-2.avi"])]
        ['GH010001', 'b']
    """
    parts: dict[tuple[str, str], dict[int, str]] = {}
    evident: dict[tuple[str, str], bool] = {}
    for file in files:
        path = PurePosixPath(composed(file.rstrip("/")))
        if (part := _part(without_suffix(path.name))) is None:
            continue
        base, number, is_evident = part
        key = (path.parent.as_posix(), base)
        parts.setdefault(key, {}).setdefault(number, file)
        evident[key] = is_evident
    found = []
    for (folder, base), numbered in parts.items():
        numbers = sorted(numbered)
        if len(numbers) < 2 or numbers[0] not in (0, 1) or numbers != list(range(numbers[0], numbers[-1] + 1)):
            continue
        first = PurePosixPath(video_id_of(numbered[numbers[0]])).name
        name = first if _GOPRO.match(first) else base
        joined_path = name if folder == "." else f"{folder}/{name}"
        found.append(JoinableFiles(joined_path, tuple(numbered[number] for number in numbers), evident[folder, base]))
    return found


def _part(stem: str) -> tuple[str, int, bool] | None:
    """Return the recording, the number of the part, and whether the name alone shows it; `None` if there is no number."""
    if match := _GOPRO.match(stem):
        if match["base"]:
            return f"{match['base']}{match['number']}".upper(), int(match["part"]), True
        if match["first"]:
            return f"GOPR{match['first']}", 0, True
        return f"GOPR{match['of']}", int(match["later"]), True
    if match := _PART_WORD.match(stem):
        return match["base"], int(match["part"]), True
    # `2023-01` is the first operation of a year and 2024-05-02 a day; `op1-2` may be a part of op1 or an operation.
    if (match := _NUMBERED.match(stem)) and not _YEAR_OR_DATE.match(match["base"]):
        return match["base"], int(match["part"]), False
    return None


def _is_joinable(group: JoinableFiles, named: Mapping[str, tuple[str, ...]], patients: Mapping[str, str]) -> bool:
    """Return whether no two names of files of a group, or of the whole, are of different patients."""
    of_group = (name for name, files in named.items() if _means(name, group) or set(files) & set(group.files))
    return len({patients[name] for name in of_group if patients.get(name)}) < 2


def _is_joined(group: JoinableFiles, named: Mapping[str, tuple[str, ...]]) -> bool:
    """Return whether files are joined although labels name them one by one.

    They are if the labels name the whole as well, and if names tell that they are parts: all of them, or the first chapter of
    a camera for all.
    """
    found = {files[0] for files in named.values() if len(files) == 1 and files[0] in group.files}
    if not found:
        return False
    if any(not files and _means(name, group) for name, files in named.items()):
        return True
    if not group.evident:
        return False
    first_alone = found == {group.files[0]} and bool(_GOPRO.match(PurePosixPath(group.base).name))
    return first_alone or found == set(group.files)


def _means(name: str, group: JoinableFiles) -> bool:
    """Return whether a name is that of a recording, with or without its folder."""
    wanted, base = _wanted(name), group.base.lower()
    return wanted == base or PurePosixPath(wanted).name == PurePosixPath(base).name


def _wanted(name: str) -> str:
    return composed(without_suffix(name.replace("\\", "/").strip("/"))).lower()


def _may_be_parts(group: JoinableFiles) -> bool:
    """Return whether the names may be of parts of one operation: `op1-1` may, `op-1` may not."""
    return group.evident or PurePosixPath(group.base).name[-1].isdigit()


def exact_files(name: str, files: Sequence[str]) -> tuple[str, ...]:
    """Return the files of this path, or else of this name, or else of this name in upper or lower case."""
    wanted = composed(name.replace("\\", "/").strip("/"))
    stem = without_suffix(PurePosixPath(wanted).name)
    tests = (
        lambda file: composed(file.rstrip("/")) == wanted or video_id_of(file) == without_suffix(wanted),
        lambda file: _stem(file) == stem,
        lambda file: _stem(file).lower() == stem.lower(),
    )
    for fits in tests:
        found = tuple(file for file in files if fits(file))
        if found:
            return found
    return ()


def _stem(file: str) -> str:
    return PurePosixPath(video_id_of(file)).name


def _recording(name: str, files: Sequence[str], groups: Sequence[JoinableFiles]) -> tuple[tuple[str, ...], str]:
    """Return the files of a recording that is named as a whole, and its id; no files if there are none."""
    wanted = _wanted(name)
    for group in groups:
        if _means(name, group):
            return group.files, group.base
    inside = [file for file in files if wanted == composed(str(PurePosixPath(file.rstrip("/")).parent)).lower()]
    if inside:
        return tuple(sorted(inside, key=_natural)), composed(str(PurePosixPath(inside[0].rstrip("/")).parent))
    if wanted.isdigit():
        found = [
            file for file in files if (numbers := re.findall(r"\d+", _stem(file))) and int(numbers[-1]) == int(wanted)
        ]
        if len(found) == 1:
            return (found[0],), video_id_of(found[0])
    return (), ""


def _natural(file: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in names by their value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", file)]
