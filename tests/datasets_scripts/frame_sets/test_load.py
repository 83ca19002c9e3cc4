"""Opening frame sets: the videos of a split, by a named protocol, or an error that says what is missing."""

import json
import shutil
import warnings

import datasets
import pytest
import torch

from surgvista_hf import ClipDataset, load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.clips import StreamingClipDataset
from surgvista_hf.datasets_scripts.corpora import cholec80
from surgvista_hf.datasets_scripts.frame_sets.load import FrameSetWarning
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.frame_sets.publish import publish_frame_set
from surgvista_hf.datasets_scripts.schema.info import DatasetError
from surgvista_hf.datasets_scripts.schema.media import PreparationOptions
from surgvista_hf.util.files import LOCK, OutputError
from tests.datasets_scripts.raw_layouts import LAYOUTS, _table, write, write_frames, write_video

SMALL = {"videos": "5", "seconds": "14", "height": "64", "width": "80"}


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "out"
    prepare_frame_set("synthetic", None, folder, settings=SMALL)
    return folder


def videos(frames: datasets.Dataset) -> list[str]:
    return list(dict.fromkeys(frames["video_id"]))


@pytest.fixture(scope="module")
def whole_cholec80(tmp_path_factory):
    """All eighty videos, two frames each."""
    root = tmp_path_factory.mktemp("cholec80")
    for video in cholec80.VIDEOS:
        write_frames(root / f"raw/frames/{video}", ["00000.jpg", "00001.jpg"], [0, 1])
        rows = [(row, "Preparation" if row < 25 else "ClippingCutting") for row in range(50)]
        write(root / f"raw/phase_annotations/{video}-phase.txt", _table(rows, "Frame\tPhase"))
    prepare_frame_set("cholec80", root / "raw", root / "out")
    return root / "out"


@pytest.mark.parametrize(
    ("protocol", "split", "count"),
    [
        (None, "train", 40),
        (None, "test", 35),
        ("standard_40_40", "test", 40),
        ("standard_32_8_40", "val", 8),
        ("camma_40_8_32", "test", 32),
        (None, "all", 80),
    ],
)
def test_splits_of_a_complete_data_set_have_their_published_videos(whole_cholec80, protocol, split, count):
    frames = load_frame_set("cholec80", whole_cholec80, split, protocol=protocol)
    assert len(videos(frames)) == count
    assert len(frames) == 2 * count
    assert videos(frames) == sorted(videos(frames))


