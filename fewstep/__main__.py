"""The one place that puts both sides together: the harness and its judges (nothing else here imports `evaluation`)."""

import sys

from evaluation.cli import COMMANDS
from fewstep.cli import main
from fewstep.errors import UserError

for command in COMMANDS:
    main.add_command(command)


def run() -> None:
    """Bad input is one line and exit code 2, never a traceback."""
    try:
        main(prog_name="python -m fewstep")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    run()
