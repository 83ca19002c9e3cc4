"""Zero-shot evaluation: the right images and options, resumed after a kill, answers read in both ways."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor

from surgvista_hf import ClipDataset, load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.registry import get_builder
from surgvista_hf.evaluation.tasks import ClipPredictions
from surgvista_hf.evaluation.zero_shot_answers import option_letters, read_careful, read_published
from surgvista_hf.modeling import precision
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.trainers.benchmark import zero_shot as module
from surgvista_hf.trainers.benchmark.class_descriptions import check_descriptions, descriptions
from surgvista_hf.trainers.benchmark.zero_shot import (
    QUESTIONS,
    ZeroShotSettings,
    check_zero_shot,
    question,
    sentences,
    zero_shot,
)
from surgvista_hf.trainers.finetuning.recipe import LabeledData
from surgvista_hf.util.files import OutputError

from .. import tiny_image_text


def phases(frame_set: Path, **changes) -> LabeledData:
    """Return the phases of a frame set as labeled data."""
    return LabeledData(**{"name": "synthetic", "data_dir": str(frame_set), "label": "phase", "test": "all", **changes})


@pytest.fixture(scope="module")
def names(frame_set) -> tuple[str, ...]:
    """Return the names of the phases."""
    return tuple(load_frame_set("synthetic", frame_set, "all").features["phase"].names)


@pytest.fixture(scope="module")
def answering(tmp_path_factory, names) -> Path:
    """Save a model that answers."""
    return tiny_image_text.llava(tmp_path_factory.mktemp("llava"), names)


@pytest.fixture(params=["llava", "qwen"])
def any_family(request, tmp_path_factory, names) -> Path:
    """Save a model of each family."""
    return getattr(tiny_image_text, request.param)(tmp_path_factory.mktemp(request.param), names)


def lines(file: Path) -> list[dict]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_answers_are_those_of_the_model_to_the_labeled_frame_alone(any_family, frame_set, names, tmp_path):
    settings = ZeroShotSettings(every=7, batch_size=4)
    result = zero_shot(any_family, phases(frame_set), tmp_path, settings, progress=False)
    answers = lines(tmp_path / "answers.jsonl")
    assert [row["prompt"] for row in answers] == ["baseline"] * 9 + ["stability_v1"] * 9  # 3 videos of 20 frames
    processor = AutoProcessor.from_pretrained(any_family)
    model = AutoModelForImageTextToText.from_pretrained(any_family).eval()
    placeholder = "<image>" if "llava" in any_family.name else "<|vision_start|><|image_pad|><|vision_end|>"
    frames = load_frame_set("synthetic", frame_set, "all")
    for row in (answers[1], answers[5], answers[17]):
        number = int(row["video"][-1]) * 20 + row["frame_index"]
        frame = frames[number]
        assert (row["frame_index"] % 7, row["timestamp"]) == (0, frame["timestamp"])
        assert row["label"] == names[frame["phase"]]
        text = f"<s>user: {placeholder} {question(names, row['prompt'])} assistant: "
        inputs = processor(text=text, images=frame["image"], add_special_tokens=False, return_tensors="pt")
        assert inputs["input_ids"].tolist()[0].count(processor.tokenizer.unk_token_id) == 0
        with torch.no_grad():
            found = model.generate(**inputs, max_new_tokens=16, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert row["answer"] == processor.tokenizer.decode(found, skip_special_tokens=True).strip()
        for way, reader in (("published", read_published), ("careful", read_careful)):
            read = reader(row["answer"], names)
            assert row[way] == (names[read] if read >= 0 else None)
    assert len({row["answer"] for row in answers}) > 2  # the pictures make a difference
    right = [row["published"] == row["label"] for row in answers]
    assert result.metrics["image_accuracy"] == pytest.approx(np.mean(right[:9]))
    assert result.metrics["accuracy_stability_v1"] == pytest.approx(np.mean(right[9:]))
    difference = abs(np.mean(right[:9]) - np.mean(right[9:]))
    assert result.metrics["prompt_sensitivity"] == pytest.approx(difference)
    assert result.metrics["video_accuracy"] == pytest.approx(np.mean(np.reshape(right[:9], (3, 3)).mean(axis=1)))
    assert {"careful_accuracy", "valid_accuracy", "balanced_accuracy", "macro_f1", "most_frequent"} <= set(
        result.metrics
    )
    saved_predictions = ClipPredictions.load(tmp_path / "predictions.parquet")
    assert saved_predictions.scores.sum(axis=1).tolist() == [
        float(row["published"] is not None) for row in answers[:9]
    ]
    assert result.parameters.trained == 0 < result.parameters.all


def test_an_evaluation_that_was_killed_goes_on_and_evaluates_nothing_twice(
    answering, frame_set, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "_QUESTIONS_PER_FILE", 4)
    settings = ZeroShotSettings(every=5, batch_size=3, max_new_tokens=4)
    whole = zero_shot(answering, phases(frame_set), tmp_path / "whole", settings, progress=False)
    own, requested = module._GenerativeModel.answer, []

    def dies(self, images, names, prompt, limit=4):
        """Answer, and stop the run at the limit."""
        requested.append(len(images))
        if len(requested) > limit:
            raise KeyboardInterrupt
        return own(self, images, names, prompt)

    monkeypatch.setattr(module._GenerativeModel, "answer", dies)
    with pytest.raises(KeyboardInterrupt):
        zero_shot(answering, phases(frame_set), tmp_path / "parts", settings, progress=False)
    assert len(list((tmp_path / "parts" / "parts" / "baseline").iterdir())) == 2
    requested.clear()
    monkeypatch.setattr(module._GenerativeModel, "answer", lambda *args: dies(*args, limit=99))
    again = zero_shot(answering, phases(frame_set), tmp_path / "parts", settings, progress=False)
    assert sum(requested) == 24 - 8  # 12 pictures, two prompts, two files of four were there
    assert again.metrics == whole.metrics
    assert (tmp_path / "parts" / "answers.jsonl").read_bytes() == (tmp_path / "whole" / "answers.jsonl").read_bytes()
    with pytest.raises(OutputError, match="begun with other settings"):
        zero_shot(answering, phases(frame_set), tmp_path / "parts", ZeroShotSettings(every=4), progress=False)


def test_a_clip_with_one_label_is_represented_by_its_middle_frame(answering, frame_set, tmp_path, monkeypatch):
    seen = []
    own = module._GenerativeModel.answer
    monkeypatch.setattr(
        module._GenerativeModel, "answer", lambda self, images, *rest: seen.extend(images) or own(self, images, *rest)
    )
    data = phases(frame_set, label="skill", sampling="uniform_legacy")
    settings = ZeroShotSettings(prompts=("baseline",), max_new_tokens=2)
    result = zero_shot(answering, data, tmp_path, settings, progress=False)
    frames = load_frame_set("synthetic", frame_set, "all")
    assert [np.asarray(image).tolist() for image in seen] == [
        np.asarray(frames[number]["image"].convert("RGB")).tolist() for number in (10, 30, 50)
    ]
    assert set(result.metrics) >= {"accuracy", "careful_accuracy"}
    assert "prompt_sensitivity" not in result.metrics
    with pytest.raises(InputError, match="has one frame only"):
        check_zero_shot(answering, data, ZeroShotSettings(every=2))


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_contrastive_model_gives_the_probabilities_of_its_own_program(family, frame_set, names, tmp_path):
    folder = tiny_image_text.contrastive(tmp_path / "model", names, family)
    result = zero_shot(folder, phases(frame_set), tmp_path / "out", ZeroShotSettings(every=4), progress=False)
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    clips = ClipDataset(load_frame_set("synthetic", frame_set, "all"), num_frames=1, label="phase")
    for row, index in ((0, 0), (6, 24), (14, 56)):
        text = [sentences(name, "name")[0] for name in names]
        inputs = processor(
            text=text,
            images=clips[index]["pixel_values"][0],
            padding="max_length",
            max_length=48,
            return_tensors="pt",
        )
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            expected = model(**inputs).logits_per_image.softmax(dim=1)[0]
        np.testing.assert_allclose(result.predictions.scores[row], expected.numpy(), atol=1e-5)
    assert result.predictions.scores.std(axis=0).max() > 0
    assert {"image_accuracy", "phase_jaccard", "most_frequent", "accuracy_surgical"} <= set(result.metrics)
    assert "careful_accuracy" not in result.metrics
    assert result.results["strict"]["image_accuracy"] == result.metrics["image_accuracy"]


@pytest.fixture(scope="module", params=["image", "video"])
def surgical(request, tmp_path_factory) -> tuple[Path, bool]:
    """Save a surgical image-text model of each kind, and say whether it is one of videos."""
    video = request.param == "video"
    return tiny_image_text.surgical_clip(tmp_path_factory.mktemp(request.param), video=video), video


def test_clips_have_the_mean_similarity_of_their_frames(surgical, frame_set, names, tmp_path):
    folder, video = surgical
    settings = ZeroShotSettings(every=6, prompts=("descriptions", "name"), num_frames=3, frame_stride=2)
    result = zero_shot(folder, phases(frame_set), tmp_path / "out", settings, progress=False)
    if video:  # its own length and spacing are the default
        own = ZeroShotSettings(every=6, prompts=("descriptions", "name"))
        again = zero_shot(folder, phases(frame_set), tmp_path / "out", own, progress=False)
        assert again.metrics == result.metrics
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    clips = ClipDataset(load_frame_set("synthetic", frame_set, "all"), num_frames=3, frame_stride=2, label="phase")
    texts = [
        model.get_text_features(**processor(text=sentences(name, "descriptions"))).pooler_output for name in names
    ]
    texts = torch.stack([unit(unit(text).mean(dim=0)) for text in texts])
    for row, index in ((0, 0), (3, 18), (11, 58)):
        frames = clips[index]["pixel_values"]
        pixels = (
            processor(videos=frames)["pixel_values"]
            if video
            else torch.stack([processor(images=frame)["pixel_values"][0] for frame in frames])
        )
        with torch.no_grad():
            vectors = unit(model.get_image_features(pixels).pooler_output).view(3, -1)
            expected = (model.logit_scale.exp() * (vectors @ texts.T).mean(dim=0)).softmax(dim=0)
        np.testing.assert_allclose(result.predictions.scores[row], expected.numpy(), atol=1e-4)
    assert result.predictions.scores.std(axis=0).max() > 0
    assert {"image_accuracy", "accuracy_name", "prompt_sensitivity"} <= set(result.metrics)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Scale vectors to length 1."""
    return torch.nn.functional.normalize(vectors, dim=-1)


