"""Collecting, against a web site on this machine: real requests, real answers, no site of anybody else."""

import hashlib
import json
import shutil
import sys
from collections import Counter

import pytest

from surgvista_hf.curation.collection import collect as module
from surgvista_hf.curation.collection.collect import (
    CollectError,
    CollectOptions,
    Wanted,
    collect,
    from_folder,
    from_labels,
    from_search,
    from_urls,
    id_of,
    remove,
    title_fits,
    understand,
)
from surgvista_hf.curation.collection.manifest import Collection, CurationError, read_manifest
from surgvista_hf.curation.stages.pipeline import run_stage
from surgvista_hf.datasets_scripts.corpora.lemon import PROCEDURES, read_labels
from surgvista_hf.datasets_scripts.schema.info import AnnotationError
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.util.files import OutputError

from ..color_web import ColorVideo, serve
from ..conftest import QUICK

# Surg-3M/LEMON's published table: videos of each procedure, and how many of them are robotic.
PUBLISHED = {
    name: (int(videos), int(robotic))
    for name, videos, robotic in (
        line.split()
        for line in """colectomy 308 130
        hernia_repair 295 196
        appendectomy 252 32
        thymectomy 236 102
        cholecystectomy 229 52
        adhesiolysis 196 40
        low_anterior_resection 190 84
        nephrectomy 189 98
        esophagectomy 174 94
        nissen_fundoplication 170 62
        gastric_bypass 167 103
        hysterectomy 162 23
        adrenalectomy 160 56
        cystectomy 155 29
        splenectomy 151 42
        pancreaticoduodenectomy 138 64
        gastrectomy 132 66
        myomectomy 114 11
        hepatectomy 104 51
        pancreatectomy 95 44
        small_bowel_resection 88 26
        rectopexy 84 37
        prostatectomy 80 76
        jejunostomy 76 30
        ileocolic_resection 74 35
        abdominoperineal_resection 73 39
        ulcer_repair 72 10
        duodenal_switch 63 28
        pulmonary_lobectomy 60 45
        hartmanns 57 10
        kidney_transplant 42 20
        ampullectomy 34 12
        ileorectal_anastomosis 34 15
        vaginectomy 7 2
        cecectomy 2 2""".splitlines()
    )
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return ColorVideo(1, before=0, during=3, after=0).write(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture
def site(tmp_path, clip):
    folder = tmp_path / "site"
    folder.mkdir()
    for name in ("one", "-two_234567", "three"):
        shutil.copyfile(clip, folder / f"{name}.mp4")
    with serve(folder) as server:
        yield server


def wanted(server, *names: str) -> list[Wanted]:
    return [Wanted(name, f"{server.address}/{name}.mp4", "urls") for name in names]


def statuses(folder) -> dict[str, tuple[str, str]]:
    return {row["video_id"]: (row["status"], row["reason"]) for row in read_manifest(folder).to_pylist()}


def requested(server, name: str) -> int:
    return sum(name in path for path, _ in server.requests)


# --------------------------------------------------------------------------------------------- downloads


def test_videos_are_stored_by_id_with_their_own_hash(site, clip, tmp_path):
    folder = tmp_path / "corpus"
    report = collect(folder, wanted(site, "one", "-two_234567"), QUICK)
    assert (report.videos, report.kept) == (2, 2)
    for name in ("one", "-two_234567"):
        video = Collection(folder).find(name)
        assert (folder / "videos" / f"{name}.mp4").read_bytes() == clip.read_bytes()
        assert video.sha256 == hashlib.sha256(clip.read_bytes()).hexdigest()
        assert (video.width, video.height, video.seconds, video.format) == (128, 96, 3.0, "mp4/h264")
        assert set(json.loads((folder / "metadata" / f"{name}.json").read_text())) <= set(module._STORED_METADATA)
    assert not (folder / "videos" / ".partial").exists()


def test_what_is_there_is_not_asked_for_again(site, tmp_path):
    collect(tmp_path / "corpus", wanted(site, "one"), QUICK)
    site.requests.clear()
    collect(tmp_path / "corpus", wanted(site, "one", "three"), QUICK)
    assert requested(site, "one") == 0
    assert requested(site, "three")


@pytest.mark.parametrize("status", [404, 410, 451])
def test_what_was_removed_gets_a_tombstone_and_is_never_asked_for_again(site, tmp_path, status):
    folder, site.statuses["/one.mp4"] = tmp_path / "corpus", status
    report = collect(folder, wanted(site, "one"), QUICK)
    assert statuses(folder)["one"][0] == "removed"
    assert sum(report.dropped.values()) == 1
    site.statuses.clear()
    site.requests.clear()
    collect(folder, wanted(site, "one"), CollectOptions(pause_seconds=0, recheck=True, retry_unreadable=True))
    assert site.requests == []
    assert statuses(folder)["one"][0] == "removed"


@pytest.mark.parametrize("status", [500, 503, 403])
def test_what_fails_for_now_is_tried_again(site, tmp_path, status):
    folder, site.statuses["/one.mp4"] = tmp_path / "corpus", status
    report = collect(folder, wanted(site, "one"), QUICK)
    assert statuses(folder)["one"][0] == "failed"
    assert site.address not in statuses(folder)["one"][1]
    assert sum(report.open.values()) == 1
    site.statuses.clear()
    assert collect(folder, wanted(site, "one"), QUICK).kept == 1


def test_a_site_that_asks_to_slow_down_is_left_alone(site, tmp_path):
    folder, site.statuses["/three.mp4"] = tmp_path / "corpus", 429
    with pytest.raises(CollectError, match="slow down"):
        collect(folder, wanted(site, "one", "three", "-two_234567"), QUICK)
    assert statuses(folder) == {"one": ("collected", "")}
    assert requested(site, "-two") == 0


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("noise.mp4", bytes(range(256)) * 40, "cannot be decoded"),
        ("page.html", b"<html><title>no video</title></html>", "no video at this address"),
        ("empty.mp4", b"", ""),
    ],
)
def test_what_is_no_video_is_noted_and_its_file_removed(site, tmp_path, name, content, reason):
    folder = tmp_path / "corpus"
    (site.folder / name).write_bytes(content)
    asking = [Wanted("odd", f"{site.address}/{name}", "urls")]
    collect(folder, asking, QUICK)
    status, message = statuses(folder)["odd"]
    assert status in ("unreadable", "failed")
    assert reason in message
    assert str(tmp_path) not in message
    assert not list(folder.glob("videos/*"))


