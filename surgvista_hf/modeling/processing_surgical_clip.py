"""Prepare images, clips and texts for SurgVLP and its relatives. This file travels with a checkpoint."""

import os
from typing import TYPE_CHECKING, Any, Self

from transformers import BatchEncoding, BatchFeature, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor
from transformers.processing_utils import ProcessorMixin

from .errors_surgvista import InputError, MissingTokenizerError, folder_or_hub_name

if TYPE_CHECKING:  # without torchvision there is none
    from transformers import BaseVideoProcessor


class SurgicalClipProcessor(ProcessorMixin):
    r"""Prepare images, clips and texts for a `SurgicalClipModel`.

    Texts are padded and cut to `max_length` tokens, 77 for the published models, as their authors' programs do.

    Args:
        image_processor: Makes `pixel_values` of images, (B, channels, height, width).
        video_processor: Makes `pixel_values` of clips, (B, frames, channels, height, width).
        tokenizer: Makes `input_ids` and `attention_mask` of texts.
        max_length: Number of tokens; by default the tokenizer's `model_max_length`.
    """

    _auto_class = "AutoProcessor"  # saving writes the code along: transformers has no such class

    def __init__(
        self,
        image_processor: BaseImageProcessor | None = None,
        video_processor: "BaseVideoProcessor | None" = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        chat_template: str | None = None,
        max_length: int | None = None,
    ) -> None:
        super().__init__(image_processor, video_processor, tokenizer, chat_template=chat_template)
        self.max_length = max_length or getattr(tokenizer, "model_max_length", None)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Self:
        """Load a processor as `ProcessorMixin.from_pretrained` does.

        Raises:
            MissingTokenizerError: The folder has no tokenizer.
        """
        name = folder_or_hub_name(pretrained_model_name_or_path)
        try:
            return super().from_pretrained(name, *args, **kwargs)
        except (OSError, ValueError, TypeError) as error:
            if "tokenizer" not in str(error).lower():
                raise
            raise MissingTokenizerError(
                f"{name} has no tokenizer, so texts cannot be prepared: give that of its text encoder when converting "
                "(surgvista convert --tokenizer FOLDER), or save one there (save_pretrained of AutoTokenizer). For images "
                "alone AutoImageProcessor is enough"
            ) from error

    def __call__(
        self,
        images: object = None,
        text: object = None,
        videos: object = None,
        return_tensors: str = "pt",
        **kwargs: Any,
    ) -> BatchFeature | BatchEncoding:
        """Prepare images or clips, texts, or both.

        Args:
            images: One image or several.
            text: One text or several.
            videos: One clip or several, each (frames, height, width, 3) or (frames, 3, height, width).
            return_tensors: `"pt"` for tensors of torch, `"np"` for arrays.
            kwargs: Options of the tokenizer, such as `padding`.

        Returns:
            `pixel_values` and, for texts, `input_ids`, `attention_mask` and `token_type_ids`.

        Raises:
            InputError: Nothing to prepare, or images and clips at once.
        """
        if images is not None and videos is not None:
            raise InputError("give images or videos, not both: a model takes one of them")
        if images is None and videos is None and text is None:
            raise InputError("give images, videos or text")
        if text is None:
            return self._see(images, videos, return_tensors)
        options = {"padding": "max_length", "truncation": True, "max_length": self.max_length, **kwargs}
        batch: BatchEncoding = self.tokenizer(text, return_tensors=return_tensors, **options)
        if images is not None or videos is not None:
            batch["pixel_values"] = self._see(images, videos, return_tensors)["pixel_values"]
        return batch

    def _see(self, images: object, videos: object, return_tensors: str) -> BatchFeature:
        """Prepare the images, or the clips if there are no images."""
        if videos is None:
            return self.image_processor(images=images, return_tensors=return_tensors)
        return self.video_processor(videos, return_tensors=return_tensors)
