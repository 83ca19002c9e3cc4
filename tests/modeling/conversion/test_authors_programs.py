"""Every family gives the pixels and the features of its authors' own program, through its own processor and `AutoModel`.

The files were made by the original classes at tiny sizes (`../shared/golden/originals`, see the README there) and are never
copied into the project; where they are absent, these tests are skipped.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
)

from surgvista_hf import InputError, convert_checkpoint
from surgvista_hf.modeling.conversion import FAMILIES, CheckpointError, likely
from surgvista_hf.modeling.processors import prepare_clips

ROOT = Path(os.environ.get("SURGVISTA_ORIGINALS", Path(__file__).parents[4] / "shared" / "golden" / "originals"))
RELATIVE = 1e-4
LEVELS = 0.01  # of 255: resizing is exact, and only the rounding of the normalization in fp32 is left
Tensors = dict[str, torch.Tensor]


class Result(NamedTuple):
    """What a converted folder computes: the model, its output, the pixels and the golden tensors."""

    model: Any
    output: Any
    pixels: torch.Tensor
    golden: Tensors


Feature = Callable[[Result], torch.Tensor]


class Case(NamedTuple):
    """A folder of the goldens.

    Args:
        family: The family to convert it as.
        features: The name of a golden tensor and how the product gives it.
        config: What the tensors do not tell, from the sizes in `golden.json`.
        part: The part of the file to read.
        fresh: The beginning of the names that the file lacks and that start fresh.
    """

    family: str
    features: Mapping[str, Feature]
    config: Callable[[dict[str, Any]], dict[str, Any]] = lambda size: {}
    part: str | None = None
    fresh: tuple[str, ...] = ()


def tokens(result: Result) -> torch.Tensor:
    return result.output.last_hidden_state


def mean_token(result: Result) -> torch.Tensor:
    return tokens(result).mean(dim=1)


def class_token(result: Result) -> torch.Tensor:
    return tokens(result)[:, 0]


def pooled(result: Result) -> torch.Tensor:
    return result.output.pooler_output.flatten(1)


def logits(result: Result) -> torch.Tensor:
    return result.output.logits


def normalized(features: torch.Tensor) -> torch.Tensor:
    """Apply a fresh `fc_norm`, as fine-tuning programs do."""
    return functional.layer_norm(features, features.shape[-1:], eps=1e-6)


def before_norm(result: Result) -> torch.Tensor:
    """Return `fc_norm` of the mean over the tokens of our classifier's encoder, which has no final norm."""
    return normalized(result.model.surgvista(result.pixels).last_hidden_state.mean(dim=1))


def image_heads(size: dict[str, Any]) -> dict[str, Any]:
    return {"num_attention_heads": size["heads"]}


def heads_and_side(size: dict[str, Any]) -> dict[str, Any]:
    return {"num_attention_heads": size["heads"], "image_size": size["side"]}


def video(size: dict[str, Any]) -> dict[str, Any]:
    return {"num_attention_heads": size["heads"], "image_size": size["side"], "num_frames": size["frames"]}


def rotary(size: dict[str, Any]) -> dict[str, Any]:
    heads = size.get("pred_heads", size["heads"])
    fixed = {"crop_size": size["side"], "frames_per_clip": size["frames"], "pred_num_attention_heads": heads}
    return {"num_attention_heads": size["heads"], **fixed}


def mae(size: dict[str, Any]) -> dict[str, Any]:
    return {**video(size), "decoder_num_attention_heads": size["decoder"]["heads"]}


def predicted(result: Result) -> torch.Tensor:
    """Return what V-JEPA 2's predictor says of the target tokens; transformers and the goldens use its second mask token."""
    masks = {"context_mask": [result.golden["context_mask"]], "target_mask": [result.golden["target_mask"]]}
    return result.model.predictor(encoder_hidden_states=tokens(result), **masks).last_hidden_state


def reconstructed(result: Result) -> torch.Tensor:
    masked = result.golden["mask"].bool()
    return result.model(result.pixels, bool_masked_pos=masked).logits[:, :, ::4]


def mae_tokens(result: Result) -> torch.Tensor:
    return AutoModel.from_pretrained(result.model.name_or_path).eval()(result.pixels).last_hidden_state


def umt_frames(result: Result) -> torch.Tensor:
    """Give each frame twice: the patch of one frame was inflated to two."""
    return normalized(result.model.surgvista(result.pixels.repeat_interleave(2, dim=1)).last_hidden_state.mean(dim=1))


def efficient_vit(size: dict[str, Any]) -> dict[str, Any]:
    sizes = {name: size[name] for name in ("embed_dim", "depth", "num_heads", "kernels")}
    return {"architecture": "efficientvit_m5", "model_args": sizes}


