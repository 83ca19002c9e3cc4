"""Turn frame sets into clips: index, sampling rules, decoding, balanced sampling, masks and crops."""

from .dataset import ClipDataset, collate_clips
from .sampling.balance import ClusterBalancedSampler, Draw, ShuffledSampler, SourceBalancedSampler, temperature_weights
from .sampling.frame_indices import centered_seconds, online_seconds, uniform_indices
from .sampling.index import ClipIndex, FrameSetError
from .sampling.randomness import keyed_generator
from .sampling.timeline import Timeline
from .streaming import StreamingClipDataset, frames_from_webdataset
from .transforms.augmentation import ClipCrop, MultiScaleCrop, RandomResizedCrop, normalize_clips
from .transforms.masking import BlockMasking, ClipMasking

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
    "centered_seconds",
    "collate_clips",
    "frames_from_webdataset",
    "keyed_generator",
    "normalize_clips",
    "online_seconds",
    "temperature_weights",
    "uniform_indices",
]
