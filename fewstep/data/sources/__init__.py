"""The files of real datasets: what reads each format, and what is checked before work starts.

Nothing heavy is imported at module level: a workflow asks for `inspect`.
"""

from __future__ import annotations

from fewstep.config import Source
from fewstep.data.sources import checks
from fewstep.data.sources.opened import Opened
from fewstep.errors import UserError
from fewstep.facts import DATASETS


def open_source(source: Source) -> Opened:
    """A source with its directory read: file names, footer, index. Raises UserError, in one line, where it can't be."""
    if source.cifar10 is not None:
        from fewstep.data.sources import cifar10

        return cifar10.open_batches(source.cifar10)
    if source.folder is not None:
        from fewstep.data.sources import folder

        return folder.open_folder(source.folder)
    if source.zip is not None:
        from fewstep.data.sources import zipped

        return zipped.open_zip(source.zip)
    from fewstep.data.sources import parquet

    return parquet.open_parquet([source.parquet] if isinstance(source.parquet, str) else source.parquet)


def given(source: Source | None, name: str) -> Source:
    """The source of a real dataset. Raises UserError where the study names none, or names one for a built-in set."""
    at = f"config: datasets.{name}.source"
    if source is None and DATASETS[name].real:
        raise UserError(f"{at}: say where the images lie, e.g. source: {{parquet: FILE}}, or cifar10, folder, zip")
    if source is not None and not DATASETS[name].real:
        raise UserError(f"{at}: {name} comes with the program and needs no files; leave it out")
    return source


def inspect(source: Source | None, name: str) -> None:
    """Check a dataset's files as far as that is cheap: they are there and readable, in number, in labels, in size.

    name: of a dataset among `fewstep.facts.DATASETS`. Raises UserError, in one line that names the file.
    """
    source = given(source, name)
    if source is None or (source.cifar10 is not None and _to_fetch(source.cifar10)):
        return
    opened = open_source(source)
    checks.number(opened, source, name)
    checks.hashes(opened, source, checks.cheap_hash)
    if source.cifar10 is None:  # published batches have labels, and only reading them whole tells
        checks.labels(opened, source, name)
    checks.first_image(opened, name)


def _to_fetch(folder: str) -> bool:
    from fewstep.data.sources import cifar10

    return cifar10.is_to_fetch(folder)
