"""The errors of `downstream`.

    DownstreamError
    ├── ExportError          a training export that is missing, incomplete or contradicts itself
    │   ├── EmptySideError   one whose val, test or arm holds no defect
    │   └── LeakError        an export whose val or test side touches its training side
    ├── SettingsError        settings of an experiment that can't work, or don't go with the export
    ├── WeightsError         a detector's weights that are named but can't be used
    ├── OnnxError            a trained network that can't be exported, or an exported one that can't
    │                        be run or gives something else than the original
    └── RunError             a training that failed, or an experiment in which one did

Every message is one sentence that says what is wrong and, where there is one, the next command
to type.
"""


class DownstreamError(Exception):
    """Base of everything that `downstream` raises on purpose."""


class ExportError(DownstreamError):
    """A training export is missing, incomplete or contradicts itself."""


class EmptySideError(ExportError):
    """Val, test or what an arm trains on holds no defect: another split of the same photographs may
    have one."""


class LeakError(ExportError):
    """Something of val or test stands in the training split, or the other way round."""


class SettingsError(DownstreamError):
    """Settings of an experiment can't work, or don't go with the export."""


class WeightsError(DownstreamError):
    """Weights that were named are not on disk or can't be used."""


class RunError(DownstreamError):
    """A training failed, or an experiment ended with a failed run."""


class OnnxError(DownstreamError):
    """A network can't be exported to ONNX, or an exported one can't be run or differs from it."""


def one_line(fault: BaseException, most: int = 200) -> str:
    """What a library said, on one line of at most `most` characters, for a sentence of ours."""
    return " ".join(str(fault).split())[:most]
