"""Collecting: requested videos, by list, by search or from a folder, become files with a record each.

Downloads go through yt-dlp's Python interface: full addresses and argument objects, no shell, one video at a time. A withdrawn
video gets a tombstone and is never requested again. Of the site's metadata no more than title, license and date is stored,
apart from everything else. Nothing here has been run against a real video site.
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
from typing import TYPE_CHECKING, Any
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
from .manifest import Collection, CurationError, Status, Video, check_id, describe
from .reports import StageReport
from .results import summarize

if TYPE_CHECKING:
    from yt_dlp import YoutubeDL
    from yt_dlp.utils import YoutubeDLError

logger = logging.getLogger(__name__)
PAGE_URL = "https://www.youtube.com/watch?v={}"
_STORED_METADATA = ("title", "license", "upload_date", "duration", "webpage_url", "extractor")
# Messages of sites, and what they mean: status, reason, pattern. The first line that fits counts; a video whose message fits
# none is tried again in the next run.
_SLOW_DOWN = re.compile(r"HTTP Error 429|rate.?limited|too many requests", re.IGNORECASE)
_LASTING: tuple[tuple[Status, str, str], ...] = (
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
    """The site requests to slow down. The collected videos are complete; the same command goes on later."""


@dataclass(frozen=True)
class Wanted:
    """A requested video.

    Args:
        video_id: id of the video in the collection.
        url: http(s) address of its page or file, or the path of a file on this machine.
        origin: kind of request: `labels`, `search`, `playlist`, `urls` or `folder`.
        published_md5: MD5 of the authors' own download, the same as in `Video`.
    """

    video_id: str
    url: str
    origin: str
    published_md5: str = ""


@dataclass(frozen=True)
class CollectOptions:
    """Options of downloads.

    Args:
        cookies: file in Netscape format, for videos that need an account. It is read, never written.
        megabytes_per_second: largest rate of a download; `None` for no limit.
        pause_seconds: seconds between two videos.
        height: largest height of the frames, in pixels, where a site offers a choice.
        megabytes: largest size of a file.
        retries: number of times that a connection is tried again.
        timeout_seconds: seconds after which a connection is given up.
        recheck: check also whether the collected videos are still on their sites, and remove those that are not.
        retry_unreadable: try again where no video was found.

    Raises:
        InputError: if a number is out of range, or there is no such file.
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


# --------------------------------------------------------------------------------------------- requests


def from_labels(path: Path) -> list[Wanted]:
    """Return the videos of LEMON's `labels.json`, sorted by id.

    Raises:
        AnnotationError: if the file breaks the published format.
    """
    known = read_labels(path)
    md5 = {entry["youtubeId"]: entry.get("md5", "") for entry in read_json(path)}
    return [Wanted(check_id(name), PAGE_URL.format(name), "labels", md5[name]) for name in sorted(known)]


