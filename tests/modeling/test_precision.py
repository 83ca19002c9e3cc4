"""The precision that a model computes in: bfloat16 where the device has it in hardware."""

import importlib.util
from types import ModuleType

import pytest
import torch

from surgvista_hf import InputError
from surgvista_hf.modeling import precision
from surgvista_hf.modeling.features import FeatureExtractor
from surgvista_hf.modeling.loading import frame_size, load_classifier

from .conversion.families import LABELS, SINGLE, encoder


@pytest.fixture
def own() -> ModuleType:
    """Return the module as users have it; the one that tests import knows of no processor."""
    spec = importlib.util.spec_from_file_location("surgvista_hf.modeling.precision_of_users", precision.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("capabilities", "hardware"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "AMX"),
        ({"amx_bf16": False, "avx512_bf16": True}, "AVX512-BF16"),
        ({"avx512_f": True, "avx512_vnni": True, "amx_tile": True}, ""),
        ({}, ""),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_it(own, monkeypatch, capabilities, hardware):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert own.bfloat16_hardware("cpu") == hardware
    assert own.resolve_dtype("auto", "cpu") == ("bfloat16" if hardware else "float32")
    assert own.describe_dtype("bfloat16", "cpu") == (f"bfloat16 ({hardware})" if hardware else "bfloat16")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert own.resolve_dtype("auto", "cpu") == "float32"


def test_what_this_processor_has_is_found_without_an_error(own):
    assert own.bfloat16_hardware("cpu") in ("", "AMX", "AVX512-BF16")
    assert own.bfloat16_hardware("meta") == ""


@pytest.mark.parametrize("has_it", [True, False])
def test_auto_is_bfloat16_on_a_gpu_that_has_it_and_not_where_it_is_emulated(own, monkeypatch, has_it):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or has_it
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    assert own.resolve_dtype("auto", "cuda") == ("bfloat16" if has_it else "float32")
    assert own.resolve_dtype("bfloat16", "cuda") == "bfloat16"


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="dtype is 'half'; it must be one of auto, float32, bfloat16"):
        precision.resolve_dtype("half", "cpu")


def test_tests_compute_alike_on_every_machine():
    assert precision.resolve_dtype("auto", "cpu") == "float32"


@pytest.mark.parametrize("family", ["videomae", "vit", "convnext"])
def test_bfloat16_changes_no_probability_by_more_than_a_fiftieth_and_no_clear_class(family, tmp_path):
    model = load_classifier(encoder(family, tmp_path / "encoder"), LABELS, SINGLE, num_frames=4).eval()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        model.classifier.weight.normal_(std=0.2, generator=random)
        clips = torch.randn(24, 4, 3, *frame_size(model.config), generator=random)  # (B, frames, channels, H, W)
        full = FeatureExtractor(model)(clips).output.logits.softmax(-1)
        with torch.autocast("cpu", torch.bfloat16):
            half = FeatureExtractor(model)(clips).output.logits.float().softmax(-1)
    assert 0 < (half - full).abs().max() < 0.02
    best = full.topk(2).values
    clear = best[:, 0] - best[:, 1] > 0.02
    assert clear.sum() >= len(clips) / 2
    assert torch.equal(half.argmax(1)[clear], full.argmax(1)[clear])