def test_splits_of_one_protocol_make_up_the_whole_and_share_nothing(synthetic):
    parts = [set(videos(load_frame_set("synthetic", synthetic, split))) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [3, 1, 1]
    assert set.union(*parts) == set(videos(load_frame_set("synthetic", synthetic, "all")))


def test_rows_can_be_used_as_clips(synthetic):
    clips = ClipDataset(load_frame_set("synthetic", synthetic, "train"), num_frames=4, frame_stride=2, label="phase")
    assert len(clips) == 3 * 14
    assert clips[5]["pixel_values"].shape == (4, 3, 64, 80)
    assert clips.label_names[0] == "Preparation"


def test_nothing_is_copied_when_a_frame_set_is_opened(synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    frames = load_frame_set("synthetic", synthetic, "train")
    assert list(tmp_path.iterdir()) == []
    assert {str(synthetic) in file["filename"] for file in frames.cache_files} == {True}


def test_the_fingerprint_follows_the_content_and_the_split(synthetic, tmp_path):
    again = load_frame_set("synthetic", synthetic, "train")
    assert again._fingerprint == load_frame_set("synthetic", synthetic, "train")._fingerprint
    assert again._fingerprint != load_frame_set("synthetic", synthetic, "test")._fingerprint


def test_the_fingerprint_follows_labels_and_frames(tmp_path):
    """Cached results of `map` are found by it."""
    prints = set()
    for name, change in (("a", None), ("b", ("Preparation", "ClippingCutting")), ("c", None)):
        LAYOUTS["cholec80"](tmp_path / name)
        if change:
            path = tmp_path / name / "phase_annotations/video80-phase.txt"
            path.write_text(path.read_text().replace(f"0\t{change[0]}", f"0\t{change[1]}", 1))
        options = PreparationOptions(quality=70 if name == "c" else 90)
        prepare_frame_set("cholec80", tmp_path / name, tmp_path / f"{name}-out", options=options)
        prints.add(load_frame_set("cholec80", tmp_path / f"{name}-out", "all")._fingerprint)
    assert len(prints) == 3


def test_missing_videos_of_a_split_are_an_error_unless_allowed(tmp_path):
    LAYOUTS["cholec80"](tmp_path / "raw")
    prepare_frame_set("cholec80", tmp_path / "raw", tmp_path / "out")
    with pytest.raises(
        DatasetError, match=r"39 of 40 videos of the split 'train' are not in .*video02.*allow_missing"
    ):
        load_frame_set("cholec80", tmp_path / "out", "train")
    assert videos(load_frame_set("cholec80", tmp_path / "out", "train", allow_missing=True)) == ["video01"]
    with pytest.raises(DatasetError, match="is empty"):
        load_frame_set("cholec80", tmp_path / "out", "val", protocol="careful", allow_missing=True)


def test_clips_of_the_full_score_are_left_out_with_their_class(tmp_path):
    LAYOUTS["cholec80_cvs"](tmp_path / "raw")
    prepare_frame_set("cholec80_cvs", tmp_path / "raw", tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load = lambda protocol, split: load_frame_set(  # noqa: E731
            "cholec80_cvs", tmp_path / "out", split, protocol=protocol, allow_missing=True
        )
        six, seven = load("surgvista", "val"), load("seven_classes", "val")
    assert videos(six) == ["video01_1"]
    assert videos(seven) == ["video01_1", "video01_3"]
    assert (six.features["cvs_score"].num_classes, seven.features["cvs_score"].num_classes) == (6, 7)
    assert six["cvs_score"][:] == [3, 3, 3]


def test_short_web_videos_are_left_out_by_the_published_rule(tmp_path):
    write_video(tmp_path / "raw/short.mp4", frames=25 * 3)
    write_frames(tmp_path / "raw/long", [f"{number:05d}.jpg" for number in range(60)], range(60))
    prepare_frame_set("gensurgery", tmp_path / "raw", tmp_path / "out")
    assert videos(load_frame_set("gensurgery", tmp_path / "out", "train")) == ["long"]
    assert videos(load_frame_set("gensurgery", tmp_path / "out", "all")) == ["long", "short"]


def test_the_split_of_prostate21_is_that_of_its_folders(tmp_path):
    LAYOUTS["prostate21"](tmp_path / "raw")
    prepare_frame_set("prostate21", tmp_path / "raw", tmp_path / "out")
    assert videos(load_frame_set("prostate21", tmp_path / "out", "train")) == ["pwhv1"]
    assert videos(load_frame_set("prostate21", tmp_path / "out", "test")) == ["esadv2"]
    with pytest.raises(DatasetError, match="is empty"):
        load_frame_set("prostate21", tmp_path / "out", "validation")


def test_splits_that_may_share_operations_are_loaded_with_a_warning(tmp_path):
    LAYOUTS["surgicalactions160"](tmp_path / "raw")
    prepare_frame_set("surgicalactions160", tmp_path / "raw", tmp_path / "out")
    with pytest.warns(FrameSetWarning, match="59 operations"):
        load_frame_set("surgicalactions160", tmp_path / "out", "train", allow_missing=True)


def test_a_raw_download_is_prepared_once_on_the_way(tmp_path, capfd):
    LAYOUTS["psi_ava"](tmp_path / "raw")
    load = lambda: load_frame_set("psi_ava", tmp_path / "raw", "all", cache_dir=tmp_path / "cache")  # noqa: E731
    assert len(load()) == 10
    (folder,) = (tmp_path / "cache").iterdir()
    before = (folder / "videos/CASE001.arrow").stat().st_mtime_ns
    assert len(load()) == 10
    assert (folder / "videos/CASE001.arrow").stat().st_mtime_ns == before


def test_streaming_gives_the_same_clips_with_a_shard_for_each_video(tmp_path):
    for name, frames in (("a", 60), ("b", 130), ("c", 100)):
        write_video(tmp_path / f"raw/{name}.mp4", frames=frames)
    prepare_frame_set("folder", tmp_path / "raw", tmp_path / "out")
    mapped = load_frame_set("folder", tmp_path / "out", "train")
    streamed = load_frame_set("folder", tmp_path / "out", "train", streaming=True)
    assert streamed.num_shards == 3
    assert streamed.info.description == mapped.info.description
    assert streamed.features == mapped.features
    options = {"num_frames": 3, "frame_stride": 2}
    for one, other in zip(StreamingClipDataset(streamed, **options), ClipDataset(mapped, **options), strict=True):
        assert (one["video_id"], one["frame_index"]) == (other["video_id"], other["frame_index"])
        assert torch.equal(one["pixel_values"], other["pixel_values"])


@pytest.fixture(params=["finished", "unfinished"])
def old(request, synthetic, tmp_path):
    """A frame set of the version that spelled `unlabelled` and called its format 1."""
    folder = shutil.copytree(synthetic, tmp_path / "old")
    for name in ("frame_set.json", "preparation.json"):
        content = json.loads((folder / name).read_text())
        options = {("unlabelled" if key == "unlabeled" else key): value for key, value in content["options"].items()}
        (folder / name).write_text(json.dumps({**content, "format": 1, "options": options}))
    if request.param == "unfinished":
        (folder / "frame_set.json").unlink()
    return folder


OLD = r"old\b.* was written by an earlier version of surgvista_hf \(format 1; .* has format 2\): "


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda old: load_frame_set("synthetic", old, "train"), DatasetError),
        (lambda old: load_frame_set("synthetic", old, "train", streaming=True), DatasetError),
        (lambda old: prepare_frame_set("synthetic", None, old, settings=SMALL), OutputError),
        (lambda old: publish_frame_set(old, old.parent / "published"), DatasetError),
    ],
)
def test_a_frame_set_of_an_earlier_version_is_refused_and_left_as_it_is(old, use, error):
    before = {file: file.read_bytes() for file in sorted(old.rglob("*")) if file.is_file() and file.name != LOCK}
    with pytest.raises(error, match=f"{OLD}prepare the videos again, into another folder or after removing this one"):
        use(old)
    assert before == {
        file: file.read_bytes() for file in sorted(old.rglob("*")) if file.is_file() and file.name != LOCK
    }
    assert not (old.parent / "published").exists()


