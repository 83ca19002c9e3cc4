"""Frozen features of clips or frames, from any encoder that we train."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import AutoImageProcessor, AutoModel, AutoVideoProcessor

from ...clips import ClipDataset, collate_clips
from ...evaluation.probes import Features
from ...modeling.errors_surgvista import folder_or_hub_name, not_a_folder_either
from ...modeling.modeling_surgical_encoder import takes_clips
from ...modeling.processors import prepare_clips
from ...util.errors import InputError

Pooling = Literal["mean", "slices"]


@torch.no_grad()
def extract_features(
    model: Any, processor: Any, clips: ClipDataset, *, pooling: Pooling = "slices", batch_size: int = 32
) -> Features:
    """One vector a clip.

    Args:
        model: `SurgVistaModel`, `VideoMAEModel` or `VJEPA2Model`, or an image model with `pooler_output`, such as
            `ConvNextModel`; it is used in evaluation mode.
        processor: of the model.
        clips: with class labels; of one frame for an image model.
        pooling: for video, `"mean"` over all tokens; `"slices"`: over those of each slice, one after the other. A label
            belongs to the last frame of a clip, so time should not be lost where clips are long.
        batch_size: clips at a time.

    Returns:
        Features, labels and videos of all clips.
    """
    model.eval()
    is_video = takes_clips(model)
    if not is_video and clips.num_frames != 1:
        raise InputError(f"an image model sees single frames; the clips have {clips.num_frames}")
    values, labels, videos = [], [], []
    for batch in DataLoader(clips, batch_size=batch_size, collate_fn=collate_clips):
        pictures = list(batch["pixel_values"])
        found = _of_clips(model, processor, pictures, pooling) if is_video else _of_frames(model, processor, pictures)
        values.append(found.flatten(1).cpu().numpy())
        labels.append(batch["labels"].numpy())
        videos += [f"{source}/{video}" for source, video in zip(batch["source"], batch["video_id"], strict=True)]
    return Features(np.concatenate(values), np.concatenate(labels), np.array(videos))


def _of_clips(model: Any, processor: Any, clips: list[torch.Tensor], pooling: Pooling) -> torch.Tensor:
    """(B, slices, width)."""
    name = model.main_input_name
    extra = {"skip_predictor": True} if model.config.model_type == "vjepa2" else {}
    pixels = prepare_clips(processor, clips).to(model.device)
    tokens = model(**{name: pixels}, **extra).last_hidden_state.float()
    slices = pixels.shape[1] // model.config.tubelet_size if pooling == "slices" else 1
    means: torch.Tensor = tokens.unflatten(1, (slices, -1)).mean(dim=2)
    return means


def _of_frames(model: Any, processor: Any, clips: list[torch.Tensor]) -> torch.Tensor:
    """(B, width, …)."""
    pixels = processor([clip[0] for clip in clips], return_tensors="pt")["pixel_values"]
    pooled: torch.Tensor = model(pixels.to(model.device)).pooler_output.float()
    return pooled


def load_encoder(folder: str | Path) -> tuple[Any, Any]:
    """The encoder and the processor of a trained model.

    Raises:
        InputError: it cannot be loaded.
    """
    folder = folder_or_hub_name(folder)
    try:
        model: Any = AutoModel.from_pretrained(folder)
        kind: Any = AutoVideoProcessor if takes_clips(model) else AutoImageProcessor
        return model, kind.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} cannot be loaded: {error}{not_a_folder_either(folder)}") from error