def from_urls(path: Path) -> list[Wanted]:
    """Return the videos of a text file, sorted by id.

    Args:
        path: file with one address a line, or an id and an address. Lines that begin with `#` are comments.

    Raises:
        CurationError: if there is no such file, a line has no http(s) address, or an id occurs twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise CurationError(f"{path} cannot be read: {error}") from error
    wanted = []
    for number, line in enumerate(lines, 1):
        columns = line.split()
        if not columns or columns[0].startswith("#"):
            continue
        *given, url = columns
        if len(given) > 1 or not re.match(r"https?://[^/]", url):
            raise CurationError(f"{path}:{number}: expected `ADDRESS` or `ID ADDRESS` with http(s), found {line!r}")
        try:
            wanted.append(Wanted(check_id(given[0] if given else id_of(url)), url, "urls"))
        except CurationError as error:
            raise CurationError(f"{path}:{number}: {error}; write an id before the address") from error
    return _distinct(wanted, path)


def id_of(url: str) -> str:
    """Return the id of an address: the `v` of a watch page, or else the last part of the path without its suffix.

    Example:
        >>> id_of("https://example.org/videos/gallbladder-7.mp4"), id_of("https://example.org/watch?v=-Ab3dEf6hIj")
        ('gallbladder-7', '-Ab3dEf6hIj')
    """
    parts = urlsplit(url)
    requested = re.search(r"(?:^|&)v=([\w-]+)", parts.query)
    return requested[1] if requested else Path(unquote(parts.path)).stem


def from_search(
    query: str, *, limit: int = 50, ignore: Sequence[str] = (), playlist: str | None = None, options: CollectOptions
) -> list[Wanted]:
    """Search a site for videos. As published, a title must contain every word of the query.

    Args:
        query: words to search for.
        limit: largest number of results to examine.
        ignore: a title with one of these words does not count.
        playlist: address of a playlist, channel or feed to search, instead of the site's search.
        options: options of downloads.

    Returns:
        The videos, sorted by id.

    Raises:
        CurationError: if the site does not answer.
    """
    ytdl, download_error = _yt_dlp()
    address = playlist or f"ytsearch{limit}:{query}"
    parameters = {**_parameters(options), "playlistend": limit, "noplaylist": False}
    try:
        with ytdl(parameters) as downloader:
            found = list(downloader.extract_info(address, download=False).get("entries") or [])
    except download_error as error:
        raise CurationError(f"{address} cannot be searched: {_message(error)}") from error
    chosen = [entry for entry in found if entry.get("url") and title_fits(entry.get("title") or "", query, ignore)]
    origin = "playlist" if playlist else "search"
    return _distinct(
        [Wanted(check_id(entry.get("id") or id_of(entry["url"])), entry["url"], origin) for entry in chosen], address
    )


def title_fits(title: str, query: str, ignore: Sequence[str] = ()) -> bool:
    """Return whether a title contains every word of the query and none of the ignored; case does not matter.

    Example:
        >>> title_fits("Robotic Cholecystectomy, step by step", "cholecystectomy robotic", ignore=["animation"])
        True
    """
    low = title.lower()
    return all(word in low for word in query.lower().split()) and not any(word.lower() in low for word in ignore)


def from_folder(folder: Path) -> list[Wanted]:
    """Return the videos in a folder of this machine, at any depth; the id is the name without the suffix.

    Raises:
        CurationError: if there are none, a name cannot be an id, or two have the same name.
    """
    passed = SkippedFiles()
    files = find_videos(folder, passed)
    if not files:
        raise CurationError(f"{folder} holds no videos ({', '.join(VIDEO_SUFFIXES)}){passed}")
    passed.tell()
    return _distinct([Wanted(check_id(file.stem), str(file), "folder") for file in files], folder)


def _distinct(wanted: list[Wanted], origin: str | Path) -> list[Wanted]:
    twice = [name for name, count in Counter(each.video_id for each in wanted).items() if count > 1]
    if twice:
        raise CurationError(f"{origin}: the ids {preview(twice)} come twice; write an id before each address")
    return sorted(wanted, key=lambda each: each.video_id)


# --------------------------------------------------------------------------------------------- collecting


def collect(
    folder: Path | str, wanted: Sequence[Wanted], options: CollectOptions | None = None, *, progress: bool = False
) -> StageReport:
    """Download videos into a collection, one after the other. A repetition does only what is missing.

    Args:
        folder: folder of the collection.
        wanted: requested videos, from `from_labels`, `from_urls`, `from_search` or `from_folder`.
        options: options of downloads.
        progress: show a bar.

    Returns:
        Counts over all videos of the collection.

    Raises:
        CollectError: if the site requests to slow down.
        CurationError: if a video of this name was collected from elsewhere.
        OutputError: if the folder contains something else or videos of another folder, or another run is at work on it.
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
        folder: folder of the collection.
        video_ids: ids of the videos, also of such that were never collected, so that they never will be.
        reason: reason for the record, without names.

    Raises:
        CurationError: if there is no collection, or something cannot be an id.
    """
    collection = Collection(folder)
    with collection.locked():
        for video_id in video_ids:
            collection.bury(collection.find(video_id) or Video(check_id(video_id)), reason)
        summarize(collection)


def _replaced(collection: Collection, wanted: Sequence[Wanted]) -> set[str]:
    """Return the ids whose file in a folder of this machine is not the one that was collected.

    Raises:
        CurationError: if the collected one came from elsewhere.
        OutputError: if it came from another folder.
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
    """Return whether a file is the one that was collected, or once was found unreadable."""
    if collection.holds(known):
        return file_fingerprint(path) == file_fingerprint(collection.video_file(known))
    return known.status != "unreadable" or (known.bytes, known.sha256) == (path.stat().st_size, file_hash(path))