def test_what_was_no_video_is_tried_again_only_on_request(site, clip, tmp_path):
    folder, file = tmp_path / "corpus", site.folder / "noise.mp4"
    file.write_bytes(bytes(range(256)) * 40)
    collect(folder, wanted(site, "noise"), QUICK)
    shutil.copyfile(clip, file)
    collect(folder, wanted(site, "noise"), QUICK)
    assert statuses(folder)["noise"][0] == "unreadable"
    again = CollectOptions(pause_seconds=0, retries=0, retry_unreadable=True)
    assert collect(folder, wanted(site, "noise"), again).kept == 1


def test_an_address_with_several_videos_is_refused(site, tmp_path):
    (site.folder / "feed.rss").write_text(_feed(site))
    collect(tmp_path / "corpus", [Wanted("feed", f"{site.address}/feed.rss", "urls")], QUICK)
    assert statuses(tmp_path / "corpus")["feed"] == ("unreadable", "the address leads to several videos")
    assert requested(site, "one") == 0


def test_a_download_that_was_interrupted_goes_on_where_it_stopped(site, clip, tmp_path):
    folder, content = tmp_path / "corpus", clip.read_bytes()
    partial = folder / "videos" / ".partial"
    partial.mkdir(parents=True)
    (folder / "records").mkdir()
    (partial / "one.mp4.part").write_bytes(content[:5000])
    collect(folder, wanted(site, "one"), QUICK)
    assert (folder / "videos" / "one.mp4").read_bytes() == content
    assert "bytes=5000-" in [headers.get("Range") for _, headers in site.requests]


def test_recheck_removes_what_is_gone_and_keeps_the_rest(site, tmp_path):
    folder = tmp_path / "corpus"
    collect(folder, wanted(site, "one", "three", "-two_234567"), QUICK)
    (folder / "results" / "trim").mkdir(parents=True)
    (folder / "results" / "trim" / "one.json").write_text("{}")
    site.statuses.update({"/one.mp4": 404, "/three.mp4": 500})
    collect(
        folder,
        wanted(site, "one", "three", "-two_234567"),
        CollectOptions(pause_seconds=0, retries=0, recheck=True),
    )
    assert {name: status for name, (status, _) in statuses(folder).items()} == {
        "one": "removed",
        "three": "collected",
        "-two_234567": "collected",
    }
    assert [str(file.relative_to(folder)) for file in folder.rglob("one*")] == ["records/one.json"]


