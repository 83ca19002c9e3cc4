"""Projects of BORIS 7 to 9 and the tables of events that it exports."""

import copy
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.own_labels import boris
from surgvista_hf.datasets_scripts.schema.info import AnnotationError

from .reading import RANDOM, by_video, documents, edited, tiers, written


def behavior(code: str, kind: str = "State event", category: str = "", modifiers: object = "") -> dict[str, object]:
    return {
        "type": kind,
        "key": code[0],
        "code": code,
        "description": "",
        "category": category,
        "modifiers": modifiers,
        "excluded": "",
        "coding map": "",
    }


def observation(events: list, *files: str, lengths=(), **more: object) -> dict[str, object]:
    return {
        "file": {"1": list(files), "2": [], "3": []},
        "type": "MEDIA",
        "date": "2026-01-01T10:00:00",
        "description": "",
        "time offset": 0.0,
        "events": events,
        "observation time interval": [0, 0],
        "independent_variables": {"patient": "p1", "hospital": ""},
        "close_behaviors_between_videos": False,
        "media_info": {
            "length": dict(zip(files, lengths, strict=False)),
            "fps": dict.fromkeys(files, 25.0),
            "offset": {"1": 0.0},
        },
    } | more


def project(**observations: object) -> dict[str, object]:
    return {
        "time_format": "hh:mm:ss",
        "project_date": "2026-01-01T10:00:00",
        "project_name": "phases",
        "project_format_version": "7.0",
        "subjects_conf": {"0": {"key": "1", "name": "surgeon", "description": ""}},
        "behaviors_conf": {
            "0": behavior("cut", category="phase"),
            "1": behavior("sew", category="phase"),
            "2": behavior(
                "clip", "Point event", modifiers={"0": {"name": "vessel", "type": 0, "values": ["artery", "duct"]}}
            ),
            "3": behavior("look", "Point event with coding map"),
        },
        "observations": observations,
        "behavioral_categories": ["phase"],
        "independent_variables": {"0": {"label": "patient", "type": "text"}},
        "coding_map": {},
        "converters": {},
    }


EVENTS = [
    [0.0, "", "cut", "", ""],
    [10.5, "", "cut", "", "", 262],  # since version 8 with the number of the frame
    [10.5, "", "sew", "", "", 262],
    [12.0, "", "clip", "duct", "quick"],
    [13.0, "surgeon", "clip", "None", ""],
    [20.25, "No focal subject", "sew", "", "", "NA"],
]
PROJECT = project(op1=observation(EVENTS, "D:/videos/op1.mp4", lengths=[20.25]))


def test_behaviors_lie_on_tiers_of_their_category_and_subject(tmp_path):
    (labels,) = boris.read(written(tmp_path, "phases.boris", PROJECT))
    assert labels.video == "D:/videos/op1.mp4"
    assert labels.properties == {"patient": "p1", "hospital": ""}
    assert tiers(labels) == {
        "phase": [(0.0, 10.5, "cut"), (10.5, 20.25, "sew")],
        "behavior": [(12.0, 12.0, "clip")],
        "clip: vessel": [(12.0, 12.0, "duct")],
        "surgeon: behavior": [(13.0, 13.0, "clip")],
    }
    assert labels.tiers[0].spans[1].where == "phases.boris, observations.op1.events[2]"


def test_events_may_stand_in_any_order_and_states_of_different_subjects_and_modifiers_overlap(tmp_path):
    events = [
        [9.0, "", "cut", "a|b", ""],
        [1.0, "", "cut", "a|b", ""],
        [2.0, "surgeon", "cut", "a|b", ""],
        [3.0, "", "cut", "a|None", ""],
        [8.0, "surgeon", "cut", "a|b", ""],
        [4.0, "", "cut", "a|None", ""],
    ]
    (labels,) = boris.read(written(tmp_path, "p.boris", project(op1=observation(events, "op1.mp4"))))
    assert tiers(labels) == {
        "phase": [(1.0, 9.0, "cut"), (3.0, 4.0, "cut")],
        "cut: modifier 1": [(1.0, 9.0, "a"), (3.0, 4.0, "a")],
        "cut: modifier 2": [(1.0, 9.0, "b")],
        "surgeon: phase": [(2.0, 8.0, "cut")],
        "surgeon: cut: modifier 1": [(2.0, 8.0, "a")],
        "surgeon: cut: modifier 2": [(2.0, 8.0, "b")],
    }


