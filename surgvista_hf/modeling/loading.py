"""Loading encoders and classifiers of clips of every family from their checkpoints, and what their parts are called.

SurgVISTA, VideoMAE and V-JEPA 2 have classifiers of their own. Any other encoder of transformers (ConvNeXt, ViT, DINO, …), and
attentive pooling over all of them, goes through `SurgicalEncoderForVideoClassification`.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoProcessor,
    AutoVideoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    VideoMAEForVideoClassification,
    VJEPA2ForVideoClassification,
)
from transformers.utils import logging
from transformers.video_processing_utils import BaseVideoProcessor

from ..util.errors import InputError, SurgVistaError
from ..util.messages import first_line, preview
from ..util.requirements import require
from .configuration_surgical_clip import SurgicalClipConfig
from .configuration_surgical_encoder import SurgicalEncoderConfig, input_size
from .configuration_surgvista import SurgVistaConfig
from .errors_surgvista import MissingTokenizerError, folder_or_hub_name, not_a_folder_either
from .modeling_surgical_clip import SurgicalClipModel
from .modeling_surgical_encoder import (
    SurgicalEncoderForVideoClassification,
    build_encoder,
    takes_clips,
    without_pooling_layer,
)
from .modeling_surgvista import SurgVistaForVideoClassification
from .processors import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    make_encoder_processor,
    make_processor,
    preparation_of,
    stride_in_use,
)

logger = logging.get_logger(__name__)

Start = str | Path | Mapping[str, Any]  # folder, Hub id, or the fields of a configuration
CLASSIFIERS: Mapping[str, type[PreTrainedModel]] = {
    "surgvista": SurgVistaForVideoClassification,
    "videomae": VideoMAEForVideoClassification,
    "vjepa2": VJEPA2ForVideoClassification,
    "surgical_encoder": SurgicalEncoderForVideoClassification,
}
_HEAD = re.compile(r"^(classifier|fc_norm|pooler|pooling)\b")  # parameters that are not the encoder's
_BLOCK = re.compile(r"^(.*?\.)?(?:stages\.(\d+)\.)?(?:layers?|blocks?)\.(\d+)\.")
_STAGE = re.compile(r"\bstages\.(\d+)\.")
_STAGE_CALLED_LAYER = re.compile(r"\blayers\.(\d+)\.(?=(blocks|downsample|patch_embedding|layer_norm)\.)")  # PVT, Swin
_OF_WRAPPER = ("classifier_dropout", "classifier_init_scale", "id2label", "label2id", "problem_type")
FRAME_STRIDE = 4  # seconds between two frames of a clip in SurgVISTA's and SurgRec's recipes
_SAME_SECONDS = 1e-6
_SAME_STEPS = 0.01
_FIRST_TOKEN_FAMILIES = ("vit", "dino", "deit", "beit", "clip_vision", "siglip_vision")


def load_classifier(
    start: Start,
    labels: Sequence[str],
    problem_type: str,
    *,
    num_frames: int | None = None,
    pooling: Literal["mean", "attentive"] | None = None,
    changes: Mapping[str, Any] | None = None,
    **loading: Any,
) -> PreTrainedModel:
    """Load a classifier of clips: the encoder of a checkpoint, and a head for these classes.

    Args:
        start: folder or Hub id of any encoder, pre-training model or classifier; or fields of a configuration with
            `model_type`, for a model without training.
        labels: names of the classes. A head that was trained for the same names is kept, any other made anew.
        problem_type: `"single_label_classification"` or `"multi_label_classification"`.
        num_frames: frames of a clip; by default the model's own, and 8 for image encoders.
        pooling: `"mean"`, or `"attentive"`: a learned query attends to the tokens; by default the model's own.
        changes: further fields of the model's configuration, such as `drop_path_rate`.
        loading: further arguments of `from_pretrained`, such as `quantization_config`.

    Returns:
        The classifier.

    Raises:
        InputError: the checkpoint cannot be loaded, lacks weights of the encoder, or has them in other shapes.

    Example:
        >>> fields = {"model_type": "surgvista", "image_size": 32, "num_frames": 2, "num_hidden_layers": 1}
        >>> load_classifier(fields, ["Preparation", "Dissection"], "single_label_classification").config.num_labels
        2
    """
    options = {**(changes or {}), **_labeled(labels, problem_type)}
    try:
        config = _configuration(start)
        if config.model_type in CLASSIFIERS and _pools_like(config, pooling):
            _set_length(config, num_frames)
            return _load_own(start, config, options, loading)
        return _load_any(start, config, num_frames, pooling or "mean", options, loading)
    except SurgVistaError:
        raise
    except (OSError, TypeError, ValueError, RuntimeError, ImportError) as error:
        other = "" if isinstance(start, Mapping) else not_a_folder_either(start)
        raise InputError(f"no classifier can be made of {start}: {first_line(error)}{other}") from error


def load_any_encoder(start: str | Path, num_frames: int | None = None) -> PreTrainedModel:
    """Load an encoder as it is, in a `SurgicalEncoderForVideoClassification` whose head means nothing.

    Args:
        start: folder or Hub id.
        num_frames: frames of a clip; by default the encoder's own, and 1 for image encoders.

    Raises:
        InputError: nothing can be loaded from there.
    """
    try:
        options = _labeled(("-", "+"), "single_label_classification")
        model = _load_any(start, _configuration(start), num_frames, "mean", options, {})
        if num_frames is None and not model.sees_clips:
            model.config.num_frames = 1
        return model
    except SurgVistaError:
        raise
    except (OSError, TypeError, ValueError, RuntimeError, ImportError) as error:
        other = not_a_folder_either(start)
        raise InputError(f"no encoder can be loaded from {start}: {first_line(error)}{other}") from error


def make_classifier_processor(
    model: PreTrainedModel,
    start: Start | PreTrainedModel,
    frame_stride: float | None = None,
    sampling: str = "online",
    *,
    keep_geometry: bool = False,
) -> BaseVideoProcessor:
    """Return the processor that is saved with a classifier.

    It squeezes frames to the classifier's size and normalizes them as its encoder was trained. It is the package's own for
    SurgVISTA's classifier and transformers' for all others, see `processors`, except where the encoder was trained on pixels
    that transformers' cannot make (blue first, resized without antialiasing or bicubically).

    Args:
        model: the classifier.
        start: the checkpoint it came from, whose mean and deviation are kept.
        frame_stride: seconds between two frames of a clip; by default the checkpoint's, or 4. Random strides of training
            become 1 in use.
        sampling: rule by which the clips of training were chosen, such as `"online"` or `"uniform"`.
        keep_geometry: whether to resize and crop as the encoder's own processor does, for an encoder that is used as it is.
    """
    own = None
    if not isinstance(start, Mapping):
        try:
            own = _stored_processor(str(start))
        except (OSError, ValueError, KeyError):
            logger.warning("%s has no processor; frames are normalized with ImageNet's mean and deviation", start)
    mean, std = normalization(own) or (IMAGENET_MEAN, IMAGENET_STD)
    if frame_stride is None:
        frame_stride = stored_frame_stride(model.config, own) or FRAME_STRIDE
    kind, size = model.config.model_type, frame_size(model.config)
    if kind == SurgicalEncoderConfig.model_type and not keep_geometry:
        size = (size[0], size[0])  # training cuts squares
    is_converted = hasattr(getattr(model.config, "encoder_config", model.config), "converted_from")
    special = preparation_of(own if is_converted else None, size, keep_geometry=keep_geometry)
    make = make_encoder_processor if special and kind != SurgVistaConfig.model_type else make_processor
    return make(
        kind,
        size,
        clip_length(model.config),
        mean=mean,
        std=std,
        frame_stride=stride_in_use(frame_stride),
        frame_sampling="uniform" if sampling.startswith("uniform") else "online",
        **(special if make is make_encoder_processor else {}),
    )


def _stored_processor(start: str) -> object:
    """Return the processor of a checkpoint, that of clips where it has several."""
    try:
        own = AutoProcessor.from_pretrained(start)
    except MissingTokenizerError:  # an image-text model of whose texts nobody speaks here
        return AutoVideoProcessor.from_pretrained(start)
    return getattr(own, "video_processor", own)


def stored_frame_stride(config: PreTrainedConfig, processor: object = None) -> float | None:
    """Return how many seconds apart the frames of a clip are, as a model's configuration and its processor say.

    Stock families keep it in the configuration only, where it is a field that transformers passes over.

    Args:
        config: configuration of the model.
        processor: processor of the model, if it has one.

    Returns:
        Seconds, or `None` where neither says it, or where clips are spread over whole videos.

    Raises:
        InputError: the two contradict each other, or one holds no positive number.
    """
    stored: dict[str, float] = {}
    # The stride of a processor that spreads clips over whole videos has no meaning.
    own = {"configuration": config, "processor": processor if _samples_online(processor) else None}
    for where, each in own.items():
        inner = getattr(each, "encoder_config", None)
        value = getattr(each, "frame_stride", getattr(inner, "frame_stride", None))
        if value is not None:
            stored[where] = checked_frame_stride(value, f"frame_stride of the model's {where}")
    if len(stored) == 2 and abs(stored["configuration"] - stored["processor"]) > _SAME_SECONDS:
        raise InputError(
            f"the model's configuration says that the frames of a clip are {stored['configuration']:g} s apart, its processor "
            f"{stored['processor']:g} s: make frame_stride the same in config.json and the processor's file"
        )
    return next(iter(stored.values()), None)


def resolve_frame_stride(
    config: PreTrainedConfig,
    processor: object,
    requested: float | None = None,
    *,
    source: str = "the model",
    encoder: bool = False,
) -> float:
    """Return the seconds between two frames of a clip with which a model is used, and warn where they are a guess.

    Args:
        config, processor: configuration and processor of the model.
        requested: spacing that the user wants; needed where neither of them knows it.
        source: name of the model, for messages.
        encoder: the model is no classifier: another spacing than that of its training is a remark, not an error.

    Raises:
        InputError: the user wants another spacing than the model was trained with.
    """
    stored = stored_frame_stride(config, processor)
    if requested is not None:
        requested = checked_frame_stride(requested, "frame_stride")
    if requested is not None and stored is not None and abs(requested - stored) > _SAME_SECONDS:
        text = f"{source} was trained on clips with frames {stored:g} s apart; frame_stride {requested:g} is another spacing"
        if not encoder:
            raise InputError(f"{text}. Leave it out, or fine-tune the model with it")
        logger.warning("%s", text)
    if requested is None and stored is None and clip_length(config) > 1:
        logger.warning(
            "%s does not say how far apart the frames of its clips are: frame_stride %g s is taken, which is a guess. Say "
            "what it was trained with: frame_stride (--frame-stride SECONDS)",
            source,
            FRAME_STRIDE,
        )
    return requested or stored or FRAME_STRIDE


def checked_frame_stride(value: object, name: str) -> float:
    """Return `value`, if it can be a spacing in seconds.

    Raises:
        InputError: `value` is no positive number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"{name} is {value!r}; it must be a positive number of seconds")
    return value


