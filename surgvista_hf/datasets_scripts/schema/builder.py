"""From a raw download to videos with labels: finding the files of a data set and reading what belongs to each video."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...util.file_search import VIDEO_SUFFIXES, SkippedFiles, is_unfinished, is_video, walk
from ...util.messages import did_you_mean, preview
from .info import DatasetError, DatasetInfo, MissingFilesError, Parts
from .label_tracks import Track
from .media import FrameFolder, Media, PreparationOptions, VideoFile, numbered_files

VIDEO, FRAMES = "video", "frames"
_SUFFIX = f"(?:{'|'.join(map(re.escape, VIDEO_SUFFIXES))})"


@dataclass(frozen=True)
class Place:
    """Where files of one kind lie in the published layout.

    Args:
        role: `VIDEO`, `FRAMES` (a folder of pictures) or the name of an annotation.
        pattern: regular expression of the path below any folder of the download, with `/`; capitals do not matter. Its last
            group is the number or name of the video. `VIDEO` patterns end before the suffix.
        video_id: format of the id made from that group; `{:02d}` makes a number of it.
        offset: added to the number.
        rate: numbers a second in the names of distributed frames; `None` for folders that users extracted themselves.
    """

    role: str
    pattern: str
    video_id: str = "{}"
    offset: int = 0
    rate: float | None = None

    def __post_init__(self) -> None:
        end = _SUFFIX if self.role == VIDEO else ""
        object.__setattr__(self, "_expression", re.compile(rf"(?:.*/)?{self.pattern}{end}", re.IGNORECASE))

    def match(self, path: str) -> str | None:
        """The id of the video that a path belongs to, if it is such a place."""
        match = self._expression.fullmatch(path)  # type: ignore[attr-defined]
        if not match:
            return None
        name = match[match.lastindex or 0]
        return self.video_id.format(int(name) + self.offset if name.isdigit() and ":" in self.video_id else name)


@dataclass(frozen=True)
class RawVideo:
    """One video of a raw download.

    Args:
        video_id: id in the frame set.
        files: path of each role.
        rate: numbers a second in the names of distributed frames, see `Place.rate`.
        start, stop: seconds, for a clip of a longer video.
        parts: its splits by protocol, where the download says them.
        numbered: number and path of its frames, where those of several videos share a folder.
        extra: what the builder found out on the way and its labels need; must be picklable.
        version: of decisions that its pictures depend on; see `prepare_videos`.
    """

    video_id: str
    files: Mapping[str, Path] = field(default_factory=dict)
    rate: float | None = None
    start: float = 0.0
    stop: float = float("inf")
    parts: Parts = field(default_factory=dict)
    numbered: tuple[tuple[int, Path], ...] = ()
    extra: Any = None
    version: str = ""

    def open(self, options: PreparationOptions) -> Media:
        """Its pictures.

        Raises:
            VideoReadError: they cannot be read.
        """
        if VIDEO in self.files:
            return VideoFile(self.files[VIDEO], self.start, self.stop)
        files = self.numbered or numbered_files(self.files[FRAMES])
        return FrameFolder(files, self.rate, options.folder_frames_per_second)


@dataclass(frozen=True)
class FrameSetBuilder:
    """How a raw download becomes videos with labels: a table of places and one function that reads labels.

    Args:
        info: of the data set.
        places: where its files lie.
        tracks: reads the labels of one video.
        needed: roles that every video must have beside its pictures.
        collect: finds videos where a table of places cannot say it.
        expand: changes the list of found videos as a whole: cuts clips, reads files that speak of all videos.
        configure: facts that depend on the data folder, such as the names of classes.
        settings: further options of these functions, with defaults.
    """

    info: DatasetInfo
    places: tuple[Place, ...]
    tracks: Callable[[RawVideo], Sequence[Track]]
    needed: tuple[str, ...] = ()
    collect: Callable[[Path | None, Mapping[str, str]], list[RawVideo]] | None = None
    expand: Callable[[Path, list[RawVideo], Mapping[str, str]], list[RawVideo]] | None = None
    configure: Callable[[Path | None, Mapping[str, str]], DatasetInfo] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def configured(self, root: Path | None, settings: Mapping[str, str]) -> "FrameSetBuilder":
        """The builder with the facts of this download.

        Raises:
            DatasetError: an unknown setting.
        """
        chosen = self._chosen(settings)
        info = self.configure(root, chosen) if self.configure else self.info
        return replace(self, settings=chosen, info=info)

    def find(self, root: Path | None) -> list[RawVideo]:
        """The videos of a raw download, sorted by id.

        Args:
            root: its folder; synthetic data need none.

        Returns:
            Videos with pictures and every needed annotation.

        Raises:
            MissingFilesError: no folder, no videos, or annotations of a video are missing.
            DatasetError: two files claim to be the same, or a video is not in the published list.
        """
        found = self.videos(root)
        problems = [f"{name}: no {role}" for name, role in self.missing(found) if name in found]
        if problems:
            raise MissingFilesError(
                f"{self.info.name}: annotations are missing ({preview(problems)}). "
                f"`surgvista prepare {self.info.name} --check` lists everything. {self.source}"
            )
        return [found[name] for name in sorted(found)]

    def videos(self, root: Path | None) -> dict[str, RawVideo]:
        """Videos that have pictures, by id, whether or not their annotations are there."""
        found = self.collect(root, self.settings) if self.collect else self._collect(self.folder(root))
        if self.expand:
            found = self.expand(self.folder(root), found, self.settings)
        return {video.video_id: video for video in found}

    def _collect(self, root: Path) -> list[RawVideo]:
        passed = SkippedFiles()
        files, rates = self._scan(root, passed)
        found = [
            RawVideo(name, roles, rates.get(name))
            for name, roles in files.items()
            if VIDEO in roles or FRAMES in roles
        ]
        if not found:
            raise MissingFilesError(
                f"{root} holds no videos of {self.info.title}: expected paths that end like "
                f"{preview([place.pattern for place in self.places if place.role in (VIDEO, FRAMES)])}. {self.source}{passed}"
            )
        passed.tell()
        self._check_ids([video.video_id for video in found])
        return found

    def missing(self, found: Mapping[str, RawVideo]) -> Iterator[tuple[str, str]]:
        """(video id, role) of what is not there: pictures of published videos, annotations of found ones."""
        there = {self.info.split_of(name) for name in found} | set(found)
        yield from ((name, "pictures") for name in self.info.video_ids if name not in there)
        yield from ((name, role) for name, video in found.items() for role in self.needed if role not in video.files)

    @property
    def source(self) -> str:
        """Where the data come from and under which terms."""
        return f"Get it from {self.info.homepage} ({self.info.access}; license: {self.info.license})"

    def folder(self, root: Path | None) -> Path:
        """The data folder, which must be there."""
        if root is None:
            raise MissingFilesError(f"{self.info.name} needs a folder with the raw data. {self.source}")
        if not root.is_dir():
            raise MissingFilesError(f"there is no folder {root} with the data of {self.info.title}. {self.source}")
        return root

    def _chosen(self, settings: Mapping[str, str]) -> dict[str, str]:
        for name in settings:
            if name not in self.settings:
                hint = did_you_mean(name, self.settings, f"it has {sorted(self.settings) or 'none'}")
                raise DatasetError(f"{self.info.name} has no setting {name!r}; {hint}")
        return {**self.settings, **settings}

    def _scan(self, root: Path, passed: SkippedFiles) -> tuple[dict[str, dict[str, Path]], dict[str, float]]:
        """Paths by video and role, and the rates of distributed frames. Folders of frames are not listed."""
        files: dict[str, dict[str, Path]] = {}
        rates: dict[str, float] = {}
        folders = [place for place in self.places if place.role == FRAMES]
        others = [place for place in self.places if place.role != FRAMES]
        for here, names, entries in walk(root, passed):
            names[:] = [name for name in names if not self._note(files, rates, folders, root, here / name)]
            for path in (here / name for name in entries):
                if is_unfinished(path) or not self._note(files, rates, others, root, path):
                    passed.add(path, f"videos not named as those of {self.info.title}" if is_video(path) else None)
        return files, rates

    def _note(
        self,
        files: dict[str, dict[str, Path]],
        rates: dict[str, float],
        places: Sequence[Place],
        root: Path,
        path: Path,
    ) -> bool:
        relative = path.relative_to(root).as_posix()
        for place in places:
            name = place.match(relative)
            if name is None:
                continue
            roles = files.setdefault(name, {})
            if place.role in roles and path.resolve() == roles[place.role].resolve():
                return True  # a link leads to what was found already
            if place.role in roles:
                raise DatasetError(
                    f"{path} and {roles[place.role]} both look like the {place.role} of {name}; keep one of them"
                )
            roles[place.role] = path
            if place.rate:
                rates[name] = place.rate
            return True
        return False

    def _check_ids(self, names: Sequence[str]) -> None:
        wrong = [name for name in names if name not in self.info.video_ids] if self.info.video_ids else []
        if wrong:
            raise DatasetError(
                f"{preview(wrong)}: not among the {len(self.info.video_ids)} videos of {self.info.title} "
                f"({self.info.video_ids[0]} … {self.info.video_ids[-1]}); move what does not belong to it elsewhere"
            )


def extracted_frames(video_id: str, *patterns: str, offset: int = 0) -> tuple[Place, ...]:
    """Return the places of frames that users extracted themselves: `frames/<video>/`, also below a folder named as a split."""
    return tuple(
        Place(FRAMES, rf"(?:frames|images)/(?:(?:train|val|test)/)?{pattern}", video_id, offset)
        for pattern in patterns
    )


def shared_file(root: Path, *names: str) -> Path | None:
    """A file that speaks of all videos, at the top of the download or in a folder of it."""
    return next(
        (path for name in names for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_file()), None
    )
