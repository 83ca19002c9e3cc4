"""Frame sets to clips: index, sampling rules, decoding, balanced sampling, masks and crops."""

from .augmentation import ClipCrop, MultiScaleCrop, RandomResizedCrop, normalize_clips
from .balance import ClusterBalancedSampler, Draw, ShuffledSampler, SourceBalancedSampler, temperature_weights
from .dataset import ClipDataset, collate_clips
from .index import ClipIndex, FrameSetError
from .masking import BlockMasking, ClipMasking
from .randomness import keyed_generator
from .sampling import centred_seconds, online_seconds, uniform_indices
from .streaming import StreamingClipDataset, frames_from_webdataset
from .timeline import Timeline

__all__ = [
    "BlockMasking",
    "ClipCrop",
    "ClipDataset",
    "ClipIndex",
    "ClipMasking",
    "ClusterBalancedSampler",
    "Draw",
    "FrameSetError",
    "MultiScaleCrop",
    "RandomResizedCrop",
    "ShuffledSampler",
    "SourceBalancedSampler",
    "StreamingClipDataset",
    "Timeline",
    "centred_seconds",
    "collate_clips",
    "frames_from_webdataset",
    "keyed_generator",
    "normalize_clips",
    "online_seconds",
    "temperature_weights",
    "uniform_indices",
]
