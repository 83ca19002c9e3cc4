"""Image-text models asked about clips without any training: the zero-shot protocol of SurgRec (arXiv 2603.29966).

One picture a clip, the middle one (of a phase task the labeled frame itself). A model that generates is shown the classes as
lettered options and answers greedily; a contrastive one (CLIP, SigLIP) compares the picture with sentences for each class.
The prompts say what the published ones say in words of our own, so answers of the same model may differ from theirs.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
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
)

from ...clips import ClipDataset
from ...datasets_scripts.frame_sets.fingerprints import frames_fingerprint
from ...datasets_scripts.frame_sets.load import load_frame_set
from ...evaluation.tasks import ClipPredictions, Task
from ...evaluation.zero_shot_answers import READINGS, answer_metrics, option_letters, prompt_sensitivity, spoken
from ...modeling.adapters import Parameters, count_parameters
from ...modeling.errors_surgvista import folder_or_hub_name, not_a_folder_either
from ...util.console import progress_bar
from ...util.errors import InputError, SurgVistaError
from ...util.files import at_work, atomic_file, check_settings, write_json
from ...util.fingerprint import weights_fingerprint
from ...util.messages import did_you_mean, first_line
from ...util.values import PositiveCount, check_fields
from ..common.identity import name_of, without_paths
from ..finetune import load_splits, task_of
from ..finetuning.recipe import LabeledData

Kind = Literal["generate", "contrast"]
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
PROMPTS: dict[Kind, tuple[str, ...]] = {"generate": tuple(QUESTIONS), "contrast": tuple(SENTENCES)}
_TASKS = ("workflow", "classification", "video_classification")
_QUESTIONS_A_FILE = 64


@dataclass(frozen=True)
class ZeroShotSettings:
    """How a model is asked.

    Args:
        prompts: names of `QUESTIONS` or, for contrastive models, of `SENTENCES`; the first gives the main numbers. By default
            all of the model's kind.
        every: of the labeled frames of a video, every so manieth is asked about; of tasks about whole clips there is one.
        max_new_tokens: of an answer.
        batch_size: pictures at a time.
        dtype: of the weights, such as `"bfloat16"`; by default that on a GPU and `"float32"` elsewhere.
    """

    prompts: tuple[str, ...] = ()
    every: PositiveCount = 1
    max_new_tokens: PositiveCount = 16
    batch_size: PositiveCount = 8
    dtype: str | None = None

    # A recipe may also give one name alone.
    ranges: ClassVar[Mapping[str, Any]] = {"prompts": str | tuple[str, ...]}

    def __post_init__(self) -> None:
        named = (self.prompts,) if isinstance(self.prompts, str) else tuple(self.prompts)
        object.__setattr__(self, "prompts", named)
        check_fields(self)
        if self.dtype is not None and not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise InputError(f"dtype is {self.dtype!r}; it must be a type of torch, such as bfloat16")


@dataclass(frozen=True)
class ZeroShotResult:
    """What was found.

    Args:
        folder: of the answers.
        task: what was asked for.
        predictions: of the first prompt: scores of a contrastive model; of a generating one 1 for its answer, and zeros only
            where none could be read.
        results: of every prompt and every way of reading, and what a contrastive model's scores allow besides.
        figures: the numbers of a table, of the first prompt and the published reading.
        by_video: accuracy in each video.
        parameters: of the model; none are trained.
    """

    folder: Path
    task: Task
    predictions: ClipPredictions
    results: dict[str, Any]
    figures: dict[str, float]
    by_video: dict[str, float]
    parameters: Parameters

    @property
    def selected_on_test(self) -> bool:
        """Nothing is selected."""
        return False


def zero_shot(
    start: str | Path,
    data: LabeledData,
    output: Path,
    settings: ZeroShotSettings | None = None,
    *,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> ZeroShotResult:
    """Ask an image-text model about the test clips of a data set.

    Answers are written as they come; the same call goes on where an earlier one was stopped.

    Args:
        start: folder or Hub id: of a model for `AutoModelForImageTextToText` whose processor has a chat template, or of one
            with features of pictures and texts.
        data: test clips, with one class each.
        output: folder of the answers.
        settings: how it is asked.
        device: where to run; a GPU if there is one.
        progress: show progress bars.

    Returns:
        What was found, which is also in `results.json`, `answers.jsonl` and `predictions.parquet`.

    Raises:
        InputError: a task with several labels, an unknown prompt, or a model of another kind.
        OutputError: the folder holds answers of another model or about other frames, or another run is at work there.

    Example:
        >>> data = LabeledData("surgrec_cholec80", "frame_sets/surgrec_cholec80", "label", sampling="uniform")
        >>> zero_shot("Qwen/Qwen2.5-VL-7B-Instruct", data, Path("answers")).figures["accuracy"]  # doctest: +SKIP
    """
    settings = settings or ZeroShotSettings()
    kind, prompts = check_model(start, settings)
    frames = load_test_frames(data)
    task, clips, chosen = _test_clips(data, frames, settings)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    precision = settings.dtype or ("bfloat16" if place.type == "cuda" else "float32")
    settled = replace(settings, prompts=prompts, dtype=precision)
    with at_work(output):
        described = _description(start, kind, data, settled, task, frames_fingerprint(frames), len(chosen))
        names = {"model": name_of(start), "data": {"content": name_of(data.test_folder)}}
        check_settings(output, described, names=names)
        model = (_Generator if kind == "generate" else _Comparer)(start, settled, place)
        said = {
            prompt: _ask(model, clips, chosen, task, prompt, output / "parts" / prompt, settings.batch_size, progress)
            for prompt in prompts
        }
        model.model.requires_grad_(False)
        result = _judge(said, kind, task, output, count_parameters(model.model))
        _write(result, said)
    return result


def check_zero_shot(start: str | Path, data: LabeledData, settings: ZeroShotSettings) -> str:
    """What a run would do, in words, after everything that can be checked without the model's weights was checked.

    Raises:
        SurgVistaError: what would have stopped it.
    """
    kind, prompts = check_model(start, settings)
    task, _, chosen = _test_clips(data, load_test_frames(data), settings)
    requested = (
        f"asks {start} about {len(chosen):,} pictures" if kind == "generate" else f"compares {len(chosen):,} pictures"
    )
    return f"{task.kind} of {len(task.names)} classes from {data.name}; {requested}; prompts {', '.join(prompts)}"


def check_model(start: str | Path, settings: ZeroShotSettings) -> tuple[Kind, tuple[str, ...]]:
    """What kind of model lies there, and the prompts it is asked with.

    Raises:
        InputError: nothing that can be asked, no chat template, or an unknown prompt.
    """
    with _loading(start):
        config = type(AutoConfig.from_pretrained(str(start)))
    kind: Kind
    if config in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        kind = "generate"
        with _loading(start):
            processor: Any = AutoProcessor.from_pretrained(str(start))
        if not getattr(processor, "chat_template", None):
            raise InputError(f"the processor of {start} has no chat template, so the model cannot be asked anything")
    elif config in MODEL_MAPPING and hasattr(MODEL_MAPPING[config], "get_text_features"):
        kind = "contrast"
        with _loading(start):
            AutoProcessor.from_pretrained(str(start))  # may need packages of its own
    else:
        raise InputError(
            f"{start} is a {config.__name__.removesuffix('Config')}, which neither answers questions about pictures nor "
            "compares them with texts"
        )
    known = PROMPTS[kind]
    for prompt in settings.prompts:
        if prompt not in known:
            hint = did_you_mean(prompt, known, f"there are {', '.join(known)}")
            raise InputError(f"there is no prompt {prompt!r} for models that {kind}; {hint}")
    return kind, settings.prompts or known


def _description(
    start: str | Path,
    kind: Kind,
    data: LabeledData,
    settings: ZeroShotSettings,
    task: Task,
    content: str,
    count: int,
) -> dict[str, Any]:
    """What may not change while answers are collected."""
    texts = {prompt: (QUESTIONS if kind == "generate" else SENTENCES)[prompt] for prompt in settings.prompts}
    requested = {**asdict(settings), "prompts": texts, "model": weights_fingerprint(start), "pictures": count}
    fields = ("name", "label", "protocol", "test", "sampling")
    from_where = {**{name: getattr(data, name) for name in fields}, "content": content}
    if data.test_on is not None:
        from_where["test_on"] = without_paths(asdict(data.test_on))
    settled: dict[str, Any] = json.loads(json.dumps({**requested, "data": from_where, "classes": task.names}))
    return settled


# ------------------------------------------------------------------------------------------- what is asked about


def load_test_frames(data: LabeledData) -> Any:
    """Return the frame set that is asked about."""
    if data.test_on is not None:
        return load_splits(data)["test"]  # with the classes of the training
    return load_frame_set(data.name, data.folder, data.test, protocol=data.protocol, allow_missing=data.allow_missing)


def _test_clips(data: LabeledData, frames: Any, settings: ZeroShotSettings) -> tuple[Task, ClipDataset, list[int]]:
    """The task, clips of one frame, and which of them are asked about."""
    if data.label not in frames.column_names:
        raise InputError(f"data.label is {data.label!r}; {data.name} has the columns {', '.join(frames.column_names)}")
    task = _task(data, frames)
    clips = ClipDataset(
        frames, num_frames=1, sampling="online" if task.kind == "workflow" else "uniform", label=data.label
    )
    if settings.every > 1 and task.kind != "workflow":
        raise InputError("every leaves out frames of a video, but a clip as a whole is asked about once")
    taken: dict[str, int] = {}
    chosen = []
    for index in range(len(clips)):
        video = clips.video_name(index)
        if taken.setdefault(video, 0) % settings.every == 0:
            chosen.append(index)
        taken[video] += 1
    return task, clips, chosen


def _task(data: LabeledData, frames: Dataset) -> Task:
    task = task_of(data, frames)
    if task.kind not in _TASKS:
        raise InputError(
            f"{data.label!r} of {data.name} is a {task.kind} task; one class out of several options can be asked for "
            f"({', '.join(_TASKS)}), not several at once"
        )
    option_letters(len(task.names))
    return task


def _picture(item: Mapping[str, Any]) -> Image.Image:
    return Image.fromarray(item["pixel_values"][0].permute(1, 2, 0).numpy())


def _place(item: Mapping[str, Any]) -> dict[str, Any]:
    """What an answer is about, as JSON can hold it."""
    video = f"{item['source']}/{item['video_id']}"
    label = int(item["labels"])
    return {"video": video, "frame_index": item["frame_index"], "timestamp": item["timestamp"], "label": label}


# ------------------------------------------------------------------------------------------- models


class _Generator:
    """A model that answers in words, greedily; whatever else its own generation settings say stays."""

    def __init__(self, start: str | Path, settings: ZeroShotSettings, device: torch.device) -> None:
        with _loading(start):
            self.processor: Any = AutoProcessor.from_pretrained(str(start))
            model: Any = AutoModelForImageTextToText.from_pretrained(str(start), dtype=settings.dtype)
        self.model = model.eval().to(device)
        self.tokenizer = self.processor.tokenizer
        self.tokenizer.padding_side = "left"  # answers begin where questions end
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.max_new_tokens = settings.max_new_tokens

    @torch.inference_mode()
    def ask(self, pictures: Sequence[Image.Image], names: Sequence[str], prompt: str) -> list[dict[str, Any]]:
        """`{"answer": …}` for each picture."""
        content = [{"type": "image"}, {"type": "text", "text": question(names, prompt)}]
        text = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        begun = bool(self.tokenizer.bos_token) and text.startswith(self.tokenizer.bos_token)
        inputs = self.processor(
            text=[text] * len(pictures),
            images=[[picture] for picture in pictures],
            padding=True,
            add_special_tokens=not begun,
            return_tensors="pt",
        )
        found = self.model.generate(
            **_prepared(inputs, self.model),
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        answers = found[:, inputs["input_ids"].shape[1] :]
        return [{"answer": said.strip()} for said in self.tokenizer.batch_decode(answers, skip_special_tokens=True)]


class _Comparer:
    """A model with features of pictures and texts: softmax over the classes of scale · cosine."""

    def __init__(self, start: str | Path, settings: ZeroShotSettings, device: torch.device) -> None:
        with _loading(start):
            self.processor: Any = AutoProcessor.from_pretrained(str(start))
            model: Any = AutoModel.from_pretrained(str(start), dtype=settings.dtype)
        if not hasattr(model, "logit_scale"):
            raise InputError(f"{start} has no logit_scale, by which similarities become probabilities")
        self.model = model.eval().to(device)
        self._texts: dict[tuple[str, tuple[str, ...]], torch.Tensor] = {}

    @torch.inference_mode()
    def ask(self, pictures: Sequence[Image.Image], names: Sequence[str], prompt: str) -> list[dict[str, Any]]:
        """`{"scores": […]}` for each picture."""
        key = (prompt, tuple(names))
        if key not in self._texts:
            self._texts[key] = torch.stack([self._text(sentences(name, prompt)) for name in names])
        pixels = self.processor.image_processor(list(pictures), return_tensors="pt")
        seen = _unit(self.model.get_image_features(**_prepared(pixels, self.model)))
        logits = self.model.logit_scale.exp().float() * seen @ self._texts[key].T
        return [{"scores": row} for row in logits.softmax(dim=1).cpu().tolist()]

    def _text(self, texts: Sequence[str]) -> torch.Tensor:
        """(width,) of a class: the normalized mean over its sentences."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.processor.tokenizer(
            list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        taken = {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}
        mean = _unit(self.model.get_text_features(**_prepared(taken, self.model))).mean(dim=0)
        return mean / mean.norm()


