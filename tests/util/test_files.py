"""Folders of results: begun once, held by one run, never mixed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from surgvista_hf.util.files import OutputError, at_work, atomic_folder, check_settings, compare_settings, write_json
from surgvista_hf.util.source_records import SourceRecords

HOLDER = """
import sys, time
from pathlib import Path
from surgvista_hf.util.files import at_work
with at_work(sys.argv[1]):
    (Path(sys.argv[1]) / "held").write_text("")
    time.sleep(60)
"""


def test_what_has_changed_is_named_as_it_was_and_as_it_is(tmp_path):
    check_settings(tmp_path, {"models": {"phase": "1a2b"}, "formats": ["csv"]}, names={"models": {"phase": "old"}})
    check_settings(tmp_path, {"models": {"phase": "1a2b"}, "formats": ["csv"]}, names={"models": {"phase": "renamed"}})
    with pytest.raises(OutputError, match=re.escape("models.phase was old (1a2b), is now new (3c4d)")):
        check_settings(tmp_path, {"models": {"phase": "3c4d"}, "formats": ["csv"]}, names={"models": {"phase": "new"}})
    with pytest.raises(OutputError, match=r"formats was \['csv'\], is now \['json'\]"):
        check_settings(tmp_path, {"models": {"phase": "1a2b"}, "formats": ["json"]})
    with pytest.raises(OutputError, match=r"was begun with other settings: seed was not given, is now 3"):
        check_settings(tmp_path, {"models": {"phase": "1a2b"}, "formats": ["csv"], "seed": 3})


@pytest.mark.parametrize("content", ['{"models": {"phase": "/old/path"}}', '{"names": 3}'])
def test_what_an_earlier_version_began_is_not_gone_on_with(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(OutputError, match="begun by a version that did not note the contents"):
        check_settings(tmp_path, {"models": {"phase": "1a2b"}})
    assert (tmp_path / "settings.json").read_text() == content


@pytest.mark.parametrize("content", ["{", "[]", "3"])
def test_a_broken_note_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(OutputError, match=r"settings\.json"):
        check_settings(tmp_path, {})


def test_looking_writes_nothing(tmp_path):
    assert not compare_settings(tmp_path, {"a": 1})
    assert list(tmp_path.iterdir()) == []
    check_settings(tmp_path, {"a": 1})
    assert compare_settings(tmp_path, {"a": 1})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, '{\n "b": "\\u00e4",\n "a": [\n  1,\n  2\n ]\n}\n'),
        ({"ensure_ascii": False}, '{\n "b": "ä",\n "a": [\n  1,\n  2\n ]\n}\n'),
        ({"indent": None}, '{"b": "\\u00e4", "a": [1, 2]}\n'),
        ({"indent": 2, "sort_keys": True}, '{\n  "a": [\n    1,\n    2\n  ],\n  "b": "\\u00e4"\n}\n'),
    ],
)
def test_json_files_keep_their_bytes_from_version_to_version(tmp_path, options, expected):
    write_json(tmp_path / "new folder" / "file.json", {"b": "ä", "a": (1, 2)}, **options)
    assert (tmp_path / "new folder" / "file.json").read_bytes() == expected.encode("utf-8")


def test_what_json_cannot_say_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    write_json(tmp_path / "file.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "file.json", {"a": object()})
    assert json.loads((tmp_path / "file.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_second_run_is_told_who_is_at_work_and_a_killed_one_blocks_nobody(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "out")])
    try:
        wait_for(tmp_path / "out" / "held")
        with (
            pytest.raises(OutputError, match=rf"another run is at work on .*out \(process {holder.pid} on "),
            at_work(tmp_path / "out"),
        ):
            pass
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    with at_work(tmp_path / "out"):
        assert json.loads((tmp_path / "out" / ".lock").read_text())["pid"] == os.getpid()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["held"]


def test_who_waits_goes_on_when_the_other_has_ended(tmp_path):
    order = []
    with ThreadPoolExecutor() as pool:
        with at_work(tmp_path / "out"):
            (tmp_path / "out" / "kept").write_text("")

            def second():
                with at_work(tmp_path / "out", wait=True):
                    order.append("second")

            waiting = pool.submit(second)
            time.sleep(0.3)
            order.append("first")
        waiting.result(timeout=30)
    assert order == ["first", "second"]


def test_a_folder_that_stays_empty_is_not_left_behind(tmp_path):
    with pytest.raises(OSError, match="stop"), at_work(tmp_path / "deep" / "out"):
        raise OSError("stop")
    assert not (tmp_path / "deep" / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"), at_work(tmp_path / "file"):
        pass


def test_two_that_write_one_folder_end_with_one_whole_and_an_error(tmp_path):
    def write(text, meanwhile=None):
        with atomic_folder(tmp_path / "out") as folder:
            (folder / "a").write_text(text)
            if meanwhile:
                write(meanwhile)

    with pytest.raises(OutputError, match="exists already"):
        write("late", meanwhile="early")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "early"


def test_a_folder_is_replaced_as_a_whole_or_stays(tmp_path):
    def write(name, error=None):
        with atomic_folder(tmp_path / "out", replace=True) as folder:
            (folder / name).write_text("")
            if error:
                raise error

    write("old")
    with pytest.raises(RuntimeError):
        write("half", RuntimeError())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]
    write("new")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_namesake_of_another_folder_is_told_apart_from_a_replaced_file(tmp_path):
    a, b, output = (tmp_path / name for name in ("a", "b", "out"))
    for folder in (a, b, output):
        folder.mkdir()
    SourceRecords(output, a).note(["op1.mp4", "op2.mp4"])
    SourceRecords(output, a).check({"op1.mp4": ("1-x", "2-y")})  # replaced in its place
    with pytest.raises(OutputError, match=r"holds op1\.mp4 of another folder, a \(content 1-x\).* \(2-y\)"):
        SourceRecords(output, b).check({"op1.mp4": ("1-x", "2-y")})
    SourceRecords(output, b).check({"op3.mp4": ("1-x", "2-y")})  # nobody knows where it came from
    SourceRecords(output, None).check({"op1.mp4": ("1-x", "2-y")})
    assert str(tmp_path) not in (output / ".origins.json").read_text()
