"""The whole run works on a database of its own, never on the user's."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from augmentor import mongod


@pytest.fixture(scope="session", autouse=True)
def own_database() -> Iterator[None]:
    """Point this process, and those that it starts, to an empty database."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ.pop("FIFTYONE_DATABASE_DIR", None)
        os.environ[mongod.HOME] = str(Path(home))
        yield
