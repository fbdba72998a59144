"""Review: the FiftyOne App on a dataset."""

from augmentor import fiftyone_io
from augmentor.errors import ProjectError


def open_app(name: str, *, port: int, address: str) -> fiftyone_io.AppSession:
    """Open the App on the dataset `name`.

    Raises:
        ProjectError: FiftyOne has no dataset of that name.
    """
    if not fiftyone_io.dataset_exists(name):
        raise ProjectError(
            f"FiftyOne has no dataset {name!r}; build it first: augment build --ratio 0.5"
        )
    return fiftyone_io.launch_app(name, port=port, address=address)
