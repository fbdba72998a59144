"""The whole run works on a database of its own, never on the user's."""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from learnt_once import learn_once

from augmentor import mongod

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

LONGEST_FIRST = ("workflows", "downstream", "generator")
"""Rooms of tests that start first where processes share them. The App's are long too, but not here:
on a machine that has not imported FiftyOne yet its server takes longer than it may."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        room = item.path.relative_to(Path(__file__).parent).parts[0]
        return LONGEST_FIRST.index(room) if room in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def own_database() -> Iterator[None]:
    """Point this process, and those that it starts, to an empty database."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ.pop("FIFTYONE_DATABASE_DIR", None)
        os.environ[mongod.HOME] = str(Path(home))
        yield


@pytest.fixture(scope="session", autouse=True)
def extractors_are_learnt_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Share them between the processes of this run, which have folders side by side."""
    own = tmp_path_factory.getbasetemp()
    learn_once((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "extractors")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium; without one the tests are skipped with the reason, or fail where
    AUGMENT_APP_TESTS says that they are required."""
    missing = pytest.fail if os.environ.get("AUGMENT_APP_TESTS") == "required" else pytest.skip
    if CHROMIUM is None:
        missing("no Chromium on this machine; install it with: apt-get install chromium")
    if importlib.util.find_spec("playwright") is None:
        missing("playwright is not installed; type: make setup")
    from playwright import sync_api

    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM,
            # software rendering: containers have no GPU, and /dev/shm is small there
            args=["--no-sandbox", "--disable-dev-shm-usage", "--use-gl=swiftshader"],
        )
        yield opened
        opened.close()