def note_frame_stride(config: PreTrainedConfig, frame_stride: float | None, source: str = "the encoder") -> None:
    """Keep the spacing of a model's clips in its configuration, so that it is known with any processor.

    Another spacing than the one that the configuration held before is legitimate in training; a warning says so.

    Args:
        config: configuration of the model that is trained.
        frame_stride: seconds between two frames of its clips; `None` where these are spread over whole videos.
        source: name of the checkpoint that it was trained from, for the warning.
    """
    if clip_length(config) == 1:
        return
    if frame_stride is None:
        config.frame_stride = None
        return
    used, inner = stride_in_use(frame_stride), getattr(config, "encoder_config", None)
    before = getattr(config, "frame_stride", None) or getattr(inner, "frame_stride", None)
    if isinstance(before, int | float) and abs(before - used) > _SAME_SECONDS:
        logger.warning(
            "%s was trained on clips whose frames are %g s apart; now they are %g s apart", source, before, used
        )
    config.frame_stride = used


def note_frame_interval(
    config: PreTrainedConfig, processor: object, frame_stride: float, interval: float | None
) -> None:
    """Keep the spacing of the frame set, where the stride is no whole number of it, in configuration and processor.

    The clips of such a set hold the frames that it has at their moments, so predictions must use the same.
    """
    steps = stride_in_use(frame_stride) / interval if interval else 1.0
    is_even = clip_length(config) == 1 or abs(steps - round(steps)) < _SAME_STEPS * max(steps, 1)
    for each in (config, processor):
        if not is_even or getattr(each, "frame_interval", None) is not None:
            setattr(each, "frame_interval", None if is_even else interval)  # noqa: B010  # a processor declares no such field