def test_triplets_are_ranked_by_their_similarity(surgical, frame_set, tmp_path):
    folder, _ = surgical
    data = phases(frame_set, label="triplets")
    settings = ZeroShotSettings(every=5, num_frames=1)
    result = zero_shot(folder, data, tmp_path / "out", settings, progress=False)
    frames = load_frame_set("synthetic", frame_set, "all")
    triplets = frames.features["triplets"].feature.names
    assert result.predictions.scores.shape == (12, len(triplets))
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    with torch.no_grad():
        image = processor(images=frames[5]["image"])["pixel_values"]
        vector = unit(model.get_image_features(image).pooler_output)[0]
        text = unit(model.get_text_features(**processor(text=sentences(triplets[2], "name"))).pooler_output)[0]
    assert result.predictions.scores[1, 2] == pytest.approx((1 + float(vector @ text)) / 2, abs=1e-4)
    assert (result.predictions.labels[1] > 0).nonzero()[0].tolist() == frames[5]["triplets"]
    assert {"ap_ivt", "ap_i", "ap_ivt_surgical", "prompt_sensitivity"} <= set(result.metrics)
    row = lines(tmp_path / "out" / "answers.jsonl")[1]
    assert row["label"] == [triplets[number] for number in frames[5]["triplets"]]