def test_an_observation_of_several_files_is_divided_at_their_ends(tmp_path):
    events = [
        [1.0, "", "cut", "", ""],
        [179.96, "", "clip", "", ""],
        [190.0, "", "cut", "", ""],
        [190.0, "", "sew", "", ""],
        [539.92, "", "sew", "", ""],
    ]
    made = project(op1=observation(events, "op1-1.mp4", "op1-2.mp4", lengths=[179.96, 359.96]))
    found = by_video(boris.read(written(tmp_path, "p.boris", made)))
    assert tiers(found["op1-1.mp4"]) == {"phase": [(1.0, 179.96, "cut")]}
    assert tiers(found["op1-2.mp4"]) == {
        "phase": [(0.0, 10.04, "cut"), (10.04, 359.96, "sew")],
        "behavior": [(0.0, 0.0, "clip")],
    }


def test_live_observations_are_called_by_their_id_and_further_players_are_left_out(tmp_path):
    live = observation([], type="LIVE", file=[])
    views = observation([[1.0, "", "look", "", ""]], "a.mp4", file={"1": ["a.mp4"], "2": ["room.mp4"]})
    found = boris.read(written(tmp_path, "p.boris", project(**{"op 7": live, "op8": views})))
    assert [labels.video for labels in found] == ["op 7", "a.mp4"]
    assert tiers(found[1]) == {"behavior": [(1.0, 1.0, "look")]}


def without(key: str) -> dict[str, object]:
    return {name: value for name, value in PROJECT.items() if name != key}


def changed(**more: object) -> dict[str, object]:
    return project(op1=observation(EVENTS, "op1.mp4", lengths=[20.25]) | more)


