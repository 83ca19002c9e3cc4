"""Publishing: what the stock library reads without this package is what was prepared, and nothing leaves by mistake."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from surgvista_hf import ClipDataset, load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.clips import StreamingClipDataset
from surgvista_hf.datasets_scripts.facts import DatasetError
from surgvista_hf.datasets_scripts.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.publish import LicenceError, PublishError, publish_frame_set, upload
from surgvista_hf.util.files import OutputError
from tests.datasets_scripts.raw_layouts import LAYOUTS

SMALL = {"videos": "5", "seconds": "14", "height": "64", "width": "80"}
STOCK = """
import json, sys, hashlib
from datasets import load_dataset
assert "surgvista_hf" not in sys.modules
frames = load_dataset(sys.argv[1], sys.argv[2], split=sys.argv[3], streaming=sys.argv[4] == "stream")
rows = [[row["video_id"], row["frame_index"], row["phase"], row["triplets"], list(row["image"].size)] for row in frames]
print(json.dumps({"rows": rows, "names": frames.features["phase"].names}))
"""


@pytest.fixture(scope="module")
def frame_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "synthetic"
    prepare_frame_set("synthetic", None, folder, settings=SMALL)
    return folder


@pytest.fixture(scope="module")
def published(frame_set) -> Path:
    return publish_frame_set(frame_set, frame_set.with_name("published"))


@pytest.fixture
def cvs(tmp_path) -> Path:
    LAYOUTS["cholec80_cvs"](tmp_path / "raw")
    prepare_frame_set("cholec80_cvs", tmp_path / "raw", tmp_path / "cvs")
    return tmp_path / "cvs"


@pytest.mark.parametrize("mode", ["load", "stream"])
def test_the_stock_library_reads_it_in_a_process_without_this_package(frame_set, published, tmp_path, mode):
    words = [sys.executable, "-c", STOCK, str(published), "seeded_60_20_20", "train", mode]
    environment = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    ours = load_frame_set("synthetic", frame_set, "train")
    assert found["names"] == ours.features["phase"].names
    assert found["rows"] == [
        [row["video_id"], row["frame_index"], row["phase"], row["triplets"], [80, 64]]
        for row in ours.remove_columns("image")
    ]


def test_clips_of_the_published_set_are_those_of_the_frame_set(frame_set, published, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    options = {"num_frames": 4, "frame_stride": 2, "label": "phase"}
    for split in ("train", "test"):
        ours = ClipDataset(load_frame_set("synthetic", frame_set, split), **options)
        loaded = ClipDataset(load_frame_set("synthetic", published, split), **options)
        streamed = StreamingClipDataset(load_frame_set("synthetic", published, split, streaming=True), **options)
        for one, two, three in zip(ours, loaded, streamed, strict=True):
            assert torch.equal(one["pixel_values"], two["pixel_values"])
            assert torch.equal(one["pixel_values"], three["pixel_values"])
            assert one["labels"] == two["labels"] == three["labels"]


def test_pictures_are_written_once_for_all_protocols_and_bytes_repeat(frame_set, published, tmp_path):
    again = publish_frame_set(frame_set, tmp_path / "again")
    files = {file.relative_to(published): file.read_bytes() for file in published.rglob("*") if file.is_file()}
    assert files == {file.relative_to(again): file.read_bytes() for file in again.rglob("*") if file.is_file()}
    assert sum(pq.read_metadata(file).num_rows for file in published.glob("data/*")) == 5 * 14


def test_the_card_has_licence_splits_and_use(published):
    text = (published / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "apache-2.0"
    assert [config["config_name"] for config in front["configs"]] == ["seeded_60_20_20", "everything"]
    assert front["configs"][0]["default"] is True
    assert "| `seeded_60_20_20` | train | 3 | 42 |" in text
    assert "Not a medical device" in text
    assert 'load_frame_set("synthetic", "hf://datasets/' in text


def test_validation_that_is_the_test_points_to_the_same_files(tmp_path):
    LAYOUTS["cataract21"](tmp_path / "raw")
    prepare_frame_set("cataract21", tmp_path / "raw", tmp_path / "set")
    folder = publish_frame_set(
        tmp_path / "set", tmp_path / "out", protocols=["surgvista"], allow_missing=True, i_have_the_right=True
    )
    front = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
    paths = {entry["split"]: entry["path"] for entry in front["configs"][0]["data_files"]}
    assert paths["validation"] == paths["test"] != paths["train"]


# ------------------------------------------------------------------------------------------- refusals


def test_data_that_may_not_be_passed_on_are_refused(cvs, tmp_path):
    with pytest.raises(LicenceError, match=r"Cholec80-CVS may not be passed on.*request form.*--i-have-the-right"):
        publish_frame_set(cvs, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    folder = publish_frame_set(cvs, tmp_path / "out", allow_missing=True, i_have_the_right=True)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "states that they have the right to do so" in text
    assert "license: other" in text


def test_left_out_classes_stay_left_out(cvs, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = publish_frame_set(cvs, tmp_path / "out", allow_missing=True, i_have_the_right=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        six = load_frame_set("cholec80_cvs", folder, "validation", protocol="surgvista")
    assert set(six["video_id"]) == {"video01_1"}
    assert six.features["cvs_score"].num_classes == 6
    seven = load_frame_set("cholec80_cvs", folder, "validation", protocol="seven_classes", streaming=True)
    assert {row["video_id"] for row in seven} == {"video01_1", "video01_3"}


def test_missing_videos_are_refused_unless_allowed(cvs, tmp_path):
    with pytest.raises(DatasetError, match="allow_missing"):
        publish_frame_set(cvs, tmp_path / "out", i_have_the_right=True)
    assert list(tmp_path.glob("out*")) == []


def test_nothing_is_overwritten(frame_set, published):
    with pytest.raises(OutputError, match="exists already"):
        publish_frame_set(frame_set, published)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "dev"}, "no split 'dev'"),
        ({"protocol": "official"}, "of the protocol 'official'; it has"),
        ({"name": "cholec80"}, "holds synthetic, not cholec80"),
    ],
)
def test_wrong_names_are_answered_with_those_there_are(published, change, message):
    with pytest.raises(DatasetError, match=message):
        load_frame_set(**{"name": "synthetic", "data_dir": published, "split": "train", **change})


def test_a_readme_of_somebody_else_is_not_taken_for_a_published_set(tmp_path):
    (tmp_path / "README.md").write_text("# my videos")
    LAYOUTS["psi_ava"](tmp_path)
    assert len(load_frame_set("psi_ava", tmp_path, "all", cache_dir=tmp_path / "cache")) == 10


def test_an_unreachable_hub_loses_nothing(published):
    """In a process of its own: the client reads the address of the Hub when it is imported."""
    code = (
        "import sys; from surgvista_hf.datasets_scripts.publish import upload, PublishError\n"
        "try: upload(sys.argv[1], 'me/nowhere')\n"
        "except PublishError as error: print(error)"
    )
    environment = {"PATH": "/usr/bin:/bin", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_x"}
    result = subprocess.run(
        [sys.executable, "-c", code, str(published)], capture_output=True, text=True, env=environment
    )
    assert "me/nowhere was not published" in result.stdout, result.stderr
    assert f"lies complete in {published}" in result.stdout


def test_a_name_the_hub_cannot_have_is_refused_before_anything_is_sent(published):
    with pytest.raises(PublishError, match="Repo id must"):
        upload(published, "me//x")


# ------------------------------------------------------------------------------------------- command line


def test_a_dry_run_writes_the_folder_and_sends_nothing(frame_set, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("surgvista_hf.datasets_scripts.publish.HfApi", None)  # using it would fail
    words = ["publish", "synthetic", "--data-dir", str(frame_set), "--dry-run", "--output", str(tmp_path / "out")]
    assert main([*words, "--protocol", "everything", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": str(tmp_path / "out"), "address": None}
    assert (tmp_path / "out" / "README.md").is_file()
    assert main(words) == 0  # the same frame set is there already
    assert "nothing was sent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["synthetic"], "give --repo-id, or --dry-run"),
        (["cholec80", "--dry-run"], "holds synthetic, not cholec80"),
        (["synthetic", "--dry-run", "--protocol", "official"], "no protocol 'official'"),
    ],
)
def test_wrong_words_get_one_line(frame_set, tmp_path, words, message, capsys):
    assert main(["publish", *words, "--data-dir", str(frame_set), "--output", str(tmp_path / "x")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
