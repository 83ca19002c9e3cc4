"""Two runs over one folder: the second ends in one line that names the first, and writes nothing."""

import os
from pathlib import Path

import pytest
import yaml

from surgvista_hf.cli.main import main
from surgvista_hf.util.files import LOCK, at_work

from ..videos import write_numbered_video


def prepare(folder: Path) -> list[str]:
    return ["prepare", "synthetic", "--set", "videos=1", "--set", "seconds=14"]


def prepare_videos(folder: Path) -> list[str]:
    return ["prepare", "folder", "--data-dir", str(folder / "videos")]


def deidentify(folder: Path) -> list[str]:
    return ["deidentify", str(folder / "videos"), "--no-detector", "--mapping", str(folder / "names.json")]


def study(folder: Path) -> list[str]:
    return ["study", "data-scale", "surgvista_synthetic", "--probe", f"synthetic={folder}"]


def demo(folder: Path) -> list[str]:
    return ["demo"]


def collect(folder: Path) -> list[str]:
    (folder / "out" / "records").mkdir(parents=True)
    return ["curate", "collect", str(folder / "out"), "--folder", str(folder / "videos")]


def benchmark(folder: Path) -> list[str]:
    file = folder / "suite.yaml"
    data = {"phases": {"recipe": "synthetic", "data": {"data_dir": "frames"}}}
    models = {"own": {"config": {"model_type": "surgvista"}}}
    protocols = {"full": {}}
    content = {"models": models, "data": data, "protocols": protocols, "output": str(folder / "out")}
    file.write_text(yaml.safe_dump(content))
    return ["benchmark", str(file)]


@pytest.mark.parametrize("verb", [prepare, prepare_videos, deidentify, study, demo, collect, benchmark])
def test_a_second_run_ends_in_one_line_and_writes_nothing(verb, tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    write_numbered_video(tmp_path / "videos" / "op1.mp4", count=10)
    words = verb(tmp_path)
    output = [] if verb in (collect, benchmark) else ["--output", str(tmp_path / "out")]
    with at_work(tmp_path / "out"):
        before = sorted((tmp_path / "out").rglob("*"))
        assert main([*words, *output]) == 1
        assert sorted((tmp_path / "out").rglob("*")) == before
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"error: another run is at work on {tmp_path / 'out'} (process {os.getpid()} on " in said
    assert not (tmp_path / "out" / LOCK).exists()
