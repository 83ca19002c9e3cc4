"""Losses that gradient accumulation does not change, in transformers' own Trainer."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import Trainer, TrainingArguments, VJEPA2Config

from surgvista_hf import MsTcnConfig, MsTcnForFrameClassification, SurgVistaConfig, SurgVistaForPreTraining
from surgvista_hf.modeling.configuration_video_head import VideoHeadConfig
from surgvista_hf.modeling.loading import load_classifier
from surgvista_hf.modeling.losses_surgvista import classification_loss
from surgvista_hf.modeling.modeling_video_head import VideoHeadForClassification
from surgvista_hf.modeling.objectives.joint_embedding import SurgVistaForJointEmbedding, VJEPA2ForJointEmbedding

from .conversion.families import FAMILIES, LABELS, SINGLE, fields

MULTI = "multi_label_classification"


SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "num_frames": 4}


class Samples(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Eight samples, given by their columns."""

    def __init__(self, **columns: torch.Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: column[index] for name, column in self.columns.items()}


def step(
    model: Any, samples: Samples, batch: int, folder: Path, collate: Callable[[Any], Mapping[str, Any]] | None = None
) -> tuple[dict[str, torch.Tensor], float]:
    """Return how one optimizer step over all eight samples moves the weights, and the loss that is logged."""
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    options: dict[str, Any] = {"data_collator": collate} if collate else {}
    args = TrainingArguments(
        str(folder),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=8 // batch,
        max_steps=1,
        learning_rate=1.0,
        optim="sgd",
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = Trainer(model, args, train_dataset=samples, **options)
    trainer.train()
    moved = {name: weight.detach() - before[name] for name, weight in model.named_parameters()}
    return moved, trainer.state.log_history[0]["loss"]


def assert_same_step(
    make: Callable[[], Any], samples: Samples, folder: Path, collate: Callable[[Any], Mapping[str, Any]] | None = None
) -> None:
    whole, loss = step(make(), samples, 8, folder / "whole", collate)
    parts, accumulated = step(make(), samples, 2, folder / "parts", collate)
    assert accumulated == pytest.approx(loss, rel=1e-4)
    assert max(value.abs().max() for value in whole.values()) > 0
    for name, value in whole.items():
        torch.testing.assert_close(
            parts[name], value, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def labels(problem: str, missing: bool = False) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    if problem == SINGLE:
        values = torch.randint(0, len(LABELS), (8,), generator=draw)
    else:
        values = torch.randint(0, 2, (8, len(LABELS)), generator=draw).float()
    if missing:
        values[0] = -100
        if problem == MULTI:
            values[3, 1] = -100
    return values


def classifier(family: str, problem: str) -> Any:
    """Make a classifier whose head does not start at zero, so that the encoder learns in the first step."""
    torch.manual_seed(0)
    model: Any = load_classifier(fields(family), LABELS, problem, num_frames=4)
    torch.nn.init.normal_(model.classifier.weight)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("problem", [SINGLE, MULTI])
@pytest.mark.parametrize("family", FAMILIES)
def test_accumulation_changes_no_step_of_any_family(family, problem, tmp_path):
    def make() -> Any:
        return classifier(family, problem)

    side = FAMILIES[family].get("image_size", 32)
    frames = torch.randn(8, 4, 3, side, side, generator=torch.Generator().manual_seed(0))
    samples = Samples(**{make().main_input_name: frames, "labels": labels(problem)})
    assert_same_step(make, samples, tmp_path)


@pytest.mark.parametrize("problem", [SINGLE, MULTI])
@pytest.mark.parametrize("family", ["surgvista", "vit"])
def test_labels_that_are_not_known_count_nowhere(family, problem, tmp_path):
    def make() -> Any:
        return classifier(family, problem)

    frames = torch.randn(8, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert_same_step(make, Samples(pixel_values=frames, labels=labels(problem, missing=True)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("weights", [None, [1.0, 5.0, 0.5]])
def test_accumulation_changes_no_step_of_a_temporal_model(weights, tmp_path):
    def make() -> MsTcnForFrameClassification:
        torch.manual_seed(0)
        return MsTcnForFrameClassification(
            MsTcnConfig(
                input_size=6, num_layers=2, num_feature_maps=4, dropout=0.0, num_labels=3, class_weights=weights
            )
        )

    draw = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 3, (8, 20), generator=draw)
    frames[0, 5:], frames[3, :4] = -100, -100  # videos differ in how many of their frames have labels
    assert_same_step(make, Samples(features=torch.randn(8, 20, 6, generator=draw), labels=frames), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("problem", [SINGLE, MULTI])
def test_accumulation_changes_no_step_of_a_head_over_videos(problem, tmp_path):
    def make() -> VideoHeadForClassification:
        torch.manual_seed(0)
        sizes = {"input_size": 6, "hidden_size": 8, "dropout": 0.0}
        return VideoHeadForClassification(VideoHeadConfig(**sizes, num_labels=len(LABELS), problem_type=problem))

    pooled = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    assert_same_step(make, Samples(pooled=pooled, labels=labels(problem)), tmp_path)


@pytest.mark.slow
def test_accumulation_changes_no_step_of_pretraining_even_with_a_column_of_labels(tmp_path):
    def make() -> SurgVistaForPreTraining:
        torch.manual_seed(0)
        return SurgVistaForPreTraining(
            SurgVistaConfig(
                **SIZES,
                intermediate_size=64,
                video_decoder_hidden_size=16,
                video_decoder_num_hidden_layers=1,
                video_decoder_num_attention_heads=1,
                image_decoder_num_hidden_layers=0,
            )
        )

    frames = torch.randn(8, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, False, True] * 2]).expand(8, -1)
    assert_same_step(make, Samples(pixel_values=frames, bool_masked_pos=mask, labels=torch.arange(8)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["surgvista", "vjepa2"])
def test_accumulation_changes_no_step_of_joint_embedding_even_with_a_column_of_labels(kind, tmp_path):
    def make() -> Any:
        torch.manual_seed(0)
        if kind == "surgvista":
            sizes = {f"video_decoder_{name}": size for name, size in (("hidden_size", 16), ("num_hidden_layers", 1))}
            return SurgVistaForJointEmbedding(SurgVistaConfig(**SIZES, **sizes, video_decoder_num_attention_heads=1))
        return VJEPA2ForJointEmbedding(
            VJEPA2Config(
                crop_size=32,
                frames_per_clip=4,
                hidden_size=48,
                num_hidden_layers=1,
                num_attention_heads=2,
                pred_hidden_size=48,
                pred_num_hidden_layers=1,
                pred_num_attention_heads=2,
                mlp_ratio=2,
            )
        )

    def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, Any]:
        context, target = (torch.tensor([ids]).expand(len(items), -1) for ids in ([0, 1, 2, 5], [3, 4, 6, 7]))
        return {
            "pixel_values": torch.stack([item["pixel_values"] for item in items]),
            "labels": torch.stack([item["labels"] for item in items]),
            "context_ids": [context],
            "target_ids": [target],
        }

    frames = torch.randn(8, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    samples = Samples(pixel_values=frames, labels=torch.arange(8))
    assert_same_step(make, samples, tmp_path, collate)


def test_a_loss_without_accumulation_is_pytorchs(tmp_path):
    logits, multi_labels = torch.randn(8, len(LABELS)), labels(MULTI)
    config = SurgVistaConfig(num_labels=len(LABELS), problem_type=MULTI)
    expected = functional.binary_cross_entropy_with_logits(logits, multi_labels)
    assert torch.equal(classification_loss(logits, multi_labels, config), expected)
    config.problem_type = None
    one = labels(SINGLE)
    assert torch.equal(classification_loss(logits, one, config), functional.cross_entropy(logits, one))
    assert config.problem_type == SINGLE
    alone = SurgVistaConfig(num_labels=1)
    assert classification_loss(logits[:, :1], multi_labels[:, 0], alone) == functional.mse_loss(
        logits[:, 0], multi_labels[:, 0]
    )