def test_a_file_that_was_lost_is_fetched_again(site, tmp_path):
    folder = tmp_path / "corpus"
    collect(folder, wanted(site, "one"), QUICK)
    (folder / "videos" / "one.mp4").unlink()
    collect(folder, wanted(site, "one"), QUICK)
    assert (folder / "videos" / "one.mp4").is_file()


def test_cookies_are_sent_and_their_file_is_left_as_it_is(site, tmp_path):
    cookies = tmp_path / "cookies.txt"
    text = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t4102444800\tsession\tsecret\n"
    cookies.write_text(text)
    collect(tmp_path / "corpus", wanted(site, "one"), CollectOptions(cookies=cookies, pause_seconds=0))
    assert any("session=secret" in headers.get("Cookie", "") for _, headers in site.requests)
    assert cookies.read_text() == text
    assert not any("secret" in file.read_text("latin1") for file in (tmp_path / "corpus").rglob("*") if file.is_file())


def test_there_is_a_pause_between_two_videos_but_not_before_the_first(site, tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    collect(tmp_path / "corpus", wanted(site, "one", "three", "-two_234567"), CollectOptions(pause_seconds=7))
    assert slept.count(7) == 2


def test_downloads_are_slowed_to_the_limit(site, tmp_path):
    (site.folder / "large.mp4").write_bytes((site.folder / "one.mp4").read_bytes() + bytes(400_000))
    import time

    begin = time.perf_counter()
    collect(tmp_path / "corpus", wanted(site, "large"), CollectOptions(megabytes_per_second=0.4, pause_seconds=0))
    assert time.perf_counter() - begin > 0.8


def test_a_removed_video_is_never_collected_even_if_it_never_was(site, tmp_path):
    folder = tmp_path / "corpus"
    collect(folder, wanted(site, "one"), QUICK)
    remove(folder, ["one", "three"], "asked by the owner")
    site.requests.clear()
    collect(folder, wanted(site, "one", "three"), QUICK)
    assert statuses(folder) == dict.fromkeys(("one", "three"), ("removed", "asked by the owner"))
    assert site.requests == []


def test_a_tombstone_that_a_kill_left_beside_its_video_removes_it_in_the_next_run(site, tmp_path):
    folder = tmp_path / "corpus"
    collect(folder, wanted(site, "one"), QUICK)
    collection = Collection(folder)
    collection.forget = lambda video: None  # the process dies here
    collection.bury(collection.find("one"), "removed")
    assert (folder / "videos" / "one.mp4").is_file()
    collect(folder, wanted(site, "one"), QUICK)
    assert not (folder / "videos" / "one.mp4").exists()


# --------------------------------------------------------------------------------------------- what is asked for


def test_the_complete_list_of_lemon_has_the_published_table(shared_data):
    path = shared_data / "annotations" / "lemon" / "labels.json"
    asking, labels = from_labels(path), read_labels(path)
    assert len({each.video_id for each in asking}) == len(asking) == 4194
    assert sum(each.video_id.startswith("-") for each in asking) == 60
    assert all(each.url == f"https://www.youtube.com/watch?v={each.video_id}" for each in asking)
    assert all(len(each.published_md5) == 32 for each in asking)
    counts = Counter(PROCEDURES[number] for label in labels.values() for number in label["procedures"])
    robotic = Counter(
        PROCEDURES[number] for label in labels.values() if label["robotic"] for number in label["procedures"]
    )
    assert {name: (counts[name], robotic[name]) for name in counts} == PUBLISHED
    assert sum(counts.values()) == 4463


def test_a_broken_list_of_lemon_is_named(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([{"youtubeId": "x" * 11, "procedureName": ["haircut"], "robotic": False}]))
    with pytest.raises(AnnotationError, match="haircut"):
        from_labels(path)


def _feed(server) -> str:
    titles = {
        "one": "Laparoscopic Cholecystectomy",
        "three": "cholecystectomy, laparoscopic: ANIMATION",
        "-two_234567": "Hernia repair",
    }
    items = "".join(
        f"<item><title>{title}</title><link>{server.address}/{name}.mp4</link></item>"
        for name, title in titles.items()
    )
    return f'<?xml version="1.0"?><rss version="2.0"><channel><title>channel</title>{items}</channel></rss>'


def test_a_search_keeps_titles_with_every_word_and_without_the_ignored_ones(site):
    (site.folder / "feed.rss").write_text(_feed(site))

    def found(query: str, **options: object) -> list[str]:
        feed = f"{site.address}/feed.rss"
        return [each.video_id for each in from_search(query, playlist=feed, options=QUICK, **options)]

    assert found("cholecystectomy laparoscopic") == ["one", "three"]
    assert found("cholecystectomy laparoscopic", ignore=["animation"]) == ["one"]
    assert found("hernia") == ["-two_234567"]
    assert found("", limit=1) == ["one"]
    assert title_fits("Robotic CHOLECYSTECTOMY", "cholecystectomy robotic")


def test_a_search_that_finds_no_site_says_so(site):
    site.statuses["/feed.rss"] = 404
    with pytest.raises(CurationError, match="cannot be searched"):
        from_search("x", playlist=f"{site.address}/feed.rss", options=QUICK)


def test_a_list_of_addresses_may_give_ids(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# mine\n\nhttps://example.org/a/b.mp4\nspecial https://example.org/?x=1\n")
    assert [(each.video_id, each.url) for each in from_urls(path)] == [
        ("b", "https://example.org/a/b.mp4"),
        ("special", "https://example.org/?x=1"),
    ]
    assert id_of("https://www.youtube.com/watch?list=x&v=-Ab3dEf6hIj") == "-Ab3dEf6hIj"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file:///etc/passwd", "list.txt:1: expected"),
        ("ftp://example.org/a.mp4", "with http"),
        ("a b https://example.org/a.mp4", "list.txt:1"),
        ("https://example.org/", "write an id before"),
        ("https://example.org/a%2f..%2fb.mp4", "write an id before|b"),
        ("../x https://example.org/a.mp4", "cannot be the id"),
        ("https://a.org/a.mp4\nhttps://b.org/a.mp4", "a come twice"),
    ],
)
def test_a_broken_list_of_addresses_is_named_with_its_line(tmp_path, text, reason):
    path = tmp_path / "list.txt"
    path.write_text(text)
    if "%2f" in text:
        assert "/" not in from_urls(path)[0].video_id
        return
    with pytest.raises(CurationError, match=reason):
        from_urls(path)


