"""The CLI as a user meets it: help without torch, errors in one sentence, JSON for machines."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from augmentor.cli import app
from augmentor.cli.console import QUIET_SECONDS, Console
from augmentor.cli.errors import (
    EXIT_BUG,
    EXIT_DATA,
    EXIT_DISK,
    EXIT_LEAK,
    EXIT_PROJECT,
    EXIT_USAGE,
    describe,
)
from augmentor.errors import LeakError
from generator.errors import GeneratorError, RecipeError


def leaves(command: Any, *path: str) -> Iterator[str]:
    """The full names of all commands under one of typer's, which may be a group."""
    group = getattr(command, "commands", {})
    if not group:
        yield " ".join(path)
    for name, each in group.items():
        yield from leaves(each, *path, name)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_help_loads_none_of_the_heavy_libraries():
    code = (
        "import sys, augmentor.cli;"
        "from typer.testing import CliRunner;"
        "assert CliRunner().invoke(augmentor.cli.app, ['build', '--help']).exit_code == 0;"
        "print([m for m in ('torch','fiftyone','numpy','cv2','diffusers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["reports", "decisions", "deciding"])
def test_what_only_looks_waits_for_no_network_to_load(name):
    """`report list` and `decisions export` read a few files of JSON."""
    code = (
        f"import sys, augmentor.workflows.{name};"
        "print([m for m in ('torch', 'diffusers', 'ultralytics') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(leaves(get_command(app))))
def test_every_command_has_help_json_and_debug(name):
    code, output = run(*name.split(), "--help")
    assert code == 0
    assert "--json" in output
    assert "--debug" in output


def test_without_a_terminal_a_long_training_is_never_silent_for_long(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr("augmentor.cli.console.time.monotonic", lambda: clock[0])
    console = Console(json=False)
    for step in range(1, 12):
        clock[0] += QUIET_SECONDS / 4
        console.progress("Training", step, 1000)
    lines = [line.split(":")[1].split()[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["1", "6", "11"]


def test_square_brackets_of_class_names_are_shown(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = Console(json=False)
    console.table("Of [bold]", ("crack [deep]", "pit [/b]"), [("a [x]", 1)])
    console.progress("Sampling pit [/b]", 1, 2, "note [deep]")
    console.close()
    said = capsys.readouterr()
    for text in ("Of [bold]", "crack [deep]", "pit [/b]", "a [x]"):
        assert text in said.out
    assert "Sampling pit [/b]" in said.err and "note [deep]" in said.err


def test_outside_a_project_the_error_says_how_to_make_one(tmp_path):
    code, output = run("build", "--project", str(tmp_path))
    assert code == EXIT_PROJECT
    assert "There is no augment.yaml" in output
    assert "augment import SOURCE --name NAME" in output
    assert "Traceback" not in output


def test_json_errors_are_one_object(tmp_path):
    code, output = run("build", "--project", str(tmp_path), "--json")
    parsed = json.loads(output)
    assert code == parsed["exit_code"] == EXIT_PROJECT
    assert "augment import" in parsed["error"]


def test_a_typo_in_augment_yaml_names_the_nearest_key(tmp_path):
    (tmp_path / "augment.yaml").write_text(
        "name: tiles\nclasses: [pit]\nsource: {path: /photos}\nmix: {ration: 0.5}\n"
    )
    code, output = run("build", "--project", str(tmp_path))
    assert code == EXIT_PROJECT
    assert "unknown key 'mix.ration', did you mean 'ratio'?" in output


def test_a_ratio_above_one_is_refused_before_anything_is_done(tmp_path):
    (tmp_path / "augment.yaml").write_text("name: tiles\nclasses: [pit]\nsource: {path: /photos}\n")
    code, output = run("build", "--ratio", "1.5", "--project", str(tmp_path))
    assert code == EXIT_USAGE
    assert "ratio" in output
    assert "1.5" in output
    assert [p.name for p in tmp_path.iterdir()] == ["augment.yaml"]


def test_a_missing_source_is_one_sentence(tmp_path):
    code, output = run(
        "import", str(tmp_path / "nowhere"), "--name", "x", "--project", str(tmp_path / "p")
    )
    assert code == EXIT_DATA
    assert "nowhere" in output
    assert not (tmp_path / "p" / "augment.yaml").exists()


@pytest.mark.parametrize(
    ("options", "expected", "words"),
    [
        (("--name", "my tiles"), EXIT_USAGE, "try --name my-tiles"),
        (("--name", "x", "--val", "0"), EXIT_USAGE, "val: Input should be greater than 0"),
        (("--name", "x", "--val", "nan"), EXIT_USAGE, "val: Input should be less than 1"),
    ],
)
def test_what_augment_yaml_would_refuse_is_refused_before_the_import(
    tmp_path, options, expected, words
):
    (tmp_path / "in").mkdir()
    code, output = run("import", str(tmp_path / "in"), *options, "--project", str(tmp_path / "p"))
    assert code == expected
    assert words in " ".join(output.split())
    assert not (tmp_path / "p").exists()


def test_debug_shows_the_traceback(tmp_path):
    result = CliRunner().invoke(app, ["build", "--debug", "--project", str(tmp_path)])
    assert type(result.exception).__name__ == "ProjectError"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LeakError("a"), EXIT_LEAK),
        (RecipeError("a"), EXIT_PROJECT),
        (GeneratorError("a"), EXIT_DATA),
        (OSError(28, "No space left on device", "/d/x"), EXIT_DISK),
        (ZeroDivisionError("division by zero"), EXIT_BUG),
    ],
)
def test_each_error_has_its_exit_code(error, code):
    assert describe(error)[1] == code


def test_a_full_disk_says_that_the_same_command_continues():
    sentence, _ = describe(OSError(28, "No space left on device", "/d/x"))
    assert sentence == (
        "No space is left on the disk (/d/x); free some and run the same command again, it "
        "continues."
    )


def test_an_error_of_somebody_else_with_one_of_our_names_is_a_bug():
    stranger = type("LeakError", (Exception,), {"__module__": "elsewhere"})
    assert describe(stranger("x"))[1] == EXIT_BUG


def test_an_interruption_while_it_starts_is_one_sentence_too():
    code = (
        "import sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'augmentor.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from augmentor.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "error: Interrupted; run the same command again to continue.\n"
