"""`surgvista prepare own` as a user calls it."""

import json
from pathlib import Path

import pytest

from surgvista_hf.cli.main import main
from tests.datasets_scripts.raw_layouts import write_video

LABELS = "video;patient;start;end;Phase;hook;grasper\nop1;7;0:00;0:02;cut;1;0\nop1;7;0:02;0:04;sew;0;0\n"


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "videos/op1_part1.mp4", frames=50)
    write_video(tmp_path / "videos/op1_part2.mp4", frames=50)
    write_video(tmp_path / "videos/other.mp4", frames=50)
    (tmp_path / "labels.csv").write_text(LABELS)
    return ["prepare", "own", "--videos", "videos", "--labels", "labels.csv"]


def test_what_is_understood_is_shown_before_anything_is_written(words, tmp_path, capsys):
    assert main([*words, "--check"]) == 0
    checked = capsys.readouterr().out
    assert "one             Phase          2: cut, sew" in checked
    assert "2: hook, grasper" in checked
    assert "op1 = op1_part1.mp4 + op1_part2.mp4" in checked
    assert "patient: 'patient' of the labels" in checked
    assert "left out, no labels: other.mp4" in checked
    assert {path.name for path in tmp_path.iterdir()} == {"videos", "labels.csv"}
    assert main([*words, "--output", "out"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(checked)
    assert "1 videos, 4 frames (4 labeled)" in printed
    assert (tmp_path / "out/mapping.yaml").is_file()
    assert main([*words, "--output", "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resumed"] == 1


def test_a_mapping_is_proposed_edited_and_used(words, tmp_path, capsys):
    assert main([*words, "--propose", "mine.yaml"]) == 0
    text = (tmp_path / "mine.yaml").read_text()
    assert main([*words, "--propose", "mine.yaml"]) == 1
    assert "mine.yaml is there already" in capsys.readouterr().err
    (tmp_path / "mine.yaml").write_text(
        text.replace("classes: [cut, sew]", "classes: [Suturing, cut]\n    rename: {sew: Suturing}")
    )
    assert main([*words, "--mapping", "mine.yaml", "--check", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["columns"]["phase"]["classes"] == ["Suturing", "cut"]
    assert summary["videos"] == {"op1": ["op1_part1.mp4", "op1_part2.mp4"]}
    assert main([*words, "--mapping", "mine.yaml", "--output", "out"]) == 0
    assert "2: Suturing, cut (sew → Suturing)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels.csv": "nowhere.csv"}, "there are no labels at nowhere.csv"),
        ({"videos": "nowhere"}, "there is no folder nowhere with videos: it does not exist"),
        ({"videos": "labels.csv"}, "there is no folder labels.csv with videos: it is a file"),
        ({"own": "cholec80"}, "--videos is for `surgvista prepare own`; cholec80 needs --data-dir"),
        ({"--videos": "--format", "videos": "table"}, "--videos is needed: the folder of the videos"),
        ({"labels.csv": "labels.csv --format tabel"}, "no format 'tabel' of labels; did you mean table"),
        ({"labels.csv": "labels.csv --mapping labels.csv"}, "the mapping labels.csv"),
    ],
)
def test_wrong_words_get_one_line_and_leave_nothing(words, change, message, tmp_path, capsys):
    changed = [part for word in words for part in change.get(word, word).split(" ")]
    assert main([*changed, "--output", "out"]) == 1
    printed = capsys.readouterr().err.strip()
    assert message in printed
    assert len([line for line in printed.splitlines() if "error" in line]) == 1
    assert not (tmp_path / "out").exists()


def test_check_finds_what_would_stop_the_preparation(words, tmp_path, capsys):
    (tmp_path / "labels.csv").write_text(LABELS + "op1;7;0:03;0:04;cut;0;0\nop3;8;0:00;0:01;cut;0;0\n")
    assert main([*words, "--check"]) == 1
    printed = capsys.readouterr()
    assert "problem: labels.csv:5 is about 'op3', for which videos holds no video" in printed.out
    (tmp_path / "labels.csv").write_text(LABELS + "op1;7;0:03;0:04;cut;0;0\n")
    assert main([*words, "--check"]) == 1
    assert "labels.csv:4: 'cut' begins at 3, before 'sew' ends at 4 (labels.csv:3)" in capsys.readouterr().err


def test_it_is_told_which_column_a_list_of_classes_orders_and_what_becomes_no_class(words, tmp_path, capsys):
    (tmp_path / "classes.txt").write_text("sew\ncut\n")
    table = "video;start;end;Phase;Alter\nop1;0:00;0:02;0;Maria\nop1;0:02;0:04;1;Eva\n"
    (tmp_path / "labels.csv").write_text(table)
    assert main([*words, "--check"]) == 0
    printed = capsys.readouterr().out
    assert "classes of phase: in the order of classes.txt" in printed
    assert "left out, no column: Alter (" in printed
    assert "Maria" not in printed


def test_files_that_may_be_parts_and_stay_apart_are_told(words, tmp_path, capsys):
    for number in (1, 2):
        (tmp_path / f"videos/op1_part{number}.mp4").rename(tmp_path / f"videos/op1-{number}.mp4")
    (tmp_path / "labels.csv").write_text("video,start,end,phase\nop1-1,0,2,cut\nop1-2,0,2,sew\n")
    assert main([*words, "--check"]) == 0
    assert "note: op1-1.mp4, op1-2.mp4 are videos of their own; if they are parts" in capsys.readouterr().out