def test_the_verbs_answer_an_old_frame_set_with_one_line(old, capsys):
    for argv in (
        ["prepare", "synthetic", "--output", str(old)],
        ["publish", "synthetic", "--data-dir", str(old), "--dry-run"],
        ["extract-features", "unused", "--data", f"synthetic={old}", "--output", str(old.parent / "features")],
    ):
        assert main(argv) != 0
        assert "was written by an earlier version of surgvista_hf" in capsys.readouterr().err


def test_what_an_earlier_version_left_in_the_cache_is_not_in_the_way(tmp_path, monkeypatch):
    LAYOUTS["psi_ava"](tmp_path / "raw")
    load = lambda: load_frame_set("psi_ava", tmp_path / "raw", "all", cache_dir=tmp_path / "cache")  # noqa: E731
    for module in ("load", "prepare"):
        monkeypatch.setattr(f"surgvista_hf.datasets_scripts.frame_sets.{module}.FORMAT", 1)
    assert len(load()) == 10
    monkeypatch.undo()
    assert len(load()) == 10


def test_a_frame_set_of_a_later_version_says_to_update(synthetic, tmp_path):
    folder = shutil.copytree(synthetic, tmp_path / "new")
    content = json.loads((folder / "frame_set.json").read_text())
    (folder / "frame_set.json").write_text(json.dumps({**content, "format": 3}))
    with pytest.raises(DatasetError, match=r"by a later version .* update surgvista_hf"):
        load_frame_set("synthetic", folder, "train")


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_a_damaged_manifest_is_a_typed_error(synthetic, tmp_path, content):
    folder = shutil.copytree(synthetic, tmp_path / "damaged")
    (folder / "frame_set.json").write_text(content)
    with pytest.raises(DatasetError, match=r"frame_set.json cannot be read: .*prepare it again"):
        load_frame_set("synthetic", folder, "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "cholec8"}, "did you mean cholec80"),
        ({"name": "cholec80"}, "holds synthetic, not cholec80"),
        ({"split": "dev"}, r"no split 'dev'; the protocol has \['train', 'validation', 'test', 'all'\]"),
        ({"protocol": "official"}, r"no protocol 'official'; it has \['everything', 'seeded_60_20_20'\]"),
        ({"data_dir": "nowhere"}, "there is no folder nowhere"),
    ],
)
def test_wrong_names_are_answered_with_the_right_ones(synthetic, change, message):
    arguments = {"name": "synthetic", "data_dir": synthetic, "split": "train", **change}
    with pytest.raises(DatasetError, match=message):
        load_frame_set(**arguments)
