"""Collecting: what was asked for, by list, by search or from a folder, becomes files with a record each.

Downloads go through yt-dlp's Python interface: full addresses and argument objects, no shell, one video at a time. What its
owner or the site has withdrawn gets a tombstone and is never asked for again. No more than title, license and date is kept of
what the site says, and that apart from everything else. Nothing here has been run against a real video site.
"""

import io
import logging
import re
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ...datasets_scripts.corpora.lemon import read_labels
from ...datasets_scripts.schema.annotation_files import read_json
from ...util.console import track
from ...util.errors import InputError
from ...util.file_search import VIDEO_SUFFIXES, SkippedFiles, find_videos, is_video
from ...util.files import file_hash, sync, write_json
from ...util.fingerprint import file_fingerprint
from ...util.messages import preview
from ...util.requirements import require
from ...util.source_records import SourceRecords
from .manifest import Collection, CurationError, Video, check_id, describe
from .reports import StageReport
from .results import summarize

logger = logging.getLogger(__name__)
WATCH = "https://www.youtube.com/watch?v={}"
_KEPT_METADATA = ("title", "license", "upload_date", "duration", "webpage_url", "extractor")
# What a site says, and what it means. The first line that fits counts; what fits none is tried again in the next run.
_SLOW_DOWN = re.compile(r"HTTP Error 429|rate.?limited|too many requests", re.IGNORECASE)
_LASTING = (
    ("failed", "not shown in this country", r"(?:your country|geo.?restrict|from your location)"),
    ("failed", "only with an account; give --cookies", r"(?:sign in|log.?in|members.only|age.restricted|--cookies)"),
    ("removed", "the address answers 404", r"download webpage: HTTP Error 404"),
    ("removed", "the address answers 410", r"download webpage: HTTP Error 410"),
    ("removed", "withheld for legal reasons", r"download webpage: HTTP Error 451"),
    ("removed", "withdrawn for copyright", r"copyright"),
    ("removed", "private", r"private video|video is private"),
    ("removed", "removed by the site or the uploader", r"\b(?:removed|deleted|terminated|violat\w+)\b"),
    ("removed", "no longer available", r"video (?:is )?(?:unavailable|no longer available|does not exist)"),
    ("unreadable", "no video at this address", r"unsupported url|no video formats found"),
    ("unreadable", "a live stream", r"is_live|live event"),
)


class CollectError(CurationError):
    """The site asks to slow down. What was collected is complete; the same command goes on later."""


@dataclass(frozen=True)
class Wanted:
    """A video that is asked for.

    Args:
        video_id: id that it gets here.
        url: http(s) address of its page or file, or the path of a file on this machine.
        origin: what asks for it.
        published_md5: see `Video`.
    """

    video_id: str
    url: str
    origin: str
    published_md5: str = ""


@dataclass(frozen=True)
class CollectOptions:
    """How to treat the sites.

    Args:
        cookies: file in Netscape format, for videos that need an account. It is read, never written.
        megabytes_per_second: of a download, at most; `None`: as fast as it goes.
        pause_seconds: between two videos.
        height: of the pictures, at most, where a site offers several.
        megabytes: size of a file, at most.
        retries: of a connection.
        timeout_seconds: of a connection.
        recheck: ask also for the collected videos whether they are still there, and remove those that are not.
        retry_unreadable: try again what was no video.

    Raises:
        InputError: a number out of range, or no such file.
    """

    cookies: Path | None = None
    megabytes_per_second: float | None = 5.0
    pause_seconds: float = 5.0
    height: int = 720
    megabytes: float = 20_000.0
    retries: int = 3
    timeout_seconds: float = 30.0
    recheck: bool = False
    retry_unreadable: bool = False

    def __post_init__(self) -> None:
        limits = (self.megabytes_per_second, self.height, self.megabytes, self.timeout_seconds)
        if any(value is not None and value <= 0 for value in limits) or self.pause_seconds < 0 or self.retries < 0:
            raise InputError(f"limits must be positive: {self}")
        if self.cookies is not None and not self.cookies.is_file():
            raise InputError(f"there is no file with cookies at {self.cookies}")


# --------------------------------------------------------------------------------------------- what is asked for


def from_labels(path: Path) -> list[Wanted]:
    """The videos of LEMON's `labels.json`.

    Raises:
        AnnotationError: the file breaks the published format.
    """
    known = read_labels(path)
    md5 = {entry["youtubeId"]: entry.get("md5", "") for entry in read_json(path)}
    return [Wanted(check_id(name), WATCH.format(name), "labels", md5[name]) for name in sorted(known)]