def question(names: Sequence[str], prompt: str) -> str:
    """What a generating model is asked.

    Example:
        >>> print(question(("cutting", "suturing"), "baseline").splitlines()[1])
        A. cutting
    """
    options = [f"{letter}. {name}" for letter, name in zip(option_letters(len(names)), names, strict=True)]
    return QUESTIONS[prompt].format(options="\n".join(options))


def sentences(name: str, prompt: str) -> list[str]:
    """What a picture of a class is compared with.

    Example:
        >>> sentences("CalotTriangleDissection", "name")
        ['calot triangle dissection']
    """
    return [sentence.format(name=spoken(name)) for sentence in SENTENCES[prompt]]


def _prepared(inputs: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """On the model's device, numbers with a point in its precision."""
    tensors = {name: value for name, value in inputs.items() if torch.is_tensor(value)}
    kinds = {name: model.dtype if value.is_floating_point() else value.dtype for name, value in tensors.items()}
    return {**inputs, **{name: value.to(model.device, kinds[name]) for name, value in tensors.items()}}


def _unit(features: Any) -> torch.Tensor:
    values: torch.Tensor = features if torch.is_tensor(features) else features.pooler_output
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


def _ask(
    model: _Generator | _Comparer,
    clips: ClipDataset,
    chosen: Sequence[int],
    task: Task,
    prompt: str,
    folder: Path,
    batch_size: int,
    progress: bool,
) -> list[dict[str, Any]]:
    """Answer to one prompt with what they are about, those of earlier runs included."""
    said: list[dict[str, Any]] = []
    with progress_bar(prompt, total=len(chosen), unit="pictures", shown=progress) as bar:
        for start in range(0, len(chosen), _QUESTIONS_A_FILE):
            own = chosen[start : start + _QUESTIONS_A_FILE]
            file = folder / f"{start:07d}.jsonl"
            if not file.exists():
                rows: list[dict[str, Any]] = []
                for first in range(0, len(own), batch_size):
                    items = [clips[index] for index in own[first : first + batch_size]]
                    answers = model.ask([_picture(item) for item in items], task.names, prompt)
                    rows += [{**_place(item), **answer} for item, answer in zip(items, answers, strict=True)]
                _write_lines(file, rows)
            said += [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            bar.update(len(own))
    return said


def _write_lines(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_file(file) as temporary:
        temporary.write_text("".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows), encoding="utf-8")


def _judge(
    said: Mapping[str, list[dict[str, Any]]], kind: Kind, task: Task, output: Path, parameters: Parameters
) -> ZeroShotResult:
    first, classes = next(iter(said)), len(task.names)
    labels = np.array([row["label"] for row in said[first]])
    read = {prompt: _read(rows, kind, task.names) for prompt, rows in said.items()}
    judged = {
        prompt: {reading: answer_metrics(labels, answers, classes).to_dict() for reading, answers in ways.items()}
        for prompt, ways in read.items()
    }
    accuracy = {prompt: ways[next(iter(ways))]["accuracy"] for prompt, ways in judged.items()}
    main = next(iter(read[first].values()))
    scores = (
        np.array([row["scores"] for row in said[first]], np.float32)
        if kind == "contrast"
        else (main[:, None] == np.arange(classes)).astype(np.float32)
    )
    predictions = ClipPredictions(
        videos=np.array([row["video"] for row in said[first]]),
        frames=np.array([row["frame_index"] for row in said[first]]),
        seconds=np.array([row["timestamp"] for row in said[first]]),
        labels=labels,
        scores=scores,
    )
    results: dict[str, Any] = {"zero_shot": {"prompts": judged, "prompt_sensitivity": prompt_sensitivity(accuracy)}}
    if kind == "contrast":
        results |= task.results(predictions)
    by_video = {video: float(right.mean()) for video, right in predictions.by_video(main == labels).items()}
    figures = _figures(task, results, judged, by_video)
    return ZeroShotResult(output, task, predictions, results, figures, by_video, parameters)


def _read(rows: Sequence[Mapping[str, Any]], kind: Kind, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Class numbers, by the way of reading; scores can be read in one way only."""
    if kind == "contrast":
        return {"highest": np.array([int(np.argmax(row["scores"])) for row in rows])}
    return {way: np.array([reader(row["answer"], names) for row in rows]) for way, reader in READINGS.items()}


def _figures(
    task: Task, results: Mapping[str, Any], judged: Mapping[str, Any], by_video: Mapping[str, float]
) -> dict[str, float]:
    """The first prompt as published, then what a reader should see beside it; names as those of the task."""
    first, *others = judged
    ways = judged[first]
    published = dict(next(iter(ways.values())))
    accuracy = "image_accuracy" if task.kind == "workflow" else "accuracy"
    figures: dict[str, float | None] = {accuracy: published.pop("accuracy")}
    if task.kind == "workflow":
        figures["video_accuracy"] = float(np.mean(list(by_video.values())))
    if len(results) > 1:  # a contrastive model's scores allow what a classifier's do
        figures |= task.figures(results)
        published = {"most_frequent": published["most_frequent"]}
    figures |= published
    if "careful" in ways:
        figures["careful_accuracy"] = ways["careful"]["accuracy"]
    figures |= {f"accuracy_{prompt}": next(iter(judged[prompt].values()))["accuracy"] for prompt in others}
    figures["prompt_sensitivity"] = results["zero_shot"]["prompt_sensitivity"]
    return {name: float(value) for name, value in figures.items() if value is not None}


def _write(result: ZeroShotResult, said: Mapping[str, list[dict[str, Any]]]) -> None:
    """`answers.jsonl`: every answer and how it was read; `predictions.parquet`, `results.json`."""
    names = result.task.names
    lines = []
    for prompt, rows in said.items():
        for row in rows:
            ways = READINGS.items() if "answer" in row else ()
            read = {way: _name(names, reader(row["answer"], names)) for way, reader in ways}
            lines.append({"prompt": prompt, **row, "label": names[row["label"]], **read})
    _write_lines(result.folder / "answers.jsonl", lines)
    result.predictions.save(result.folder / "predictions.parquet")
    content = {
        "task": {"kind": result.task.kind, "classes": len(names)},
        "figures": result.figures,
        "by_video": result.by_video,
        "parameters": asdict(result.parameters),
        "results": result.results,
    }
    write_json(result.folder / "results.json", content)


def _name(names: Sequence[str], number: int) -> str | None:
    return names[number] if number >= 0 else None
