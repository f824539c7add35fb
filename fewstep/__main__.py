"""The one place that puts both sides together: the harness and its judges (nothing else here imports `evaluation`)."""

import sys

import click

from evaluation.cli import COMMANDS
from fewstep.cli import main
from fewstep.editing.cli import edit
from fewstep.errors import UserError

for command in (*COMMANDS, edit):
    main.add_command(command)


def run(arguments: list[str] | None = None) -> None:
    """Bad input is one line and exit code 2, never a traceback."""
    try:
        code = main(arguments, prog_name="python -m fewstep", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as help:
        help.show()
        sys.exit(2)
    except click.ClickException as error:
        _refuse(error.format_message())
    except click.Abort:
        sys.exit(130)
    except UserError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{error.filename or ''}: {error.strerror or error}")
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(message: str) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    run()
