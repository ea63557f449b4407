"""The command `marey`. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import select
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pipeline.cli.text import complain, tell
from pipeline.errors import MareyError, UsageError

__all__ = ["main", "run"]


def main() -> NoReturn:
    """Entry point: run the command and exit with its code."""
    code = run(sys.argv[1:])
    # Else the interpreter looked through all that was loaded for circles of garbage, for a third of a second.
    gc.freeze()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run the command; errors become one line on stderr and an exit code (see docs/commands.md).

    `--debug`, before or after the command's name, shows the traceback instead.
    """
    # NumPy's products here are of small matrices. Its threads would wait in a loop for the next one: with 200
    # objects a tracker took twice the CPU time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _reopen_closed_streams()
    wanted = [argument for argument in arguments if argument != "--debug"]
    before = {number: signal.signal(number, _terminated) for number in _ending_signals()}
    try:
        return _run(wanted)
    except BaseException as exc:
        code, text = _explained(exc)
        if len(wanted) < len(arguments) and not isinstance(exc, _QUIET):
            traceback.print_exc()
        elif text:
            complain(text)
        return code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ending_signals() -> list[signal.Signals]:
    """Those that end the work in order: that of a closed terminal too, unless `nohup` has it ignored."""
    hung_up = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
    return [signal.SIGTERM, *hung_up]


def _reopen_closed_streams() -> None:
    """A stream that the caller closed (`>&-`) stays one that cannot be written, but keeps its number.

    Else the next file to be opened had that number, and what a library prints would be written into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_WRONLY if mode == "r" else os.O_RDONLY)
            setattr(sys, name, os.fdopen(opened, mode))


def _run(arguments: Sequence[str]) -> int:
    """Run the command; what typer makes of interrupts and broken pipes is undone."""
    from typer.exceptions import Abort, Exit, TyperException

    from pipeline.cli.commands import app

    try:
        code = app(list(arguments), prog_name="marey", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as exc:
        message = exc.format_message()
        if message.startswith("Usage:"):  # a group was called by its name alone: the message is its help
            tell(f"{message}\n")
            return exc.exit_code
        message = message.replace(": Value error, ", ": ")  # pydantic's, behind typer
        option = getattr(exc, "option_name", None) or ""
        # As SQL that begins with a comment: no option has a space.
        remedy = "put -- before it, if it is none" if any(map(str.isspace, option)) else "see --help"
        raise UsageError(message.rstrip("."), remedy=remedy) from exc
    except (Abort, Exit, SystemExit) as exc:
        met = exc.__cause__ or exc.__context__
        if isinstance(met, KeyboardInterrupt | EOFError | OSError):
            raise met from None
        if isinstance(exc, Exit):
            return exc.exit_code
        raise
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _explained(exc: BaseException) -> tuple[int, str]:
    """Exit code and the line that goes to stderr."""
    match exc:
        case MareyError():
            return exc.exit_code, str(exc)
        case KeyboardInterrupt():
            return _INTERRUPTED, "interrupted; what is done stays done"
        case _Terminated():
            return 143, "terminated; what is done stays done"
        case BrokenPipeError() if _nobody_reads():
            # The reader of our output has seen enough (`marey query ... | head`).
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0, ""
        case OSError() if exc.errno in _FULL or (exc.errno == errno.EBADF and _is_closed()):
            if exc.filename is None:  # text that is left would be met again on the way out
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 3, f"{exc.filename or 'output'} cannot be written: {exc.strerror}"
        case FileNotFoundError() if _NO_PLACE in str(exc):  # as where all but the lake is mounted read-only
            return 3, "temporary files cannot be written anywhere: set TMPDIR to a folder for them"
    last = traceback.extract_tb(exc.__traceback__)[-1]
    what = f"{type(exc).__name__}: {exc} ({Path(last.filename).name}, line {last.lineno})"
    return 1, f"this is a bug of marey, --debug shows where: {what}"


def _nobody_reads() -> bool:
    """Whether it is stdout that broke, and not some other pipe or connection, whose work is then undone."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLRDBAND)  # of what is asked for nothing macOS tells nothing
    return any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll(0))


def _is_closed() -> bool:
    """Whether stdout takes nothing: it was closed by the caller, or given as a file to read."""
    return fcntl.fcntl(sys.stdout.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


class _Terminated(BaseException):
    pass


def _terminated(number: int, frame: FrameType | None) -> None:
    raise _Terminated


_INTERRUPTED = 130
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_NO_PLACE = "No usable temporary directory"
"""What `tempfile` says, in an error that has nothing else of its own."""

_QUIET = (KeyboardInterrupt, BrokenPipeError, _Terminated)
