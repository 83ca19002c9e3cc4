"""`surgvista prepare` as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from surgvista_hf.cli.main import main
from tests.datasets_scripts.raw_layouts import LAYOUTS


def test_prepare_says_what_it_made_and_goes_on_where_it_stopped(tmp_path, capsys):
    LAYOUTS["cholec80"](tmp_path / "raw")
    words = ["prepare", "cholec80", "--data-dir", str(tmp_path / "raw"), "--output", str(tmp_path / "out")]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "3 videos, 12 frames (12 labeled)" in said.out
    *_, step, log = said.err.splitlines()
    assert step.startswith("prepare cholec80 … ")
    assert "cholec80" in Path(log.removeprefix("log: ")).read_text()
    assert not list((tmp_path / "out").rglob("*.log"))  # frame sets are compared byte by byte
    assert main([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["videos"], summary["resumed"], summary["failed"]) == (3, 3, {})


def test_options_reach_the_frames(tmp_path, capsys):
    LAYOUTS["psi_ava"](tmp_path / "raw")
    words = ["prepare", "psi_ava", "--data-dir", str(tmp_path / "raw"), "--output", str(tmp_path / "out")]
    assert main([*words, "--frames-per-second", "0.5", "--short-side", "48", "--quality", "70", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 6
    plan = json.loads((tmp_path / "out/preparation.json").read_text())["options"]
    assert (plan["frames_per_second"], plan["short_side"], plan["quality"]) == (0.5, 48, 70)


def test_check_lists_what_is_missing_with_the_page_and_the_license(tmp_path, capsys):
    LAYOUTS["cholec80"](tmp_path)
    (tmp_path / "phase_annotations/video41-phase.txt").unlink()
    assert main(["prepare", "cholec80", "--data-dir", str(tmp_path), "--check"]) == 1
    printed = capsys.readouterr()
    assert "3 videos found of 80" in printed.out
    assert "video41: no phases" in printed.out
    assert "video02: no frames" in printed.out
    assert "camma.u-strasbg.fr" in printed.err
    assert "CC-BY-NC-SA-4.0" in printed.err


def test_check_of_a_complete_download_succeeds(tmp_path, capsys):
    LAYOUTS["lemon"](tmp_path)
    assert main(["prepare", "lemon", "--data-dir", str(tmp_path), "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == []


def test_list_names_every_data_set_with_license_and_protocols(capsys):
    assert main(["prepare", "--list"]) == 0
    printed = capsys.readouterr().out
    assert "cholect50" in printed
    assert "rendezvous" in printed
    assert main(["prepare", "--list", "--json"]) == 0
    assert {"name", "license", "protocols"} <= set(json.loads(capsys.readouterr().out)[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a data set"),
        (["cholec80"], "--output is needed"),
        (["colec80", "--output", "x"], "did you mean cholec80"),
        (["cholec80", "--output", "x"], "needs a folder with the raw data"),
        (["cholec80", "--data-dir", "nowhere", "--output", "x"], "there is no folder nowhere"),
        (["synthetic", "--output", "x", "--set", "video=1"], "did you mean videos"),
        (["synthetic", "--output", "x", "--num-proc", "0"], "cannot run 0 at a time"),
        (["synthetic", "--output", "x", "--quality", "200"], "quality is 200; it must be less than or equal to 95"),
    ],
)
def test_wrong_words_get_one_line_and_leave_nothing(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", *words]) == 1
    printed = capsys.readouterr().err.strip()
    assert message in printed
    assert len([line for line in printed.splitlines() if "error" in line]) == 1
    assert not (tmp_path / "x" / "frame_set.json").exists()


@pytest.mark.parametrize(
    "words", [["--set", "x"], ["--every", "2", "--frames-per-second", "1"], ["--executor", "slurm"]]
)
def test_words_that_cannot_be_parsed_exit_with_two(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["prepare", "synthetic", *words])
    assert caught.value.code == 2


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m surgvista_hf.cli.main prepare --list | head -1"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stdout.startswith("cholec80")
    assert result.stderr == ""
