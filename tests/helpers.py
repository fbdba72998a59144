"""What several test files use."""

import hashlib
from pathlib import Path

from typer.testing import CliRunner

from augmentor.cli import app


def augment(*arguments: str | Path) -> tuple[int, str]:
    """Run a command in this process; exit code and everything it printed."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, result.output


def tree_hashes(*folders: Path) -> dict[str, str]:
    """SHA-256 of every file below the folders, by path."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
