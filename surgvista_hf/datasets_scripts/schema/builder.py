"""From a raw download to videos with labels: finding the files of a data set and the labels of each video."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...util.file_search import VIDEO_SUFFIXES, SkippedFiles, is_unfinished, is_video, walk
from ...util.messages import did_you_mean, preview
from .info import DatasetError, DatasetInfo, MissingFilesError, Parts
from .label_tracks import Track
from .media import FrameFolder, JoinedVideo, Media, PreparationOptions, VideoFile, numbered_files

VIDEO, FRAMES = "video", "frames"
_SUFFIX = f"(?:{'|'.join(map(re.escape, VIDEO_SUFFIXES))})"


@dataclass(frozen=True)
class FilePattern:
    r"""Path pattern of one kind of file in the published layout of a data set.

    Args:
        role: role of the file: `VIDEO`, `FRAMES` (a folder of frames) or the name of an annotation.
        pattern: regular expression of the path below any folder of the download, with `/`; case does not matter. Its last
            group is the number or name of the video. `VIDEO` patterns end before the suffix.
        video_id: format string that makes the video id from that group; `{:02d}` converts it to a number first.
        offset: number that is added to the number in the path.
        rate: numbers per second in the names of distributed frames; `None` for folders that users extracted themselves.

    Example:
        >>> FilePattern(VIDEO, r"video(\d{2})", "video{:02d}").match("Cholec80/videos/video07.mp4")
        'video07'
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
        """Return the id of the video that a path belongs to; `None` if the path does not fit the pattern."""
        match = self._expression.fullmatch(path)  # type: ignore[attr-defined]
        if not match:
            return None
        name = match[match.lastindex or 0]
        return self.video_id.format(int(name) + self.offset if name.isdigit() and ":" in self.video_id else name)


