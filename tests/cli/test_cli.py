"""The CLI as a user meets it: help without torch, errors in one sentence, JSON for machines."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from augmentor.cli import app
from augmentor.cli.errors import EXIT_BUG, EXIT_DATA, EXIT_DISK, EXIT_LEAK, EXIT_PROJECT, describe
from augmentor.errors import LeakError
from generator.errors import GeneratorError, RecipeError

COMMANDS = (
    "doctor",
    "demo",
    "import",
    "train",
    "sample",
    "build",
    "review",
    "evaluate",
    "loop",
    "export",
    "export-model",
    "sheet",
    "filters report",
    "filters fit",
    "decisions list",
    "decisions add",
    "decisions export",
    "decisions import",
)


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


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_json_and_debug(name):
    code, output = run(*name.split(), "--help")
    assert code == 0
    assert "--json" in output
    assert "--debug" in output


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
    assert code == EXIT_PROJECT
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