def stored_frame_interval(config: PreTrainedConfig, processor: object = None) -> float | None:
    """Return the seconds between the frames of a model's frame set, where they matter; see `note_frame_interval`."""
    return getattr(processor, "frame_interval", None) or getattr(config, "frame_interval", None)


def _samples_online(processor: object) -> bool:
    return getattr(processor, "frame_sampling", None) in (None, "online")


def normalization(processor: object) -> tuple[Sequence[float], Sequence[float]] | None:
    """Return mean and standard deviation of a processor, also of timm's; `None` where it has none."""
    timm = getattr(processor, "data_config", None) or {}
    mean = getattr(processor, "image_mean", None) or timm.get("mean")
    std = getattr(processor, "image_std", None) or timm.get("std")
    return (mean, std) if mean and std else None


def class_names(config: PreTrainedConfig) -> list[str]:
    """Return the names of the classes, in order of their numbers."""
    names = cast(Mapping[int, str], config.id2label)
    return [names[number] for number in range(len(names))]


def clip_length(config: PreTrainedConfig) -> int:
    """Return the number of frames in a clip, by whichever name the configuration has for it; 1 for an image model."""
    frames: int = getattr(config, "num_frames", 0) or getattr(config, "frames_per_clip", 1)
    return int(frames)


def frame_size(config: PreTrainedConfig) -> tuple[int, int]:
    """Return height and width of a frame, in pixels."""
    return input_size(config)