@dataclass(frozen=True)
class RawVideo:
    """One video of a raw download.

    Args:
        video_id: id of the video in the frame set.
        files: path of each role.
        rate: numbers per second in the names of distributed frames, see `FilePattern.rate`.
        start, stop: seconds at which the part to take starts and ends, for a clip of a longer video.
        parts: splits that the video is in, by protocol, where the download says so; and the groups that it belongs to, such as
            its patient, by the kind of group.
        numbered: number and path of each frame, where the frames of several videos lie in one folder.
        extra: anything that the builder found and needs for the labels; it must be picklable.
        version: version of the decisions that the frames depend on, see `prepare_videos`.
        continued: further video files that follow the first one, of a recording in several.
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
    continued: tuple[Path, ...] = ()

    def open(self, options: PreparationOptions) -> Media:
        """Open the video, to read its frames.

        Raises:
            VideoReadError: the video cannot be read.
        """
        if self.continued:
            return JoinedVideo((self.files[VIDEO], *self.continued))
        if VIDEO in self.files:
            return VideoFile(self.files[VIDEO], self.start, self.stop)
        files = self.numbered or numbered_files(self.files[FRAMES])
        return FrameFolder(files, self.rate, options.folder_frames_per_second)


@dataclass(frozen=True)
class FrameSetBuilder:
    """Recipe that turns a raw download into videos with labels: a table of file patterns and functions that read labels.

    Args:
        info: description of the data set.
        file_patterns: path patterns of the files.
        tracks: function that reads the labels of one video.
        needed: roles that every video must have besides its frames.
        collect: function that finds the videos, where file patterns cannot express how they are laid out.
        expand: function that changes the list of found videos as a whole: cuts clips, or reads files with the labels of all
            videos.
        configure: function that completes `info` from the data folder, such as the names of the classes.
        settings: further options of these functions, with their defaults.
        added_settings: names of settings that earlier versions did not have. While they have their defaults they are left
            out of the plan of a frame set, so that frame sets of those versions are still the same.
        records: texts that are kept beside the frame set, by the name of the file.
    """

    info: DatasetInfo
    file_patterns: tuple[FilePattern, ...]
    tracks: Callable[[RawVideo], Sequence[Track]]
    needed: tuple[str, ...] = ()
    collect: Callable[[Path | None, Mapping[str, str]], list[RawVideo]] | None = None
    expand: Callable[[Path, list[RawVideo], Mapping[str, str]], list[RawVideo]] | None = None
    configure: Callable[[Path | None, Mapping[str, str]], DatasetInfo] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    added_settings: tuple[str, ...] = ()
    records: Mapping[str, str] = field(default_factory=dict)

    def configured(self, root: Path | None, settings: Mapping[str, str]) -> "FrameSetBuilder":
        """Return the builder for one download, with its settings and its completed `info`.

        Args:
            root: folder of the download; `None` for data sets that need none.
            settings: values that differ from the defaults.

        Raises:
            DatasetError: a setting is unknown.
        """
        chosen = self._complete_settings(settings)
        info = self.configure(root, chosen) if self.configure else self.info
        defaults = {name for name in self.added_settings if chosen.get(name) == self.settings.get(name)}
        recorded = {name: value for name, value in chosen.items() if name not in defaults}
        return replace(self, settings=recorded, info=info)

    def find(self, root: Path | None) -> list[RawVideo]:
        """Find the videos of a raw download.

        Args:
            root: folder of the download; synthetic data need none.

        Returns:
            Videos with frames and every needed annotation, sorted by id.

        Raises:
            MissingFilesError: there is no folder, it holds no videos, or annotations of a video are missing.
            DatasetError: two files fit the same role of a video, or a video is not in the published list.
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
        """Return the videos that have frames, by id, whether or not their annotations are there."""
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
            expected = [file.pattern for file in self.file_patterns if file.role in (VIDEO, FRAMES)]
            raise MissingFilesError(
                f"{root} holds no videos of {self.info.title}: expected paths that end like {preview(expected)}. "
                f"{self.source}{passed}"
            )
        passed.tell()
        self._check_ids([video.video_id for video in found])
        return found

    def missing(self, found: Mapping[str, RawVideo]) -> Iterator[tuple[str, str]]:
        """Yield (video id, role) of what is missing: frames of published videos, and annotations of found videos."""
        there = {self.info.split_of(name) for name in found} | set(found)
        yield from ((name, "frames") for name in self.info.video_ids if name not in there)
        yield from ((name, role) for name, video in found.items() for role in self.needed if role not in video.files)

    @property
    def source(self) -> str:
        """Return a sentence on where the data come from and under which terms."""
        return f"Get it from {self.info.homepage} ({self.info.access}; license: {self.info.license})"

    def folder(self, root: Path | None) -> Path:
        """Return the data folder.

        Raises:
            MissingFilesError: no folder is given, or it does not exist.
        """
        if root is None:
            raise MissingFilesError(f"{self.info.name} needs a folder with the raw data. {self.source}")
        if not root.is_dir():
            raise MissingFilesError(f"there is no folder {root} with the data of {self.info.title}. {self.source}")
        return root

    def _complete_settings(self, settings: Mapping[str, str]) -> dict[str, str]:
        for name in settings:
            if name not in self.settings:
                hint = did_you_mean(name, self.settings, f"it has {sorted(self.settings) or 'none'}")
                raise DatasetError(f"{self.info.name} has no setting {name!r}; {hint}")
        return {**self.settings, **settings}

    def _scan(self, root: Path, passed: SkippedFiles) -> tuple[dict[str, dict[str, Path]], dict[str, float]]:
        """Return the paths by video and role, and the rates of distributed frames."""
        files: dict[str, dict[str, Path]] = {}
        rates: dict[str, float] = {}
        folders = [pattern for pattern in self.file_patterns if pattern.role == FRAMES]
        others = [pattern for pattern in self.file_patterns if pattern.role != FRAMES]
        for here, names, entries in walk(root, passed):
            # A folder of frames is not walked through: it may hold a hundred thousand files.
            names[:] = [name for name in names if not self._assign(files, rates, folders, root, here / name)]
            for path in (here / name for name in entries):
                if is_unfinished(path) or not self._assign(files, rates, others, root, path):
                    passed.add(path, f"videos not named as those of {self.info.title}" if is_video(path) else None)
        return files, rates

    def _assign(
        self,
        files: dict[str, dict[str, Path]],
        rates: dict[str, float],
        patterns: Sequence[FilePattern],
        root: Path,
        path: Path,
    ) -> bool:
        """Enter a path under the video and the role that the first fitting pattern gives it; return whether one fits."""
        relative = path.relative_to(root).as_posix()
        for pattern in patterns:
            name = pattern.match(relative)
            if name is None:
                continue
            roles = files.setdefault(name, {})
            if pattern.role in roles and path.resolve() == roles[pattern.role].resolve():
                return True  # a link leads to what was found already
            if pattern.role in roles:
                raise DatasetError(
                    f"{path} and {roles[pattern.role]} both look like the {pattern.role} of {name}; keep one of them"
                )
            roles[pattern.role] = path
            if pattern.rate:
                rates[name] = pattern.rate
            return True
        return False

    def _check_ids(self, names: Sequence[str]) -> None:
        wrong = [name for name in names if name not in self.info.video_ids] if self.info.video_ids else []
        if wrong:
            raise DatasetError(
                f"{preview(wrong)}: not among the {len(self.info.video_ids)} videos of {self.info.title} "
                f"({self.info.video_ids[0]} … {self.info.video_ids[-1]}); move what does not belong to it elsewhere"
            )


def extracted_frames(video_id: str, *patterns: str, offset: int = 0) -> tuple[FilePattern, ...]:
    """Return patterns of frames that users extracted themselves: `frames/<video>/`, also below a folder named as a split.

    Args:
        video_id, offset: arguments of `FilePattern`.
        patterns: regular expressions of the folder's name.
    """
    return tuple(
        FilePattern(FRAMES, rf"(?:frames|images)/(?:(?:train|val|test)/)?{pattern}", video_id, offset)
        for pattern in patterns
    )


def shared_file(root: Path, *names: str) -> Path | None:
    """Return a file with the labels of all videos, at the top of the download or in one of its folders; `None` if none."""
    return next(
        (path for name in names for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_file()), None
    )
