"""One table turns an exception into one sentence and an exit code."""

import errno

EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_PROJECT = 3
EXIT_DATA = 4
EXIT_WEIGHTS = 5
EXIT_LEAK = 6
EXIT_SHORT = 7
EXIT_DATABASE = 8
EXIT_DISK = 9
EXIT_RUN = 10
EXIT_INTERRUPTED = 130

# The first class that fits wins, by name along the exception's own line of classes, so that no
# library has to be imported to look it up.
_CODES = {
    "LeakError": EXIT_LEAK,
    "WeightsError": EXIT_WEIGHTS,
    "DatabaseError": EXIT_DATABASE,
    "DiskError": EXIT_DISK,
    "RatioError": EXIT_USAGE,
    "UsageError": EXIT_USAGE,
    "ProjectError": EXIT_PROJECT,
    "RecipeError": EXIT_PROJECT,
    "SourceError": EXIT_DATA,
    "SplitError": EXIT_USAGE,
    "ExampleError": EXIT_DATA,
    "PlacementError": EXIT_DATA,
    "DecisionError": EXIT_DATA,
    "ExportError": EXIT_DATA,
    "CheckpointError": EXIT_DATA,
    "PoolError": EXIT_DATA,
    "TrainingError": EXIT_RUN,
    "SamplingError": EXIT_RUN,
    "RunError": EXIT_RUN,
    "AugmentorError": EXIT_DATA,
    "GeneratorError": EXIT_DATA,
    "DownstreamError": EXIT_DATA,
}


def describe(error: BaseException) -> tuple[str, int]:
    """The sentence to print for `error`, and the exit code to leave with."""
    for kind in type(error).__mro__:
        if kind.__name__ in _CODES and kind.__module__.split(".")[0] in _OURS:
            return str(error), _CODES[kind.__name__]
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"No space is left on the disk ({error.filename or 'while writing'}); free some and "
            "run the same command again, it continues.",
            EXIT_DISK,
        )
    if isinstance(error, PermissionError):
        return (
            f"{error.filename} can't be written or read; check with: augment doctor",
            EXIT_DISK,
        )
    if isinstance(error, MemoryError):
        return "The machine ran out of memory; close other programs or lower the batch.", EXIT_RUN
    text = " ".join(str(error).split()) or "no message"
    return (
        f"Unexpected {type(error).__name__}: {text} Run it again with --debug for the traceback.",
        EXIT_BUG,
    )


_OURS = {"augmentor", "generator", "downstream"}