def pvt(size: dict[str, Any]) -> dict[str, Any]:
    return {"num_attention_heads": size["num_heads"]}


MAP_AND_POOLED: dict[str, Feature] = {"feature_map": tokens, "pooled": pooled}
TOKENS_AND_FIRST: dict[str, Feature] = {"tokens": tokens, "pooled": class_token}
TOKENS_AND_MEAN: dict[str, Feature] = {"tokens": tokens, "pooled": mean_token}
SAMPLE_AND_MEAN: dict[str, Feature] = {"tokens_sample": lambda result: tokens(result)[:, ::64], "pooled": mean_token}
WITH_PREDICTOR: dict[str, Feature] = {**TOKENS_AND_MEAN, "predicted": predicted}

CASES = {
    "endovit": Case(
        "endovit", {"tokens": tokens, "pooled": lambda result: tokens(result)[:, 1:].mean(dim=1)}, image_heads
    ),
    "gsvit": Case("gsvit", MAP_AND_POOLED, efficient_vit),
    "lemon-frames": Case("lemon-frames", {"logits": logits}),
    "lemon-storyboards": Case("lemon-storyboards", {"logits": logits}),
    "lemonfm": Case("lemonfm", MAP_AND_POOLED),
    "mvd/finetuned": Case("mvd", {"logits": logits}, video),
    "mvd/student": Case("mvd", {"finetuning_features": before_norm}, video),
    "surgenet/caformer": Case("surgenet", MAP_AND_POOLED),
    "surgenet/caformer-full-dino": Case("surgenet", MAP_AND_POOLED),
    "surgenet/convnextv2": Case("surgenet", MAP_AND_POOLED),
    "surgenet/pvtv2": Case(
        "surgenet", {"feature_map": tokens, "pooled": lambda result: tokens(result).mean(dim=(2, 3))}, pvt
    ),
    "endo-fm": Case("endo-fm", TOKENS_AND_FIRST, image_heads),
    "pl-stitch": Case("pl-stitch", TOKENS_AND_FIRST, image_heads),
    "selfsupsurg": Case("selfsupsurg", MAP_AND_POOLED),
    "surgenet-dino/v1": Case("surgenet-dino", TOKENS_AND_FIRST, image_heads),
    "surgenet-dino/v2": Case("surgenet-dino", TOKENS_AND_FIRST, image_heads),
    "surgenet-dino/v3": Case("surgenet-dino", TOKENS_AND_FIRST, heads_and_side),
    "surgmotion/no-pos-embed": Case("surgmotion", TOKENS_AND_MEAN, rotary),
    "surgmotion/stored-pos-embed": Case("surgmotion", TOKENS_AND_MEAN, rotary),
    "surgrec-jepa": Case("surgrec-jepa", TOKENS_AND_MEAN, video),
    "surgrec-mae": Case("surgrec-mae", {"tokens": mae_tokens, "reconstructed_sample": reconstructed}, mae),
    "umt/stage1": Case("umt", {"finetuning_features": umt_frames}, image_heads),
    "videomae/finetuned": Case("videomae", {"logits": logits}, video),
    "videomae/pretraining": Case("videomae", {"finetuning_features": before_norm}, video),
    "vjepa": Case("vjepa", {"tokens_target_encoder": tokens}, video),
    "vjepa2/no-pos-embed": Case("vjepa2", WITH_PREDICTOR, rotary),
    "vjepa2/stored-pos-embed": Case("vjepa2", WITH_PREDICTOR, rotary),
    "vjepa2/stored-pos-embed-16x224": Case("vjepa2", SAMPLE_AND_MEAN, rotary),
    "vjepa2/stored-pos-embed-64x256": Case("vjepa2", SAMPLE_AND_MEAN, rotary, fresh=("predictor.",)),
}
OTHER_PARTS = {
    ("vjepa", "encoder"): {"tokens": tokens, "pooled": mean_token},
    ("vjepa2/no-pos-embed", "target_encoder"): {"tokens_target_encoder": tokens},
}
SAME_LAYOUT = {"vjepa2/stored-pos-embed-16x224", "vjepa2/stored-pos-embed-64x256"}  # as vjepa2/stored-pos-embed
BY_IMAGE_TEXT_MODELS = {"surgvlp", "surgclip-b"}  # in test_image_text.py


def facts_of(folder: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / folder / "golden.json").read_text())
    return content


def checkpoint_of(folder: str) -> Path:
    return ROOT / folder / facts_of(folder)["checkpoint"]["file"]


