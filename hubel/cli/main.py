"""The `hubel` command: the verbs of this folder, and how an ending becomes an exit code.

0 done; 1 the user's input was at fault (one message, no traceback); 2 usage; 130 or 143
interrupted, everything saved. Nothing here imports torch: help and usage errors are instant.
"""

import errno
import importlib
import os
import pkgutil
import sys
from types import ModuleType

import typer

import hubel.cli
from hubel import __version__
from hubel.errors import Interrupted, UserError, printable

__all__ = ["app", "main"]

# Errors of the system that a user can mend: no such file, no right, no space, read-only.
_USERS_ERRNOS = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS,
    errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
}  # fmt: skip
_NOT_VERBS = {"main", "options", "output", "progress", "show"}


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hubel {__version__}")
        raise typer.Exit


def _app() -> typer.Typer:
    app = typer.Typer(
        name="hubel",
        help="From a folder of pictures to a network: chosen, trained, understood, shipped.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", callback=_version, is_eager=True, help="Print the version."
        ),
    ) -> None:
        pass

    _add_verbs(app, hubel.cli)
    return app


def _add_verbs(app: typer.Typer, folder: ModuleType) -> None:
    """Each module of `folder` is a verb with a function of its name; a folder in it, a group."""
    for found in sorted(pkgutil.iter_modules(folder.__path__), key=lambda m: m.name):
        if found.name in _NOT_VERBS:
            continue
        module = importlib.import_module(f"{folder.__name__}.{found.name}")
        if found.ispkg:
            group = typer.Typer(
                help=module.__doc__,
                no_args_is_help=True,
                context_settings={"help_option_names": ["-h", "--help"]},
            )
            _add_verbs(group, module)
            app.add_typer(group, name=found.name)
        else:
            app.command(found.name)(getattr(module, found.name))


app = _app()


def _process() -> str:
    """Which of several processes speaks, where it is not the first."""
    rank = os.environ.get("RANK", "0")
    return "" if rank == "0" else f"process {rank}: "


def main() -> None:
    """Run the command line and exit."""
    code = _exit_code()
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # The threads of gloo outlive their group, and abort a process whose interpreter is
        # already ending when they let go of a last tensor: seen on busy machines.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _exit_code() -> int:
    try:
        app()
    except SystemExit as ended:
        if not isinstance(ended.code, int):  # a message: Python prints it
            raise
        return ended.code
    except UserError as error:
        print(f"hubel: {_process()}{printable(str(error))}", file=sys.stderr)
        return 1
    except Interrupted as error:
        if not _process():
            print(f"hubel: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader went away (a pager, head): nothing more to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in _USERS_ERRNOS:
            raise
        where = f"'{error.filename}'" if error.filename else "a file"
        print(
            f"hubel: {where} could not be read or written: {error.strerror}; check the path, the "
            f"rights and the free space",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("hubel: stopped", file=sys.stderr)
        return 130
    return 0
