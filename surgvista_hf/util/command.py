"""Running a command: its work on a console, its errors as one line and an exit status."""

import os
import sys
from collections.abc import Callable, Sequence

from .console import Console, open_console
from .errors import SurgVistaError
from .messages import first_line


def run_with_console(
    name: str, arguments: Sequence[str], work: Callable[[], object], *, verbose: bool = False, hides: bool = True
) -> int:
    """Run a command on a console and turn its errors into one line and an exit status.

    Args:
        name: name of the command, such as `surgvista predict`.
        arguments: arguments of the command line after the name, for the log.
        work: function that does the work; it prints results when the work is done.
        verbose: show what otherwise only the log holds.
        hides: open a console, which hides the output of libraries; a server does not, because its output is meant for people.

    Returns:
        Exit status: 0; 1 after an error, with one line on standard error; 130 when interrupted.
    """
    console: Console | None = None
    try:
        if hides:
            with open_console(name.split()[-1], arguments, verbose=verbose) as console:
                _report_unforeseen(work, console)
        else:
            work()
        sys.stdout.flush()
    except SurgVistaError as error:
        return _fail(name, f"error: {' '.join(str(error).split())}", console)
    except BrokenPipeError:  # whoever reads (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        _fail(name, "interrupted", console)
        return 130
    except _UnforeseenError as error:
        return _fail(name, f"error: {error}", console)
    return 0


class _UnforeseenError(Exception):
    """A mistake in this package, or a failure of the machine."""


def _report_unforeseen(work: Callable[[], object], console: Console) -> None:
    try:
        work()
    except (SurgVistaError, BrokenPipeError):
        raise
    except Exception as error:
        console.began = True  # so that the log, which has the traceback, is kept and named
        raise _UnforeseenError(f"unforeseen {type(error).__name__}: {first_line(error)}") from error


def _fail(name: str, message: str, console: Console | None) -> int:
    log = f" (log: {console.log.path})" if console is not None and console.began else ""
    print(f"{name}: {message}{log}", file=sys.stderr)
    return 1
