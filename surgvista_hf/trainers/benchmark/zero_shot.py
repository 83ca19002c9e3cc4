"""Image-text models evaluated on clips without any training: the zero-shot protocol of SurgRec (arXiv 2603.29966).

A model is given one image a clip, the middle frame (in a phase task the labeled frame itself). A generative model is shown the
classes as lettered options and answers greedily; a contrastive one (CLIP, SigLIP, SurgVLP) compares the image with sentences
for each class. A contrastive model can also be given clips: a video model (SurgCLIP) sees their frames together, an image
model one by one, and the cosines of a clip are averaged. Action triplets, several at once, are for contrastive models.
The prompts have the meaning of the published ones but not their wording, so answers of a model may differ from theirs.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ...clips import ClipDataset
from ...datasets_scripts.frame_sets.fingerprints import frames_fingerprint
from ...evaluation.tasks import ClipPredictions, Task
from ...evaluation.zero_shot_answers import READINGS, answer_metrics, option_letters, prompt_sensitivity, spoken
from ...modeling.adapters import Parameters, count_parameters
from ...modeling.errors_surgvista import folder_or_hub_name, not_a_folder_either
from ...modeling.precision import resolve_dtype
from ...modeling.processors import prepare_clips
from ...util.console import progress_bar
from ...util.errors import InputError, SurgVistaError
from ...util.executors import Executor, Ray, check_executor, run_over
from ...util.files import at_work, atomic_file, check_settings, write_json
from ...util.fingerprint import weights_fingerprint
from ...util.messages import did_you_mean, first_line, preview
from ...util.values import PositiveAmount, PositiveCount, check_fields
from ..common.frame_sets import load_named
from ..common.identity import name_of, without_paths
from ..common.protocols import Sample
from ..finetune import load_splits, task_of
from ..finetuning.recipe import LabeledData
from .class_descriptions import check_descriptions, descriptions

ModelKind = Literal["generate", "contrast"]
QUESTIONS = {
    "baseline": "You classify medical videos. The picture is one frame of a short clip. Which option fits the clip?\n"
    "{options}\n"
    "Choose exactly one and answer with its letter or its exact name, nothing else.",
    "stability_v1": "You are an expert at classifying frames of surgical and endoscopic video. The picture is one frame of a "
    "short clip. Which option fits the clip?\n"
    "{options}\n"
    "Choose exactly one. Your whole answer must be a single token: the letter of the option.",
}
SENTENCES = {
    "name": ("{name}",),
    "surgical": (
        "a frame of a surgical video that shows {name}",
        "an endoscopic picture of {name}",
        "minimally invasive surgery: {name}",
    ),
}
DESCRIPTIONS = "descriptions"  # the prompt with the sentences of `class_descriptions`
PROMPTS: dict[ModelKind, tuple[str, ...]] = {
    "generate": tuple(QUESTIONS),
    "contrast": (*SENTENCES, DESCRIPTIONS),
}
Answer = Mapping[str, Any]  # an answer or scores, with the video, frame, time and label of its clip
_TASKS = ("workflow", "classification", "video_classification")
_FRAME_STRIDE = 1.0  # seconds, for clips of models that say nothing of it
_QUESTIONS_PER_FILE = 64


class ZeroShotError(SurgVistaError):
    """Some questions have no answers; the answers to the others are kept."""


@dataclass(frozen=True)
class ZeroShotSettings:
    """Settings of a zero-shot evaluation.

    Args:
        prompts: names of `QUESTIONS` or, for contrastive models, of `SENTENCES`, or `"descriptions"`, the sentences about
            phases and triplets of Cholec80 and CholecT50; the first one gives the main metrics. The default is all prompts for
            the kind of model and the classes.
        every: step between the labeled frames of a video that are used, 1: all; tasks about whole clips have one frame each.
        max_new_tokens: largest number of tokens of an answer.
        batch_size: number of images at a time.
        dtype: type of the weights, such as `"bfloat16"`; `"auto"`: that where the device has it in hardware and `"float32"`
            elsewhere; the default is bfloat16 on a GPU and float32 on a processor.
        num_frames: number of frames of a clip, for contrastive models; the default is that of the model, 1 for image models.
        frame_stride: seconds between two frames of a clip of several frames; the default is that of the model, or 1.
    """

    prompts: tuple[str, ...] = ()
    every: PositiveCount = 1
    max_new_tokens: PositiveCount = 16
    batch_size: PositiveCount = 8
    dtype: str | None = None
    num_frames: PositiveCount | None = None
    frame_stride: PositiveAmount | None = None

    # A recipe may also give one name alone.
    ranges: ClassVar[Mapping[str, Any]] = {"prompts": str | tuple[str, ...]}

    def __post_init__(self) -> None:
        named = (self.prompts,) if isinstance(self.prompts, str) else tuple(self.prompts)
        object.__setattr__(self, "prompts", named)
        check_fields(self)
        if self.dtype not in (None, "auto") and not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise InputError(f"dtype is {self.dtype!r}; it must be a type of torch, such as bfloat16")


@dataclass(frozen=True)
class ZeroShotResult:
    """The result of a zero-shot evaluation.

    Args:
        folder: folder of the answers.
        task: task of the data set.
        predictions: predictions with the first prompt: scores of a contrastive model; 1 for the answer of a generative one,
            and only zeros where no answer could be read.
        results: results of every prompt and every way of reading answers, and those that need a contrastive model's scores.
        metrics: metrics for a table, of the first prompt and the published way of reading.
        by_video: accuracy in each video.
        parameters: numbers of parameters, of which none are trained.
    """

    folder: Path
    task: Task
    predictions: ClipPredictions
    results: dict[str, Any]
    metrics: dict[str, float]
    by_video: dict[str, float]
    parameters: Parameters

    @property
    def selected_on_test(self) -> bool:
        """Return `False`: without training no checkpoint is selected."""
        return False


def zero_shot(
    start: str | Path,
    data: LabeledData,
    output: Path,
    settings: ZeroShotSettings | None = None,
    *,
    device: str | torch.device | None = None,
    progress: bool = True,
    num_proc: int = 1,
    executor: Executor = "local",
) -> ZeroShotResult:
    """Evaluate an image-text model on the test clips of a data set.

    Answers are written as they come; the same call resumes an evaluation that was stopped.

    Args:
        start: folder or Hub id of a model for `AutoModelForImageTextToText` whose processor has a chat template, or of one
            with features of images and texts.
        data: test clips, with one class each.
        output: folder of the answers.
        settings: settings of the evaluation.
        device: device to run on; the default is a GPU if there is one.
        progress: show progress bars.
        num_proc, executor: arguments of `run_over`; a task is a few questions.

    Returns:
        The result, which is also written to `results.json`, `answers.jsonl` and `predictions.parquet`.

    Raises:
        InputError: the task has several labels, a prompt is unknown, or the model is of another kind.
        OutputError: the folder holds answers of another model or about other frames, or is used by another run right now.
        ZeroShotError: the processes that asked were killed.

    Example:
        >>> data = LabeledData("surgrec_cholec80", "frame_sets/surgrec_cholec80", "label", sampling="uniform")
        >>> zero_shot("Qwen/Qwen2.5-VL-7B-Instruct", data, Path("answers")).metrics["accuracy"]  # doctest: +SKIP
    """
    check_executor(executor, num_proc)
    settings = settings or ZeroShotSettings()
    kind, settings = check_model(start, settings)
    frames = load_test_frames(data)
    task, _, chosen = _test_clips(data, frames, kind, settings)
    prompts = _prompts_for(kind, task, settings)
    # Workers with GPUs may be started from a machine that has none.
    has_gpu = executor.num_gpus > 0 if isinstance(executor, Ray) else torch.cuda.is_available()
    device = torch.device(device or ("cuda" if has_gpu else "cpu"))
    precision = settings.dtype or ("bfloat16" if device.type == "cuda" else "float32")
    precision = resolve_dtype(precision, device) if precision == "auto" else precision
    resolved = replace(settings, prompts=prompts, dtype=precision)
    with at_work(output):
        content = _run_content(start, kind, data, resolved, task, frames_fingerprint(frames), len(chosen))
        names = {"model": name_of(start), "data": {"content": name_of(data.test_folder)}}
        check_settings(output, content, names=names)
        work = _Questions(str(start), data, kind, resolved, device, output)
        parameters = _collect_answers(work, len(chosen), progress, num_proc, executor)
        answers = {prompt: _read_answers_to(output, prompt, len(chosen)) for prompt in prompts}
        result = _evaluate_answers(answers, kind, task, output, parameters)
        _write(result, answers)
    return result


def check_zero_shot(start: str | Path, data: LabeledData, settings: ZeroShotSettings) -> str:
    """Check everything that can be checked without the model's weights, and describe the evaluation in a line.

    Raises:
        SurgVistaError: something would have stopped the evaluation.
    """
    kind, settings = check_model(start, settings)
    task, _, chosen = _test_clips(data, load_test_frames(data), kind, settings)
    prompts = _prompts_for(kind, task, settings)
    seen = "images" if settings.num_frames == 1 else f"clips of {settings.num_frames} frames"
    requested = f"asks {start} about" if kind == "generate" else "compares"
    requested = f"{requested} {len(chosen):,} {seen}"
    return f"{task.kind} of {len(task.names)} classes from {data.name}; {requested}; prompts {', '.join(prompts)}"


def check_model(start: str | Path, settings: ZeroShotSettings) -> tuple[ModelKind, ZeroShotSettings]:
    """Determine the kind of a model, from its configuration and processor.

    Returns:
        The kind, and the settings with the length and spacing of clips.

    Raises:
        InputError: the model is of another kind, its processor has no chat template, a prompt is unknown, or clips are
            requested of a generative model.
    """
    with _loading(start):
        content = AutoConfig.from_pretrained(str(start))
    config = type(content)
    kind: ModelKind
    if config in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        kind = "generate"
        with _loading(start):
            processor = AutoProcessor.from_pretrained(str(start))
        if not getattr(processor, "chat_template", None):
            raise InputError(f"the processor of {start} has no chat template, so the model cannot be asked anything")
    elif config in MODEL_MAPPING and hasattr(MODEL_MAPPING[config], "get_text_features"):
        kind = "contrast"
        with _loading(start):
            AutoProcessor.from_pretrained(str(start))  # may need packages of its own
    else:
        raise InputError(
            f"{start} is a {config.__name__.removesuffix('Config')}, which neither answers questions about images nor "
            "compares them with texts"
        )
    known = PROMPTS[kind]
    for prompt in settings.prompts:
        if prompt not in known:
            hint = did_you_mean(prompt, known, f"there are {', '.join(known)}")
            raise InputError(f"there is no prompt {prompt!r} for models that {kind}; {hint}")
    return kind, _with_clip_length(kind, content, settings)


def _with_clip_length(kind: ModelKind, config: PreTrainedConfig, settings: ZeroShotSettings) -> ZeroShotSettings:
    """Return the settings with the number of frames of a clip and, for several, the seconds between them."""
    own = getattr(config, "num_frames", 1) if kind == "contrast" else 1
    num_frames = settings.num_frames or own
    if num_frames > 1 and kind == "generate":
        raise InputError(f"num_frames is {num_frames}, but a model that answers questions is shown one image")
    stride = settings.frame_stride or getattr(config, "frame_stride", None) or _FRAME_STRIDE
    return replace(settings, num_frames=num_frames, frame_stride=stride if num_frames > 1 else None)


def _prompts_for(kind: ModelKind, task: Task, settings: ZeroShotSettings) -> tuple[str, ...]:
    """Return the prompts that fit the classes: those that were asked for, or all."""
    if DESCRIPTIONS in settings.prompts:
        check_descriptions(task.names)
    described = all(descriptions(name) for name in task.names)
    return settings.prompts or tuple(name for name in PROMPTS[kind] if name != DESCRIPTIONS or described)


def _run_content(
    start: str | Path,
    kind: ModelKind,
    data: LabeledData,
    settings: ZeroShotSettings,
    task: Task,
    fingerprint: str,
    count: int,
) -> dict[str, Any]:
    """Return the content that answers depend on, which may not change while they are collected."""
    texts: dict[str, Any] = {
        prompt: [descriptions(name) for name in task.names]
        if prompt == DESCRIPTIONS
        else {**QUESTIONS, **SENTENCES}[prompt]
        for prompt in settings.prompts
    }
    requested = {**asdict(settings), "prompts": texts, "model": weights_fingerprint(start), "images": count}
    if settings.num_frames == 1:  # as before there were clips, so that earlier answers count
        requested = {name: value for name, value in requested.items() if name not in ("num_frames", "frame_stride")}
    fields = ("name", "label", "protocol", "test", "sampling")
    from_where = {**{name: getattr(data, name) for name in fields}, "content": fingerprint}
    if data.test_on is not None:
        from_where["test_on"] = without_paths(asdict(data.test_on))
    # As it will be read again: JSON has lists for tuples.
    content: dict[str, Any] = json.loads(json.dumps({**requested, "data": from_where, "classes": task.names}))
    return content


# ------------------------------------------------------------------------------------------- test clips


def load_test_frames(data: LabeledData) -> Dataset:
    """Load the frame set of the test."""
    if data.test_on is not None:
        return load_splits(data)["test"]  # with the classes of the training
    return load_named(data, data.folder, data.test)


def _test_clips(
    data: LabeledData, frames: Dataset, kind: ModelKind, settings: ZeroShotSettings
) -> tuple[Task, ClipDataset, list[int]]:
    """Return the task, its clips, and the numbers of the clips that are used."""
    if data.label not in frames.column_names:
        raise InputError(f"data.label is {data.label!r}; {data.name} has the columns {', '.join(frames.column_names)}")
    task = _task(data, frames, kind)
    of_frames = task.kind in ("workflow", "triplet")
    clips = ClipDataset(
        frames,
        num_frames=settings.num_frames or 1,
        frame_stride=settings.frame_stride or _FRAME_STRIDE,
        sampling="online" if of_frames else "uniform",
        label=data.label,
    )
    if settings.every > 1 and not of_frames:
        raise InputError("every leaves out frames of a video, but a clip as a whole has one frame only")
    counts: dict[str, int] = {}
    chosen = []
    for index in range(len(clips)):
        video = clips.video_name(index)
        if counts.setdefault(video, 0) % settings.every == 0:
            chosen.append(index)
        counts[video] += 1
    return task, clips, chosen


def _task(data: LabeledData, frames: Dataset, kind: ModelKind) -> Task:
    task = task_of(data, frames)
    if task.kind not in _TASKS and not (task.kind == "triplet" and kind == "contrast"):
        raise InputError(
            f"{data.label!r} of {data.name} is a {task.kind} task; one class out of several options can be asked for "
            f"({', '.join(_TASKS)}), not several at once. Triplets can be scored by models that compare images with texts"
        )
    option_letters(len(task.names))
    return task


def _image(item: Sample) -> Image.Image:
    return Image.fromarray(item["pixel_values"][0].permute(1, 2, 0).numpy())


def _origin(item: Sample) -> dict[str, Any]:
    """Return the video, frame, time and label of a clip, as JSON can hold them."""
    video = f"{item['source']}/{item['video_id']}"
    label = item["labels"].int().tolist()  # a number, or (classes,) of 0 and 1
    return {"video": video, "frame_index": item["frame_index"], "timestamp": item["timestamp"], "label": label}


# ------------------------------------------------------------------------------------------- models


class _GenerativeModel:
    """A model that answers in text, greedily; its other generation settings are unchanged."""

    def __init__(self, start: str | Path, settings: ZeroShotSettings, device: torch.device) -> None:
        with _loading(start):
            self.processor = AutoProcessor.from_pretrained(str(start))
            model = AutoModelForImageTextToText.from_pretrained(str(start), dtype=settings.dtype)
        self.model = model.eval().to(device)
        self.tokenizer = self.processor.tokenizer
        self.tokenizer.padding_side = "left"  # so that all questions of a batch end at the same position
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.max_new_tokens = settings.max_new_tokens

    @staticmethod
    def views(items: Sequence[Sample]) -> list[Image.Image]:
        """Return what the model sees of samples: one image each."""
        return [_image(item) for item in items]

    @torch.inference_mode()
    def answer(self, images: Sequence[Image.Image], names: Sequence[str], prompt: str) -> list[dict[str, Any]]:
        """Answer a question about each image: `{"answer": text}`."""
        content = [{"type": "image"}, {"type": "text", "text": question(names, prompt)}]
        text = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        # A chat template may write the first token itself; the tokenizer must not add a second one.
        has_first_token = bool(self.tokenizer.bos_token) and text.startswith(self.tokenizer.bos_token)
        inputs = self.processor(
            text=[text] * len(images),
            images=[[image] for image in images],
            padding=True,
            add_special_tokens=not has_first_token,
            return_tensors="pt",
        )
        tokens = self.model.generate(
            **_on_device(inputs, self.model),
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        answers = tokens[:, inputs["input_ids"].shape[1] :]  # (B, new tokens), without the questions
        return [{"answer": text.strip()} for text in self.tokenizer.batch_decode(answers, skip_special_tokens=True)]


class _ContrastiveModel:
    """A model with features of images and texts: softmax over the classes of scale · cosine (CLIP, ICML 2021)."""

    def __init__(
        self, start: str | Path, settings: ZeroShotSettings, device: torch.device, multi_label: bool = False
    ) -> None:
        with _loading(start):
            self.processor = AutoProcessor.from_pretrained(str(start))
            model = AutoModel.from_pretrained(str(start), dtype=settings.dtype)
        if not hasattr(model, "logit_scale"):
            raise InputError(f"{start} has no logit_scale, by which similarities become probabilities")
        self.model = model.eval().to(device)
        self.multi_label = multi_label
        self._class_features: dict[tuple[str, tuple[str, ...]], torch.Tensor] = {}  # by prompt and classes

    @staticmethod
    def views(items: Sequence[Sample]) -> list[torch.Tensor]:
        """Return what the model sees of samples: a clip each, (frames, 3, height, width)."""
        return [item["pixel_values"] for item in items]

    @torch.inference_mode()
    def answer(self, clips: Sequence[torch.Tensor], names: Sequence[str], prompt: str) -> list[dict[str, Any]]:
        """Score the classes for each clip: `{"scores": probabilities}`, or (1 + cosine) / 2 of triplets."""
        key = (prompt, tuple(names))
        if key not in self._class_features:
            self._class_features[key] = torch.stack([self._text_features(sentences(name, prompt)) for name in names])
        cosines = self._clip_features(clips) @ self._class_features[key].T  # (B, classes)
        if self.multi_label:  # classes do not exclude each other, so only the order of clips counts
            return [{"scores": row} for row in ((1 + cosines) / 2).cpu().tolist()]
        logits = self.model.logit_scale.exp().float() * cosines
        return [{"scores": row} for row in logits.softmax(dim=1).cpu().tolist()]

    def _clip_features(self, clips: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the features (B, D) of clips, whose products with texts are the cosines averaged over a clip's vectors."""
        if getattr(self.model.config, "num_frames", 1) > 1:  # a video model
            pixels = {"pixel_values": prepare_clips(self.processor.video_processor, clips)}
            return _unit(self.model.get_image_features(**_on_device(pixels, self.model))).mean(dim=1)
        images = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for clip in clips for frame in clip]
        pixels = self.processor.image_processor(images, return_tensors="pt")
        features = _unit(self.model.get_image_features(**_on_device(pixels, self.model)))  # (B · frames, D)
        return features.unflatten(0, (len(clips), -1)).mean(dim=1)

    def _text_features(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the features (D,) of a class: the normalized mean over its sentences."""
        config = self.model.config
        length = getattr(config, "max_text_length", config.text_config.max_position_embeddings)
        tokens = self.processor.tokenizer(
            list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        inputs = {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}
        mean = _unit(self.model.get_text_features(**_on_device(inputs, self.model))).mean(dim=0)
        return mean / mean.norm()


def question(names: Sequence[str], prompt: str) -> str:
    """Write the question that a generative model is asked, with the classes as lettered options.

    Args:
        names: names of the classes.
        prompt: name of the prompt, a key of `QUESTIONS`.

    Example:
        >>> print(question(("cutting", "suturing"), "baseline").splitlines()[1])
        A. cutting
    """
    options = [f"{letter}. {name}" for letter, name in zip(option_letters(len(names)), names, strict=True)]
    return QUESTIONS[prompt].format(options="\n".join(options))


def sentences(name: str, prompt: str) -> list[str]:
    """Write the sentences about a class that a contrastive model compares images with.

    Args:
        name: name of the class.
        prompt: name of the prompt, a key of `SENTENCES` or `"descriptions"`.

    Example:
        >>> sentences("CalotTriangleDissection", "name")
        ['calot triangle dissection']
    """
    if prompt == DESCRIPTIONS:
        return list(descriptions(name))
    return [sentence.format(name=spoken(name)) for sentence in SENTENCES[prompt]]


def _on_device(inputs: Mapping[str, Any], model: PreTrainedModel) -> dict[str, Any]:
    """Move tensors to the model's device, floating-point ones in its precision."""
    tensors = {name: value for name, value in inputs.items() if torch.is_tensor(value)}
    kinds = {name: model.dtype if value.is_floating_point() else value.dtype for name, value in tensors.items()}
    return {**inputs, **{name: value.to(model.device, kinds[name]) for name, value in tensors.items()}}


def _unit(features: torch.Tensor | BaseModelOutputWithPooling) -> torch.Tensor:
    """Normalize features (B, D) to length 1; versions of transformers return them as such or in an output."""
    values = features if isinstance(features, torch.Tensor) else features.pooler_output
    assert values is not None
    return torch.nn.functional.normalize(values.float(), dim=-1)


@contextmanager
def _loading(start: str | Path) -> Iterator[None]:
    try:
        folder_or_hub_name(start)
        yield
    except SurgVistaError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{start} cannot be loaded: {first_line(error)}{not_a_folder_either(start)}") from error


# ------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True)
class _Part:
    """A few questions that are asked together, about clips from number `first` on; `count` is 0 where there are none left."""

    prompt: str
    first: int
    count: int

    @property
    def name(self) -> str:
        """Return the name for messages."""
        return f"{self.prompt} {self.first}-{self.first + self.count}"


@dataclass(frozen=True)
class _Answered:
    """A number of clips, the parameters of the model that has answered, and a reason where it was killed instead."""

    count: int
    parameters: Parameters | None
    problem: str = ""


@dataclass(frozen=True)
class _Questions:
    """The work of asking a model, as it is sent to other processes, each of which loads the model and the clips once."""

    start: str
    data: LabeledData
    kind: ModelKind
    settings: ZeroShotSettings
    device: torch.device
    output: Path

    @cached_property
    def _clips(self) -> tuple[Task, ClipDataset, list[int]]:
        return _test_clips(self.data, load_test_frames(self.data), self.kind, self.settings)

    @cached_property
    def _model(self) -> "_GenerativeModel | _ContrastiveModel":
        if self.kind == "generate":
            return _GenerativeModel(self.start, self.settings, self.device)
        return _ContrastiveModel(self.start, self.settings, self.device, self._clips[0].multi_label)

    @cached_property
    def _parameters(self) -> Parameters:
        return count_parameters(self._model.model.requires_grad_(False))

    def __call__(self, part: _Part) -> _Answered:
        """Write the answers to a few questions."""
        task, clips, chosen = self._clips
        own, size = chosen[part.first : part.first + part.count], self.settings.batch_size
        rows: list[Answer] = []
        for first in range(0, len(own), size):
            items = [clips[index] for index in own[first : first + size]]
            batch = self._model.answer(self._model.views(items), task.names, part.prompt)  # type: ignore[arg-type]
            rows += [{**_origin(item), **answer} for item, answer in zip(items, batch, strict=True)]
        if rows:
            _write_lines(_answers_file(self.output, part.prompt, part.first), rows)
        return _Answered(len(own), self._parameters)


def _collect_answers(work: _Questions, count: int, progress: bool, num_proc: int, executor: Executor) -> Parameters:
    """Write the answers that no earlier run has written, and return the numbers of the model's parameters."""
    prompts = work.settings.prompts
    parts = [
        _Part(prompt, first, min(_QUESTIONS_PER_FILE, count - first))
        for prompt in prompts
        for first in range(0, count, _QUESTIONS_PER_FILE)
        if not _answers_file(work.output, prompt, first).exists()
    ]
    before = count * len(prompts) - sum(part.count for part in parts)
    parts = parts or [_Part(prompts[0], 0, 0)]  # only the parameters are counted
    results = run_over(work, parts, _crashed, num_proc=num_proc, executor=executor, name=lambda part: part.name)
    parameters, problems = None, []
    with progress_bar("questions", total=count * len(prompts), initial=before, unit="images", shown=progress) as bar:
        for result in results:
            parameters = result.parameters or parameters
            problems += [result.problem] if result.problem else []
            bar.update(result.count)
    if problems or parameters is None:
        raise ZeroShotError(
            f"{len(problems)} parts of the questions have no answers: {preview(problems)}. The others are kept; run the same "
            "again"
        )
    return parameters


def _crashed(part: _Part, reason: str) -> _Answered:
    return _Answered(part.count, None, f"{part.name}: {reason}")


def _answers_file(output: Path, prompt: str, first: int) -> Path:
    return output / "parts" / prompt / f"{first:07d}.jsonl"


def _read_answers_to(output: Path, prompt: str, count: int) -> list[Answer]:
    """Return the answers to one prompt with their clips, in the order of the clips."""
    files = [_answers_file(output, prompt, first) for first in range(0, count, _QUESTIONS_PER_FILE)]
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def _write_lines(file: Path, rows: Sequence[Answer]) -> None:
    with atomic_file(file) as temporary:
        temporary.write_text("".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows), encoding="utf-8")