def is_head(name: str) -> bool:
    """Return whether a parameter or module belongs to the head and not to the encoder.

    Example:
        >>> is_head("classifier.weight"), is_head("videomae.encoder.layer.0.output.dense.weight")
        (True, False)
    """
    return bool(_HEAD.match(name))


def layer_numbers(names: Sequence[str]) -> dict[str, int]:
    """Number the layer of each parameter: embeddings 0, then the blocks in order, and everything after them one more.

    Layer-wise learning rates decay by these numbers. Blocks are found by their names, `…layers.3.…`, `…stages.1.blocks.0.…`;
    what a stage does before its blocks belongs to its first, what it does after them to its last, and what the first stage
    does before any block to the embeddings.

    Example:
        >>> list(layer_numbers(["e.patch.weight", "e.layers.0.w", "e.layers.1.w", "classifier.weight"]).values())
        [0, 1, 2, 3]
    """
    plain = [_STAGE_CALLED_LAYER.sub(r"stages.\1.", name.removeprefix("base_model.model.")) for name in names]
    blocks = [_block(name) for name in plain]
    order = {block: index + 1 for index, block in enumerate(sorted({block for block in blocks if block is not None}))}
    first_of_stage = {stage: number for (stage, _), number in sorted(order.items(), reverse=True)}
    numbers: dict[str, int] = {}
    reached: dict[int, int] = {}  # stage -> its last block so far
    begun = False
    for name, short, block in zip(names, plain, blocks, strict=True):
        stage = _STAGE.search(short)
        begun = begun or block is not None
        if block is not None:
            numbers[name] = reached[block[0]] = order[block]
        elif stage and not is_head(short):
            before = first_of_stage.get(int(stage[1]), 0) if begun else 0
            numbers[name] = reached.get(int(stage[1]), before)
        else:
            numbers[name] = len(order) + 1 if begun or is_head(short) else 0
    return numbers


def _block(name: str) -> tuple[int, int] | None:
    if is_head(name) or ".predictor." in name:
        return None
    found = _BLOCK.match(name)
    return (int(found[2] or 0), int(found[3])) if found else None


