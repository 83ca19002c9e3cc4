"""The search for videos and images in folders that people made: linked folders, recorders' suffixes, leftovers of downloads.

Every verb that looks for videos takes them from here, so that all find the same.
"""

import logging
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from .messages import preview

logger = logging.getLogger(__name__)

# Suffix of a file and the container that is expected in it, by FFmpeg's name. `VideoReader` opens these containers
# and no others; what a file really holds is found out from its content. A new kind of file is a line here.
VIDEO_CONTAINERS = {
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v"), "mov"),
    **dict.fromkeys((".mkv", ".webm"), "matroska"),
    **dict.fromkeys((".avi", ".divx"), "avi"),
    **dict.fromkeys((".mpg", ".mpeg", ".mpe", ".m2p", ".vob"), "mpeg"),
    **dict.fromkeys((".ts", ".mts", ".m2ts", ".m2t", ".tod", ".trp"), "mpegts"),
    ".mxf": "mxf",
    **dict.fromkeys((".wmv", ".asf"), "asf"),
    ".flv": "flv",
    ".ogv": "ogg",
    ".dv": "dv",
    **dict.fromkeys((".dcm", ".dicom"), "dicom"),
}
VIDEO_SUFFIXES = tuple(VIDEO_CONTAINERS)
# Suffix of a file and the format that is expected in it, by Pillow's name.
IMAGE_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WEBP"}
IMAGE_SUFFIXES = tuple(IMAGE_FORMATS)
# Bare video streams: they can be decoded, but hold no times, and a supposed rate would shift every label without a word.
_TIMELESS = tuple(".264 .h264 .avc .265 .h265 .hevc .m1v .m2v .mjpeg .mjpg".split())
# The last suffix of what browsers, yt-dlp, aria2, WinSCP and others are still writing; `op.temp.mp4` is yt-dlp's.
_UNFINISHED = tuple(
    ".part .partial .crdownload .download .opdownload .filepart .tmp .temp .ytdl .aria2 .!ut .!qb .bc! .!bt .dwnl".split()
)
# Folders that network drives, archives and wastebaskets add.
_SYSTEM = frozenset({"@eadir", "#recycle", "$recycle.bin", "system volume information", "__macosx", "lost+found"})
_LEFTOVERS = "leftovers of unfinished downloads or empty files"
_BARE = "bare video streams, which hold no times; put each into a container: ffmpeg -r RATE -i IN -c copy OUT.mp4"
_DICOM = b"DICM"  # 128 bytes into a file; archives give such files numbers for names
_MAX_VISITS = 8  # of a folder under different names; bounds what links among folders can cost


def walk(root: Path, passed: "SkippedFiles | None" = None) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk through a folder from the top, as `os.walk` does, also into linked folders, but never in circles.

    Hidden files and folders, those that systems add, and folders of unfinished downloads are left out.

    Args:
        root: the folder.
        passed: record of what is left out and should be known.

    Yields:
        A folder, the names of its folders, and the names of its files, both sorted. The caller may remove names of folders
        that are not to be walked through. A link that leads nowhere is among the files.
    """
    passed = passed or SkippedFiles()
    visits: Counter[tuple[int, int]] = Counter()
    own: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    linked: deque[tuple[Path, frozenset[tuple[int, int]]]] = deque()
    while own or linked:
        # Links come last, so that what has a name of its own is met by it.
        here, above = own.pop() if own else linked.popleft()
        try:
            status = here.stat()
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError:
            passed.note("folders that cannot be listed", here)
            continue
        identity = (status.st_dev, status.st_ino)
        visits[identity] += 1
        if identity in above or visits[identity] > _MAX_VISITS:
            continue
        names: list[str] = []
        files: list[str] = []
        links = {entry.name for entry in entries if entry.is_symlink()}
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in _SYSTEM:
                continue
            if not _is_folder(entry):
                files.append(entry.name)
            elif Path(entry.name).suffix.lower() in _UNFINISHED:  # Safari's `op.mp4.download/op.mp4`
                passed.note(_LEFTOVERS, here / entry.name)
            else:
                names.append(entry.name)
        yield here, names, files
        below = above | {identity}
        own += [(here / name, below) for name in reversed(names) if name not in links]
        linked += [(here / name, below) for name in names if name in links]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_video(path: Path) -> bool:
    """Return whether a file has the suffix of a video, in whatever case, or none and the content of a DICOM file.

    Example:
        >>> is_video(Path("OP7.MTS")), is_video(Path("op7.mp4.part"))
        (True, False)
    """
    return path.suffix.lower() in VIDEO_CONTAINERS or _is_dicom(path)


def _is_dicom(path: Path) -> bool:
    """Return whether a file without a suffix, or with a number for one, is a DICOM file; an index of others is none."""
    if path.suffix.strip(".0123456789") or path.name.upper() == "DICOMDIR":
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == _DICOM
    except OSError:
        return False


def is_image(path: Path) -> bool:
    """Return whether a file has the suffix of an image, in whatever case."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_unfinished(path: Path) -> bool:
    """Return whether a file was left by a download that did not end, as its name or a note beside it says.

    Example:
        >>> [is_unfinished(Path(name)) for name in ("op.f137.mp4.part", "op.temp.mp4", "op.mp4.part-Frag7", "op.mp4")]
        [True, True, True, False]
    """
    last, before = path.suffix.lower(), Path(path.stem).suffix.lower()
    if last in _UNFINISHED or last.startswith(".part-frag") or path.name.endswith("~") or path.name.startswith("~$"):
        return True
    return is_video(path) and (before == ".temp" or path.with_name(f"{path.name}.aria2").exists())


