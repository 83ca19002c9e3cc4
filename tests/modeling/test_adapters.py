"""Few trained parameters: every method on every family, exact when loaded, equal when merged, also on few bits."""

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch

from surgvista_hf.modeling.adapters import (
    BASE_FILE,
    AdapterRecipe,
    adapted_layers,
    add_adapter,
    complete_adapter,
    count_parameters,
    find_base,
    load_adapted,
    merge_adapter,
    quantization,
)
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.loading import is_head, load_classifier

from .conversion.families import FAMILIES, LABELS, SINGLE, clips, encoder

PEFT = ("lora", "dora", "ia3")


def trained(start: Path, recipe: AdapterRecipe, family: str, pooling: str | None = None):
    """Return an adapted model after a step, its inputs and logits; it is saved beside its base."""
    torch.manual_seed(1)
    model = load_classifier(start, LABELS, SINGLE, num_frames=4, pooling=pooling, **quantization(recipe.bits))
    adapted = add_adapter(model, recipe, start)
    inputs = {model.main_input_name: clips(family)}
    optimizer = torch.optim.SGD([value for value in adapted.parameters() if value.requires_grad], 0.1)
    for _ in range(2):  # the head starts at zero, so the first step moves nothing else
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(adapted(**inputs).logits.float(), torch.tensor([0, 2])).backward()
        optimizer.step()
    adapted.eval()
    with torch.no_grad():
        logits = adapted(**inputs).logits.float()
    adapted.save_pretrained(start.parent / "adapter")
    model.config.save_pretrained(start.parent / "adapter")
    return adapted, inputs, logits


@pytest.mark.parametrize("method", PEFT)
@pytest.mark.parametrize(
    ("family", "pooling"), [*((family, None) for family in FAMILIES), ("surgvista", "attentive"), ("vit", "attentive")]
)
def test_an_adapter_is_loaded_exactly_and_merged_within_1e_5(family, pooling, method, tmp_path):
    start = encoder(family, tmp_path / "base")
    adapted, inputs, logits = trained(start, AdapterRecipe(method, rank=4), family, pooling)
    moved = [name for name, value in adapted.named_parameters() if value.requires_grad and "classifier" not in name]
    assert moved
    with torch.no_grad():
        again = load_adapted(tmp_path / "adapter")(**inputs).logits
        merged = merge_adapter(tmp_path / "adapter").eval()
        torch.testing.assert_close(again, logits, rtol=0, atol=1e-6)
        torch.testing.assert_close(merged(**inputs).logits, logits, rtol=1e-5, atol=1e-5)
    assert not [name for name, _ in merged.named_parameters() if "lora" in name or "modules_to_save" in name]
    merged.save_pretrained(tmp_path / "merged")
    plain = type(merged).from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        assert torch.equal(plain(**inputs).logits, merged(**inputs).logits)


@pytest.mark.parametrize(("method", "bits"), [("lora", 8), ("lora", 4), ("dora", 4), ("ia3", 4), ("probe", 4)])
@pytest.mark.parametrize("family", ["surgvista", "videomae", "vit"])
def test_a_base_in_few_bits_is_trained_and_its_adapter_loaded_exactly(family, method, bits, tmp_path):
    pytest.importorskip("bitsandbytes")
    start = encoder(family, tmp_path / "base")
    whole = count_parameters(load_classifier(start, LABELS, SINGLE, num_frames=4))
    adapted, inputs, logits = trained(start, AdapterRecipe(method, rank=4, bits=bits), family)
    few = count_parameters(adapted)
    assert few.bytes < 0.65 * whole.bytes
    assert few.all >= whole.all  # packed weights are counted as what they stand for
    if method != "probe":
        again = load_adapted(tmp_path / "adapter", **quantization(bits))
        with torch.no_grad():
            torch.testing.assert_close(again(**inputs).logits.float(), logits, rtol=0, atol=1e-6)


def test_a_probe_trains_the_head_only(tmp_path):
    model = load_classifier(encoder("surgvista", tmp_path), LABELS, SINGLE)
    add_adapter(model, AdapterRecipe("probe"), tmp_path)
    assert {name for name, value in model.named_parameters() if value.requires_grad} == {
        name for name, _ in model.named_parameters() if is_head(name)
    }
    counted = count_parameters(model)
    assert counted.trained == 2 * 64 + 3 * 64 + 3
    assert counted.fraction < 0.005


def test_adapters_sit_in_attention_or_in_all_blocks_and_never_in_the_head(tmp_path):
    model = load_classifier(encoder("surgvista", tmp_path), LABELS, SINGLE)
    attention, everything = adapted_layers(model, "attention"), adapted_layers(model, "all")
    assert {name.rsplit(".", 1)[1] for name in attention} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert {name.rsplit(".", 1)[1] for name in everything} == {"q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"}
    assert len(attention) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "lorra"}, "method is 'lorra'.*did you mean lora"),
        ({"rank": 0}, "rank is 0; it must be greater than or equal to 1"),
        ({"method": "lora", "bits": 3}, "4 or 8"),
        ({"bits": 4}, "cannot be trained"),
        ({"method": "dora", "bits": 8}, "take 4, or LoRA"),
    ],
)
def test_what_no_adapter_can_be_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        AdapterRecipe(**changes)


