"""The command line as a user types it: once in a process of its own, and otherwise, since that says the same, in this one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from surgvista_hf.cli.main import VERBS, main

from ..modeling import golden
from ..videos import write_numbered_video

REPOSITORY = Path(__file__).resolve().parents[2]


def surgvista(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "surgvista_hf.cli.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"surgvista {verb}" in said
    assert "example" in said


def test_help_is_quick_because_it_imports_no_torch():
    program = (
        "import sys; from surgvista_hf.cli.main import build_parser; build_parser(); print('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_predict_writes_tables_and_a_picture(model_folder, tmp_path):
    video = write_numbered_video(tmp_path / "my operation.mp4", count=100)
    done = surgvista("predict", video, "--model", model_folder, "--output", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [Path(file).name for file in answer["files"]] == ["predictions.csv", "predictions.json", "timeline.png"]
    assert all(Path(file).stat().st_size for file in answer["files"])
    assert answer["segments"][0]["start"] == 0.0


def test_real_clips_go_through_predict(model_folder, shared_data, tmp_path):
    for clip in sorted((shared_data / "clips").iterdir()):
        assert main(["predict", str(clip), "--model", str(model_folder), "--output", str(tmp_path / clip.stem)]) == 0
        lines = (tmp_path / clip.stem / "predictions.csv").read_text().splitlines()
        assert len(lines) == 1 + (10 if "720p" in clip.name else 5)


def test_convert_reports_what_it_did_and_predict_can_use_it(tmp_path, capsys):
    checkpoint = tmp_path / "finetuned.pth"
    torch.save(golden.part(golden.load("tiny_classify_video_3d_sincos"), "model."), checkpoint)
    config = json.dumps(golden.UNREADABLE_SIZES)
    model = str(tmp_path / "model")
    words = ["convert", str(checkpoint), "--family", "surgvista", "--output", model, "--config", config, "--with-code"]
    assert main(words) == 0
    assert "mapped       51 tensors" in capsys.readouterr().out
    assert (tmp_path / "model" / "modeling_surgvista.py").is_file()
    video = write_numbered_video(tmp_path / "a.mp4", count=30)
    assert main(["predict", str(video), "--model", model, "--output", str(tmp_path / "out")]) == 0


def test_convert_lists_the_families(capsys):
    assert main(["convert", "--list"]) == 0
    listed = capsys.readouterr().out
    for family in (
        "surgvista",
        "mvd",
        "videomae",
        "umt",
        "mae",
        "dino",
        "supervised",
        "endossl-teacher",
        "lemonfm",
        "surgmotion",
    ):
        assert f"\n{family} " in f"\n{listed}"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "VERB"),
        (["fly"], "invalid choice: 'fly'"),
        (["predict"], "required: video, --model, --output"),
        (["predict", "missing.mp4", "--model", "m", "--output", "o"], "there is no video at missing.mp4"),
        (["predict", "text.mp4", "--model", "nothing", "--output", "o"], "no video classifier"),
        (["predict", "text.mp4", "--model", "model", "--output", "o"], "text.mp4 cannot be decoded"),
        (["predict", "text.mp4", "--model", "model", "--output", "o", "--batch-size", "0"], "batch_size is 0"),
        (["predict", "text.mp4", "--model", "model", "--output", "o", "--batch-size", "x"], "invalid int value"),
        (["predict", "good.mp4", "--model", "model", "--output", "text.mp4"], "text.mp4"),
        (["predict", "good.mp4", "--model", "model", "--output", "o", "--device", "toaster"], "toaster"),
        (["convert"], "a checkpoint is needed"),
        (
            ["convert", "missing.pth", "--family", "surgvista", "--output", "o"],
            "there is no checkpoint at missing.pth",
        ),
        (["convert", "text.mp4", "--family", "surgvista", "--output", "o"], "not a checkpoint"),
        (["convert", "text.mp4", "--family", "resnet", "--output", "o"], "no family 'resnet'"),
        (["convert", "text.mp4", "--family", "surgvista", "--output", "o", "--config", "{"], "not JSON"),
        (["convert", "text.mp4", "--family", "surgvista", "--output", "o", "--config", "[]"], "JSON object"),
        (["convert", "text.mp4", "--family", "surgvista", "--output", "model"], "exists already"),
        (["demo", "--video", "missing.mp4"], "there is no video at missing.mp4"),
        (["demo", "--operations", "0"], "--operations must be at least 1"),
        (["benchmark", "synthetic", "--dry-run", "seed=[1]"], "did you mean seeds?"),
        (["benchmark", "synthetic", "--dryrun"], "unrecognized arguments: --dryrun"),
        (["merge", "model", "--output", "o", "seeds=[1]"], "unrecognized arguments: seeds=[1]"),
        (["finetune", "nowhere"], "there is no recipe nowhere"),
        (["finetune", "cholec80", "training.sed=1"], "did you mean seed?"),
        (["finetune", "cholec80", "training.use_cpu=true", "training.bf16=false", "--check"], "frame_sets"),
        (["merge", "model", "--output", "o"], "model holds no adapter"),
        (["extract-features", "model", "--data", "cholec80", "--output", "o"], "NAME=DIR is expected"),
    ],
)
def test_bad_input_ends_with_one_line_of_reason_and_writes_nothing(
    words, reason, model_folder, tmp_path, monkeypatch, capsys
):
    (tmp_path / "text.mp4").write_text("no video and no checkpoint")
    write_numbered_video(tmp_path / "good.mp4", count=10)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    try:
        status = main(words)
    except SystemExit as ended:
        status = ended.code
    assert status in (1, 2)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("surgvista")
    assert reason in last
    assert sorted(tmp_path.rglob("*")) == before
