"""What a person sees of a command, what the log holds, and what stays untouched where there is no command."""

import ast
import logging
import os
import pty
import re
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.util import console
from surgvista_hf.util.command import run_with_console
from surgvista_hf.util.console import Steps, duration, move_log, print_table, progress_bar, track

REPOSITORY = Path(__file__).resolve().parents[2]
HIDDEN = (
    "printed by a library",
    "logged by a library",
    "a warning of a library",
    "written by C to standard output",
    "written by C to standard error",
    "said by another process",
    "a bar of a library",
    "{'loss': 0.5}",
)
# Does two steps in which libraries make noise, remarks twice on the same, and prints a result.
PROGRAM = """
    import logging, os, subprocess, sys, time, warnings
    from pathlib import Path
    from surgvista_hf.util.command import run_with_console
    from surgvista_hf.util.console import Steps, move_log, track

    def noise():
        print("printed by a library")
        logging.getLogger("some.library").warning("logged by a library")
        warnings.warn("a warning of a library", RuntimeWarning)
        os.write(1, b"written by C to standard output\\n")
        os.write(2, b"written by C to standard error\\n")
        subprocess.run([sys.executable, "-c", "print('said by another process')"], check=True)
        print("a bar of a library", end="\\r", file=sys.stderr)
        logging.getLogger("surgvista_hf.trainers").info("%s", {"loss": 0.5})
        logging.getLogger("surgvista_hf.modeling").warning("frames are\\nnormalized")

    def work():
        steps = Steps(2)
        with steps("prepare") as step:
            noise()
            step.remember("4 videos")
        if log_path:
            move_log(Path(log_path))
        with steps("train"):
            for _ in track(range(3), "clips", unit="clips"):
                noise()
                time.sleep(0.3 if is_terminal else 0)
        print("the result")

    log_path, is_terminal = sys.argv[1], os.isatty(2)
    sys.exit(run_with_console("surgvista test", sys.argv[1:], work, verbose="--verbose" in sys.argv))
"""


def environment(tmp_path: Path, **changes: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "RANK")}
    return {**inherited, "PYTHONPATH": str(REPOSITORY), "XDG_STATE_HOME": str(tmp_path / "state"), **changes}


def run(tmp_path: Path, *arguments: str, program: str = PROGRAM, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        env=environment(tmp_path, **changes),
        cwd=tmp_path,
        check=False,
    )