def is_leftover(path: Path) -> bool:
    """Return whether a file is unfinished, or a video that holds nothing."""
    try:
        return is_unfinished(path) or (is_video(path) and path.stat().st_size == 0)
    except OSError:  # a link that leads nowhere
        return False


def find_videos(root: Path, passed: "SkippedFiles | None" = None) -> list[Path]:
    """Find the videos below a folder by their suffixes, each once.

    Args:
        root: the folder.
        passed: record of what is left out.

    Returns:
        Their paths, sorted. Of a video that is there under several names, as links make them, the one with the fewest links
        counts.
    """
    passed = passed or SkippedFiles()
    found = []
    for here, _, files in walk(root, passed):
        for path in (here / name for name in files):
            if is_video(path) and path.is_file() and not is_leftover(path):
                found.append(path)
            else:
                passed.add(path)
    return without_duplicates(root, found, passed)


def without_duplicates(root: Path, found: Iterable[Path], passed: "SkippedFiles") -> list[Path]:
    """Keep one of several paths that lead to the same file or folder: the one with the fewest links, else the first.

    Args:
        root: folder that all lie in.
        found: paths, some of which may lead to the same.
        passed: record of the others.

    Returns:
        One path for each file or folder, sorted.
    """
    by_target: dict[Path, list[Path]] = {}
    for path in sorted(found):
        by_target.setdefault(path.resolve(), []).append(path)
    unique = []
    for paths in by_target.values():
        best = paths[0] if len(paths) == 1 else min(paths, key=lambda path: (_links(root, path), path))
        unique.append(best)
        for path in paths:
            if path != best:
                passed.note("links to what is there anyway", path)
    return sorted(unique)


def _links(root: Path, path: Path) -> int:
    """Return how many parts of a path below a folder are links."""
    parts = path.relative_to(root).parts
    return sum(root.joinpath(*parts[: count + 1]).is_symlink() for count in range(len(parts)))


class SkippedFiles:
    """Records the files that a search did not take, by reason, for one remark a reason."""

    def __init__(self) -> None:
        self._by_reason: dict[str, list[Path]] = {}

    def add(self, path: Path, otherwise: str | None = "files that are no videos") -> None:
        """Record a file under the reason that can be seen from it, or else under `otherwise`; `None`: it is not recorded."""
        if is_leftover(path):
            self.note(_LEFTOVERS, path)
        elif path.suffix.lower() in _TIMELESS:
            self.note(_BARE, path)
        elif is_video(path) and not path.exists():
            self.note("links that lead nowhere", path)
        elif otherwise:
            self.note(otherwise, path)

    def note(self, reason: str, path: Path) -> None:
        """Record a path under a reason."""
        self._by_reason.setdefault(reason, []).append(path)

    def tell(self) -> None:
        """Log the files that were passed over, a remark for each reason."""
        for remark in self._remarks():
            logger.warning("passed over: %s", remark)

    def __str__(self) -> str:
        """Return half a sentence for messages; empty if nothing was passed over."""
        remarks = list(self._remarks())
        return f"; passed over: {'; '.join(remarks)}" if remarks else ""

    def _remarks(self) -> Iterator[str]:
        for reason, paths in self._by_reason.items():
            if "no videos" in reason:  # there may be thousands: their kinds say enough
                names = preview(sorted({path.suffix.lower() or "no suffix" for path in paths}))
            else:
                names = preview(sorted(path.name for path in paths), 3)
            yield f"{len(paths)} {reason} ({names})"
