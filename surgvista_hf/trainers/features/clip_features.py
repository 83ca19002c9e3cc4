"""Features of the labeled clips of a frame set, from an encoder as it was trained: what probes are fitted to."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import AutoImageProcessor, AutoModel, AutoVideoProcessor, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.video_processing_utils import BaseVideoProcessor

from ...clips import ClipDataset, collate_clips
from ...evaluation.probes import Features
from ...modeling.errors_surgvista import folder_or_hub_name, not_a_folder_either
from ...modeling.features import FeatureExtractor, Pooling
from ...modeling.modeling_surgical_encoder import takes_clips
from ...modeling.processors import prepare_clips
from ...util.errors import InputError

Processor = BaseVideoProcessor | BaseImageProcessor


@torch.no_grad()
def extract_features(
    model: PreTrainedModel,
    processor: Processor,
    clips: ClipDataset,
    *,
    pooling: Pooling = "tubelets",
    batch_size: int = 32,
    num_workers: int = 0,
) -> Features:
    """Return one vector for each clip.

    Args:
        model: a video encoder such as `SurgVistaModel`, `VideoMAEModel` or `VJEPA2Model`, or an image encoder with
            `pooler_output` such as `ConvNextModel`. It is put into evaluation mode.
        processor: the model's own processor.
        clips: clips with class labels; an image encoder takes clips of one frame.
        pooling: pooling of the tokens of a clip, see `FeatureExtractor`. The label belongs to the last frame of a
            clip, so tubelets should be told apart where clips are long.
        batch_size: number of clips in one pass.
        num_workers: number of processes that read clips; 0: this one does.

    Returns:
        The features, labels and videos of all clips.

    Raises:
        InputError: clips of several frames for an image encoder.
    """
    model.eval()
    is_video = takes_clips(model)
    if not is_video and clips.num_frames != 1:
        raise InputError(f"an image model sees single frames; the clips have {clips.num_frames}")
    extractor = FeatureExtractor(model, pooling=pooling)
    values, labels, videos = [], [], []
    for batch in DataLoader(clips, batch_size=batch_size, collate_fn=collate_clips, num_workers=num_workers):
        frames = list(batch["pixel_values"])
        if is_video:
            pixels = prepare_clips(processor, frames)  # type: ignore[arg-type]  # that of a video model is for clips
        else:
            pixels = _prepare_images(processor, frames)
        values.append(extractor(pixels.to(model.device)).features.float().cpu().numpy())
        labels.append(batch["labels"].numpy())
        videos += [f"{source}/{video}" for source, video in zip(batch["source"], batch["video_id"], strict=True)]
    return Features(np.concatenate(values), np.concatenate(labels), np.array(videos))


def _prepare_images(processor: Processor, clips: list[torch.Tensor]) -> torch.Tensor:
    """Return the only frame of each clip as an image processor prepares it, (B, 1, channels, height, width)."""
    pixels: torch.Tensor = processor([clip[0] for clip in clips], return_tensors="pt")["pixel_values"]
    return pixels[:, None]


def load_encoder(folder: str | Path) -> tuple[PreTrainedModel, Processor]:
    """Load the encoder of a trained model and its processor.

    Args:
        folder: folder or Hub id of the model.

    Raises:
        InputError: one of them cannot be loaded.
    """
    folder = folder_or_hub_name(folder)
    try:
        model: PreTrainedModel = AutoModel.from_pretrained(folder)
        kind = AutoVideoProcessor if takes_clips(model) else AutoImageProcessor
        return model, kind.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} cannot be loaded: {error}{not_a_folder_either(folder)}") from error
