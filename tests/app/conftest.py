"""The real App on a small real project, in a headless Chromium."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import augment

from augmentor.sample_data import write_sample_dataset
from generator.quality.rules import QualityRules

PORT = 5710 + 100 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""Where Apps begin to look for a free port: two that start at once in two processes of the tests
would find the same."""


@dataclass
class Reviewed:
    """A project, the `augment review` that runs on it, and where the App is."""

    folder: Path
    name: str
    process: subprocess.Popen[str]
    url: str
    said: list[str]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project built once with copy-paste, with the real mongod."""
    home = tmp_path_factory.mktemp("app")
    write_sample_dataset(home / "photos", seed=5, per_class=8, clean=14)
    folder = home / "project"
    run("import", home / "photos", "--name", "app", "--shots", "4", "--project", folder)
    settings = yaml.safe_load((folder / "augment.yaml").read_text())
    # the App is looked at here, not the scores, whose extractor takes a minute to learn
    off = {"enabled": False}
    settings["filters"] = {"quality": dict.fromkeys(QualityRules.model_fields, off)}
    (folder / "augment.yaml").write_text(yaml.safe_dump(settings))
    run("build", "--ratio", "0.5", "--generator", "copy-paste", "--project", folder)
    return folder


def run(*arguments: str | Path) -> None:
    """Run a command in this process, which must succeed."""
    code, output = augment(*arguments)
    assert code == 0, output


def start_review(folder: Path, *options: str) -> Reviewed:
    """`augment review` in a process of its own, once its App answers."""
    process = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("augment")),
            "review",
            "--project",
            str(folder),
            "--port",
            str(PORT),
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # what a shell starts in the background ignores Ctrl-C, and so would all that it starts
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if found := re.match(r"(\S+): (http://\S+)", line):
            return Reviewed(folder, found[1], process, found[2], said)
    raise AssertionError("".join(said))


def end_review(reviewed: Reviewed) -> str:
    """Ctrl-C; what the command printed, once it has ended."""
    reviewed.process.send_signal(signal.SIGINT)
    rest, _ = reviewed.process.communicate(timeout=60)
    return "".join(reviewed.said) + rest


@pytest.fixture(scope="session")
def reviewed(built: Path) -> Iterator[Reviewed]:
    """One review, kept open for all tests that only use the App."""
    opened = start_review(built, "--as", "the tester")
    yield opened
    end_review(opened)


@dataclass
class Browsed:
    """A page with the App, and every request that would have left the machine."""

    page: Any
    outward: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture
def browse(browser: Any) -> Iterator[Callable[[str], Browsed]]:
    """Opens an address in a fresh profile, with every request that isn't local recorded and
    refused."""
    contexts = []

    def open_page(url: str) -> Browsed:
        context = browser.new_context(viewport={"width": 1500, "height": 950})
        contexts.append(context)
        context.set_default_timeout(60_000)
        browsed = Browsed(context.new_page())

        def guard(route: Any) -> None:
            if re.match(r"(https?|wss?)://(127\.0\.0\.1|localhost)[:/]", route.request.url):
                route.continue_()
            else:
                browsed.outward.append(route.request.url)
                route.abort()

        context.route("**/*", guard)
        # the App's advertisement, which comes when it likes
        dismiss = browsed.page.get_by_role("button", name="Dismiss")
        browsed.page.add_locator_handler(dismiss, lambda button: button.click())
        browsed.page.on("pageerror", lambda error: browsed.errors.append(str(error)))
        browsed.page.goto(url)
        # the first view of a cold App takes long on a busy machine
        browsed.page.wait_for_selector("[data-cy=looker]", timeout=120_000)
        return browsed

    yield open_page
    for context in contexts:
        context.close()


def decisions(folder: Path) -> list[dict[str, Any]]:
    """The log as it lies on disk."""
    path = folder / "review" / "decisions.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def until(check: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for something to become true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{check} was not true within {seconds} s")
