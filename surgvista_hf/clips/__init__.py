"""Frame sets to clips: index, sampling rules, decoding, balanced sampling, masks and crops."""

from .augmentation import MultiScaleCrop, normalize_clips
from .balance import ClusterBalancedSampler, ShuffledSampler, SourceBalancedSampler, temperature_weights
from .dataset import ClipDataset, collate_clips
from .index import ClipIndex, FrameSetError
from .masking import ClipMasking
from .randomness import keyed_generator
from .sampling import centred_indices, online_indices, uniform_indices
from .streaming import StreamingClipDataset, frames_from_webdataset

__all__ = [
    "ClipDataset",
    "ClipIndex",
    "ClipMasking",
    "ClusterBalancedSampler",
    "FrameSetError",
    "MultiScaleCrop",
    "ShuffledSampler",
    "SourceBalancedSampler",
    "StreamingClipDataset",
    "centred_indices",
    "collate_clips",
    "frames_from_webdataset",
    "keyed_generator",
    "normalize_clips",
    "online_indices",
    "temperature_weights",
    "uniform_indices",
]
