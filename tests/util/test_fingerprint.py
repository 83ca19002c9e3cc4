"""Fingerprints follow contents, and nothing else."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from surgvista_hf.util import fingerprint
from surgvista_hf.util.fingerprint import (
    base_weights_hash,
    file_fingerprint,
    files_fingerprint,
    model_fingerprint,
    settings_fingerprint,
    state_fingerprint,
    weights_fingerprint,
)
from tests.inference.test_predictor import processor, tiny_classifier

KB = 1024


@pytest.fixture
def small_samples(monkeypatch):
    """Sample files above 16 kB in pieces of 1 kB."""
    monkeypatch.setattr(fingerprint, "SAMPLE_BYTES", KB)
    monkeypatch.setattr(fingerprint, "WHOLE_BYTES", 16 * KB)


@given(size=st.integers(1, 40 * KB), where=st.integers(0), seed=st.integers(0, 2**32 - 1), more=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_a_changed_byte_and_a_changed_size_are_seen_and_a_copy_is_not(tmp_path_factory, size, where, seed, more):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprint, "SAMPLE_BYTES", KB)
        patch.setattr(fingerprint, "WHOLE_BYTES", 16 * KB)
        folder = tmp_path_factory.mktemp("files")
        file = folder / "a.mp4"
        content = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
        file.write_bytes(content.tobytes())
        original = file_fingerprint(file)

        (folder / "elsewhere").mkdir()
        copy = Path(shutil.copyfile(file, folder / "elsewhere" / "b.mkv"))
        os.utime(copy, (1, 1))
        assert file_fingerprint(copy) == original

        middle = (size - KB) // 2
        sampled = [*range(KB), *range(middle, middle + KB), *range(size - KB, size)] if size > 16 * KB else range(size)
        changed = content.copy()
        changed[sampled[where % len(sampled)]] ^= 1 << (where % 8)
        file.write_bytes(changed.tobytes())
        assert file_fingerprint(file) != original
        file.write_bytes(content.tobytes() + bytes(more))
        assert file_fingerprint(file) != original


def test_a_video_of_many_gigabytes_is_not_read_through(tmp_path):
    file = tmp_path / "day.mp4"
    with file.open("wb") as stream:
        stream.truncate(40 << 30)  # a hole: takes no space, but minutes to read
    assert file_fingerprint(file).startswith(f"{40 << 30}-")


def test_of_many_frames_names_and_sizes_count_and_the_contents_of_some(tmp_path, small_samples):
    frames = [tmp_path / f"{number:05d}.jpg" for number in range(100)]
    for number, frame in enumerate(frames):
        frame.write_bytes(bytes([number]) * 300)
    original = files_fingerprint(frames)
    assert files_fingerprint(frames[:-1]) != original
    frames[0].write_bytes(bytes([7]) * 300)
    assert files_fingerprint(frames) != original
    frames[0].write_bytes(bytes([0]) * 300)
    assert files_fingerprint(frames) == original
    frames[55].write_bytes(b"another size")
    assert files_fingerprint(frames) != original


# --------------------------------------------------------------------------------------------- models


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_classifier().save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


def altered(folder: Path, target: Path, name: str) -> Path:
    """Copy a model with one number of one tensor changed."""
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    tensors[name].view(-1)[-1] += 1e-3
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_one_changed_number_of_any_tensor_is_seen(model_folder, tmp_path):
    original = weights_fingerprint(model_folder)
    names = list(load_file(model_folder / "model.safetensors"))
    found = {weights_fingerprint(altered(model_folder, tmp_path / str(n), name)) for n, name in enumerate(names)}
    assert len(found | {original}) == len(names) + 1


def test_a_model_may_be_moved_and_renamed_and_written_by_another_version(model_folder, tmp_path):
    moved = Path(shutil.copytree(model_folder, tmp_path / "renamed"))
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "transformers_version": "9", "_name_or_path": "/x"}))
    (moved / "README.md").write_text("a card")
    (moved / "trainer_state.json").write_text("{}")
    assert weights_fingerprint(moved) == weights_fingerprint(model_folder)


@pytest.mark.parametrize(("file", "key"), [("config.json", "hidden_dropout_prob"), ("preprocessor", "frame_stride")])
def test_configuration_and_processor_belong_to_a_model(model_folder, tmp_path, file, key):
    moved = Path(shutil.copytree(model_folder, tmp_path / "m"))
    path = next(path for path in moved.glob("*.json") if file in path.name)
    path.write_text(json.dumps({**json.loads(path.read_text()), key: 17}))
    assert weights_fingerprint(moved) != weights_fingerprint(model_folder)


def test_a_model_trained_anew_in_its_place_is_another_one(model_folder, tmp_path):
    folder = Path(shutil.copytree(model_folder, tmp_path / "m"))
    before = weights_fingerprint(folder)
    shutil.rmtree(folder)
    altered(model_folder, folder, "classifier.bias")
    assert weights_fingerprint(folder) != before


def test_an_adapter_is_another_one_over_another_base(tmp_path, model_folder):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    found = set()
    for name, base in (("same", model_folder), ("other", altered(model_folder, tmp_path / "b", "classifier.bias"))):
        path = Path(shutil.copytree(base, tmp_path / f"{name} base"))
        (adapter / "adapter_config.json").write_text(json.dumps({"r": 2, "base_model_name_or_path": str(path)}))
        found.add(weights_fingerprint(adapter))
        moved = Path(shutil.move(path, tmp_path / f"moved {name}"))
        (adapter / "adapter_config.json").write_text(json.dumps({"r": 2, "base_model_name_or_path": str(moved)}))
        found.add(weights_fingerprint(adapter))
    assert len(found) == 2


def test_an_adapter_that_notes_the_weights_of_its_base_stays_the_same_wherever_both_move(tmp_path):
    adapter, found = tmp_path / "adapter", set()
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    for path, way, weights in (
        ("/a/base", "../base", "1"),
        ("/b/base", "../../base", "1"),
        ("/a/base", "../base", "2"),
    ):
        (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": path}))
        (adapter / "adapter_base.json").write_text(json.dumps({"folder": way, "weights": weights}))
        found.add(weights_fingerprint(adapter))
    assert len(found) == 2


def test_the_hash_that_adapters_have_stored_of_their_base_stays_valid_and_counts_weights_only(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "adapter_model.bin").write_bytes(b"b")
    assert base_weights_hash(tmp_path) == "f2b04a40640441f3"
    for name in ("config.json", "training_args.bin", "optimizer.bin", "scheduler.bin", "model.pt"):
        (tmp_path / name).write_bytes(b"{}")
    assert base_weights_hash(tmp_path) == "f2b04a40640441f3"
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    assert base_weights_hash(tmp_path) != "f2b04a40640441f3"


def test_a_hub_id_is_known_by_the_commit_in_the_cache(tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--me--phases"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert weights_fingerprint("me/phases") == f"me/phases@{commit}"
    assert weights_fingerprint("me/others") == "me/others@unknown commit"


def test_models_in_memory_are_known_by_their_tensors():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    before = state_fingerprint(model)
    assert state_fingerprint(model.to(torch.float64).to(torch.float32)) == before
    with torch.no_grad():
        model.bias[1] += 1e-3
    assert state_fingerprint(model) != before


def test_the_configuration_of_a_model_in_memory_counts(model_folder):
    from transformers import AutoModelForVideoClassification

    import surgvista_hf  # noqa: F401

    model = AutoModelForVideoClassification.from_pretrained(model_folder)
    before = model_fingerprint(model)
    model.config.problem_type = "multi_label_classification"
    assert model_fingerprint(model) != before


# --------------------------------------------------------------------------------------------- settings


@dataclass
class Reading:
    """A label as it is read from a file."""

    rows: object


def test_settings_of_any_kind_have_one_and_files_count_by_their_content(tmp_path):
    (tmp_path / "a.csv").write_text("1")
    content = {"rows": np.arange(3), 7: {"b", "a"}, "file": tmp_path / "a.csv", "label": np.int64(3)}
    before = settings_fingerprint([Reading(content), float("inf"), None])
    assert settings_fingerprint([Reading(dict(content)), float("inf"), None]) == before
    (tmp_path / "a.csv").write_text("2")
    assert settings_fingerprint([Reading(content), float("inf"), None]) != before
