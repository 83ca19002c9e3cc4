"""Studies: nested subsets, equal updates, finished cells are not trained again, findings are written."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModel

from surgvista_hf import ClipDataset, load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.trainers.benchmark import studies
from surgvista_hf.trainers.features.clip_features import extract_features, load_encoder
from surgvista_hf.trainers.pretrain import build_clips
from surgvista_hf.trainers.pretraining.recipe import DataRecipe, SourceRecipe

from .. import tiny


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten short operations: 8 for training, some for the test, by the data set's protocol."""
    folder = tmp_path_factory.mktemp("study") / "corpus"
    settings_ = {**tiny.VIDEOS, "videos": "10", "seconds": "16"}
    prepare_frame_set("synthetic", None, folder, settings=settings_)
    return folder


@pytest.fixture
def recipe_file(corpus: Path, tmp_path: Path) -> Path:
    tiny.teacher().model.save_pretrained(tmp_path / "teacher")
    sizes = tiny.model().config.to_diff_dict()
    model = {
        name: value for name, value in sizes.items() if name not in ("transformers_version", "model_type", "dtype")
    }
    content = {
        "model": model,
        "teacher": {"name": str(tmp_path / "teacher")},
        "data": {"frame_stride": 2, "sources": [{"name": "synthetic", "data_dir": str(corpus)}]},
        "training": tiny.RECIPE_TRAINING,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@given(fractions=st.lists(st.floats(0.01, 1), min_size=2, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_smaller_shares_are_among_larger_ones_and_hold_whole_videos(corpus, fractions, seed):
    def videos(fraction: float) -> dict[str, int]:
        source = SourceRecipe("synthetic", str(corpus), "all")
        index = build_clips(DataRecipe((source,), fraction=fraction, fraction_seed=seed), 4, 0).clip_index
        return dict(zip(map(str, index.video_ids), index.lengths.tolist(), strict=True))

    chosen = [videos(fraction) for fraction in sorted(fractions)]
    for fraction, preview in zip(sorted(fractions), chosen, strict=True):
        assert len(preview) == int(np.ceil(fraction * 10))
        assert set(preview.values()) == {16}
    for smaller, larger in pairwise(chosen):
        assert smaller.keys() <= larger.keys()
    assert videos(fractions[0]) == videos(fractions[0])


def words(recipe: Path, corpus: Path, output: Path, *more: str) -> list[str]:
    return [
        "study",
        *more,
        str(recipe),
        "--probe",
        f"synthetic={corpus}",
        "--seeds",
        "1",
        "--output",
        str(output),
        "--json",
    ]


@pytest.mark.slow
def test_more_data_is_studied_with_equal_updates_and_finished_cells_are_kept(
    recipe_file, corpus, tmp_path, capsys, monkeypatch
):
    command = [*words(recipe_file, corpus, tmp_path / "out", "data-scale"), "--fractions", "0.25,1"]
    assert main(command) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    cells = len(found["summary"]["A"]) - 2  # of each variant: one for each seed
    assert [
        line.partition(" ")[0] for line in said.err.splitlines() if not line.startswith(("  ", "note: the teacher"))
    ] == [
        "log:",
        *(f"{number}/{2 * cells}" for number in range(1, 2 * cells + 1)),
    ]
    assert list(found["summary"]) == ["A", "B"]
    assert list(found["tests"]) == ["B > A"]
    study = json.loads((tmp_path / "out" / "study.json").read_text())
    assert {cell["settings"]["recipe"]["training"]["max_steps"] for cell in study["cells"]} == {
        6 * 16 // 8
    }  # six training videos of 16 clips
    assert [cell["settings"]["recipe"]["data"]["fraction"] for cell in study["cells"]] == [0.25, 1]
    videos = len(study["cells"][0]["accuracy"])
    assert len((tmp_path / "out" / "study.csv").read_text().splitlines()) == 1 + 2 * videos
    with Image.open(tmp_path / "out" / "study.png") as picture:
        assert min(picture.size) > 300

    monkeypatch.setattr(studies, "pretrain", lambda recipe: pytest.fail("a finished cell is trained again"))
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == found
    recipe = command.index(str(recipe_file))
    assert main([*command[: recipe + 1], "model.drop_path_rate=0.1", *command[recipe + 1 :]]) == 1
    assert "was begun with other settings" in capsys.readouterr().err


def test_a_killed_cell_is_never_finished_under_other_settings(recipe_file, corpus, tmp_path, capsys, monkeypatch):
    command = [*words(recipe_file, corpus, tmp_path / "out", "data-scale"), "--fractions", "0.25,1"]

    def killed(recipe):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "pretrain", killed)
    assert main(command) == 130
    recipe = command.index(str(recipe_file))
    assert main([*command[: recipe + 1], "model.drop_path_rate=0.1", *command[recipe + 1 :]]) == 1
    assert "was begun with other settings" in capsys.readouterr().err
    assert main(command) == 130


def test_a_corpus_with_videos_of_the_test_is_refused_before_anything_is_trained(
    recipe_file, corpus, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(studies, "pretrain", lambda recipe: pytest.fail("trained on test videos"))
    command = words(recipe_file, corpus, tmp_path / "out", "data-scale")
    recipe = command.index(str(recipe_file))
    assert main([*command[: recipe + 1], "data.sources.0.split=test", *command[recipe + 1 :]]) == 1
    assert "test videos in the training data" in capsys.readouterr().err


@pytest.mark.slow
def test_distillation_is_studied_without_and_with_the_teacher(recipe_file, corpus, tmp_path, capsys):
    assert main(words(recipe_file, corpus, tmp_path / "out", "distillation")) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["tests"]) == ["with teacher > without teacher"]
    cells = json.loads((tmp_path / "out" / "study.json").read_text())["cells"]
    assert [bool(cell["settings"]["recipe"]["teacher"]) for cell in cells] == [False, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data-scale", "--fractions", "0.5,0.25"], "rising fractions"),
        (["data-scale", "--fractions", "a,b"], "numbers with commas"),
        (["data-scale", "--probe", "synthetic"], "NAME=DIR is expected"),
        (["data-scale", "--probe", "synthetic=nowhere"], "nowhere"),
        (["distillation", "--teacher", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_studied_is_said_in_one_line(recipe_file, corpus, tmp_path, capsys, changes, message):
    kind, *options = changes
    assert main([*words(recipe_file, corpus, tmp_path / "out", kind), *options]) == 1
    assert message in capsys.readouterr().err


def test_features_are_means_over_the_tokens_of_a_tubelet_or_of_all_with_labels_and_videos(corpus, tmp_path):
    tiny.model().save_pretrained(tmp_path / "model")
    from surgvista_hf.modeling.processors import make_surgvista_processor

    make_surgvista_processor(tiny.model().config, 2).save_pretrained(tmp_path / "model")
    encoder, processor = load_encoder(tmp_path / "model")
    clips = ClipDataset(load_frame_set("synthetic", corpus, "all"), num_frames=4, frame_stride=2, label="phase")
    found = extract_features(encoder, processor, clips, pooling="mean", batch_size=50)
    by_tubelet = extract_features(encoder, processor, clips)
    assert found.values.shape == (160, 32)
    assert by_tubelet.values.shape == (160, 2 * 32)
    np.testing.assert_allclose(by_tubelet.values.reshape(160, 2, 32).mean(axis=1), found.values, atol=1e-5)
    assert found.videos[17] == "synthetic/operation_000001"
    item = clips[17]
    assert found.labels[17] == item["labels"]
    pixels = processor([item["pixel_values"]], return_tensors="pt")["pixel_values"]
    expected = AutoModel.from_pretrained(tmp_path / "model").eval()(pixels).last_hidden_state.mean(1)[0]
    np.testing.assert_allclose(found.values[17], expected.detach().numpy(), atol=1e-5)