def config_of(folder: str) -> dict[str, Any]:
    size = facts_of(folder)["size"]
    return CASES[folder].config(size if isinstance(size, dict) else {})


def frames_of(folder: str, golden: Tensors) -> np.ndarray:
    """Return the frames, with the pixels repeated as the JSON says, (height, width, 3) or (frames, height, width, 3)."""
    frames = golden["frames"]
    times = facts_of(folder).get("repeat_pixels", 1)
    return frames.repeat_interleave(times, dim=-3).repeat_interleave(times, dim=-2).numpy()


def golden_pixels(folder: str, golden: Tensors) -> torch.Tensor | None:
    """Return the preprocessed tensor, if the whole of it is stored."""
    rule = facts_of(folder).get("preprocessed")
    if (
        folder == "surgenet/caformer-full-dino"
    ):  # stored beside another file only: Pillow's squeeze, ImageNet's numbers
        image = Image.fromarray(golden["frames"].numpy()).resize((224, 224), Image.Resampling.BILINEAR)
        rule, golden = facts_of("surgenet/caformer")["preprocessed"], {"resized": torch.from_numpy(np.array(image))}
        golden["resized"] = golden["resized"].permute(2, 0, 1)[None]
    if rule is None:
        return golden.get("preprocessed")
    mean, std = (torch.tensor(rule[name])[:, None, None] for name in ("mean", "std"))
    return (golden[rule["from"]].float() / 255 - mean) / std


def prepared(path: Path, frames: np.ndarray) -> tuple[Any, torch.Tensor]:
    """Return the folder's own processor and the pixels that it makes, with an axis for the batch."""
    if frames.ndim == 3:
        processor = AutoImageProcessor.from_pretrained(path)
        return processor, processor(images=frames, return_tensors="pt")["pixel_values"]
    processor = AutoVideoProcessor.from_pretrained(path)
    return processor, prepare_clips(processor, frames)


def auto_class(class_name: str) -> Any:
    kinds = {
        "ForImageClassification": AutoModelForImageClassification,
        "ForVideoClassification": AutoModelForVideoClassification,
        "ForPreTraining": AutoModelForPreTraining,
    }
    return next((kind for name, kind in kinds.items() if class_name.endswith(name)), AutoModel)


def run(path: Path, class_name: str, pixels: torch.Tensor, golden: Tensors) -> Result:
    model = auto_class(class_name).from_pretrained(path).eval()
    extra: dict[str, Any] = {"bool_masked_pos": golden["mask"].bool()} if class_name.endswith("ForPreTraining") else {}
    if model.config.model_type == "vjepa2":
        extra["skip_predictor"] = True  # `predicted` runs it; 16,384 tokens of 64 frames take it half a minute
    with torch.no_grad():
        output = model(**{model.main_input_name: pixels}, **extra)
    return Result(model, output, pixels, golden)


def check_features(result: Result, features: Mapping[str, Feature]) -> None:
    for name, feature in features.items():
        with torch.no_grad():
            found = feature(result)
        expected = result.golden[name]
        assert found.shape == expected.shape, name
        assert expected.std() > 1e-3, f"{name} tells nothing"
        assert (found - expected).abs().max() <= RELATIVE * expected.abs().max(), name


def available(folder: str) -> Any:
    return pytest.mark.skipif(not (ROOT / folder).is_dir(), reason="the goldens of the original programs are not here")


def folders() -> list[Any]:
    long_clips = "vjepa2/stored-pos-embed-64x256"  # 64 frames of 256 pixels take a minute
    slow = {long_clips: [pytest.mark.slow]}
    return [pytest.param(folder, marks=[available(folder), *slow.get(folder, [])]) for folder in CASES]


@pytest.mark.parametrize("folder", folders())
def test_pixels_and_features_are_those_of_the_authors_program(folder, tmp_path):
    case, golden = CASES[folder], load_file(ROOT / folder / "golden.safetensors")
    report = convert_checkpoint(
        checkpoint_of(folder), tmp_path / "out", family=case.family, config=config_of(folder), part=case.part
    )
    assert all(name.startswith(("fc_norm.", "classifier.", *case.fresh)) for name in report.initialized)
    assert "not part of the model" not in report.ignored.values()
    processor, pixels = prepared(tmp_path / "out", frames_of(folder, golden))
    check_pixels(processor, pixels, golden_pixels(folder, golden), golden.get("preprocessed_sample"))
    check_features(run(tmp_path / "out", report.class_name, pixels, golden), case.features)


