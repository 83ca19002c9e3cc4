"""Preparing: whole or not at all, the same however it was interrupted or spread."""

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
from PIL import Image

from surgvista_hf.datasets_scripts.frame_sets.load import load_frame_set
from surgvista_hf.datasets_scripts.frame_sets.prepare import (
    PreparationError,
    PreparationReport,
    prepare_frame_set,
    prepare_videos,
)
from surgvista_hf.datasets_scripts.frame_sets.registry import get_builder
from surgvista_hf.datasets_scripts.schema.builder import RawVideo
from surgvista_hf.datasets_scripts.schema.info import DatasetError, MissingFilesError
from surgvista_hf.datasets_scripts.schema.media import PreparationOptions
from surgvista_hf.util.files import OutputError
from tests.datasets_scripts.raw_layouts import LAYOUTS, RATE, write_frames, write_video
from tests.videos import write_numbered_video

# No labels, or labels of whole videos; or copies whose labels end with their first frames.
WITHOUT_TIMES = (
    "psi_ava folder gensurgery lemon surgicalactions160 cholec80_cvs endoscapes prostate21 prostatd".split()
)
SMALL = {"videos": "6", "seconds": "14", "height": "64", "width": "80"}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """The frame set of an uninterrupted run in one process."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    report = prepare_frame_set("synthetic", None, folder, settings=SMALL)
    assert (len(report.videos), report.resumed, report.failed) == (6, 0, ())
    return contents(folder)


def test_two_processes_make_the_same_bytes_as_one(whole, tmp_path):
    prepare_frame_set("synthetic", None, tmp_path / "out", settings=SMALL, num_proc=2)
    assert contents(tmp_path / "out") == whole


@pytest.mark.slow
@pytest.mark.parametrize("finished", [1, 4])
def test_killed_and_run_again_makes_the_same_bytes(whole, tmp_path, processes, finished):
    output = tmp_path / "out"
    words = [f"--set={name}={value}" for name, value in SMALL.items()]
    process = processes.start("surgvista_hf.cli.main", "prepare", "synthetic", "--output", output, *words)
    while process.running and len(list(output.glob("videos/operation*.json"))) < finished:
        time.sleep(0.002)
    process.kill()
    marks = list(output.glob("videos/operation*.json"))
    if len(marks) == 6:
        pytest.skip("this machine finished before it could be killed")
    with pytest.raises(DatasetError, match="unfinished frame set: run the same"):
        load_frame_set("synthetic", output)
    report = prepare_frame_set("synthetic", None, output, settings=SMALL)
    assert report.resumed == len(marks)
    assert contents(output) == whole


def test_what_a_kill_left_half_written_is_removed(whole, tmp_path):
    output = tmp_path / "out"
    prepare_frame_set("synthetic", None, output, settings=SMALL)
    (output / "videos/operation_000003.json").unlink()  # its frames are there, the mark is not
    (output / "videos/.operation_000005-abc.arrow").write_bytes(b"half")
    (output / ".frame_set-abc.json").write_bytes(b"half")
    assert prepare_frame_set("synthetic", None, output, settings=SMALL).resumed == 5
    assert contents(output) == whole


def test_finished_videos_are_not_done_again(tmp_path):
    LAYOUTS["cholec80"](tmp_path / "raw")
    prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "out", videos=["video01"])
    before = (tmp_path / "out/videos/video01.arrow").stat().st_mtime_ns
    report = prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "out")
    assert report.resumed == 1
    assert (tmp_path / "out/videos/video01.arrow").stat().st_mtime_ns == before
    assert len(load_frame_set("cholec80", tmp_path / "out", "all")) == 12


def test_the_folder_is_an_ordinary_data_set_of_the_library(tmp_path):
    prepare_frame_set("synthetic", None, tmp_path / "out", settings=SMALL)
    stock = datasets.load_from_disk(str(tmp_path / "out"))
    ours = load_frame_set("synthetic", tmp_path / "out", "all")
    assert stock.features == ours.features
    assert stock[:5]["phase"] == ours[:5]["phase"]
    assert stock[13]["image"].size == (80, 64)


# ------------------------------------------------------------------------------------------- bad videos


def test_an_unreadable_video_fails_the_run_but_not_the_others(tmp_path):
    LAYOUTS["cholec80"](tmp_path / "raw")
    (tmp_path / "raw/videos/video41.mp4").write_bytes(b"no video")
    with pytest.raises(PreparationError, match=r"1 of 3 videos could not be prepared.*video41\.mp4"):
        prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "out")
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert list(report["failed"]) == ["video41"]
    assert report["videos"] == 2
    with pytest.raises(DatasetError, match="unfinished"):
        load_frame_set("cholec80", tmp_path / "out", "all")
    report = prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "out", skip_unreadable=True)
    assert (report.resumed, [video.video_id for video in report.failed]) == (2, ["video41"])
    assert set(load_frame_set("cholec80", tmp_path / "out", "all")["video_id"]) == {"video01", "video80"}


def test_a_truncated_video_leaves_nothing_behind(tmp_path):
    LAYOUTS["cholec80"](tmp_path / "raw")
    path = tmp_path / "raw/videos/video41.mp4"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "out", skip_unreadable=True)
    assert sorted(file.name for file in (tmp_path / "out/videos").iterdir()) == [
        "video01.arrow",
        "video01.json",
        "video80.arrow",
        "video80.json",
    ]


def test_labels_and_frames_may_differ_by_a_frame(tmp_path):
    """Decoders disagree by one: nothing is lost, nothing is said."""
    LAYOUTS["cholec80"](tmp_path / "raw")
    write_video(tmp_path / "raw/videos/video41.mp4", frames=4 * RATE + 1)
    write_video(tmp_path / "raw/videos/video80.mp4", frames=4 * RATE - 1)
    report = prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "out")
    assert [video.frames for video in report.videos] == [4, 4, 4]
    assert [video.remarks for video in report.videos] == [(), (), ()]


def test_within_the_tolerance_the_longer_part_is_cut_and_reported(tmp_path):
    LAYOUTS["cholec80"](tmp_path / "raw")
    write_video(tmp_path / "raw/videos/video41.mp4", frames=5 * RATE + 10)
    write_video(tmp_path / "raw/videos/video80.mp4", frames=3 * RATE)
    report = prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "out")
    remarks = {video.video_id: (video.frames, *video.remarks) for video in report.videos}
    assert remarks["video41"] == (
        4,
        "video41: the labels cover 100 source frames, the video 135; the longer part was cut",
    )
    assert remarks["video80"] == (
        3,
        "video80: the labels cover 100 source frames, the video 75; the longer part was cut",
    )


@pytest.mark.parametrize("frames", [7 * RATE, RATE])
def test_beyond_the_tolerance_expected_and_found_counts_are_reported(tmp_path, frames):
    LAYOUTS["cholec80"](tmp_path / "raw")
    write_video(tmp_path / "raw/videos/video41.mp4", frames=frames)
    with pytest.raises(
        PreparationError, match=f"video41: the labels cover 100 source frames, the video {frames}: 3.0 s apart"
    ):
        prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "out")
    options = PreparationOptions(tolerance_seconds=5)
    assert not prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "out5", options=options).failed


@pytest.mark.parametrize("name", sorted(name for name in LAYOUTS if name not in WITHOUT_TIMES))
def test_labels_that_go_on_after_the_video_stop_it_whatever_the_data_set(tmp_path, name):
    """Labels of another, longer operation are noticed, be they rows, intervals or single frames."""
    LAYOUTS[name](tmp_path / "raw")
    _shorten(tmp_path / "raw")
    options = PreparationOptions(tolerance_seconds=0.2)
    report = prepare_frame_set(name, tmp_path / "raw", tmp_path / "out", options=options, skip_unreadable=True)
    stopped = [
        video
        for video in report.videos
        if "labels go on until" in str(video.error) or "labels cover" in str(video.error)
    ]
    assert stopped


def _shorten(folder: Path) -> None:
    """Leave one frame of each video."""
    for path in folder.rglob("*.mp4"):
        write_video(path, frames=1)
    images: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".jpg", ".png"):
            images.setdefault(path.parent, []).append(path)
    for _, *others in images.values():
        for path in others:
            path.unlink()


def test_labels_that_begin_after_the_video_stop_it_though_no_end_is_known(tmp_path):
    """Cataract-101 gives beginnings only: the last phase lasts until the video is over."""
    write_video(tmp_path / "raw/case_269.mp4", frames=4 * RATE)
    (tmp_path / "raw/annotations.csv").write_text("VideoID;FrameNo;Phase\n269;0;1\n269;50;2\n269;200;3\n")
    with pytest.raises(PreparationError, match=r"269: the labels go on until second 8.0, the video ends at 4.0"):
        prepare_frame_set("cataract101", tmp_path / "raw", tmp_path / "out")


def test_intervals_that_end_long_before_the_video_are_reported(tmp_path):
    write_video(tmp_path / "raw/videos/op1.mp4", frames=8 * RATE)
    (tmp_path / "raw/phases").mkdir()
    (tmp_path / "raw/phases/op1.csv").write_text("start,end,phase\n0,2,cut\n")
    report = prepare_frame_set("phase_folder", tmp_path / "raw", tmp_path / "out")
    assert report.videos[0].remarks == ("op1: the labels end at second 2.0, the video at 8.0",)
    assert (report.videos[0].frames, report.videos[0].labeled) == (8, 2)


def test_frames_extracted_at_another_rate_than_said_are_noticed(tmp_path):
    LAYOUTS["cholec80"](tmp_path / "raw")
    (tmp_path / "raw/videos/video41.mp4").unlink()
    write_frames(
        tmp_path / "raw/frames/video41",
        [f"{number:05d}.jpg" for number in range(20)],
        [5 * number for number in range(20)],
    )
    with pytest.raises(PreparationError, match="check --folder-frames-per-second"):
        prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "out")
    options = PreparationOptions(folder_frames_per_second=5.0)
    report = prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "out5", options=options)
    assert [video.frames for video in report.videos] == [4, 4, 4]


def test_extracted_frames_get_the_labels_that_the_video_would(tmp_path):
    LAYOUTS["cholec80"](tmp_path / "raw")
    prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "video")
    for number in (1, 41, 80):
        (tmp_path / f"raw/videos/video{number:02d}.mp4").unlink()
    write_frames(
        tmp_path / "raw/frames/train/video01", [f"{second:05d}.png" for second in range(4)], range(0, 100, 25)
    )
    write_frames(
        tmp_path / "raw/frames/video41", [f"video41_{second + 1:06d}.jpg" for second in range(4)], range(0, 100, 25)
    )
    write_frames(
        tmp_path / "raw/frames/test/video80", [f"{second * 25}.jpg" for second in range(4)], range(0, 100, 25)
    )
    prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "frames")
    ours, theirs = (
        load_frame_set("cholec80", tmp_path / name, "all").remove_columns("image") for name in ("frames", "video")
    )
    assert ours.to_list() == theirs.to_list()


def test_frames_of_changing_size_are_refused(tmp_path):
    from PIL import Image

    write_frames(tmp_path / "raw/x", ["0.jpg", "1.jpg"], [0, 1])
    Image.new("RGB", (50, 40)).save(tmp_path / "raw/x/1.jpg")
    with pytest.raises(PreparationError, match="change from"):
        prepare_frame_set("folder", tmp_path / "raw", tmp_path / "out")


# ------------------------------------------------------------------------------------------- outputs


def test_other_options_are_refused_in_a_folder_that_was_begun(tmp_path):
    LAYOUTS["psi_ava"](tmp_path / "raw")
    prepare_frame_set("psi_ava", tmp_path / "raw", tmp_path / "out")
    with pytest.raises(OutputError, match="was begun with"):
        prepare_frame_set("psi_ava", tmp_path / "raw", tmp_path / "out", options=PreparationOptions(quality=70))
    with pytest.raises(OutputError, match="was begun with"):
        prepare_frame_set("synthetic", None, tmp_path / "out", settings=SMALL)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"holds other files \(thesis\.tex\)"):
        prepare_frame_set("synthetic", None, tmp_path, settings=SMALL)
    with pytest.raises(OutputError, match="is a file"):
        prepare_frame_set("synthetic", None, tmp_path / "thesis.tex", settings=SMALL)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_two_preparations_do_not_write_to_one_folder(tmp_path):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out/.lock"), pytest.raises(OutputError, match="another run is at work"):
        prepare_frame_set("synthetic", None, tmp_path / "out", settings=SMALL)


def test_unknown_videos_and_settings_are_named(tmp_path):
    LAYOUTS["psi_ava"](tmp_path / "raw")
    with pytest.raises(DatasetError, match="CASE999: no such videos"):
        prepare_frame_set("psi_ava", tmp_path / "raw", tmp_path / "out", videos=["CASE999"])
    with pytest.raises(DatasetError, match="has no setting 'video'; did you mean videos"):
        prepare_frame_set("synthetic", None, tmp_path / "out", settings={"video": "3"})
    with pytest.raises(DatasetError, match=r"videos .* must be a whole number"):
        prepare_frame_set("synthetic", None, tmp_path / "out", settings={"videos": "many"})
    with pytest.raises(MissingFilesError, match="needs a folder with the raw data"):
        prepare_frame_set("cholec80", None, tmp_path / "out")


def test_titles_of_any_length_and_script_can_be_ids(tmp_path):
    title = "腹腔鏡下胆嚢摘出術 " * 7 + "/?"
    write_frames(tmp_path / "raw" / title, ["0.jpg"], [0])
    prepare_frame_set("folder", tmp_path / "raw", tmp_path / "out")
    assert load_frame_set("folder", tmp_path / "out", "all")["video_id"][:] == [title]
    assert prepare_frame_set("folder", tmp_path / "raw", tmp_path / "out").resumed == 1


def test_folders_of_several_places_can_be_one_corpus(tmp_path):
    from surgvista_hf import ClipDataset

    parts = []
    for hospital in ("north", "south"):
        write_video(tmp_path / hospital / "monday.mp4", frames=50)
        prepare_frame_set("folder", tmp_path / hospital, tmp_path / f"{hospital}-set", settings={"source": hospital})
        parts.append(load_frame_set("folder", tmp_path / f"{hospital}-set", "train"))
    clips = ClipDataset(datasets.concatenate_datasets(parts), num_frames=2)
    assert [clips[index]["source"] for index in (0, 2)] == ["north", "south"]


def test_a_frame_set_of_only_these_forgets_what_is_gone_or_of_another_version(tmp_path):
    own, output = tmp_path / "own", tmp_path / "out"
    own.mkdir()
    for name in ("a", "b", "c"):
        write_numbered_video(own / f"{name}.mp4", count=20)
    builder = get_builder("folder")
    found = [replace(video, version="1") for video in builder.configured(own, {}).find(own)]

    def prepare(videos: list[RawVideo]) -> PreparationReport:
        return prepare_videos(builder, videos, output, PreparationOptions(), only_these=True)

    assert prepare(found).resumed == 0
    assert prepare(found).resumed == 3
    report = prepare([found[0], replace(found[1], version="2")])
    assert [video.video_id for video in report.videos] == ["a", "b"]
    assert report.resumed == 1
    assert {file.stem for file in (output / "videos").iterdir()} == {"a", "b"}
    assert set(load_frame_set("folder", output, "all")["video_id"]) == {"a", "b"}


def test_a_deleted_video_leaves_the_frame_set_and_is_named(tmp_path, caplog):
    for name in ("a", "b", "c"):
        write_numbered(tmp_path / f"raw/{name}.mp4", count=20)
    prepare_frame_set("folder", tmp_path / "raw", tmp_path / "out")
    (tmp_path / "raw/c.mp4").unlink()
    report = prepare_frame_set("folder", tmp_path / "raw", tmp_path / "out")
    assert (report.removed, report.resumed) == (("c",), 2)
    assert "c: no longer among the videos and labels" in caplog.text
    assert not [name for name in contents(tmp_path / "out") if name.startswith("videos/c.")]
    assert '"c"' not in (tmp_path / "out/.origins.json").read_text()
    assert {video["video_id"] for video in json.loads((tmp_path / "out/frame_set.json").read_text())["videos"]} == {
        "a",
        "b",
    }
    assert prepare_frame_set("folder", tmp_path / "raw", tmp_path / "out").removed == ()


def test_a_video_that_left_the_labels_leaves_the_frame_set_though_its_file_stays(tmp_path):
    for name in ("opa", "opb", "opc"):
        write_numbered(tmp_path / f"videos/{name}.mp4", count=40, rate=10)
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / f"labels/{name}.csv").write_text("second,phase\n0,cut\n1,cut\n2,sew\n3,sew\n")
    settings = {"labels": str(tmp_path / "labels")}
    prepare_frame_set("own", tmp_path / "videos", tmp_path / "out", settings=settings)
    (tmp_path / "labels/opc.csv").unlink()
    report = prepare_frame_set("own", tmp_path / "videos", tmp_path / "out", settings=settings, skip_unreadable=True)
    assert report.removed == ("opc",)
    assert set(load_frame_set("own", tmp_path / "out", "all")["video_id"]) == {"opa", "opb"}


def test_videos_that_another_folder_or_another_call_prepared_stay(tmp_path, caplog):
    write_numbered(tmp_path / "a/op1.mp4", count=30, rate=10)
    for name in ("op2", "op3"):
        write_numbered(tmp_path / f"b/{name}.mp4", count=50, rate=10)
    prepare_frame_set("folder", tmp_path / "a", tmp_path / "out")
    for name in ("op2", "op3"):
        report = prepare_frame_set("folder", tmp_path / "b", tmp_path / "out", videos=[name])
        assert (report.removed, report.kept) == ((), ("op1",))
    assert "op1: prepared from another folder (a), so kept" in caplog.text
    assert frames_of(tmp_path / "out") == {"op1": 3, "op2": 5, "op3": 5}


# ------------------------------------------------------------------------------------------- same name, other content


def write_numbered(path: Path, **options) -> None:
    path.parent.mkdir(exist_ok=True)
    write_numbered_video(path, **options)


def frames_of(folder: Path) -> dict[str, int]:
    return dict(Counter(load_frame_set("folder", folder, "all")["video_id"]))


def test_a_replaced_video_is_prepared_anew_and_the_others_are_kept(tmp_path, caplog):
    for name, count in (("op1", 30), ("op2", 40)):
        write_numbered(tmp_path / f"a/{name}.mp4", count=count, rate=10)
    prepare_frame_set("folder", tmp_path / "a", tmp_path / "out")
    write_numbered(tmp_path / "a/op1.mp4", count=70, rate=10)
    assert prepare_frame_set("folder", tmp_path / "a", tmp_path / "out").resumed == 1
    assert frames_of(tmp_path / "out") == {"op1": 7, "op2": 4}
    assert "op1 has changed: it is prepared again" in caplog.text
    assert prepare_frame_set("folder", tmp_path / "a", tmp_path / "out").resumed == 2


def test_a_namesake_in_another_folder_is_refused_and_a_moved_folder_is_not(tmp_path):
    write_numbered(tmp_path / "a/op1.mp4", count=30, rate=10)
    write_numbered(tmp_path / "b/op1.mp4", count=70, rate=10)
    write_numbered(tmp_path / "b/op2.mp4", count=50, rate=10)
    prepare_frame_set("folder", tmp_path / "a", tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(OutputError, match=r"holds op1 of another folder, a .*; op1 of .*b has another content"):
        prepare_frame_set("folder", tmp_path / "b", tmp_path / "out")
    assert contents(tmp_path / "out") == before
    (tmp_path / "a").rename(tmp_path / "archive")
    assert prepare_frame_set("folder", tmp_path / "archive", tmp_path / "out").resumed == 1
    assert prepare_frame_set("folder", tmp_path / "b", tmp_path / "out", videos=["op2"]).resumed == 0
    assert frames_of(tmp_path / "out") == {"op1": 3, "op2": 5}


def test_changed_labels_are_read_anew_for_the_videos_that_they_belong_to(tmp_path):
    LAYOUTS["cholec80"](tmp_path / "raw")
    prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "out")
    file = next((tmp_path / "raw").rglob("video41*phase*.txt"))
    file.write_text(file.read_text().replace("Preparation", "ClippingCutting"))
    assert prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "out").resumed == 2
    frames = load_frame_set("cholec80", tmp_path / "out", "all")
    rows = frames.filter(lambda video: video == "video41", input_columns="video_id")
    assert frames.features["phase"].str2int("Preparation") not in set(rows["phase"])


def test_a_changed_frame_of_an_extracted_folder_is_seen(tmp_path):
    for name in "ab":
        write_frames(tmp_path / "raw" / name, [f"{number}.jpg" for number in range(5)], range(5))
    prepare_frame_set("folder", tmp_path / "raw", tmp_path / "out")
    frame = sorted((tmp_path / "raw/a").iterdir())[3]
    Image.new("RGB", Image.open(frame).size, "red").save(frame)
    assert prepare_frame_set("folder", tmp_path / "raw", tmp_path / "out").resumed == 1


def test_a_frame_set_of_an_earlier_version_is_prepared_anew_with_a_remark(tmp_path, caplog):
    write_numbered(tmp_path / "a/op1.mp4", count=30, rate=10)
    prepare_frame_set("folder", tmp_path / "a", tmp_path / "out")
    before = contents(tmp_path / "out")
    record = tmp_path / "out/videos/op1.json"
    old = json.loads(record.read_text())
    record.write_text(json.dumps({key: value for key, value in old.items() if key != "made_from"}))
    (tmp_path / "out/.origins.json").unlink()
    assert prepare_frame_set("folder", tmp_path / "a", tmp_path / "out").resumed == 0
    assert "op1 was prepared by a version that did not note its content" in caplog.text
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_has_not_changed_is_not_prepared_again_wherever_it_lies(name, tmp_path):
    LAYOUTS[name](tmp_path / "raw")
    report = prepare_frame_set(name, tmp_path / "raw", tmp_path / "out")
    (tmp_path / "raw").rename(tmp_path / "moved")
    assert prepare_frame_set(name, tmp_path / "moved", tmp_path / "out").resumed == len(report.videos)


def test_two_that_open_one_raw_folder_wait_for_each_other(tmp_path):
    write_numbered(tmp_path / "a/op1.mp4", count=30, rate=10)
    with ThreadPoolExecutor(2) as pool:
        opened = [
            pool.submit(load_frame_set, "folder", tmp_path / "a", "all", cache_dir=tmp_path / "cache")
            for _ in range(2)
        ]
        assert [len(each.result(timeout=60)) for each in opened] == [3, 3]
