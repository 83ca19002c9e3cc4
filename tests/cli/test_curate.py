"""`surgvista curate` as a user types it: the whole way, killed at many moments, and with bad input."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from PIL import Image

from surgvista_hf import load_frame_set
from surgvista_hf.cli.curate import ACTIONS
from surgvista_hf.cli.main import main
from surgvista_hf.curation.collection.manifest import Collection
from surgvista_hf.curation.collection.reports import StageReport
from surgvista_hf.curation.stages import pipeline

from ..curation.color_web import ColorVideo, Models, Server, address_list, save_models, serve, write_site

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Models:
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serve(write_site(tmp_path_factory.mktemp("site"))) as running:
        yield running


def commands(folder: Path, server: Server, models: Models) -> list[list[str]]:
    """The whole pipeline; what it reads lies beside the folder."""
    addresses = address_list(folder.parent, server)
    chosen = [f"--video-model={models.video}", f"--frame-model={models.frame}", f"--region-model={models.region}"]
    return [
        ["curate", "collect", str(folder), "--urls", str(addresses), "--pause", "0"],
        ["curate", "run", str(folder), *chosen, "--device", "cpu", "--output", str(folder.parent / "frames")],
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but those that a kill may leave, which the next run removes."""
    found = {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    return {name: content for name, content in found.items() if not name.endswith(".lock")}


@pytest.fixture(scope="module")
def uninterrupted(server, models, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("uninterrupted")
    for words in commands(place / "corpus", server, models):
        assert main(words) == 0
    return place


def test_the_whole_way_gives_a_frame_set(uninterrupted, capsys):
    frames = load_frame_set("folder", uninterrupted / "frames", "all")
    assert set(frames["video_id"]) == {"-first_logo", "bordered"}
    assert main(["curate", "status", str(uninterrupted / "corpus")]) == 0
    said = capsys.readouterr().out
    assert "dropped: 1 repeats another video" in said
    assert "removed: the address answers 404" in said
    assert main(["curate", "status", str(uninterrupted / "corpus"), "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert stages[0]["stage"] == "collect"


# The process is killed as soon as there is such a file.
MOMENTS = ("records/*", "results/hash/*", "../frames/videos/*")


@pytest.mark.slow
def test_killed_at_any_stage_and_run_again_the_bytes_are_the_same(uninterrupted, server, models, tmp_path, processes):
    folder, killed = tmp_path / "corpus", 0
    for words in commands(folder, server, models):
        moments = MOMENTS[:1] if words[1] == "collect" else MOMENTS[1:]
        for moment in (*moments, None):
            process = processes.start("surgvista_hf.cli.main", *words)
            while process.running:
                if moment and any(folder.glob(moment)):
                    process.kill()
                    killed += 1
                    break
                time.sleep(0.002)
            assert process.wait().returncode in (0, -signal.SIGKILL)
    assert killed == len(MOMENTS)
    assert contents(folder) == contents(uninterrupted / "corpus")
    assert contents(tmp_path / "frames") == contents(uninterrupted / "frames")


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_has_help_with_an_example(action, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["curate", action, "--help"])
    assert ended.value.code == 0
    assert f"surgvista curate {action}" in capsys.readouterr().out


def test_each_stage_alone_and_review_and_remove(uninterrupted, models, tmp_path, capsys):
    folder = shutil.copytree(uninterrupted / "corpus", tmp_path / "corpus")
    for words in (
        ["trim", "--run", "9"],
        ["hash"],
        ["deduplicate", "--repeat-fraction", "0.9"],
        ["mask", "--region-model", str(models.region), "--device", "cpu"],
        ["export", "--output", str(tmp_path / "out"), "--source", "colors"],
        ["review", "--only", "kept", "--id=-first_logo"],
        ["remove", "--id=-first_logo", "--reason", "asked by the owner"],
    ):
        assert main(["curate", words[0], str(folder), *words[1:], "--json"]) == 0
        json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "-first_logo" in (folder / "review.html").read_text()
    assert Collection(folder).find("-first_logo").status == "removed"


@pytest.mark.parametrize("option", ["--repeat-fraction", "--repeat-share"])
def test_the_fraction_that_must_be_repeated_reaches_the_stage(option, monkeypatch, capsys):
    found = []

    def run_stage(folder, name, options, **_):
        found.append(options.repeat_fraction)
        return StageReport(name)

    monkeypatch.setattr(pipeline, "run_stage", run_stage)
    assert main(["curate", "deduplicate", "corpus"]) == 0
    assert main(["curate", "deduplicate", "corpus", option, "0.9"]) == 0
    assert found == [0.5, 0.9]


def test_classifiers_and_detectors_are_trained_from_labels(tmp_path, capsys):
    frames = {"surgical": ColorVideo(1).frame(8.0), "non-surgical": ColorVideo(1).frame(0.0)}
    for name, frame in frames.items():
        (tmp_path / "frames" / name).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(frame).save(tmp_path / "frames" / name / f"{number}.png")
    words = ["train-classifier", str(tmp_path / "frames"), "--classes", "surgical,non-surgical", "--epochs", "1"]
    assert main(["curate", *words, "--output", str(tmp_path / "classifier"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == {"surgical": 4, "non-surgical": 4}
    regions = {
        "images": [{"id": number, "file_name": f"frames/surgical/{number}.png"} for number in range(4)],
        "annotations": [{"image_id": number, "bbox": [8, 8, 24, 16]} for number in range(4)],
    }
    (tmp_path / "regions.json").write_text(json.dumps(regions))
    words = ["train-regions", str(tmp_path / "regions.json"), "--epochs", "1", "--output", str(tmp_path / "regions")]
    assert main(["curate", *words]) == 0
    assert (tmp_path / "classifier" / "model.safetensors").is_file()
    assert (tmp_path / "regions" / "model.safetensors").is_file()


def test_a_dry_run_asks_nothing_of_any_site(tmp_path, capsys):
    addresses = tmp_path / "list.txt"
    addresses.write_text("http://127.0.0.1:1/a.mp4\n-b http://127.0.0.1:1/b.mp4\n")
    assert main(["curate", "collect", str(tmp_path / "corpus"), "--urls", str(addresses), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 videos would be requested"
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["collect", "corpus"], "one of the arguments --labels --urls --search --folder is required"),
        (["collect", "corpus", "--urls", "none.txt"], "none.txt cannot be read"),
        (["collect", "corpus", "--labels", "none.json"], "none.json"),
        (["collect", "corpus", "--folder", "empty"], "holds no videos"),
        (["collect", "corpus", "--folder", "empty", "--cookies", "none.txt"], "no file with cookies"),
        (["status", "nowhere"], "nowhere is no collection"),
        (["trim", "nowhere"], "nowhere is no collection"),
        (["run", "nowhere", "--frame-model", "m"], "nowhere is no collection"),
        (["classify-frames", "begun", "--frame-model", "nothing"], "nothing"),
        (["export", "begun", "--output", "o"], "needs the results of trim"),
        (["review", "begun", "--apply", "none.json"], "no file with overrides at none.json"),
        (["remove", "begun", "--id", "../x", "--reason", "r"], "cannot be the id"),
        (["fly", "begun"], "invalid choice: 'fly'"),
    ],
)
def test_bad_input_ends_with_one_line_of_reason_and_writes_nothing(words, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with Collection("begun").locked(create=True):
        pass
    before = sorted(tmp_path.rglob("*"))
    try:
        status = main(["curate", *words])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status in (1, 2)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("surgvista curate")
    assert reason in last
    assert sorted(tmp_path.rglob("*")) == before
