"""Small copies of raw downloads: every data set in the layout and the annotation formats in which it is published.

Each function writes a tree and says which labels every frame must get. Videos are real H.264 files of synthetic surgery; a
strip at the top of every frame spells the number of the source frame, so that a label on the wrong frame is noticed.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation
from tests.videos import numbered_frame, read_number

HEIGHT, WIDTH, STRIP = 96, 160, 32
SECONDS, RATE = 4, 25
SAMPLED = [0, 25, 50, 75]  # source frames at one frame a second
Expected = dict[str, list[dict[str, Any]]]  # labels by video and frame
LAYOUTS: dict[str, Callable[[Path], Expected]] = {}


def layout(name: str) -> Callable[[Callable[[Path], Expected]], Callable[[Path], Expected]]:
    def register(function: Callable[[Path], Expected]) -> Callable[[Path], Expected]:
        LAYOUTS[name] = function
        return function

    return register


# ------------------------------------------------------------------------------------------- images


def numbered_image(number: int) -> np.ndarray:
    """(96, 160, 3): synthetic surgery below a strip that spells the number."""
    pixels = _operation().frame(number / RATE).copy()
    pixels[:STRIP] = numbered_frame(number, STRIP, WIDTH)
    return pixels


@cache
def _operation() -> SyntheticOperation:
    return SyntheticOperation(seed=5, duration_seconds=14, height=HEIGHT, width=WIDTH)


def number_of(pixels: np.ndarray) -> int:
    return read_number(pixels[: STRIP * pixels.shape[0] // HEIGHT])


@cache
def _template(frames: int, rate: float) -> bytes:
    import io

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(rate * 1001) if rate != int(rate) else int(rate))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_image(number), format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def write_video(path: Path, frames: int = SECONDS * RATE, rate: float = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_template(frames, rate))


def write_frames(folder: Path, names: Sequence[str], numbers: Sequence[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in zip(names, numbers, strict=True):
        Image.fromarray(numbered_image(number)).save(folder / name, quality=95)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
    return path


# ------------------------------------------------------------------------------------------- phases


def phase_at(row: int, classes: int) -> int:
    """Changes every seven rows, so that neighbors of a sampled row would show."""
    return (row // 7) % classes


def _table(rows: Sequence[Sequence[object]], header: str | None = None, separator: str = "\t", end: str = "\n") -> str:
    lines = [header] if header else []
    return end.join([*lines, *(separator.join(map(str, row)) for row in rows)]) + end


def _source_rows(names: Sequence[str], count: int = SECONDS * RATE) -> list[tuple[int, str]]:
    return [(row, names[phase_at(row, len(names))]) for row in range(count)]


def _named(names: Sequence[str], rows: Sequence[int] = SAMPLED, column: str = "phase") -> list[dict[str, Any]]:
    return [{column: names[phase_at(row, len(names))]} for row in rows]


CHOLEC = "Preparation CalotTriangleDissection ClippingCutting GallbladderDissection GallbladderPackaging".split()
CHOLEC += ["CleaningCoagulation", "GallbladderRetraction"]
TOOLS = "Grasper Bipolar Hook Scissors Clipper Irrigator SpecimenBag".split()


def _tool_rows(seconds: int = SECONDS) -> tuple[str, list[list[str]]]:
    rows = [[25 * second, *(int((second + tool) % 3 == 0) for tool in range(7))] for second in range(seconds)]
    names = [[TOOLS[tool] for tool in range(7) if row[1 + tool]] for row in rows]
    return _table(rows, "Frame\t" + "\t".join(TOOLS)), names


@layout("cholec80")
def cholec80(root: Path) -> Expected:
    text, tools = _tool_rows()
    for number in (1, 41, 80):
        write_video(root / f"videos/video{number:02d}.mp4")
        # As people save them: with a byte-order mark, Windows line ends, a blank line at the end.
        end, mark = ("\r\n", "\ufeff") if number == 41 else ("\n", "")
        phases = mark + _table(_source_rows(CHOLEC), "Frame\tPhase", end=end) + end
        write(root / f"phase_annotations/video{number:02d}-phase.txt", phases)
        write(root / f"tool_annotations/video{number:02d}-tool.txt", text)
    (root / "videos/.DS_Store").write_bytes(b"x")
    rows = [{**row, "tools": there} for row, there in zip(_named(CHOLEC), tools, strict=True)]
    return {f"video{number:02d}": rows for number in (1, 41, 80)}


@layout("m2cai16_workflow")
def m2cai16_workflow(root: Path) -> Expected:
    names = ["TrocarPlacement", *CHOLEC]
    text = _table(_source_rows(names), "Frame\tPhase")
    for stem in (
        "train_dataset/workflow_video_01",
        "train_dataset/workflow_video_27",
        "test_dataset/test_workflow_video_03",
    ):
        write_video(root / f"{stem}.mp4")
        write(root / f"{stem}.txt", text)
        write(root / f"{stem}_timestamp.txt", "not labels")
        write(root / f"{stem}_pred.txt", "not labels")
    return {name: _named(names) for name in ("video_01", "video_27", "video_30")}


@layout("autolaparo")
def autolaparo(root: Path) -> Expected:
    for number in (1, 15):
        write_video(root / f"videos/{number:02d}.mp4", frames=8 * RATE)
        rows = [(second + 1, second % 7 + 1) for second in range(8)]  # counted from 1, as are the phases
        write(root / f"labels/label_{number:02d}.txt", _table(rows, "Frame\tPhase"))
    names = ["Preparation", "Dividing Ligament and Peritoneum", "Dividing Uterine Vessels and Ligament"]
    names += ["Transecting the Vagina", "Specimen Removal", "Suturing", "Washing"]
    return {name: [{"phase": names[second % 7]} for second in range(8)] for name in ("01", "15")}


CATARACTS = (
    "Idle;Toric Marking;Implant Ejection;Incision;Viscodilatation;Capsulorhexis;Hydrodissection;Nucleus Breaking;"
    "Phacoemulsification;Vitrectomy;Irrigation/Aspiration;Preparing Implant;Manual Aspiration;Implantation;Positioning;"
    "OVD Aspiration;Suturing;Sealing Control;Wound Hydratation"
).split(";")


@layout("cataracts")
def cataracts(root: Path) -> Expected:
    for folder, name in (("train_gt", "train01"), ("dev_gt", "test01"), ("test_gt", "test02")):
        write_video(root / f"videos/micro/{name}.mp4", frames=120, rate=30)
        rows = [(row + 1, phase_at(row, 19)) for row in range(120)]
        write(root / f"ground_truth/CATARACTS_2020/{folder}/{name}.csv", _table(rows, "Frame,Steps", ","))
    return {name: _named(CATARACTS, [0, 30, 60, 90]) for name in ("train01", "test01", "test02")}


CATARACT101 = (
    "Incision;Viscous agent injection;Rhexis;Hydrodissection;Phacoemulsificiation;Irrigation and aspiration;"
    "Capsule polishing;Lens implant setting-up;Viscous agent removal;Tonifying and antibiotics"
).split(";")


@layout("cataract101")
def cataract101(root: Path) -> Expected:
    for video in (269, 934):
        write_video(root / f"videos/case_{video}.mp4")
    # 269 begins with frame 20 and ends with its last frame; the last row of 934 marks its end, inclusive.
    starts = [(269, 20, 1), (269, 50, 2), (934, 0, 1), (934, 26, 10), (934, 75, 10)]
    write(root / "annotations.csv", _table(starts, "VideoID;FrameNo;Phase", ";"))
    write(root / "videos.csv", "VideoID;Frames;FPS;Surgeon;Experience\n269;100;25;1;1\n")
    first, second, last = CATARACT101[0], CATARACT101[1], CATARACT101[9]
    return {
        "269": [{"phase": first}, {"phase": second}, {"phase": second}],  # frame 0 has no label and is dropped
        "934": [{"phase": first}, {"phase": first}, {"phase": last}, {"phase": last}],
    }


CATARACT21 = (
    "not_initialized Incision Viscoelasticum Rhexis Hydrodissektion Phako Irrigation-Aspiration Kapselpolishing "
    "Linsenimplantation Visco-Absaugung Tonisieren Antibiotikum"
).split()


@layout("cataract21")
def cataract21(root: Path) -> Expected:
    write_video(root / "videos/case_01_training.mp4")
    write(root / "labels/case_01_training.csv", _table(_source_rows(CATARACT21), None, ","))
    write_video(root / "videos/case_18.mp4")
    write(root / "labels/case_18.csv", _table([(row, CATARACT21[10 + row // 50]) for row in range(100)], None, ","))
    both = "Tonisieren/Antibiotikum"
    first = [{"phase": both if row["phase"] in CATARACT21[10:] else row["phase"]} for row in _named(CATARACT21)]
    return {"case_01": first, "case_18": [{"phase": both}] * 4}


PMLR50 = ["Preparation stage", "Knotting of the Foley catheter", "Procedure of the liver resection"]
PMLR50 += ["Release of the Foley catheter", "Postprocessing stage"]


@layout("pmlr50")
def pmlr50(root: Path) -> Expected:
    for video in ("01", "38"):
        write_frames(root / f"frames/{video}", [f"{frame:08d}.jpg" for frame in range(10)], range(10))
        write(root / f"phase_annotations/{video}.txt", _table([(row, row // 2) for row in range(10)], "Frame\tPhase"))
        write(
            root / f"blocking_annotations/{video}.txt",
            _table([(row, row % 2) for row in range(10)], "Frame\tBlocking"),
        )
        write(root / f"bbox_annotations/{video}.json", "{}")
    rows = [{"phase": PMLR50[row // 2], "blocking": str(row % 2)} for row in range(10)]
    return {"01": rows, "38": rows}


@layout("esd57")
def esd57(root: Path) -> Expected:
    for video in ("3", "40"):
        write_frames(root / f"frames/{video}", [f"{frame:05d}.png" for frame in range(8)], range(8))
        write(root / f"phases/{video}.txt", _table([(row, row) for row in range(8)], "Frame\tPhase"))
    return {video: [{"phase": f"phase_{row}"} for row in range(8)] for video in ("3", "40")}


@layout("phase_folder")
def phase_folder(root: Path) -> Expected:
    write(root / "classes.txt", "opening\nrepair\nclosing\n")
    write_video(root / "videos/monday.mp4")
    write(
        root / "phases/monday.txt",
        _table([(0, "opening"), (1, "repair"), (2, "repair"), (3, "closing")], "second\tphase"),
    )
    write_frames(root / "frames/friday", ["frame_1.jpg", "frame_2.jpg"], [0, 25])
    write(root / "phases/friday.txt", _table([(0, 2), (1, 0)], "second\tphase"))
    return {
        "monday": [{"phase": name} for name in ("opening", "repair", "repair", "closing")],
        "friday": [{"phase": "closing"}, {"phase": "opening"}],
    }


@layout("own")
def own(root: Path) -> Expected:
    write_video(root / "op1-1.mp4", frames=50)
    write_video(root / "op1-2.mp4", frames=75)
    write_frames(root / "frames/friday", ["frame_1.jpg", "frame_2.jpg"], [0, 25])
    write(root / "labels/all.csv", "video;start;end;phase\nop1;1;0:03;open\nop1;3,0;5;close\nfriday;0;1;open\n")
    phases = [None, "open", "open", "close", "close"]
    return {"op1": [{"phase": name} for name in phases], "frames/friday": [{"phase": "open"}, {"phase": None}]}


# ------------------------------------------------------------------------------------------- clips


@layout("surgicalactions160")
def surgicalactions160(root: Path) -> Expected:
    write_video(root / "01_abdominal_access/01_02.mp4", frames=51)
    write_video(root / "16_endobag-out/16_10.mp4", frames=60)
    return {"01_02": [{"action": "Abdominal access"}] * 51, "16_10": [{"action": "Endobag-Out"}] * 60}


@layout("cholec80_cvs")
def cholec80_cvs(root: Path) -> Expected:
    for number in (1, 41):
        write_video(root / f"videos/video{number:02d}.mp4", frames=10 * RATE)
    import openpyxl

    book = openpyxl.Workbook()
    times = ["Initial minute", "Initial second", "Final minute", "Final second"]
    criteria = ["Two structures", "Cystic plate", "Hepatocystic triangle"]
    rows = [
        ["Video", "Critical View", *times, *criteria, "Total"],
        [1, 0, 0, 2, 0, 5, 1, 0, 2, 3],
        [1, 0, 0, 9, 0, 6, 1, 1, 1, 3],  # ends before it begins
        [1, 1, 0, 7, 0, 9, 2, 2, 2, 6],
        [41, 0, 0, 0, 0, 3, 0, 0, 0, 0],
        [55, 0, 0, 0, 0, 3, 0, 0, 0, 0],  # a video that was not downloaded
    ]
    for row in rows:
        book.active.append(row)
    book.save(root / "surgeons_annotations.xlsx")
    return {
        "video01_1": [{"cvs_score": "3", "cvs": [1.0, 0.0, 2.0]}] * 3,
        "video01_3": [{"cvs_score": "6", "cvs": [2.0, 2.0, 2.0]}] * 2,
        "video41_1": [{"cvs_score": "0", "cvs": [0.0, 0.0, 0.0]}] * 3,
    }


# ------------------------------------------------------------------------------------------- triplets


def _instance(triplet: int, instrument: int, verb: int, target: int, phase: int) -> list[float]:
    return [triplet, instrument, 1, -1, -1, -1, -1, verb, target, -1, -1, -1, -1, -1, phase]


@layout("cholect50")
def cholect50(root: Path) -> Expected:
    annotations = {
        "0": [_instance(17, 0, 1, 0, 0)],
        "1": [_instance(17, 0, 1, 0, 0), _instance(60, 2, 2, 0, 0), _instance(17, 0, 1, 0, 0)],
        "2": [_instance(-1, -1, -1, -1, 1)],
        "3": [_instance(-1, 4, -1, -1, 6)],  # an instrument without a triplet
    }
    categories = {"triplet": {"17": "grasper,retract,gallbladder"}, "instrument": {"0": "grasper"}, "phase": {}}
    content = {"video": 1, "fps": 1, "num_frames": 4, "categories": categories, "annotations": annotations}
    for number in (1, 111):
        write_frames(root / f"videos/VID{number:02d}", [f"{frame:06d}.png" for frame in range(4)], range(4))
        write(
            root / f"labels/VID{number:02d}.json", json.dumps({**content, "video": number, "info": {}, "licenses": []})
        )
    names = {17: "grasper,retract,gallbladder", 60: "hook,dissect,gallbladder"}
    nothing: dict[str, Any] = {"triplets": [], "instruments": [], "verbs": [], "targets": []}
    rows = [
        {
            "triplets": [names[17]],
            "instruments": ["grasper"],
            "verbs": ["retract"],
            "targets": ["gallbladder"],
            "phase": "preparation",
        },
        {
            "triplets": [names[17], names[60]],
            "instruments": ["grasper", "hook"],
            "verbs": ["retract", "dissect"],
            "targets": ["gallbladder"],
            "phase": "preparation",
        },
        {**nothing, "phase": "carlot-triangle-dissection"},
        {**nothing, "instruments": ["clipper"], "phase": "gallbladder-extraction"},
    ]
    return {"VID01": rows, "VID111": rows}


@layout("cholect45")
def cholect45(root: Path) -> Expected:
    write_frames(root / "data/VID79", [f"{frame:06d}.png" for frame in range(3)], range(3))
    present = {"triplet": (100, 17), "instrument": (6, 0), "verb": (10, 1), "target": (15, 0)}
    for name, (width, number) in present.items():
        rows = [[frame, *(int(column == number and frame != 1) for column in range(width))] for frame in range(3)]
        write(root / f"{name}/VID79.txt", _table(rows, None, ","))
    full = {
        "triplets": ["grasper,retract,gallbladder"],
        "instruments": ["grasper"],
        "verbs": ["retract"],
        "targets": ["gallbladder"],
    }
    return {"VID79": [full, {name: [] for name in full}, full]}


def _prostate(root: Path, instances: dict[str, list[list[int]]]) -> None:
    numbers = [int(frame) for frame in instances]
    write_frames(root / "frames/train/pwhv1", [f"{number}.jpg" for number in numbers], numbers)
    write_frames(root / "frames/test/esadv2", [f"{number}.jpg" for number in numbers], numbers)
    for path in ("annos/train/pwhv1.json", "annos/test/esadv2.json"):
        write(root / path, json.dumps({"annotations": instances}))


@layout("prostate21")
def prostate21(root: Path) -> Expected:
    # 47 is <aspirator, retract, catheter> in release 1. Numbers 3 and 4 were removed by the authors.
    _prostate(
        root, {"2": [[0, 0, 0, 0] + [-1] * 6, [47, 2, 0, 1] + [-1] * 6], "5": [], "12": [[0, 0, 0, 0] + [-1] * 6]}
    )
    one = {
        "triplets": ["scissors,retract,bladder"],
        "instruments": ["scissors"],
        "verbs": ["retract"],
        "targets": ["bladder"],
    }
    both = {
        "triplets": ["scissors,retract,bladder", "aspirator,retract,catheter"],
        "instruments": ["scissors", "aspirator"],
        "verbs": ["retract"],
        "targets": ["bladder", "catheter"],
    }
    rows = [both, {name: [] for name in one}, one]
    return {"pwhv1": rows, "esadv2": rows}


@layout("prostatd")
def prostatd(root: Path) -> Expected:
    # 58 is <needle driver, grasp, prostate> in release 2.
    _prostate(root, {"0": [[58, 3, 4, 3] + [-1] * 6]})
    row = {
        "triplets": ["needle driver,grasp,prostate"],
        "instruments": ["needle driver"],
        "verbs": ["grasp"],
        "targets": ["prostate"],
    }
    return {"pwhv1": [row], "esadv2": [row]}


# ------------------------------------------------------------------------------------------- safety


@layout("endoscapes")
def endoscapes(root: Path) -> Expected:
    # 9500 comes before 29375 although not as text; 9525 has no label.
    for part, video in (("train", 1), ("val", 121), ("test", 162)):
        write_frames(root / part, [f"{video}_{frame}.jpg" for frame in (9500, 9525, 29375)], [1, 2, 3])
        images = [
            {
                "id": 1,
                "file_name": f"{video}_29375.jpg",
                "video_id": video,
                "is_ds_keyframe": True,
                "ds": [1.0, 1 / 3, 0.0],
            },
            {
                "id": 2,
                "file_name": f"{video}_9500.jpg",
                "video_id": video,
                "is_ds_keyframe": True,
                "ds": [0.0, 0.0, 2 / 3],
            },
            {
                "id": 3,
                "file_name": f"{video}_9525.jpg",
                "video_id": video,
                "is_ds_keyframe": False,
                "ds": [0.0, 0.0, 2 / 3],
            },
        ]
        write(root / part / "annotation_ds_coco.json", json.dumps({"images": images}))
    rows = [
        {"cvs": [0.0, 0.0, 2 / 3], "cvs_any": "1", "cvs_majority": "1"},
        {"cvs": [1.0, 1 / 3, 0.0], "cvs_any": "2", "cvs_majority": "1"},
    ]
    return {"1": rows, "121": rows, "162": rows}


# ------------------------------------------------------------------------------------------- corpora


@layout("heichole")
def heichole(root: Path) -> Expected:
    for name in ("Hei-Chole1", "Hei-Chole2_calot"):
        write_video(root / f"Videos/{name}.mp4", frames=200, rate=50)
        rows = [(row, phase_at(row, 7)) for row in range(200)]
        write(root / f"Annotations/Phase/{name}_Annotation_Phase.csv", _table(rows, None, ","))
    return {name: _named(CHOLEC, [0, 50, 100, 150]) for name in ("Hei-Chole1", "Hei-Chole2_calot")}


@layout("pitvis")
def pitvis(root: Path) -> Expected:
    for number in (1, 25):
        write_video(root / f"video_{number:02d}.mp4")
        rows = [(number, second, step, -1, -1) for second, step in enumerate((-1, 1, 14, 5))]
        write(
            root / f"annotations_{number:02d}.csv",
            _table(rows, "int_video,int_time,int_step,int_instrument1,int_instrument2", ","),
        )
    steps = [None, "nasal_corridor_creation", "debris_clearance", "sellotomy"]
    return {name: [{"step": step} for step in steps] for name in ("video_01", "video_25")}


@layout("psi_ava")
def psi_ava(root: Path) -> Expected:
    for case in ("CASE001", "CASE021"):
        write_frames(root / f"keyframes/{case}", [f"{frame:05d}.jpg" for frame in range(5)], range(5))
    return {case: [{}] * 5 for case in ("CASE001", "CASE021")}


def _multibypass(root: Path, center: str, video: str) -> list[dict[str, Any]]:
    write_video(root / f"videos/{video}.mp4", frames=6 * RATE)
    phases = [
        {"start": 1000, "end": 4500, "label_name": "preparation", "label_id": 0},
        {"start": 1900, "end": 3000, "label_name": "out_of_body", "label_id": 12},
        {"start": 3500, "end": 5500, "label_name": "severe_index", "label_id": 13},
        {"start": 4500, "end": 6000, "label_name": "disassembling", "label_id": 10},
    ]
    steps = [{"start": 0, "end": 2000, "label_name": "s1_cavity_exploration", "label_id": 1}]
    path = root / f"labels/{center}/labels_by70/{video}.mp4.json"
    write(path, json.dumps({"phases": phases, "steps": steps}))
    first = "s1_cavity_exploration"
    return [
        {"phase": None, "step": first, "adverse_event": None},
        {"phase": "preparation", "step": first, "adverse_event": "no"},
        {"phase": "out_of_body", "step": None, "adverse_event": "no"},
        {"phase": "preparation", "step": None, "adverse_event": "no"},
        {"phase": "preparation", "step": None, "adverse_event": "yes"},
        {"phase": "disassembling", "step": None, "adverse_event": "yes"},
    ]


@layout("multibypass140")
def multibypass140(root: Path) -> Expected:
    return {
        "BBP03": _multibypass(root, "bern", "BBP03"),
        "SBP70": _multibypass(root, "strasbourg", "SBP70"),
    }


@layout("bernbypass70")
def bernbypass70(root: Path) -> Expected:
    return {"BBP03": _multibypass(root, "bern", "BBP03")}


@layout("strasbypass70")
def strasbypass70(root: Path) -> Expected:
    rows = _multibypass(root, "strasbourg", "SBP05")
    shutil.rmtree(root / "videos")
    # The group extracts frames with ffmpeg, counted from 1.
    numbers = [25 * second for second in range(6)]
    write_frames(root / "frames/SBP05", [f"SBP05_{second + 1:08d}.jpg" for second in range(6)], numbers)
    return {"SBP05": rows}


@layout("m2cai16_tool")
def m2cai16_tool(root: Path) -> Expected:
    text, tools = _tool_rows()
    write_video(root / "train_dataset/tool_video_09.mp4")
    write(root / "train_dataset/tool_video_09.txt", text)
    return {"tool_video_09": [{"tools": there} for there in tools]}


@layout("gensurgery")
def gensurgery(root: Path) -> Expected:
    write_video(root / "appendectomy/a title with : every? character.mp4")
    write_frames(root / "already extracted/x", ["00000.png", "00001.png"], [0, 25])
    return {"appendectomy/a title with : every? character": [{}] * 4, "already extracted/x": [{}] * 2}


@layout("folder")
def folder(root: Path) -> Expected:
    write_video(root / "monday/left.MP4")
    write_video(root / "left.mp4")
    return {"monday/left": [{}] * 4, "left": [{}] * 4}


@layout("lemon")
def lemon(root: Path) -> Expected:
    entry = {"informative": True, "md5": "0" * 32, "title": "t", "resolution": [1280, 720]}
    entries = [
        {**entry, "youtubeId": "-bcDefGhi_k", "procedureName": ["splenectomy", "pancreatectomy"], "robotic": True},
        {**entry, "youtubeId": "80czDESoMiQ", "procedureName": ["cecectomy"], "robotic": False},
        {**entry, "youtubeId": "notThereYet", "procedureName": ["colectomy"], "robotic": False},
    ]
    write(root / "labels.json", json.dumps(entries))
    write_video(root / "videos/Distal resection--bcDefGhi_k.mp4")
    write_video(root / "videos/80czDESoMiQ.mp4")
    return {
        "-bcDefGhi_k": [{"procedures": ["pancreatectomy", "splenectomy"], "robotic": "yes"}] * 4,
        "80czDESoMiQ": [{"procedures": ["cecectomy"], "robotic": "no"}] * 4,
    }
