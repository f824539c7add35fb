"""The errors that a user or a record can see, each tied to the status that it turns into."""

from __future__ import annotations

OK, FAILED, DIVERGED, TIMEOUT = "ok", "failed", "diverged", "timeout"
OUT_OF_MEMORY, SKIPPED = "out_of_memory", "skipped"
STATUSES = (OK, FAILED, DIVERGED, TIMEOUT, OUT_OF_MEMORY, SKIPPED)


class FewstepError(Exception):
    """Base class; `status` is what a planned point gets when this ends its job."""

    status = FAILED


class UserError(FewstepError):
    """Bad input. Its text is one line that names the fix; it's printed without a traceback."""


class CheckpointError(UserError):
    """A stored file is truncated, corrupt or of another kind."""


class WriteError(UserError):
    """The disk is full or a folder can't be written."""


class WeightsMissing(UserError):
    """Weights are not on this machine and cannot be downloaded; the line says what to put where."""

    status = SKIPPED
    reason = "weights"


class Diverged(FewstepError):
    """A loss, a weight or a sample is not finite."""

    status = DIVERGED


class Skipped(FewstepError):
    """A job can't be done on this machine, for want of weights, say; it's left out, and that is no failure."""

    status = SKIPPED


class BudgetExceeded(FewstepError):
    """A method asked for one network call more than its NFE allows."""


class Upstream(FewstepError):
    """What this job builds on did not finish; carries that job's status on."""

    def __init__(self, message: str, status: str):
        super().__init__(message)
        self.status = status


def status_of(error: BaseException) -> str:
    """The status that a record gets for an exception."""
    if isinstance(error, FewstepError):
        return error.status
    # torch.OutOfMemoryError without importing torch; CPU allocators raise RuntimeError.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
        return OUT_OF_MEMORY
    return FAILED


def one_line(error: BaseException) -> str:
    """`Type: message` on one line, for a table cell."""
    text = " ".join(str(error).split())
    name = "" if isinstance(error, FewstepError) else type(error).__name__
    return ": ".join(part for part in (name, text) if part)[:300]