def _evaluate_answers(
    answers: Mapping[str, list[Answer]], kind: ModelKind, task: Task, output: Path, parameters: Parameters
) -> ZeroShotResult:
    """Read the answers to every prompt and compute their metrics."""
    if task.multi_label:
        return _evaluate_scores(answers, task, output, parameters)
    first, classes = next(iter(answers)), len(task.names)
    labels = np.array([row["label"] for row in answers[first]])
    read = {prompt: _read_answers(rows, kind, task.names) for prompt, rows in answers.items()}
    judged = {
        prompt: {reading: answer_metrics(labels, numbers, classes).to_dict() for reading, numbers in ways.items()}
        for prompt, ways in read.items()
    }
    accuracy = {prompt: ways[next(iter(ways))]["accuracy"] for prompt, ways in judged.items()}
    main = next(iter(read[first].values()))
    scores = (
        np.array([row["scores"] for row in answers[first]], np.float32)
        if kind == "contrast"
        else (main[:, None] == np.arange(classes)).astype(
            np.float32
        )  # only zeros for -1, an answer that cannot be read
    )
    predictions = _predictions(answers[first], scores)
    results: dict[str, Any] = {"zero_shot": {"prompts": judged, "prompt_sensitivity": prompt_sensitivity(accuracy)}}
    if kind == "contrast":
        results |= task.results(predictions)
    by_video = {video: float(right.mean()) for video, right in predictions.by_video(main == labels).items()}
    metrics = _table_metrics(task, results, judged, by_video)
    return ZeroShotResult(output, task, predictions, results, metrics, by_video, parameters)


