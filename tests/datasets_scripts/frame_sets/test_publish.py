"""Publishing: what the stock library reads without this package is what was prepared, and nothing leaves by mistake."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from surgvista_hf import ClipDataset, load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.clips import StreamingClipDataset
from surgvista_hf.datasets_scripts.frame_sets.load import FrameSetWarning
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.frame_sets.publish import LicenseError, PublishError, publish_frame_set, upload
from surgvista_hf.datasets_scripts.schema.info import DatasetError
from surgvista_hf.util.files import OutputError
from tests.datasets_scripts.raw_layouts import LAYOUTS

SMALL = {"videos": "5", "seconds": "14", "height": "64", "width": "80"}
STOCK = """
import json, os, sys, hashlib
from datasets import Image, load_dataset
assert "surgvista_hf" not in sys.modules
frames = load_dataset(sys.argv[1], sys.argv[2], split=sys.argv[3], streaming=sys.argv[4] == "stream")
rows = [[row["video_id"], row["frame_index"], row["phase"], row["triplets"], list(row["image"].size)] for row in frames]
files = [hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in frames.cast_column("image", Image(decode=False))]
print(json.dumps({"rows": rows, "files": files, "names": frames.features["phase"].names}), flush=True)
os._exit(0)  # a process that streamed Parquet may abort after its work is done: apache/arrow issue 45214
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
    stored = ours.cast_column("image", datasets.Image(decode=False))["image"]
    assert found["files"] == [hashlib.sha256(image["bytes"]).hexdigest() for image in stored]


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