def from_urls(path: Path) -> list[Wanted]:
    """The videos of a text file: one address a line, or an id and an address. Lines that begin with `#` are remarks.

    Raises:
        CurationError: no such file, no http(s) address, or an id that comes twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise CurationError(f"{path} cannot be read: {error}") from error
    wanted = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) > 2 or not re.match(r"https?://[^/]", words[-1]):
            raise CurationError(f"{path}:{number}: expected `ADDRESS` or `ID ADDRESS` with http(s), found {line!r}")
        try:
            wanted.append(Wanted(check_id(words[0] if len(words) == 2 else id_of(words[-1])), words[-1], "urls"))
        except CurationError as error:
            raise CurationError(f"{path}:{number}: {error}; write an id before the address") from error
    return _distinct(wanted, path)


def id_of(url: str) -> str:
    """The id of an address: the `v` of a watch page, or else the last part of the path without its suffix.

    Example:
        >>> id_of("https://example.org/videos/gallbladder-7.mp4"), id_of("https://example.org/watch?v=-Ab3dEf6hIj")
        ('gallbladder-7', '-Ab3dEf6hIj')
    """
    parts = urlsplit(url)
    requested = re.search(r"(?:^|&)v=([\w-]+)", parts.query)
    return requested[1] if requested else Path(unquote(parts.path)).stem


def from_search(
    words: str, *, limit: int = 50, ignore: Sequence[str] = (), playlist: str | None = None, options: CollectOptions
) -> list[Wanted]:
    """What a site finds. As published, a title must contain every word that was searched for.

    Args:
        words: to search for.
        limit: results to look at.
        ignore: a title with one of these words does not count.
        playlist: address of a playlist, channel or feed to look through, instead of the site's search.
        options: how to treat the site.

    Raises:
        CurationError: the site does not answer.
    """
    ytdl, download_error = _yt_dlp()
    place = playlist or f"ytsearch{limit}:{words}"
    parameters = {**_parameters(options), "playlistend": limit, "noplaylist": False}
    try:
        with ytdl(parameters) as downloader:
            found = list(downloader.extract_info(place, download=False).get("entries") or [])
    except download_error as error:
        raise CurationError(f"{place} cannot be searched: {_said(error)}") from error
    chosen = [entry for entry in found if entry.get("url") and title_fits(entry.get("title") or "", words, ignore)]
    origin = "playlist" if playlist else "search"
    return _distinct(
        [Wanted(check_id(entry.get("id") or id_of(entry["url"])), entry["url"], origin) for entry in chosen], place
    )


def title_fits(title: str, words: str, ignore: Sequence[str] = ()) -> bool:
    """Whether a title contains every word of the query and none of the others; capitals do not matter.

    Example:
        >>> title_fits("Robotic Cholecystectomy, step by step", "cholecystectomy robotic", ignore=["animation"])
        True
    """
    low = title.lower()
    return all(word in low for word in words.lower().split()) and not any(word.lower() in low for word in ignore)


def from_folder(folder: Path) -> list[Wanted]:
    """The videos that lie in a folder of this machine, at any depth; the id is the name without the suffix.

    Raises:
        CurationError: there are none, a name cannot be an id, or two have the same name.
    """
    passed = SkippedFiles()
    files = find_videos(folder, passed)
    if not files:
        raise CurationError(f"{folder} holds no videos ({', '.join(VIDEO_SUFFIXES)}){passed}")
    passed.tell()
    return _distinct([Wanted(check_id(file.stem), str(file), "folder") for file in files], folder)


def _distinct(wanted: list[Wanted], place: object) -> list[Wanted]:
    twice = [name for name, count in Counter(each.video_id for each in wanted).items() if count > 1]
    if twice:
        raise CurationError(f"{place}: the ids {preview(twice)} come twice; write an id before each address")
    return sorted(wanted, key=lambda each: each.video_id)


# --------------------------------------------------------------------------------------------- collecting


def collect(
    folder: Path | str, wanted: Sequence[Wanted], options: CollectOptions | None = None, *, progress: bool = False
) -> StageReport:
    """Download videos into a collection, one after the other. A repetition does only what is missing.

    Args:
        folder: of the collection.
        wanted: what is asked for; see `from_labels`, `from_urls`, `from_search`, `from_folder`.
        options: how to treat the sites.
        progress: show a bar.

    Returns:
        Counts over all videos of the collection.

    Raises:
        CollectError: the site asks to slow down.
        CurationError: a video of this name was collected from elsewhere.
        OutputError: the folder holds something else or videos of another folder, or another run is at work on it.
    """
    collection, options = Collection(folder), options or CollectOptions()
    with collection.locked(create=True):
        try:
            _collect_all(collection, wanted, options, progress)
        finally:
            reports = summarize(collection)
        shutil.rmtree(collection.folder / "videos" / ".partial", ignore_errors=True)
        return reports[0]


def _collect_all(collection: Collection, wanted: Sequence[Wanted], options: CollectOptions, progress: bool) -> None:
    requested_site, replaced = False, _replaced(collection, wanted)
    for each in track(wanted, "collect", unit="videos", shown=progress):
        known = collection.find(each.video_id)
        if known is not None and known.status == "removed":
            collection.forget(known)
            continue
        if known is not None and each.video_id not in replaced and not _to_do(collection, known, options):
            continue
        if requested_site and each.origin != "folder":
            time.sleep(options.pause_seconds)
        requested_site = requested_site or each.origin != "folder"
        is_there = known is not None and each.video_id not in replaced and collection.holds(known)
        new = _still_there(each, options) if is_there else _fetch(collection, each, options)
        if new is None:
            continue
        if new.status == "removed":
            collection.bury(new, new.reason)
        elif not is_there:
            collection.write_video(new)
            if known is not None and known.file not in ("", new.file):
                collection.video_file(known).unlink(missing_ok=True)


def remove(folder: Path | str, video_ids: Sequence[str], reason: str) -> None:
    """Remove videos for good: file, metadata and results go, a tombstone stays.

    Args:
        folder: of the collection.
        video_ids: also of videos that were never collected, so that they never will be.
        reason: for the record, without names.

    Raises:
        CurationError: no collection, or something that cannot be an id.
    """
    collection = Collection(folder)
    with collection.locked():
        for video_id in video_ids:
            collection.bury(collection.find(video_id) or Video(check_id(video_id)), reason)
        summarize(collection)


def _replaced(collection: Collection, wanted: Sequence[Wanted]) -> set[str]:
    """Ids whose file in a folder of this machine is not the one that was collected.

    Raises:
        CurationError: the one that was collected came from elsewhere.
        OutputError: it came from another folder.
    """
    own = {each.video_id: Path(each.url) for each in wanted if each.origin == "folder"}
    changed: dict[str, tuple[str, str]] = {}
    for video_id, path in own.items():
        known = collection.find(video_id)
        if known is not None and not _is_same(collection, known, path):
            if known.origin != "folder":
                raise CurationError(
                    f"{collection.folder} holds {video_id} of {known.url or known.origin}; {path} has another content. Rename "
                    "it, or remove the other with `surgvista curate remove`"
                )
            changed[video_id] = (f"{known.bytes} bytes", f"{path.stat().st_size} bytes")
    roots = {path.parent for path in own.values()}
    origins = SourceRecords(collection.folder, roots.pop() if len(roots) == 1 else None)
    origins.check(changed)
    origins.note(own)
    for video_id in changed:
        logger.warning("%s has another content than before: it is collected anew", own[video_id])
    return set(changed)


def _is_same(collection: Collection, known: Video, path: Path) -> bool:
    """Whether a file is the one that was collected, or once was found unreadable."""
    if collection.holds(known):
        return file_fingerprint(path) == file_fingerprint(collection.video_file(known))
    return known.status != "unreadable" or (known.bytes, known.sha256) == (path.stat().st_size, file_hash(path))


def _to_do(collection: Collection, known: Video, options: CollectOptions) -> bool:
    if known.status == "unreadable":
        return options.retry_unreadable
    return not collection.holds(known) or (options.recheck and known.origin != "folder")


def _still_there(wanted: Wanted, options: CollectOptions) -> Video | None:
    """A tombstone if the video was removed since; `None` if not, or if the site does not say."""
    ytdl, download_error = _yt_dlp()
    try:
        with ytdl(_parameters(options)) as downloader:
            downloader.extract_info(wanted.url, download=False)
    except download_error as error:
        failed = _failure(wanted, _said(error))
        return failed if failed.status == "removed" else None
    return None


def _fetch(collection: Collection, wanted: Wanted, options: CollectOptions) -> Video:
    """The video, with its file in place, or why there is none."""
    partial = collection.folder / "videos" / ".partial"
    partial.mkdir(parents=True, exist_ok=True)
    if wanted.origin == "folder":
        found: Path | Video = Path(
            shutil.copyfile(wanted.url, partial / f"{wanted.video_id}{Path(wanted.url).suffix}")
        )
    else:
        found = _download(collection, wanted, options, partial)
    if isinstance(found, Video):
        return found
    video = describe(_begun(wanted), found)
    if video.status == "unreadable":
        found.unlink()
        return replace(video, file="")
    file = collection.video_file(video)
    sync(found)
    found.replace(file)
    sync(file.parent)
    return video


def _begun(wanted: Wanted) -> Video:
    url = "" if wanted.origin == "folder" else wanted.url
    return Video(wanted.video_id, url, wanted.origin, published_md5=wanted.published_md5)


def _download(collection: Collection, wanted: Wanted, options: CollectOptions, partial: Path) -> Path | Video:
    ytdl, download_error = _yt_dlp()
    name = str(partial / wanted.video_id).replace("%", "%%")
    try:
        with ytdl({**_parameters(options), "outtmpl": f"{name}.%(ext)s"}) as downloader:
            info = downloader.extract_info(wanted.url, download=False)
            if "entries" in info:
                return replace(_begun(wanted), status="unreadable", reason="the address leads to several videos")
            if info.get("is_live"):
                return replace(_begun(wanted), status="unreadable", reason="a live stream")
            info = downloader.process_ie_result(info, download=True)
    except download_error as error:
        return _failure(wanted, _said(error))
    parts = [Path(part["filepath"]) for part in info.get("requested_downloads") or ()]
    if len(parts) != 1 or not parts[0].is_file() or parts[0].parent != partial:
        return replace(_begun(wanted), status="failed", reason=f"larger than {options.megabytes:g} MB, or interrupted")
    if not is_video(parts[0]):
        parts[0].unlink()
        return replace(_begun(wanted), status="unreadable", reason="no video at this address")
    write_json(
        collection.metadata(wanted.video_id),
        {key: info[key] for key in _KEPT_METADATA if isinstance(info.get(key), str | int | float)},
        ensure_ascii=False,
    )
    return parts[0]


def _failure(wanted: Wanted, said: str) -> Video:
    """What a message of the site means.

    Raises:
        CollectError: that it wants to be left alone for a while.
    """
    if _SLOW_DOWN.search(said):
        raise CollectError(
            f"the site asks to slow down ({said}). What was collected is complete; run the same command again later, with a "
            "longer --pause"
        )
    status, reason = understand(said)
    return replace(_begun(wanted), status=status, reason=reason)  # type: ignore[arg-type]


def understand(said: str) -> tuple[str, str]:
    """Status and reason of a video whose download ended with a message.

    Example:
        >>> understand("[youtube] x: Private video. Sign in if you've been granted access to this video")
        ('removed', 'private')
        >>> understand("Unable to download webpage: HTTP Error 503")
        ('failed', 'Unable to download webpage: HTTP Error 503')
    """
    if re.search(r"private video", said, re.IGNORECASE):  # also says "sign in", which does not help
        return "removed", "private"
    for status, reason, pattern in _LASTING:
        if re.search(pattern, said, re.IGNORECASE):
            return status, reason
    return "failed", said


def _said(error: Exception) -> str:
    """The message of an error of yt-dlp, without its decoration and without the address."""
    text = " ".join(str(error).split()).removeprefix("ERROR: ")
    text = re.sub(r"^\[[^]]*\] [^ :]*: ", "", text)
    return re.sub(r" \(caused by .*|[;.] please report .*", "", text)[:200]


def _parameters(options: CollectOptions) -> dict[str, Any]:
    """Arguments of yt-dlp. Pictures only where a site offers them apart: voices are not needed and can identify people."""
    height = f"[height<={options.height}]"
    rate = options.megabytes_per_second
    parameters: dict[str, Any] = {
        "format": f"bv[ext=mp4]{height}/b[ext=mp4]{height}/b[ext=mp4]/bv{height}/b{height}/b",
        "quiet": True,
        "noprogress": True,
        "logger": _Silent(),
        "color": "no_color",
        "noplaylist": True,
        "extract_flat": "in_playlist",  # no request for what a list names
        "cachedir": False,
        "overwrites": False,
        "updatetime": False,
        "fixup": "never",
        "retries": options.retries,
        "extractor_retries": options.retries,
        "socket_timeout": options.timeout_seconds,
        "max_filesize": int(options.megabytes * 1e6),
        "ratelimit": rate and rate * 1e6,
        "sleep_interval_requests": min(options.pause_seconds, 1.0),
    }
    if options.cookies:  # a stream: yt-dlp would write back into a file
        parameters["cookiefile"] = io.StringIO(options.cookies.read_text(encoding="utf-8"))
    return parameters


class _Silent:
    """Takes what yt-dlp says; errors are raised as well."""

    def debug(self, message: str) -> None:
        """Not shown."""

    warning = error = debug


def _yt_dlp() -> tuple[Any, type[Exception]]:
    require("web")
    from yt_dlp import YoutubeDL
    from yt_dlp.utils import YoutubeDLError

    return YoutubeDL, YoutubeDLError
