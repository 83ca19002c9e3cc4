"""A folder that is not there is said to be missing; it never becomes the name of a repository of the Hub."""

from typing import Any

import pytest
import transformers

import surgvista_hf
from surgvista_hf import SurgicalVideoPredictor, SurgVistaForVideoClassification, SurgVistaModel
from surgvista_hf.cli.main import main
from surgvista_hf.modeling.adapters import merge_adapter
from surgvista_hf.modeling.errors_surgvista import InputError, MissingFolderError, folder_or_hub_name
from surgvista_hf.modeling.loading import load_any_encoder, load_classifier
from surgvista_hf.trainers.features.clip_features import load_encoder
from surgvista_hf.trainers.features.extraction import VideoFeatureExtractor
from surgvista_hf.trainers.pretraining.teachers import ImageTeacher


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()


@pytest.fixture
def requested(monkeypatch) -> list[str]:
    """Return the names that the Hub was asked for."""
    names: list[str] = []

    def refuse(*args: Any, **kwargs: Any) -> Any:
        names.append(str(args[0] if args else kwargs))
        raise OSError("We couldn't connect to the Hub")

    for module in (transformers.utils.hub, transformers.configuration_utils, transformers.modeling_utils):
        for function in ("cached_file", "cached_files"):
            if hasattr(module, function):
                monkeypatch.setattr(module, function, refuse)
    return names


@pytest.mark.parametrize(
    "name",
    [
        *("/models/base", "./base", "../base", "~/base", "a/b/c", "runs/base", "runs/lora/model", "base/", "a b/c"),
        *("C:\\models\\base", "model.safetensors", "owner/weights.pth", ".", "", "-/..", "überall/modell!"),
    ],
)
def test_what_can_only_be_a_path_is_missing(name, tmp_path):
    if name == ".":
        assert folder_or_hub_name(name) == "."
        return
    with pytest.raises(MissingFolderError, match="there is no folder") as caught:
        folder_or_hub_name(name)
    assert isinstance(caught.value, InputError)
    assert isinstance(caught.value, OSError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["owner/name", "bert-base", "facebook/vjepa2-vitl-fpc64-256", "a.b/c_d-1.0"])
def test_what_may_be_a_repository_is_left_alone(name):
    assert folder_or_hub_name(name) == name


def test_a_folder_that_is_there_wins(tmp_path, monkeypatch):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert folder_or_hub_name("owner/name") == "owner/name"
    assert folder_or_hub_name(tmp_path / "owner") == str(tmp_path / "owner")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder_or_hub_name("~/owner") == str(tmp_path / "owner")


def test_the_message_says_how_far_the_path_goes(tmp_path):
    with pytest.raises(MissingFolderError, match=r"there is no folder runs/lora/model in .*; of its path runs exists"):
        folder_or_hub_name("runs/lora/model")


ENTRIES = {
    "predictor": SurgicalVideoPredictor,
    "classifier": lambda name: load_classifier(name, ["a", "b"], "single_label_classification"),
    "encoder": load_any_encoder,
    "features": VideoFeatureExtractor,
    "probe": load_encoder,
    "teacher": ImageTeacher.from_pretrained,
    "model": SurgVistaModel.from_pretrained,
    "own classifier": SurgVistaForVideoClassification.from_pretrained,
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_says_that_a_folder_is_missing(entry, requested):
    with pytest.raises(MissingFolderError, match="there is no folder runs/missing"):
        ENTRIES[entry]("runs/missing")
    assert requested == []


@pytest.mark.parametrize("auto", ["AutoConfig", "AutoModel", "AutoVideoProcessor", "AutoModelForVideoClassification"])
def test_auto_classes_say_so_too_once_the_package_is_imported(auto, monkeypatch):
    assert surgvista_hf
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingFolderError, match="there is no folder runs/missing"):
        getattr(transformers, auto).from_pretrained("runs/missing")


@pytest.mark.parametrize("entry", ["predictor", "classifier", "encoder", "features", "probe", "teacher"])
def test_a_name_that_may_be_either_is_explained_as_both(entry, requested):
    with pytest.raises(InputError, match=r"and there is no folder (owner/name|base)"):
        ENTRIES[entry]("owner/name")


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "video.mp4", "--model", "runs/missing", "--output", "out"],
        ["predict", "video.mp4", "--model", "/no/such/model", "--output", "out"],
        ["explain", "video.mp4", "--model", "runs/missing", "--second", "1", "--output", "out.png"],
        ["export", "runs/missing", "--output", "out"],
        ["deidentify", "video.mp4", "--out-of-body", "runs/missing", "--output", "out", "--mapping", "m.json"],
    ],
)
def test_every_verb_says_that_a_folder_is_missing(arguments, capsys, requested, tmp_path):
    (tmp_path / "video.mp4").write_bytes(b"")
    assert main(arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert "there is no folder" in error[0]
    assert requested == []


def test_an_adapter_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*missing with an adapter"):
        merge_adapter(tmp_path / "missing")


def test_a_folder_without_an_adapter_is_said_to_hold_none(tmp_path):
    with pytest.raises(InputError, match="holds no adapter"):
        merge_adapter(tmp_path)