# ------------------------------------------------------------------------------------------- loading


def _labeled(labels: Sequence[str], problem_type: str) -> dict[str, Any]:
    names = dict(enumerate(labels))
    return {"id2label": names, "label2id": {name: i for i, name in names.items()}, "problem_type": problem_type}


def _configuration(start: Start) -> PreTrainedConfig:
    if isinstance(start, Mapping):
        fields = dict(start)
        config = AutoConfig.for_model(fields.pop("model_type", "surgvista"), **fields)
    else:
        config = AutoConfig.from_pretrained(folder_or_hub_name(start))
        for each in (config, getattr(config, "encoder_config", None)):
            vars(each).pop("auto_map", None) if each is not None else None  # the code does not travel on by itself
    encoder = getattr(config, "encoder_config", config)
    if getattr(encoder, "model_type", None) == "timm_wrapper":
        require("timm")
    return config


def _set_length(config: PreTrainedConfig, num_frames: int | None) -> None:
    if num_frames is not None:
        setattr(config, "frames_per_clip" if config.model_type == "vjepa2" else "num_frames", num_frames)
    if config.model_type == "vjepa2":
        config.num_frames = config.frames_per_clip  # `pipeline("video-classification")` asks for it under this name


def _load_own(
    start: Start, config: PreTrainedConfig, options: dict[str, Any], loading: Mapping[str, Any]
) -> PreTrainedModel:
    kind: Any = CLASSIFIERS[config.model_type]
    before = None if isinstance(start, Mapping) else list((config.id2label or {}).values())
    if config.model_type == "videomae" and not isinstance(start, Mapping) and not _is_classifier(config):
        config.use_mean_pooling = True  # VideoMAE is pre-trained without and fine-tuned with it
    _changed(config, options)
    if isinstance(start, Mapping):
        return _without_loss_kwargs(_without_predictor(kind(config)))
    model, info = kind.from_pretrained(
        str(start), config=config, ignore_mismatched_sizes=True, output_loading_info=True, **loading
    )
    _check_loaded(start, info)
    fresh = {name.partition(".")[0] for name in info["missing_keys"]}
    fresh |= {str(entry[0]).partition(".")[0] for entry in info["mismatched_keys"]}
    if "classifier" not in fresh and before != list(options["id2label"].values()):
        _renew(model)
        fresh.add("classifier")
    if fresh:
        logger.info(
            "%s: the encoder is loaded; new and untrained: %s for %d classes",
            start,
            ", ".join(sorted(fresh)),
            len(options["id2label"]),
        )
    return _without_loss_kwargs(_without_predictor(model))


def _pools_like(config: PreTrainedConfig, pooling: str | None) -> bool:
    """Return whether a model's own classifier pools as requested, so that a trained one is kept."""
    own = config.pooling if config.model_type == SurgicalEncoderConfig.model_type else "mean"
    return pooling in (None, own)


def _is_classifier(config: PreTrainedConfig) -> bool:
    return any(name.endswith("ForVideoClassification") for name in config.architectures or ())


def _without_loss_kwargs(model: PreTrainedModel) -> PreTrainedModel:
    """Let the stock Trainer divide accumulated losses itself, where transformers' own class ignores the number of labels.

    `VJEPA2ForVideoClassification` does not pass the number of labels on, and transformers' loss for several labels does
    not read it: with gradient accumulation over 4 batches the weights would move 4 times as far.
    """
    own = isinstance(model, SurgVistaForVideoClassification | SurgicalEncoderForVideoClassification)
    if not own and (model.config.model_type == "vjepa2" or model.config.problem_type != "single_label_classification"):
        model.accepts_loss_kwargs = False  # type: ignore[assignment]  # a plain attribute, which the Trainer reads
    return model


def _check_loaded(start: Start, info: Mapping[str, Any]) -> None:
    lacking = [name for name in info["missing_keys"] if not is_head(name)]
    if lacking:
        raise InputError(
            f"{start} lacks {len(lacking)} weights of the encoder: {preview(sorted(lacking))}. It is no checkpoint of this "
            "architecture; convert it first (surgvista convert)"
        )
    wrong = [entry for entry in info["mismatched_keys"] if not is_head(str(entry[0]))]
    if wrong:
        raise InputError(
            f"{start} has weights of other shapes than its configuration says: {preview([str(entry) for entry in wrong])}"
        )


