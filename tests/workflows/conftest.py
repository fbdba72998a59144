"""One imported project, made once with the real mongod; each test works on its own copy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import augment, copy_project

from augmentor.sample_data import write_sample_dataset
from augmentor.workflows.generators import training_examples
from augmentor.workflows.project import open_project
from augmentor.workflows.reporting import Silent
from augmentor.workflows.scoring import Scorer


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spine") / "photos"
    write_sample_dataset(folder, seed=3, per_class=8, clean=14)
    return folder


@pytest.fixture(scope="session")
def imported(photos: Path) -> Path:
    """A freshly imported project; never changed by a test."""
    folder = photos.parent / "imported"
    code, output = augment("import", photos, "--name", "spine", "--shots", "4", "--project", folder)
    assert code == 0, output
    # learnt once here, and not by every copy of the project
    opened = open_project(folder)
    assert Scorer(opened, training_examples(opened), Silent()).extractor.dimensions > 0
    return folder


@pytest.fixture
def project(imported: Path) -> Callable[[], Path]:
    """Makes the project anew, always at the same place, so that files can be compared."""

    def fresh() -> Path:
        folder = imported.parent / "working"
        shutil.rmtree(folder, ignore_errors=True)
        return copy_project(imported, folder, "working")

    return fresh
