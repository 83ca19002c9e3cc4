"""Pictures of what a model reconstructs, while it is trained and afterwards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import TrainerCallback

from ...clips import ClipDataset, ClipMasking
from ...datasets_scripts.frame_sets.load import load_frame_set
from ...evaluation.metrics.reconstruction import Reconstruction, draw_reconstruction
from ...modeling.errors_surgvista import folder_or_hub_name, not_a_folder_either
from ...modeling.loading import resolve_frame_stride
from ...modeling.modeling_surgvista import SurgVistaForPreTraining
from ...modeling.processors import make_surgvista_processor
from ...util.errors import InputError

FOLDER = "pictures"


@torch.no_grad()
def reconstruct(
    models: Mapping[str, SurgVistaForPreTraining], pixel_values: torch.Tensor, bool_masked_pos: torch.Tensor
) -> Reconstruction:
    """Let models paint the hidden part of one clip.

    Models that predict normalized patches get the true mean and deviation of each patch back, as is usual.

    Args:
        models: by the names that the figure gives them; all take the same clips.
        pixel_values: normalized frames (1, frames, 3, height, width).
        bool_masked_pos: (1, tokens), True where a token is hidden.

    Raises:
        InputError: models of different patches, or none.
    """
    if len({(m.config.patch_size, m.config.tubelet_size) for m in models.values()}) != 1:
        raise InputError("the models of one figure must cut clips into the same patches")
    first = next(iter(models.values()))
    mean, std = (torch.tensor(values)[:, None, None] for values in (first.config.image_mean, first.config.image_std))

    def pixels(clip: torch.Tensor) -> Any:
        return (clip[0].float().cpu() * std + mean).permute(0, 2, 3, 1).numpy()

    reconstructed = {}
    for name, model in models.items():
        was_training = model.training
        clip = pixel_values.to(model.device)
        reconstructed[name] = pixels(model.eval().reconstruct(clip, bool_masked_pos.to(model.device)))
        model.train(was_training)
    tubelet, patch = first.config.tubelet_size, first.config.patch_size
    tokens = bool_masked_pos.cpu().bool().view(first.surgvista.token_grid(pixel_values))
    hidden = tokens.repeat_interleave(tubelet, 0).repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    return Reconstruction(pixels(pixel_values), hidden.numpy(), reconstructed, patch)


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
    """Let saved models paint a clip of a frame set, all behind the same mask.

    Args:
        models: folders or Hub ids.
        data, data_dir, split: see `load_frame_set`.
        clip: its number.
        frame_stride: seconds between two frames of the clip, where the models do not say it.
        seed: of the mask, whose ratio and type are the first model's.

    Raises:
        InputError: no such clip, or models that cannot be loaded or do not go together.
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
        model, info = SurgVistaForPreTraining.from_pretrained(name, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be loaded: {error}{not_a_folder_either(name)}") from error
    if any(key.startswith("video_decoder.") for key in info["missing_keys"]):
        raise InputError(f"{name} is no pre-trained SurgVISTA model: it has no pixel decoder")
    return cast(SurgVistaForPreTraining, model)


class PictureCallback(TrainerCallback):
    """Every so many steps writes `pictures/step_….png` beside the run, of one clip and mask, and shows it to TensorBoard.

    Args:
        trainer: gives the clip with `sample()`.
        steps: between two pictures.
    """

    def __init__(self, trainer: Any, steps: int) -> None:
        self.trainer, self.steps = trainer, steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.steps or not state.is_world_process_zero:
            return
        pixel_values, mask = self.trainer.sample()
        reconstruction = reconstruct({"reconstruction": self.trainer.student}, pixel_values, mask)
        folder = Path(args.output_dir) / FOLDER
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
