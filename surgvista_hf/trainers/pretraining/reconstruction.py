"""Images of the frames that a model reconstructs, drawn during training and afterwards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler

from ...clips import ClipDataset, ClipMasking
from ...datasets_scripts.frame_sets.load import load_frame_set
from ...evaluation.metrics.reconstruction import Reconstruction, draw_reconstruction
from ...modeling.errors_surgvista import folder_or_hub_name, not_a_folder_either
from ...modeling.loading import resolve_frame_stride
from ...modeling.modeling_surgvista import SurgVistaForPreTraining
from ...modeling.processors import make_surgvista_processor
from ...util.errors import InputError

FOLDER = "reconstructions"


@torch.no_grad()
def reconstruct(
    models: Mapping[str, SurgVistaForPreTraining], pixel_values: torch.Tensor, bool_masked_pos: torch.Tensor
) -> Reconstruction:
    """Reconstruct the masked part of one clip with each of several models.

    For models that predict normalized patches, the true mean and deviation of each patch are restored, as is usual.

    Args:
        models: models by the names that a figure gives them; all take the same clips.
        pixel_values: normalized clip, (1, frames, 3, height, width).
        bool_masked_pos: mask, (1, tokens), `True` where a token is masked.

    Raises:
        InputError: there is no model, or the models cut clips into different patches.
    """
    if len({(m.config.patch_size, m.config.tubelet_size) for m in models.values()}) != 1:
        raise InputError("the models of one figure must cut clips into the same patches")
    first = next(iter(models.values()))
    mean, std = (torch.tensor(values)[:, None, None] for values in (first.config.image_mean, first.config.image_std))

    def pixels(clip: torch.Tensor) -> np.ndarray:
        """Return a clip (1, frames, 3, height, width) without its normalization, (frames, height, width, 3)."""
        return (clip[0].float().cpu() * std + mean).permute(0, 2, 3, 1).numpy()

    reconstructed = {}
    for name, model in models.items():
        was_training = model.training
        clip = pixel_values.to(model.device)
        reconstructed[name] = pixels(model.eval().reconstruct(clip, bool_masked_pos.to(model.device)))
        model.train(was_training)
    tubelet, patch = first.config.tubelet_size, first.config.patch_size
    # (tubelets, rows, columns) of tokens -> (frames, height, width) of pixels
    tokens = bool_masked_pos.cpu().bool().view(first.surgvista.token_grid(pixel_values))
    masked = tokens.repeat_interleave(tubelet, 0).repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    return Reconstruction(pixels(pixel_values), masked.numpy(), reconstructed, patch)


def reconstruct_clip(
    models: Sequence[str | Path],
    data: str,
    data_dir: Path,
    split: str,
    *,
    clip: int = 0,
    frame_stride: float | None = None,
    seed: int = 0,
) -> Reconstruction:
    """Reconstruct a clip of a frame set with saved models, all with the same mask.

    Args:
        models: folders or Hub ids.
        data: name of the data set.
        data_dir: folder of the frame set.
        split: split of the data set.
        clip: number of the clip in the split, from 0.
        frame_stride: seconds between two frames of the clip, needed where the models do not store it.
        seed: seed of the mask, whose ratio and type are those of the first model.

    Raises:
        InputError: there is no such clip, or the models cannot be loaded or take different clips.
    """
    loaded = {str(name): _load(name) for name in models}
    config = next(iter(loaded.values())).config
    strides = {resolve_frame_stride(model.config, None, frame_stride, source=name) for name, model in loaded.items()}
    if len(strides) > 1:
        raise InputError(
            f"the models were trained on clips of different spacing: {sorted(strides)} seconds between frames"
        )
    frame_stride = strides.pop()
    clips = ClipDataset(load_frame_set(data, data_dir, split), num_frames=config.num_frames, frame_stride=frame_stride)
    if not 0 <= clip < len(clips):
        raise InputError(f"there is no clip {clip}: the split {split} of {data} has {len(clips)}")
    pixels = make_surgvista_processor(config, frame_stride)([clips[clip]["pixel_values"]], return_tensors="pt")
    grid = config.token_grid(config.num_frames, *config.frame_size)
    mask = ClipMasking(grid, config.mask_ratio, config.mask_type, seed)(0, [clip])
    return reconstruct(loaded, pixels["pixel_values"], **mask)


def _load(name: str | Path) -> SurgVistaForPreTraining:
    name = folder_or_hub_name(name)
    try:
        loaded: Any = SurgVistaForPreTraining.from_pretrained(name, output_loading_info=True)
        model, info = loaded
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be loaded: {error}{not_a_folder_either(name)}") from error
    if any(key.startswith("video_decoder.") for key in info["missing_keys"]):
        raise InputError(f"{name} is no pre-trained SurgVISTA model: it has no pixel decoder")
    return cast(SurgVistaForPreTraining, model)


class ReconstructingTrainer(Protocol):
    """Describe a trainer whose model reconstructs clips."""

    student: SurgVistaForPreTraining
    callback_handler: CallbackHandler

    def sample(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a normalized clip (1, frames, 3, height, width) and its mask (1, tokens)."""


class ReconstructionCallback(TrainerCallback):
    """Draws the same clip with the same mask every `steps` steps.

    The images are written to `reconstructions/step_….png` in the run's folder, and to TensorBoard if the run reports to it.

    Args:
        trainer: trainer that provides the clip with `sample()`.
        steps: number of steps between two images.
    """

    def __init__(self, trainer: ReconstructingTrainer, steps: int) -> None:
        self.trainer, self.steps = trainer, steps

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Draw the clip if it is due, in the main process."""
        if state.global_step % self.steps or not state.is_world_process_zero:
            return
        pixel_values, mask = self.trainer.sample()
        reconstruction = reconstruct({"reconstruction": self.trainer.student}, pixel_values, mask)
        folder = Path(str(args.output_dir)) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"step_{state.global_step:07d}.png"
        draw_reconstruction(reconstruction, path)
        self._report(path, state.global_step)

    def _report(self, path: Path, step: int) -> None:
        import matplotlib.image

        for callback in self.trainer.callback_handler.callbacks:
            writer = getattr(callback, "tb_writer", None)
            if writer is not None:
                writer.add_image("reconstruction", matplotlib.image.imread(path)[..., :3], step, dataformats="HWC")