def _to_do(collection: Collection, known: Video, options: CollectOptions) -> bool:
    if known.status == "unreadable":
        return options.retry_unreadable
    return not collection.holds(known) or (options.recheck and known.origin != "folder")


def _still_there(wanted: Wanted, options: CollectOptions) -> Video | None:
    """Return a tombstone if the video was removed since; `None` if not, or if the site does not tell."""
    ytdl, download_error = _yt_dlp()
    try:
        with ytdl(_parameters(options)) as downloader:
            downloader.extract_info(wanted.url, download=False)
    except download_error as error:
        failed = _failure(wanted, _message(error))
        return failed if failed.status == "removed" else None
    return None


def _fetch(collection: Collection, wanted: Wanted, options: CollectOptions) -> Video:
    """Fetch a video; return its record, with the file in its folder, or with the reason why there is none."""
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
        return _failure(wanted, _message(error))
    parts = [Path(part["filepath"]) for part in info.get("requested_downloads") or ()]
    if len(parts) != 1 or not parts[0].is_file() or parts[0].parent != partial:
        return replace(_begun(wanted), status="failed", reason=f"larger than {options.megabytes:g} MB, or interrupted")
    if not is_video(parts[0]):
        parts[0].unlink()
        return replace(_begun(wanted), status="unreadable", reason="no video at this address")
    write_json(
        collection.metadata(wanted.video_id),
        {key: info[key] for key in _STORED_METADATA if isinstance(info.get(key), str | int | float)},
        ensure_ascii=False,
    )
    return parts[0]


def _failure(wanted: Wanted, message: str) -> Video:
    """Return the record of a video whose download ended with a message.

    Raises:
        CollectError: if the message means that the site wants a pause.
    """
    if _SLOW_DOWN.search(message):
        raise CollectError(
            f"the site asks to slow down ({message}). What was collected is complete; run the same command again later, "
            "with a longer --pause"
        )
    status, reason = understand(message)
    return replace(_begun(wanted), status=status, reason=reason)


def understand(message: str) -> tuple[Status, str]:
    """Return status and reason of a video whose download ended with a message.

    Example:
        >>> understand("[youtube] x: Private video. Sign in if you've been granted access to this video")
        ('removed', 'private')
        >>> understand("Unable to download webpage: HTTP Error 503")
        ('failed', 'Unable to download webpage: HTTP Error 503')
    """
    if re.search(r"private video", message, re.IGNORECASE):  # it also mentions signing in, which does not help
        return "removed", "private"
    for status, reason, pattern in _LASTING:
        if re.search(pattern, message, re.IGNORECASE):
            return status, reason
    return "failed", message


def _message(error: Exception) -> str:
    """Return the message of an error of yt-dlp, without its decoration and without the address."""
    text = " ".join(str(error).split()).removeprefix("ERROR: ")
    text = re.sub(r"^\[[^]]*\] [^ :]*: ", "", text)
    return re.sub(r" \(caused by .*|[;.] please report .*", "", text)[:200]


def _parameters(options: CollectOptions) -> dict[str, Any]:
    """Return the arguments of yt-dlp: video without sound where a site offers it, since voices can identify people."""
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
    """A logger that discards the messages of yt-dlp, which raises errors as well."""

    def debug(self, message: str) -> None:
        """Discard a message."""

    warning = error = debug


def _yt_dlp() -> "tuple[type[YoutubeDL], type[YoutubeDLError]]":
    require("web")
    from yt_dlp import YoutubeDL
    from yt_dlp.utils import YoutubeDLError

    return YoutubeDL, YoutubeDLError