def run_in_terminal(tmp_path: Path, *arguments: str, program: str = PROGRAM, **changes: str) -> str:
    """Return everything that a terminal receives."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment(tmp_path, **{"TERM": "xterm-256color", **changes}),
        cwd=tmp_path,
    ) as process:
        os.close(theirs)
        received = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side has gone
                break
            if not part:
                break
            received += part
        assert process.wait() == 0
    os.close(ours)
    return received.decode()


def logs(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "state" / "surgvista").glob("*.log"))


def test_a_pipe_gets_one_plain_line_a_step_remarks_once_and_the_name_of_the_log(tmp_path):
    done = run(tmp_path, "")
    assert done.returncode == 0
    assert done.stdout == "the result\n"
    (log,) = logs(tmp_path)
    assert done.stderr.splitlines() == [
        "note: frames are normalized",
        "1/2 prepare … 0 s, 4 videos",
        "2/2 train … 0 s",
        f"log: {log}",
    ]
    text = log.read_text()
    assert [part for part in HIDDEN if part not in text] == []
    assert text.count("said by another process") == 4
    assert "frames are\nnormalized" in text
    assert (log.stat().st_mode & 0o77, log.parent.stat().st_mode & 0o77) == (0, 0)


def test_verbose_shows_what_is_hidden_and_keeps_it_off_standard_output(tmp_path):
    done = run(tmp_path, "", "--verbose")
    assert done.stdout == "the result\n"
    assert [part for part in HIDDEN if part not in done.stderr] == []
    assert done.stderr.count("1/2 prepare … 0 s, 4 videos") == 1
    assert "\x1b" not in done.stderr


def test_a_terminal_gets_a_bar_that_leaves_only_the_lines(tmp_path):
    received = run_in_terminal(tmp_path, "")
    assert re.search(r"2/2 train · clips .*[123]/3 clips  \d s left", received)
    assert "\x1b" in received
    assert received.rindex("\x1b[?25h") > received.rfind("\x1b[?25l")  # the cursor is visible
    assert [part for part in HIDDEN if part in received] == []
    lines = received.replace("\r", "").splitlines()
    assert sum("1/2 prepare … 0 s, 4 videos" in line for line in lines) == 1


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_is_to_stay_plain_gets_no_codes_and_no_bar(plain, tmp_path):
    received = run_in_terminal(tmp_path, "", **plain)
    assert "\x1b" not in received
    assert "\r" not in received.replace("\r\n", "")
    assert received.replace("\r", "").splitlines()[:2] == [
        "note: frames are normalized",
        "1/2 prepare … 0 s, 4 videos",
    ]


def test_the_log_of_a_run_lies_in_its_folder_and_goes_on_with_the_next_run(tmp_path):
    log_path = tmp_path / "runs" / "phases" / "surgvista.log"
    for _ in range(2):
        done = run(tmp_path, str(log_path))
        assert f"log: {log_path}" in done.stderr.splitlines()
        assert done.stderr.count("log: ") == 1
    assert logs(tmp_path) == []
    text = log_path.read_text()
    assert text.count("began: surgvista_hf test") == 2
    assert text.count("1/2 prepare") == 2 * 2  # when it begins, and its line
    assert text.count("said by another process") == 2 * 4


def test_a_log_that_cannot_lie_where_it_should_stays_and_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(tmp_path, str(tmp_path / "file" / "surgvista.log"))
    assert done.returncode == 0
    assert f"log: {logs(tmp_path)[0]}" in done.stderr.splitlines()


def test_of_many_processes_only_the_main_one_shows_anything(tmp_path):
    log_path = tmp_path / "run" / "surgvista.log"
    done = run(tmp_path, str(log_path), RANK="1")
    assert (done.stdout, done.stderr) == ("", "")
    assert "the result" in (tmp_path / "run" / "surgvista_1.log").read_text()


def test_no_folder_for_logs_is_no_reason_to_fail(tmp_path):
    (tmp_path / "state").write_text("a file")
    done = run(tmp_path, "")
    assert done.returncode == 0
    assert Path(done.stderr.splitlines()[-1].removeprefix("log: ")).is_file()


def test_old_logs_go(tmp_path):
    folder = tmp_path / "state" / "surgvista"
    folder.mkdir(parents=True)
    for number in range(70):
        (folder / f"2020-01-01_00-00-{number:02d}_predict_1.log").touch()
    run(tmp_path, "")
    assert len(logs(tmp_path)) == 51
    assert not (folder / "2020-01-01_00-00-19_predict_1.log").exists()
    assert (folder / "2020-01-01_00-00-20_predict_1.log").exists()


# ------------------------------------------------------------------------------------------- errors


@pytest.fixture
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path / "state" / "surgvista"


def test_a_check_that_fails_before_any_work_leaves_one_line_and_no_log(state, capsys):
    def work() -> None:
        raise InputError("there is no\nvideo at a.mp4")

    assert run_with_console("surgvista predict", ["a.mp4"], work) == 1
    assert capsys.readouterr() == ("", "surgvista predict: error: there is no video at a.mp4\n")
    assert list(state.iterdir()) == []


def test_a_failure_during_work_leaves_one_line_that_names_the_log(state, capsys):
    def work() -> None:
        with Steps(2)("load"):
            print("hidden")
            raise InputError("the model is broken")

    assert run_with_console("surgvista predict", [], work) == 1
    (log,) = state.iterdir()
    assert capsys.readouterr() == ("", f"surgvista predict: error: the model is broken (log: {log})\n")
    assert "hidden\n" in log.read_text()
    assert "Traceback" in log.read_text()


def test_a_mistake_of_ours_is_one_line_and_its_traceback_lies_in_the_log(state, capsys):
    assert run_with_console("surgvista predict", [], lambda: 1 // 0) == 1
    (log,) = state.iterdir()
    expected = "surgvista predict: error: unforeseen ZeroDivisionError: integer division or modulo by zero"
    assert capsys.readouterr().err == f"{expected} (log: {log})\n"
    assert "Traceback" in log.read_text()


def test_an_interruption_names_the_log_and_has_its_status(state, capsys):
    def work() -> None:
        with Steps()("train"):
            raise KeyboardInterrupt

    assert run_with_console("surgvista pretrain", [], work) == 130
    assert capsys.readouterr().err == f"surgvista pretrain: interrupted (log: {next(state.iterdir())})\n"


# ------------------------------------------------------------------------------------------- in this process


def test_everything_is_as_before_when_a_command_has_ended(state, capfd):
    class OurWarning(UserWarning):
        __module__ = "surgvista_hf.somewhere"

    before = (sys.stdout, sys.stderr, warnings.showwarning, logging.getLogger().handlers[:], dict(os.environ))

    def work() -> None:
        with Steps()("work"):
            warnings.warn("these videos may be the same", OurWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run_with_console("surgvista test", [], work) == 0
    after = (sys.stdout, sys.stderr, warnings.showwarning, logging.getLogger().handlers[:], dict(os.environ))
    assert after == before
    assert logging.getLogger("surgvista_hf").handlers == []
    os.write(1, b"reaches the person again\n")
    captured = capfd.readouterr()
    assert captured.out == "reaches the person again\n"
    assert "note: these videos may be the same" in captured.err.splitlines()


def test_a_handler_that_a_library_made_meanwhile_works_afterwards(state, capfd):
    made: list[logging.Handler] = []

    def work() -> None:
        with Steps()("work"):
            made.append(logging.StreamHandler())

    assert run_with_console("surgvista test", [], work) == 0
    made[0].emit(logging.makeLogRecord({"msg": "later"}))
    assert capfd.readouterr().err.splitlines()[-1] == "later"


def test_steps_within_a_step_have_no_lines_and_long_loops_say_how_far_they_are(state, capsys, monkeypatch):
    monkeypatch.setattr(console, "_SECONDS_BETWEEN_LINES", 0.0)

    def work() -> None:
        with Steps(3)("study"), Steps(2)("variant A"), progress_bar("clips", total=4, unit="clips") as bar:
            bar.show(loss="0.5")
            bar.update(2)

    assert run_with_console("surgvista study", [], work) == 0
    first, second, _ = capsys.readouterr().err.splitlines()
    assert first == "  1/3 study · variant A · clips, 2/4 clips, loss 0.5, 0 s left"
    assert second == "1/3 study … 0 s"


def test_a_loop_that_is_left_does_not_hide_what_comes_after_it(state, capsys, monkeypatch):
    def work() -> None:
        steps = Steps(2)
        with steps("first"):
            abandoned = track(range(3), "clips")
            next(abandoned)
        with steps("second"):
            del abandoned
            print("hidden")

    assert run_with_console("surgvista test", [], work) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split(" … ")[0] for line in captured.err.splitlines()[:2]] == ["1/2 first", "2/2 second"]


def test_without_a_command_steps_are_silent_and_bars_are_those_of_tqdm(capsys, tmp_path):
    move_log(tmp_path / "surgvista.log")
    with Steps(2)("train") as step:
        step.update()
        step.show(loss="1")
        step.remember("done")
    assert list(track(range(3), "clips", shown=False)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
    assert list(track([1, 2], "clips", unit="clips")) == [1, 2]
    assert "2/2" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_configures_nothing(tmp_path):
    program = """
        import logging, os, sys, warnings
        def state():
            return (sys.stdout, sys.stderr, warnings.showwarning, list(warnings.filters), dict(os.environ),
                    logging.getLogger().handlers[:], logging.getLogger("surgvista_hf").handlers[:],
                    logging.getLogger("surgvista_hf").level)
        before = state()
        import surgvista_hf, surgvista_hf.cli.main, surgvista_hf.util.console
        assert state() == before
        assert not {"torch", "transformers", "rich", "tqdm"} & set(sys.modules)
    """
    done = run(tmp_path, program=program)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "state").exists()


def test_a_table_is_plain_text_in_a_pipe(capsys):
    print_table(("protocol", "seconds right"), [("full", "91.2%"), ("a [bold]name[/]", "8.0%")])
    assert capsys.readouterr().out.splitlines() == [
        "protocol         seconds right",
        "full                     91.2%",
        "a [bold]name[/]           8.0%",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.7, "1 min 0 s"), (204, "3 min 24 s"), (7500, "2 h 5 min")]
)
def test_times_are_said_as_people_do(seconds, text):
    assert duration(seconds) == text


# ------------------------------------------------------------------------------------------- the rest of the package


def test_only_commands_print_and_only_the_console_draws_bars():
    """Search for `print`: what is printed elsewhere is a result that nobody asked for; a bar of tqdm would go to the log."""
    package = REPOSITORY / "surgvista_hf"
    may_print = {
        "trainers/common/clip_trainer.py",
        "modeling/subprocess_decoding.py",
        "util/console.py",
        "util/command.py",
    }
    wrong = []
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            prints = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            draws = isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tqdm"
            if (prints and not name.startswith("cli/") and name not in may_print) or (
                draws and name != "util/console.py"
            ):
                wrong.append(f"{name}:{node.lineno}")
    assert wrong == []