def test_every_phase_and_triplet_of_cholec80_and_cholect50_is_described_in_its_own_words():
    names = [
        *get_builder("cholec80").info.labels["phase"].names,
        *(name for column in ("phase", "triplets") for name in get_builder("cholect50").info.labels[column].names),
    ]
    assert len(names) == 7 + 7 + 100
    check_descriptions(names)
    triplets = get_builder("cholect50").info.labels["triplets"].names
    assert len({descriptions(name) for name in triplets}) == 100
    assert all(len(texts) == len(set(texts)) == 2 for texts in map(descriptions, names))
    with pytest.raises(InputError, match="1 classes have no descriptions, such as suturing"):
        check_descriptions(["preparation", "suturing"])
    for unknown in ("hook,fly,liver", "drone,grasp,liver", "hook,grasp,moon"):
        assert descriptions(unknown) == ()


def test_prompts_that_do_not_fit_the_classes_are_left_out_or_refused(surgical, frame_set, tmp_path):
    skills = phases(frame_set, label="skill", sampling="uniform")
    assert "descriptions" not in check_zero_shot(surgical[0], skills, ZeroShotSettings())
    with pytest.raises(InputError, match="have no descriptions"):
        check_zero_shot(surgical[0], skills, ZeroShotSettings(prompts=("descriptions",)))
    assert "descriptions" in check_zero_shot(surgical[0], phases(frame_set), ZeroShotSettings())


def test_clips_for_a_model_that_answers_are_refused(answering, frame_set, capsys):
    with pytest.raises(InputError, match="num_frames is 4, but a model that answers"):
        check_zero_shot(answering, phases(frame_set), ZeroShotSettings(num_frames=4))
    argv = ["zero-shot", str(answering), "--data", f"synthetic={frame_set}", "--label", "phase", "--split", "all"]
    assert main([*argv, "--num-frames", "4", "--output", "unused", "--check"]) != 0
    assert "shown one image" in capsys.readouterr().err


