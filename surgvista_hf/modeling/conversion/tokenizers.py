"""The tokenizer of an image-text model: its checkpoint has none, so it is given, or found in the cache of the Hub."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging
from transformers.video_processing_utils import BaseVideoProcessor

from ...util.errors import InputError
from ...util.messages import first_line
from ..configuration_surgical_clip import SurgicalClipConfig
from ..processing_surgical_clip import SurgicalClipProcessor

logger = logging.get_logger(__name__)
_VOCABULARY = "vocab.txt"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class ImageProcessors:
    """The processors of an image-text model without those of texts.

    Args:
        image_processor: Prepares images.
        video_processor: Prepares clips.
    """

    image_processor: BaseImageProcessor
    video_processor: BaseVideoProcessor

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the files of both to a folder."""
        self.image_processor.save_pretrained(folder)
        self.video_processor.save_pretrained(folder)


def image_text_processor(
    processors: ImageProcessors, config: SurgicalClipConfig, name: str, given: str | Path | None
) -> SurgicalClipProcessor | ImageProcessors:
    """Return the processor that is saved with an image-text model. Nothing is downloaded.

    Args:
        processors: Those of images and clips.
        config: The configuration of the model.
        name: The tokenizer on the Hub that its authors use.
        given: A folder with a tokenizer, or a vocabulary (`vocab.txt`). By default the authors' from the Hub's cache.

    Returns:
        The whole processor, or, with a warning, those of images and clips where there is no tokenizer.

    Raises:
        InputError: No tokenizer is there, or it has another vocabulary than the text encoder.
    """
    found = given if given is not None else _cached_vocabulary(name)
    if found is None:
        logger.warning(
            "the checkpoint has no tokenizer, and %s is not in the cache of the Hub: images and clips can be prepared, texts "
            "cannot. Give its folder or its vocab.txt: tokenizer (--tokenizer FOLDER)",
            name,
        )
        return processors
    tokenizer = _load(Path(found).expanduser(), name)
    rows = config.text_config.vocab_size
    if len(tokenizer) != rows:
        raise InputError(
            f"the tokenizer {found} has {len(tokenizer)} tokens, the text encoder of this checkpoint {rows}: its authors use "
            f"{name}"
        )
    tokenizer.model_max_length = config.max_text_length
    return SurgicalClipProcessor(processors.image_processor, processors.video_processor, tokenizer)


def _cached_vocabulary(name: str) -> str | None:
    """Return the vocabulary of a tokenizer in the Hub's cache; the oldest repositories may lie there without their owner."""
    found = (try_to_load_from_cache(each, _VOCABULARY) for each in (name, name.rpartition("/")[2]))
    return next((file for file in found if isinstance(file, str)), None)


def _load(path: Path, name: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder, or that of a BERT with this vocabulary, which makes letters small."""
    if path.is_dir() and any((path / file).is_file() for file in _TOKENIZER_FILES):
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"the tokenizer in {path} cannot be loaded: {first_line(error)}") from error
        return tokenizer
    file = path / _VOCABULARY if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"there is no tokenizer at {path}: give a folder with that of {name} (tokenizer.json or {_VOCABULARY})"
        )
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no vocabulary: it is not text") from error
    missing = [word for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if word not in lines]
    if missing:
        raise InputError(f"{file} is no vocabulary of a BERT: it lacks {', '.join(missing)}")
    return BertTokenizer(vocab={word: number for number, word in enumerate(lines)})
