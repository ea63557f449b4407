"""The command `marey`. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from pipeline.errors import MareyError

__all__ = ["main", "run"]


def main() -> NoReturn:
    """Entry point: run the command and exit with its code."""
    code = run(sys.argv[1:])
    sys.stdout.flush()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run the command; errors become one line on stderr and an exit code (see docs/commands.md)."""
    from typer.exceptions import Abort, Exit, TyperException

    from pipeline.cli.app import app, say

    os.environ.setdefault("OPENVINO_TELEMETRY_OPT_OUT", "1")
    debug = "--debug" in arguments
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        result = app(list(arguments), prog_name="marey", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except MareyError as exc:
        if debug:
            raise
        say(f"marey: {exc}")
        return exc.exit_code
    except Exit as exc:
        return exc.exit_code
    except TyperException as exc:
        say(f"marey: {exc.format_message()} (try --help)")
        return exc.exit_code
    except (KeyboardInterrupt, Abort):
        say("marey: interrupted; what is done stays done")
        return 130
    except _Terminated:
        say("marey: terminated; what is done stays done")
        return 143
    except BrokenPipeError:
        # The reader of our output has seen enough (`marey query ... | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)


class _Terminated(BaseException):
    pass


def _terminated(number: int, frame: FrameType | None) -> None:
    raise _Terminated
