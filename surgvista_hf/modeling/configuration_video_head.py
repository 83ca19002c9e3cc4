"""Configuration of the head that judges a video as a whole from the features of its frames (after LemonFM-Vid)."""

from typing import Any, Literal, get_args

from transformers import PreTrainedConfig

from .errors_surgvista import InputError

FramePooling = Literal["typicality", "mean"]


class VideoHeadConfig(PreTrainedConfig):
    r"""Sizes and options of `VideoHeadForClassification`.

    LemonFM-Vid (arXiv 2503.19740) weighs frames by their typicality and puts a perceptron on top. How many neighbors it takes
    and how large the perceptron is are not published: the defaults are ours.

    Args:
        input_size: width of the features.
        hidden_size: width of the hidden layer; 0: a linear classifier.
        pooling: `"typicality"` or `"mean"` of the frames.
        num_neighbors: nearest frames of the same video that the typicality of a frame is measured by.
        smallest_distance: mean cosine distance below which frames count as equally typical; without it the weight of frames
            that repeat (a frozen image) would be without bounds.
        dropout: dropout rate of the hidden layer.
        kwargs: fields of every configuration, such as `num_labels`.

    Raises:
        InputError: sizes that no head has.

    Example:
        >>> VideoHeadConfig(num_labels=35).pooling
        'typicality'
    """

    model_type = "video_head"

    def __init__(
        self,
        input_size: int = 1536,
        hidden_size: int = 512,
        pooling: FramePooling = "typicality",
        num_neighbors: int = 10,
        smallest_distance: float = 1e-3,
        dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.pooling = pooling
        self.num_neighbors = num_neighbors
        self.smallest_distance = smallest_distance
        self.dropout = dropout
        super().__init__(**kwargs)
        if pooling not in get_args(FramePooling):
            raise InputError(f"pooling is {pooling!r}; it must be one of {', '.join(get_args(FramePooling))}")
        if not 0 <= dropout < 1 or hidden_size > 2**20:
            raise InputError(
                f"dropout is {dropout} and hidden_size {hidden_size}; at least 0 and below 1, and at most 1048576 are expected"
            )
        if min(input_size, num_neighbors) < 1 or hidden_size < 0 or smallest_distance <= 0:
            raise InputError(
                "input_size and num_neighbors must be at least 1, hidden_size at least 0, smallest_distance above 0"
            )