def _renew(model: Any) -> None:
    """Initialize the head again, for other classes that happen to be as many."""
    old = model.classifier
    new = nn.Linear(old.in_features, old.out_features)
    new.init_scheme = getattr(old, "init_scheme", None)  # type: ignore[assignment]
    model._init_weights(new)
    with torch.no_grad():
        old.weight.copy_(new.weight)
        old.bias.copy_(new.bias)


def _without_predictor(model: PreTrainedModel) -> PreTrainedModel:
    """Freeze V-JEPA 2's predictor, which has no part in classification."""
    for name, parameter in model.named_parameters():
        if ".predictor." in name:
            parameter.requires_grad_(False)
    return model


def _load_any(
    start: Start,
    config: PreTrainedConfig,
    num_frames: int | None,
    pooling: Literal["mean", "attentive"],
    options: dict[str, Any],
    loading: Mapping[str, Any],
) -> SurgicalEncoderForVideoClassification:
    own = {name: options.pop(name) for name in list(options) if name in _OF_WRAPPER}
    seen = config.vision_config if config.model_type == SurgicalClipConfig.model_type else config
    _changed(seen, options)
    encoder = _load_encoder(start, config, loading)
    video = takes_clips(encoder)
    whole = SurgicalEncoderConfig(
        encoder_config=encoder.config,
        num_frames=num_frames or (clip_length(encoder.config) if video else 8),
        pooling=pooling,
        frame_feature=getattr(encoder.config, "frame_feature", None) or _frame_feature(encoder.config.model_type),
        attentive_heads=_num_heads(encoder.config),
        **own,
    )
    model = SurgicalEncoderForVideoClassification(whole)
    model.encoder = encoder
    logger.info("%s: the encoder is loaded; new and untrained: head for %d classes", start, whole.num_labels)
    _without_predictor(model)
    return model


def _num_heads(config: PreTrainedConfig) -> int:
    heads = getattr(config, "num_attention_heads", 8)
    return int(heads[-1] if isinstance(heads, (list, tuple)) else heads)


def _load_encoder(start: Start, config: PreTrainedConfig, loading: Mapping[str, Any]) -> PreTrainedModel:
    if isinstance(start, Mapping):
        return build_encoder(config)
    if config.model_type == SurgicalEncoderConfig.model_type:
        return SurgicalEncoderForVideoClassification.from_pretrained(str(start), **loading).encoder
    if config.model_type == SurgicalClipConfig.model_type:
        return _vision_encoder(SurgicalClipModel.from_pretrained(str(start), config=config, **loading))
    if config.model_type == "surgvista" and _is_classifier(config):
        config.final_norm = False  # there is none in the file: the recipe normalizes after pooling
    encoder, info = AutoModel.from_pretrained(
        str(start), config=config, output_loading_info=True, **without_pooling_layer(config), **loading
    )
    _check_loaded(start, info)
    return cast(PreTrainedModel, encoder)


def _vision_encoder(model: SurgicalClipModel) -> PreTrainedModel:
    """Return the encoder of images or clips of an image-text model; it remembers where its weights came from."""
    encoder = model.vision_model
    for name in ("converted_from", "converted_file", "frame_stride"):
        if hasattr(model.config, name):
            setattr(encoder.config, name, getattr(model.config, name))
    return encoder


def _changed(config: PreTrainedConfig, changes: Mapping[str, Any]) -> PreTrainedConfig:
    for name, value in changes.items():
        if not hasattr(config, name):
            raise InputError(f"the configuration of {config.model_type} has no {name}")
        setattr(config, name, value)
    return config


def _frame_feature(model_type: str) -> Literal["pooler", "first", "mean"]:
    if model_type.startswith(("convnext", "resnet", "regnet", "swin", "timm_wrapper")):
        return "pooler"
    return "first" if model_type.startswith(_FIRST_TOKEN_FAMILIES) else "mean"