def test_own_videos_are_copied(clip, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    shutil.copyfile(clip, own / "op-1.MP4")
    (own / "notes.txt").write_text("x")
    collect(tmp_path / "corpus", from_folder(own), QUICK)
    video = Collection(tmp_path / "corpus").find("op-1")
    assert (video.origin, video.url, video.file) == ("folder", "", "op-1.MP4")
    assert (own / "op-1.MP4").is_file()
    shutil.copyfile(clip, own / "with space.mp4")
    with pytest.raises(CurationError, match="with space"):
        from_folder(own)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(CurationError, match="holds no videos"):
        from_folder(tmp_path / "nothing")


def test_a_replaced_upload_is_collected_anew_and_the_others_are_kept(clip, tmp_path, caplog):
    own, corpus = tmp_path / "own", tmp_path / "corpus"
    own.mkdir()
    for name in ("one", "two"):
        shutil.copyfile(clip, own / f"{name}.mp4")
    collect(corpus, from_folder(own), QUICK)
    kept = Collection(corpus).find("two")
    ColorVideo(2, before=0, during=4, after=0).write(own / "one.mp4")
    collect(corpus, from_folder(own), QUICK)
    new = Collection(corpus).find("one")
    assert new.sha256 == hashlib.sha256((own / "one.mp4").read_bytes()).hexdigest() != kept.sha256
    assert Collection(corpus).holds(new)
    assert Collection(corpus).find("two") == kept
    assert f"{own / 'one.mp4'} has another content than before" in caplog.text


def test_an_upload_that_was_unreadable_is_looked_at_again_when_it_was_replaced(clip, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "one.mp4").write_bytes(b"half an upload")
    collect(tmp_path / "corpus", from_folder(own), QUICK)
    assert Collection(tmp_path / "corpus").find("one").status == "unreadable"
    shutil.copyfile(clip, own / "one.mp4")
    collect(tmp_path / "corpus", from_folder(own), QUICK)
    assert Collection(tmp_path / "corpus").find("one").status == "collected"


def test_an_upload_of_the_same_name_in_another_folder_or_from_the_web_is_refused(clip, site, tmp_path):
    for name, during in (("a", 3), ("b", 4)):
        (tmp_path / name).mkdir()
        ColorVideo(2, before=0, during=during, after=0).write(tmp_path / name / "op.mp4")
    corpus = tmp_path / "corpus"
    collect(corpus, from_folder(tmp_path / "a"), QUICK)
    before = Collection(corpus).find("op")
    with pytest.raises(OutputError, match=r"holds op of another folder, a .*; op of .*b has another content"):
        collect(corpus, from_folder(tmp_path / "b"), QUICK)
    assert Collection(corpus).find("op") == before
    collect(corpus, wanted(site, "one"), QUICK)
    (tmp_path / "a" / "op.mp4").rename(tmp_path / "a" / "one.mp4")
    with pytest.raises(CurationError, match=r"one\.mp4 has another content"):
        collect(corpus, from_folder(tmp_path / "a"), QUICK)


def test_a_file_that_was_changed_within_the_collection_stops_the_stages(clip, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    shutil.copyfile(clip, own / "one.mp4")
    collect(tmp_path / "corpus", from_folder(own), QUICK)
    ColorVideo(2, before=0, during=4, after=0).write(tmp_path / "corpus" / "videos" / "one.mp4")
    with pytest.raises(CurationError, match=r"one\.mp4 has \d+ bytes; when it was collected it had \d+"):
        run_stage(tmp_path / "corpus", "hash")
    collect(tmp_path / "corpus", from_folder(own), QUICK)
    assert Collection(tmp_path / "corpus").holds(Collection(tmp_path / "corpus").find("one"))


# --------------------------------------------------------------------------------------------- messages, bad input


@pytest.mark.parametrize(
    ("message", "status", "reason"),
    [
        ("Private video. Sign in if you've been granted access to this video", "removed", "private"),
        ("Video unavailable. This video has been removed by the uploader", "removed", "removed by"),
        (
            "Video unavailable. This video is no longer available because the account has been terminated",
            "removed",
            "",
        ),
        ("Video unavailable", "removed", "no longer available"),
        ("This video is no longer available due to a copyright claim by X", "removed", "copyright"),
        ("Sign in to confirm your age. Use --cookies", "failed", "--cookies"),
        ("The uploader has not made this video available in your country", "failed", "country"),
        ("Unable to download API page: HTTP Error 404: Not Found", "failed", "API page"),
        ("unable to download video data: HTTP Error 403: Forbidden", "failed", "403"),
        ("Connection reset by peer", "failed", "Connection reset"),
    ],
)
def test_messages_of_sites_are_understood(message, status, reason):
    found = understand(message)
    assert found[0] == status
    assert reason in found[1]


def test_another_folder_is_never_filled(tmp_path, site):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        collect(tmp_path, wanted(site, "one"), QUICK)


def test_two_processes_do_not_work_on_one_collection(tmp_path, site):
    with (
        Collection(tmp_path / "corpus").locked(create=True),
        pytest.raises(OutputError, match="another run is at work"),
    ):
        collect(tmp_path / "corpus", wanted(site, "one"), QUICK)


def test_without_yt_dlp_it_says_what_to_install(tmp_path, site, monkeypatch):
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    with pytest.raises(InputError, match=r"surgvista-hf\[curate\]"):
        collect(tmp_path / "corpus", wanted(site, "one"), QUICK)


@pytest.mark.parametrize(
    "changes", [{"pause_seconds": -1}, {"megabytes": 0}, {"megabytes_per_second": 0}, {"cookies": "nowhere.txt"}]
)
def test_options_that_make_no_sense_are_refused(changes, tmp_path):
    if "cookies" in changes:
        changes = {"cookies": tmp_path / "nowhere.txt"}
    with pytest.raises(InputError):
        CollectOptions(**changes)