def with_events(*events: list, lengths=()) -> dict[str, object]:
    return project(op1=observation(list(events), "op1.mp4", lengths=lengths))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"observations": {', r"p\.boris:1 is not JSON"),
        ("[" * 100_000, "is no JSON that can be read"),
        ("1" * 5_000, "is no JSON that can be read"),
        ([], r"p\.boris: an object is expected, here is a list"),
        ({"images": []}, "is no project of BORIS: it has no 'observations' and 'behaviors_conf'"),
        (without("behaviors_conf"), "is no project of BORIS"),
        (
            with_events([0.0, "", "cut", "", ""]),
            r"observations\.op1: the state event 'cut' that starts at 0 s has no end",
        ),
        (
            with_events([0.0, "", "tie", "", ""]),
            r"events\[0\]\[2\]: the behavior 'tie' is not in the ethogram; known are cut, sew",
        ),
        (
            with_events([-1.0, "", "look", "", ""]),
            r"events\[0\]\[0\]: a number of at least 0 is expected, here is -1\.0",
        ),
        (with_events(["NA", "", "look", "", ""]), r'a number of at least 0 is expected, here is "NA"'),
        (with_events([1.0, "look"]), r"events\[0\]: an event has a time, a subject and a behavior"),
        (with_events([9.0, "", "look", "", ""], lengths=[8.0]), "'look' ends at 9 s, after the end of the video"),
        (changed(type="IMAGES"), "this observation is of single images"),
        (
            changed(**{"time offset": 3600.0}),
            "time offset.*: the times of this observation are shifted against the video",
        ),
        (changed(file={"1": ["a.mp4", "b.mp4"]}), "the length of 'a.mp4' is unknown"),
        (project(op1={"file": []}), "there is no 'events'"),
        (
            without("behaviors_conf") | {"behaviors_conf": {"0": behavior("a"), "1": behavior("a")}},
            "'a' is there twice",
        ),
        (without("behaviors_conf") | {"behaviors_conf": {"0": behavior("a", "Event")}}, "'a' has the type 'event'"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_place(tmp_path, content, complaint):
    with pytest.raises(AnnotationError, match=complaint) as raised:
        boris.read(written(tmp_path, "p.boris", content))
    assert str(raised.value).startswith(str(tmp_path / "p.boris"))


AGGREGATED = """Observation id,Observation date,Description,Media file,Total length,FPS,patient,Subject,Behavior,\
Behavioral category,Modifiers,Behavior type,Start (s),Stop (s),Duration (s),Comment start,Comment stop
op1,2026-01-01 10:00:00,"first, long",D:/op1.mp4,1381.010,29.97,p1,No focal subject,cut,phase,,STATE,0.000,10.500,10.500,,
op1,2026-01-01 10:00:00,"first, long",D:/op1.mp4,1381.010,29.97,p1,No focal subject,sew,phase,,STATE,10.500,20.250,9.750,,
op1,2026-01-01 10:00:00,"first, long",D:/op1.mp4,1381.010,29.97,p1,surgeon,clip,,duct|None,POINT,12.000,12.000,NA,,
op2,2026-01-02 10:00:00,,D:/op2.mp4,100.000,25.0,p2,No focal subject,cut,phase,,STATE,1.000,2.000,1.000,,
"""
NEWER = """Observation id\tObservation date\tDescription\tObservation type\tSource\tTime offset (s)\tCoding duration\t\
Media duration (s)\tFPS (frame/s)\tpatient\tSubject\tObservation duration by subject by observation\tBehavior\t\
Behavioral category\tModifier #1\tModifier #2\tBehavior type\tStart (s)\tStop (s)\tDuration (s)\tMedia file name\t\
Image index start\tImage index stop\tImage file path start\tImage file path stop\tComment start\tComment stop
op1\t2026-01-01\t\tMedia file(s)\tplayer #1:op1.mp4\t0.0\t20.25\t20.25\t25\tp1\tNo focal subject\t20.25\tcut\tphase\ta\tNone\t\
State event\t0.0\t10.5\t10.5\tD:\\videos\\op1.mp4\t0\t262\t\t\t\t
op1\t2026-01-01\t\tMedia file(s)\tplayer #1:op1.mp4\t0.0\t20.25\t20.25\t25\tp1\tNo focal subject\t20.25\tclip\t\t\t\t\
Point event\t12.0\t12.0\tNA\tD:\\videos\\op1.mp4\t300\t300\t\t\t\t
"""
TABULAR = """Observation id\top1\t\t\t\t\t\t\t

Media file(s)\t\t\t\t\t\t\t\t
Player #1\top1.mp4\t\t\t\t\t\t\t
Observation date\t2026-01-01 10:00:00\t\t\t\t\t\t\t
Time offset (s)\t0.0\t\t\t\t\t\t\t
independent variables\t\t\t\t\t\t\t\t
variable\tvalue\t\t\t\t\t\t\t
patient\tp1\t\t\t\t\t\t\t
Time\tMedia file path\tTotal length\tFPS\tSubject\tBehavior\tBehavioral category\tComment\tStatus
0.000\top1.mp4\t359.960\t25.0\t\tcut\tphase\t\tSTART
10.500\top1.mp4\t359.960\t25.0\t\tcut\tphase\t\tSTOP
10.500\top1.mp4\t359.960\t25.0\t\tsew\tphase\t\tSTART
12.000\top1.mp4\t359.960\t25.0\tsurgeon\tclip\t\t\tPOINT
20.250\top1.mp4\t359.960\t25.0\t\tsew\tphase\t\tSTOP
"""
NEWER_TABULAR = """Observation id,Observation type,Source,Time offset (s),patient,Subject,Behavior,Behavioral category,\
Modifier #1,Behavior type,Time,Media file name,Image index,Comment
op1,Media file(s),player #1:op1.mp4,0.0,p1,No focal subject,cut,phase,,START,0.0,op1.mp4,0,
op1,Media file(s),player #1:op1.mp4,0.0,p1,No focal subject,clip,,duct,POINT,12.0,op1.mp4,300,
op1,Media file(s),player #1:op1.mp4,0.0,p1,No focal subject,cut,phase,,STOP,10.5,op1.mp4,262,
"""


def test_aggregated_events_of_all_versions_are_read(tmp_path):
    first, second = boris.read(written(tmp_path, "events.csv", AGGREGATED))
    assert (first.video, second.video) == ("D:/op1.mp4", "D:/op2.mp4")
    assert first.properties == {"patient": "p1"}
    assert tiers(first) == {
        "phase": [(0.0, 10.5, "cut"), (10.5, 20.25, "sew")],
        "surgeon: behavior": [(12.0, 12.0, "clip")],
        "surgeon: clip: modifier 1": [(12.0, 12.0, "duct")],
    }
    assert first.tiers[0].spans[1].where == "events.csv:3"
    (newer,) = boris.read(written(tmp_path, "events.tsv", NEWER))
    assert newer.video == "D:\\videos\\op1.mp4"
    assert newer.properties == {"patient": "p1"}
    assert tiers(newer) == {
        "phase": [(0.0, 10.5, "cut")],
        "cut: modifier 1": [(0.0, 10.5, "a")],
        "behavior": [(12.0, 12.0, "clip")],
    }


def test_tabular_events_of_all_versions_are_paired(tmp_path):
    (labels,) = boris.read(written(tmp_path, "events.tsv", TABULAR))
    assert labels.video == "op1.mp4"
    assert labels.properties == {"patient": "p1"}
    assert tiers(labels) == {
        "phase": [(0.0, 10.5, "cut"), (10.5, 20.25, "sew")],
        "surgeon: behavior": [(12.0, 12.0, "clip")],
    }
    (newer,) = boris.read(written(tmp_path, "events.csv", NEWER_TABULAR))
    assert newer.video == "op1.mp4"
    assert newer.properties == {"patient": "p1"}
    assert tiers(newer) == {
        "phase": [(0.0, 10.5, "cut")],
        "behavior": [(12.0, 12.0, "clip")],
        "clip: modifier 1": [(12.0, 12.0, "duct")],
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("start,end,label\n0,1,cut\n", "has no header of a table of events of BORIS"),
        ("", "has no header of a table of events"),
        (
            AGGREGATED.replace("10.500,20.250", "soon,20.250"),
            r"events\.csv:3 holds 'soon' as Start \(s\); seconds are expected",
        ),
        (AGGREGATED.replace("10.500,20.250", "30,20.250"), r"events\.csv:3: 'sew' ends before it starts"),
        (AGGREGATED.replace("1.000,2.000,1.000,,", "1.000"), r"events\.csv:5 has 13 cells, its header 17"),
        (
            AGGREGATED.replace("D:/op2.mp4", "D:/op2b.mp4").replace("op2,", "op1,"),
            "is of the files D:/op1.mp4, D:/op2b.mp4",
        ),
        (
            NEWER_TABULAR.replace("STOP", "START"),
            r"events\.csv:4: 'cut' has the status 'START' at 10\.5 s, where it goes on already",
        ),
        (
            NEWER_TABULAR.replace("START", "STOP"),
            r"events\.csv:2: 'cut' has the status 'STOP' at 0 s, where it does not go on",
        ),
        (NEWER_TABULAR.replace("STOP", "POINT"), "the state event 'cut' that starts at 0 s has no end"),
        (NEWER_TABULAR.replace(",0.0,p1", ",3600,p1"), r"events\.csv:2: the times are shifted against the video"),
        ('Time,Behavior,Status\n"0', r"events\.csv:2 has 1 cells, its header 3"),
        ("Time,Behavior,Status\n" + '"' + "x" * 200_000 + '"\n', "is no row of a table"),
    ],
)
def test_tables_that_cannot_be_understood_are_refused_with_their_line(tmp_path, text, complaint):
    with pytest.raises(AnnotationError, match=complaint):
        boris.read(written(tmp_path, "events.csv", text))


def test_projects_and_exports_are_recognized_and_other_tables_are_not(tmp_path):
    for name, content in {
        "a.boris": PROJECT,
        "b.csv": AGGREGATED,
        "c.tsv": NEWER,
        "d.tsv": TABULAR,
        "e.csv": NEWER_TABULAR,
        "f.json": PROJECT,
    }.items():
        assert boris.recognizes(written(tmp_path, name, content)), name
    for name, content in {
        "g.csv": "start,end,label\n0,1,cut\n",
        "h.csv": "Time,Behavior\n0,cut\n",
        "i.json": {"images": [], "annotations": []},
        "j.csv": "",
    }.items():
        assert not boris.recognizes(written(tmp_path, name, content)), name
    assert not boris.recognizes(tmp_path)


@RANDOM
@given(
    documents(
        "observations", "behaviors_conf", "events", "file", "1", "type", "code", "media_info", "length", "State event"
    )
)
def test_other_documents_raise_nothing_else(tmp_path_factory, document):
    path = written(tmp_path_factory.mktemp("boris"), "p.boris", document)
    with suppress(AnnotationError):
        boris.read(path)


@RANDOM
@given(edited(PROJECT))
def test_damaged_projects_raise_nothing_else(tmp_path_factory, text):
    path = written(tmp_path_factory.mktemp("boris"), "p.boris", text)
    with suppress(AnnotationError):
        boris.read(path)


@RANDOM
@given(st.sampled_from([AGGREGATED, NEWER, TABULAR, NEWER_TABULAR]).flatmap(edited))
def test_damaged_tables_raise_nothing_else(tmp_path_factory, text):
    path = written(tmp_path_factory.mktemp("boris"), "events.csv", text)
    with suppress(AnnotationError):
        boris.read(path)


@RANDOM
@given(st.permutations(EVENTS))
def test_the_order_of_events_does_not_matter(tmp_path_factory, events):
    made = copy.deepcopy(PROJECT)
    made["observations"]["op1"]["events"] = list(events)
    folder = tmp_path_factory.mktemp("boris")
    (labels,) = boris.read(written(folder, "p.boris", made))
    (expected,) = boris.read(written(folder, "expected.boris", PROJECT))
    assert tiers(labels) == tiers(expected)
