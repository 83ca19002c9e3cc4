"""Original checkpoints to Hugging Face folders, and back; `formats` holds one file for each family of checkpoints."""

from .convert import ConversionReport, convert_checkpoint, family_named, restore_checkpoint
from .formats import FAMILIES
from .reading import CheckpointError

__all__ = [
    "FAMILIES",
    "CheckpointError",
    "ConversionReport",
    "convert_checkpoint",
    "family_named",
    "restore_checkpoint",
]