def test_the_plan_says_how_long_clips_are(surgical, frame_set):
    folder, video = surgical
    plan = check_zero_shot(folder, phases(frame_set), ZeroShotSettings())
    assert ("compares 60 clips of 3 frames" if video else "compares 60 images") in plan


@pytest.mark.parametrize("family", ["llava", "clip"])
def test_half_precision_asks_too_and_is_never_mixed_with_other_answers(family, frame_set, names, tmp_path):
    folder = tmp_path / "model"
    if family == "llava":
        tiny_image_text.llava(folder, names)
    else:
        tiny_image_text.contrastive(folder, names, family)
    settings = {"every": 10, "max_new_tokens": 2}
    half = ZeroShotSettings(**settings, dtype="bfloat16")
    result = zero_shot(folder, phases(frame_set), tmp_path / "out", half, progress=False)
    assert np.isfinite(result.predictions.scores).all()
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["dtype"] == "bfloat16"
    with pytest.raises(OutputError, match="begun with other settings"):
        zero_shot(folder, phases(frame_set), tmp_path / "out", ZeroShotSettings(**settings), progress=False)


@pytest.mark.parametrize(("hardware", "computes"), [("", "float32"), ("AMX", "bfloat16")])
def test_the_verb_computes_in_what_the_processor_has_and_notes_it(
    hardware, computes, frame_set, names, tmp_path, monkeypatch
):
    monkeypatch.setattr(precision, "_processor_bfloat16", lambda: hardware)
    tiny_image_text.contrastive(tmp_path / "model", names, "clip")
    argv = [
        "zero-shot",
        str(tmp_path / "model"),
        "--data",
        f"synthetic={frame_set}",
        "--label",
        "phase",
        "--split",
        "all",
    ]
    assert main([*argv, "--every", "20", "--output", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["dtype"] == computes


def test_the_verb_prints_what_was_found_and_leaves_it_in_the_folder(answering, frame_set, tmp_path, capsys):
    argv = ["zero-shot", str(answering), "--data", f"synthetic={frame_set}", "--label", "phase", "--split", "all"]
    argv += ["--every", "10", "--max-new-tokens", "2", "--output", str(tmp_path / "out")]
    assert main([*argv, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert answers["metrics"] == json.loads((tmp_path / "out" / "results.json").read_text())["metrics"]
    assert main(argv) == 0
    assert "image accuracy" in capsys.readouterr().out


def test_more_classes_than_letters_are_all_options():
    text = question([f"class {number}" for number in range(30)], "baseline")
    assert "\nZ. class 25\nAA. class 26\n" in text
    assert set(QUESTIONS) == {"baseline", "stability_v1"}
    assert len(option_letters(30)) == 30


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ({"label": "instruments"}, {}, "is a multi_label task; one class out of several options"),
        ({"label": "triplets"}, {}, "is a triplet task"),
        ({"label": "steps"}, {}, "data.label is 'steps'"),
        ({}, {"prompts": ("base_line",)}, "did you mean baseline"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_the_model_is_loaded(
    answering, frame_set, tmp_path, monkeypatch, data, settings, message
):
    monkeypatch.setattr(module, "_GenerativeModel", lambda *args: pytest.fail("loaded"))
    with pytest.raises(InputError, match=message):
        zero_shot(answering, phases(frame_set, **data), tmp_path, ZeroShotSettings(**settings), progress=False)
    assert list(tmp_path.iterdir()) == []


def test_models_that_cannot_answer_are_refused(frame_set, names, tmp_path):
    from ...modeling.conversion.families import encoder

    silent = tiny_image_text.llava(tmp_path / "silent", names, template=None)
    with pytest.raises(InputError, match="has no chat template"):
        check_zero_shot(silent, phases(frame_set), ZeroShotSettings())
    with pytest.raises(InputError, match="neither answers questions about images"):
        check_zero_shot(encoder("vit", tmp_path / "vit"), phases(frame_set), ZeroShotSettings())
    with pytest.raises(InputError, match="there is no folder"):
        check_zero_shot(tmp_path / "nowhere", phases(frame_set), ZeroShotSettings())
    assert ZeroShotSettings(prompts="baseline").prompts == ("baseline",)
    with pytest.raises(InputError, match="every is 0"):
        ZeroShotSettings(every=0)
    with pytest.raises(InputError, match="must be a type of torch"):
        ZeroShotSettings(dtype="float17")