def test_a_set_that_is_published_anew_in_its_place_is_not_taken_for_the_old_one(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for seed in ("0", "1"):
        for name in ("set", "out"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
        prepare_frame_set("synthetic", None, tmp_path / "set", settings={**SMALL, "seed": seed})
        publish_frame_set(tmp_path / "set", tmp_path / "out", protocols=["everything"])
        opened, loaded = (
            load_frame_set("synthetic", tmp_path / n, "train", protocol="everything") for n in ("set", "out")
        )
        assert loaded[0]["image"].tobytes() == opened[0]["image"].tobytes()


def test_a_published_set_may_be_older_than_a_copy_of_its_frame_set(tmp_path, frame_set):
    published = publish_frame_set(frame_set, tmp_path / "out")
    copied = shutil.copytree(frame_set, tmp_path / "copy", copy_function=shutil.copyfile)
    assert publish_frame_set(copied, published) == published


def test_frames_are_written_once_for_all_protocols_and_bytes_repeat(frame_set, published, tmp_path):
    again = publish_frame_set(frame_set, tmp_path / "again")
    files = {file.relative_to(published): file.read_bytes() for file in published.rglob("*") if file.is_file()}
    assert files == {file.relative_to(again): file.read_bytes() for file in again.rglob("*") if file.is_file()}
    assert sum(pq.read_metadata(file).num_rows for file in published.glob("data/*")) == 5 * 14


@pytest.mark.parametrize("protocol", ["seeded_60_20_20", "everything"])
def test_rows_keep_their_order_in_every_protocol(frame_set, published, protocol, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    for split in json.loads((published / "published.json").read_text())["protocols"][protocol]:
        ours, theirs = (load_frame_set("synthetic", each, split, protocol=protocol) for each in (frame_set, published))
        assert theirs["video_id"][:] == ours["video_id"][:]
        assert theirs["timestamp"][:] == ours["timestamp"][:]


def test_one_protocol_makes_one_file_a_split(frame_set, tmp_path):
    folder = publish_frame_set(frame_set, tmp_path / "out", protocols=["seeded_60_20_20"])
    assert len(list(folder.glob("data/*"))) == 3


def test_a_new_file_begins_between_videos_in_row_groups_that_can_be_streamed(frame_set, tmp_path):
    folder = publish_frame_set(frame_set, tmp_path / "out", protocols=["everything"], shard_bytes=1)
    assert [pq.read_metadata(file).num_rows for file in sorted(folder.glob("data/*"))] == [14] * 5


def test_the_card_has_license_splits_and_use(published):
    text = (published / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "apache-2.0"
    assert [config["config_name"] for config in front["configs"]] == ["seeded_60_20_20", "everything"]
    assert front["configs"][0]["default"] is True
    assert front["size_categories"] == ["n<1K"]
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
    with pytest.raises(LicenseError, match=r"Cholec80-CVS may not be passed on.*request form.*--i-have-the-right"):
        publish_frame_set(cvs, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    folder = publish_frame_set(cvs, tmp_path / "out", allow_missing=True, i_have_the_right=True)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "states that they have the right to do so" in text
    assert "- Cholec80: 2 operations." in text
    front = yaml.safe_load(text.split("---")[1])
    assert (front["license"], front["license_name"]) == ("other", "cholec80_cvs-terms")
    assert load_frame_set("cholec80_cvs", folder, "validation", streaming=True).info.license.startswith("annotations:")


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


def test_splits_without_videos_are_not_offered(tmp_path):
    LAYOUTS["cataract21"](tmp_path / "raw")
    prepare_frame_set("cataract21", tmp_path / "raw", tmp_path / "set", videos=["case_18"])
    folder = publish_frame_set(tmp_path / "set", tmp_path / "out", allow_missing=True, i_have_the_right=True)
    front = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
    offered = {config["config_name"]: [part["split"] for part in config["data_files"]] for config in front["configs"]}
    assert all(offered.values())
    assert json.loads((folder / "published.json").read_text())["protocols"] == offered


def test_leaks_of_a_split_are_said_when_it_is_loaded(tmp_path):
    LAYOUTS["surgicalactions160"](tmp_path / "raw")
    prepare_frame_set("surgicalactions160", tmp_path / "raw", tmp_path / "set")
    folder = publish_frame_set(tmp_path / "set", tmp_path / "out", allow_missing=True)
    assert "Take care with these splits" in (folder / "README.md").read_text(encoding="utf-8")
    split = next(iter(json.loads((folder / "published.json").read_text())["protocols"]["stratified"]))
    with pytest.warns(FrameSetWarning, match="stratified"):
        load_frame_set("surgicalactions160", folder, split, streaming=True)


def test_the_same_call_leaves_what_it_wrote_and_any_other_is_refused(frame_set, tmp_path):
    folder = publish_frame_set(frame_set, tmp_path / "out")
    (folder / "README.md").write_text("edited by hand")
    publish_frame_set(frame_set, folder)
    assert (folder / "README.md").read_text() == "edited by hand"
    for change in ({"protocols": ["everything"]}, {"i_have_the_right": True}):
        with pytest.raises(OutputError, match="was published with"):
            publish_frame_set(frame_set, folder, **change)


def test_what_was_written_before_the_frame_set_changed_is_not_taken_for_it(frame_set, tmp_path):
    own = shutil.copytree(frame_set, tmp_path / "set")
    folder = publish_frame_set(own, tmp_path / "out")
    shutil.rmtree(own)
    prepare_frame_set("synthetic", None, own, settings={**SMALL, "seed": "77"})
    with pytest.raises(
        OutputError, match=r"was published with {'fingerprint': '\w+'}, now {'fingerprint': '\w+'} is requested"
    ):
        publish_frame_set(own, folder)


def test_a_right_claimed_once_is_claimed_again(cvs, tmp_path):
    publish_frame_set(cvs, tmp_path / "out", allow_missing=True, i_have_the_right=True)
    with pytest.raises(LicenseError):
        publish_frame_set(cvs, tmp_path / "out", allow_missing=True)


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


@pytest.mark.parametrize("content", ["not JSON", "[]", "{}"])
def test_a_file_of_somebody_else_is_a_typed_error(tmp_path, content):
    (tmp_path / "published.json").write_text(content)
    with pytest.raises(DatasetError, match="no frame set published by surgvista_hf"):
        load_frame_set("synthetic", tmp_path, "train")


def test_a_set_that_an_earlier_version_published_is_refused_with_what_to_do(frame_set, published, tmp_path):
    old = shutil.copytree(published, tmp_path / "old")
    content = {
        key: value for key, value in json.loads((old / "published.json").read_text()).items() if key != "bridged"
    }
    (old / "published.json").write_text(json.dumps({**content, "format": 1}))
    earlier = r"old was written by an earlier version of surgvista_hf \(format 1; .*\): "
    with pytest.raises(DatasetError, match=f"{earlier}publish the frame set again"):
        load_frame_set("synthetic", old, "train")
    with pytest.raises(OutputError, match=f"{earlier}remove it, or choose another output"):
        publish_frame_set(frame_set, old)


# ------------------------------------------------------------------------------------------- the Hub


class _Hub(ThreadingHTTPServer):
    """Answers what an upload of small files asks the Hub, and keeps what it gets."""

    def __init__(self, private: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.private = private
        self.created: dict[str, str] = {}
        self.files: dict[str, bytes] = {}


class _Answers(BaseHTTPRequestHandler):
    server: _Hub

    def do_GET(self) -> None:
        self._answer({"id": "me/set", "private": self.server.private})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        address = f"http://127.0.0.1:{self.server.server_port}/datasets/me/set"
        if self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            self._answer({"url": address})
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            self._answer({"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]})
        elif "/commit/" in self.path:
            entries = [json.loads(line) for line in body.splitlines()]
            files = [entry["value"] for entry in entries if entry["key"] == "file"]
            self.server.files.update({file["path"]: base64.b64decode(file["content"]) for file in files})
            self._answer({"commitUrl": f"{address}/commit/{'0' * 40}", "commitOid": "0" * 40})
        else:
            self._answer({})

    def _answer(self, content: dict) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=["private", "public"])
def hub(request) -> Iterator[_Hub]:
    with _Hub(request.param == "private") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _publish(endpoint: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the client reads the address of the Hub when it is imported."""
    environment = {"PATH": "/usr/bin:/bin", "HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_x", "HF_HOME": str(home)}
    command = [sys.executable, "-m", "surgvista_hf.cli.main", "publish", "synthetic", "--repo-id", "me/set", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_private_data_go_only_to_a_private_repository(hub, frame_set, tmp_path):
    words = ("--data-dir", str(frame_set), "--output", str(tmp_path / "out"))
    result = _publish(f"http://127.0.0.1:{hub.server_port}", tmp_path / "home", *words)
    folder = tmp_path / "out"
    written = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert "README.md" in written
    assert hub.created["name"] == "set"
    if hub.private:
        assert result.returncode == 0, result.stderr
        assert hub.files == written
    else:
        assert result.returncode == 1
        assert "me/set exists and is public; nothing was sent" in result.stderr
        assert hub.files == {}


@pytest.mark.slow
def test_an_unreachable_hub_loses_nothing(frame_set, tmp_path):
    words = ("--data-dir", str(frame_set), "--output", str(tmp_path / "out"))
    result = _publish("http://127.0.0.1:9", tmp_path / "home", *words)
    assert result.returncode == 1
    assert "me/set was not published" in result.stderr
    assert f"lies complete in {tmp_path / 'out'}" in result.stderr
    assert (tmp_path / "out" / "README.md").is_file()


def test_a_name_the_hub_cannot_have_is_refused_before_anything_is_sent(published):
    with pytest.raises(PublishError, match="Repo id must"):
        upload(published, "me//x")


# ------------------------------------------------------------------------------------------- command line


def test_a_dry_run_writes_the_folder_and_sends_nothing(frame_set, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("surgvista_hf.datasets_scripts.frame_sets.publish.HfApi", None)  # using it would fail
    words = ["publish", "synthetic", "--data-dir", str(frame_set), "--dry-run", "--output", str(tmp_path / "out")]
    assert main([*words, "--protocol", "everything", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": str(tmp_path / "out"), "address": None}
    assert (tmp_path / "out" / "README.md").is_file()
    assert main([*words, "--protocol", "everything"]) == 0
    assert "nothing was sent" in capsys.readouterr().out


def test_the_frame_set_may_be_the_current_folder(frame_set, monkeypatch, capsys):
    monkeypatch.chdir(frame_set)
    assert main(["publish", "synthetic", "--data-dir", ".", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == str(frame_set.with_name("synthetic-published"))


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