def _evaluate_scores(
    answers: Mapping[str, list[Answer]], task: Task, output: Path, parameters: Parameters
) -> ZeroShotResult:
    """Compute the metrics of a task with several classes at once, whose answers are scores."""
    found = {
        prompt: _predictions(rows, np.array([row["scores"] for row in rows], np.float32))
        for prompt, rows in answers.items()
    }
    judged = {prompt: task.results(predictions) for prompt, predictions in found.items()}
    main = {prompt: task.metrics(results).get(task.main_metric, float("nan")) for prompt, results in judged.items()}
    first, *others = found
    results = {"zero_shot": {"prompts": judged, "prompt_sensitivity": prompt_sensitivity(main)}, **judged[first]}
    metrics = task.metrics(results) | {f"{task.main_metric}_{prompt}": main[prompt] for prompt in others}
    if others:
        metrics["prompt_sensitivity"] = float(max(main.values()) - min(main.values()))
    by_video = task.by_video(found[first])
    return ZeroShotResult(output, task, found[first], results, metrics, by_video, parameters)


def _predictions(rows: Sequence[Answer], scores: np.ndarray) -> ClipPredictions:
    return ClipPredictions(
        videos=np.array([row["video"] for row in rows]),
        frames=np.array([row["frame_index"] for row in rows]),
        seconds=np.array([row["timestamp"] for row in rows]),
        labels=np.array([row["label"] for row in rows]),
        scores=scores,
    )