def test_a_folder_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no adapter"):
        merge_adapter(tmp_path)


# ------------------------------------------------------------------------------------------------- where the base is


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Make a project with an encoder and, deep inside, an adapter on it that was trained from the project's own folder."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    encoder("surgvista", Path("my-encoder"))
    model = load_classifier("my-encoder", LABELS, SINGLE, num_frames=4)
    adapted = add_adapter(model, AdapterRecipe("lora", rank=2), "my-encoder")
    adapted.save_pretrained("runs/lora/model")
    complete_adapter("runs/lora/model", model, "my-encoder")
    return tmp_path / "project"


def test_an_adapter_finds_its_base_from_any_folder(project, monkeypatch):
    for folder in (project, project.parent, project / "runs", Path("/")):
        monkeypatch.chdir(folder)
        adapter = os.path.relpath(project / "runs/lora/model")
        assert Path(find_base(adapter)) == project / "my-encoder"
    assert load_adapted(project / "runs/lora/model") is not None


def test_an_adapter_finds_its_base_after_the_whole_project_moved(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.move(project, tmp_path / "elsewhere")
    assert Path(find_base("elsewhere/runs/lora/model")) == tmp_path / "elsewhere" / "my-encoder"
    assert merge_adapter("elsewhere/runs/lora/model") is not None


def test_an_adapter_that_moved_alone_finds_a_base_that_stayed(project, tmp_path):
    shutil.move(project / "runs/lora/model", tmp_path / "alone")
    assert Path(find_base(tmp_path / "alone")) == project / "my-encoder"


def test_an_adapter_behind_a_link_finds_its_base(project, tmp_path):
    (tmp_path / "link").symlink_to(project / "runs")
    assert Path(find_base(tmp_path / "link/lora/model")) == project / "my-encoder"


def test_another_model_in_the_place_of_the_base_is_refused(project):
    with torch.no_grad():
        model = load_classifier("my-encoder", LABELS, SINGLE, num_frames=4)
        for value in model.parameters():
            value.add_(1)
    model.save_pretrained("my-encoder")
    with pytest.raises(InputError, match=r"retrained or replaced: .*my-encoder has other weights"):
        load_adapted("runs/lora/model")


def test_a_base_with_another_card_or_processor_is_still_the_base(project):
    (project / "my-encoder" / "README.md").write_text("more words")
    (project / "my-encoder" / "preprocessor_config.json").write_text("{}")
    assert Path(find_base("runs/lora/model")) == project / "my-encoder"


def test_the_right_base_is_found_beside_a_wrong_one(project, tmp_path, monkeypatch):
    """Move the adapter without its base, while the old base stays and something else lies where the way leads."""
    shutil.copytree(project / "runs/lora/model", tmp_path / "other/runs/lora/model")
    torch.manual_seed(5)
    load_classifier(
        {"model_type": "surgvista", **FAMILIES["surgvista"]}, LABELS, SINGLE, num_frames=4
    ).save_pretrained(tmp_path / "other/my-encoder")
    assert Path(find_base(tmp_path / "other/runs/lora/model")) == project / "my-encoder"


def test_a_base_that_is_gone_is_named_and_never_looked_for_on_the_hub(project):
    shutil.rmtree("my-encoder")
    with pytest.raises(InputError, match=r"is not there; looked for .*project/my-encoder"):
        load_adapted("runs/lora/model")


def test_the_folder_of_an_older_adapter_is_searched_for_around_it(project, monkeypatch):
    file = project / "runs/lora/model/adapter_config.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "base_model_name_or_path": "my-encoder"}))
    (project / "runs/lora/model" / BASE_FILE).unlink()
    monkeypatch.chdir("/")
    assert Path(find_base(project / "runs/lora/model")) == project / "my-encoder"
    file.write_text(json.dumps({**content, "base_model_name_or_path": "models/of/mine"}))
    with pytest.raises(InputError, match="there is no folder models/of/mine"):
        find_base(project / "runs/lora/model")


def test_a_base_on_the_hub_keeps_its_name(project, monkeypatch):
    file = project / "runs/lora/model/adapter_config.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "base_model_name_or_path": "owner/name"}))
    (project / "runs/lora/model" / BASE_FILE).unlink()
    assert find_base(project / "runs/lora/model") == "owner/name"


def test_nobody_speaks_of_kernels_for_4_bits_where_there_are_none(project):
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    load_adapted("runs/lora/model")
    assert not logger.isEnabledFor(logging.WARNING)
    quantization(4)
    assert logger.isEnabledFor(logging.WARNING)