def check_pixels(
    processor: Any, pixels: torch.Tensor, expected: torch.Tensor | None, sample: torch.Tensor | None
) -> None:
    """Compare with the original's pixels, the whole or a sample; one of them is stored unless it has no transform."""
    if expected is None and sample is not None:
        expected, pixels = sample, pixels[:, :, ::4, ::4] if pixels.ndim == 4 else pixels[0, ::16, :, ::8, ::8]
    if expected is not None:
        std = torch.tensor(processor.image_std)[:, None, None]
        assert pixels.squeeze(0).shape == expected.squeeze(0).shape
        assert float(((pixels.squeeze(0) - expected.squeeze(0)) * std * 255).abs().max()) <= LEVELS


@pytest.mark.parametrize(("folder", "part"), OTHER_PARTS)
def test_the_other_part_of_a_file_can_be_had(folder, part, tmp_path):
    if not (ROOT / folder).is_dir():
        pytest.skip("the goldens of the original programs are not here")
    golden = load_file(ROOT / folder / "golden.safetensors")
    report = convert_checkpoint(
        checkpoint_of(folder), tmp_path / "out", family=CASES[folder].family, config=config_of(folder), part=part
    )
    pixels = golden_pixels(folder, golden)
    result = run(tmp_path / "out", report.class_name, pixels[None], golden)
    check_features(result, OTHER_PARTS[folder, part])


@pytest.mark.parametrize(
    ("old", "new"), [("", "module."), ("evit.", "gsvit."), ("", "gsvit."), ("", "backbone.")], ids=str
)
def test_gsvit_is_read_under_every_prefix_that_its_programs_may_write(old, new, tmp_path):
    folder = "gsvit"
    if not (ROOT / folder).is_dir():
        pytest.skip("the goldens of the original programs are not here")
    golden = load_file(ROOT / folder / "golden.safetensors")
    tensors = torch.load(checkpoint_of(folder), weights_only=True)
    torch.save({new + name.removeprefix(old): tensor for name, tensor in tensors.items()}, tmp_path / "a.pkl")
    report = convert_checkpoint(tmp_path / "a.pkl", tmp_path / "out", family="gsvit", config=config_of(folder))
    _, pixels = prepared(tmp_path / "out", frames_of(folder, golden))
    check_features(run(tmp_path / "out", report.class_name, pixels, golden), MAP_AND_POOLED)


def refusal_of(folder: str, family: str, output: Path) -> str | None:
    """Return why a family refuses a file, or nothing if it takes it, given the number of heads; see `InputError`."""
    overrides = config_of(folder)
    for options in (
        overrides,
        {name: value for name, value in overrides.items() if name == "num_attention_heads"},
        {},
    ):
        try:
            convert_checkpoint(checkpoint_of(folder), output, family=family, config=options)
            shutil.rmtree(output)
            return None
        except CheckpointError as error:
            return str(error)
        except InputError:
            continue
    return None


@pytest.fixture
def remembered(monkeypatch):
    """Whether a family takes a file is asked for once, not again for every other family."""
    known: dict[tuple[str, str, str], bool] = {}
    takes = likely._takes

    def ask(family, path, overrides):
        key = (family.name, str(path), str(sorted(overrides.items())))
        if key not in known:
            known[key] = takes(family, path, overrides)
        return known[key]

    monkeypatch.setattr(likely, "_takes", ask)


_FINE_TUNED = ("mvd", "videomae", "surgvista", "surgrec-mae", "umt")
TWINS = (
    ("vjepa", "surgrec-jepa"),
    ("vjepa2", "surgmotion"),
    ("surgrec-mae", "videomae", "umt"),
    ("mae", "dino", "surgenet-dino"),
    ("lemon-frames", "lemon-storyboards"),
    _FINE_TUNED,
)


@pytest.mark.parametrize("folder", [each for each in folders() if each.values[0] not in SAME_LAYOUT])
def test_every_wrong_family_refuses_a_file_and_names_the_right_one(folder, tmp_path, remembered):
    """All pairs of files and families; nothing tells some families apart, which a warning says."""
    own = CASES[folder].family
    for family in sorted(set(FAMILIES) - {own}):
        refusal = refusal_of(folder, family, tmp_path / "out")
        if refusal is None:
            assert any({own, family} <= set(group) for group in TWINS), family
        else:
            named = refusal.rpartition("It looks like a checkpoint of the family")[2]
            assert re.search(rf"(?<![\w-]){own}(?![\w-])", named), (family, refusal)


@pytest.mark.skipif(not ROOT.is_dir(), reason="the goldens of the original programs are not here")
def test_no_folder_of_the_goldens_is_left_out():
    found = {str(file.parent.relative_to(ROOT)) for file in ROOT.rglob("golden.json")}
    assert found - BY_IMAGE_TEXT_MODELS == set(CASES)