def _read_answers(rows: Sequence[Answer], kind: ModelKind, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the class numbers of answers, (answers,), for each way of reading; scores can be read in one way only."""
    if kind == "contrast":
        return {"highest": np.array([int(np.argmax(row["scores"])) for row in rows])}
    return {way: np.array([reader(row["answer"], names) for row in rows]) for way, reader in READINGS.items()}


def _table_metrics(
    task: Task, results: Mapping[str, Any], judged: Mapping[str, Any], by_video: Mapping[str, float]
) -> dict[str, float]:
    """Return the metrics for a table: those of the first prompt as published, and what puts them into perspective."""
    first, *others = judged
    ways = judged[first]
    published = dict(next(iter(ways.values())))
    accuracy = "image_accuracy" if task.kind == "workflow" else "accuracy"
    metrics: dict[str, float | None] = {accuracy: published.pop("accuracy")}
    if task.kind == "workflow":
        metrics["video_accuracy"] = float(np.mean(list(by_video.values())))
    if len(results) > 1:  # a contrastive model's scores allow what a classifier's do
        metrics |= task.metrics(results)
        published = {"most_frequent": published["most_frequent"]}
    metrics |= published
    if "careful" in ways:
        metrics["careful_accuracy"] = ways["careful"]["accuracy"]
    metrics |= {f"accuracy_{prompt}": next(iter(judged[prompt].values()))["accuracy"] for prompt in others}
    metrics["prompt_sensitivity"] = results["zero_shot"]["prompt_sensitivity"]
    return {name: float(value) for name, value in metrics.items() if value is not None}


def _write(result: ZeroShotResult, answers: Mapping[str, list[Answer]]) -> None:
    """Write every answer with its readings to `answers.jsonl`; write `predictions.parquet` and `results.json`."""
    names = result.task.names
    lines = []
    for prompt, rows in answers.items():
        for row in rows:
            ways = READINGS.items() if "answer" in row else ()
            read = {way: _name(names, reader(row["answer"], names)) for way, reader in ways}
            numbers = row["label"] if isinstance(row["label"], list) else None
            label = (
                names[row["label"]]
                if numbers is None
                else [name for name, present in zip(names, numbers, strict=True) if present]
            )
            lines.append({"prompt": prompt, **row, "label": label, **read})
    _write_lines(result.folder / "answers.jsonl", lines)
    result.predictions.save(result.folder / "predictions.parquet")
    content = {
        "task": {"kind": result.task.kind, "classes": len(names)},
        "metrics": result.metrics,
        "by_video": result.by_video,
        "parameters": asdict(result.parameters),
        "results": result.results,
    }
    write_json(result.folder / "results.json", content)


def _name(names: Sequence[str], number: int) -> str | None:
    return names[number] if number >= 0 else None
