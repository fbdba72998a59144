"""Killed at any moment, continued by the same command, with the files of an undisturbed run."""

from pathlib import Path

from helpers import kill_when, run, tree_hashes


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_sampling_ends_with_the_same_files(project):
    arguments = ("sample", "-n", "60", "--generator", "copy-paste", "--class", "scratch")
    folder = project()
    run(folder, *arguments)
    undisturbed = tree_hashes(folder / "pool")
    # Pictures and masks; the manifest, the scores and the empty lock of the pool.
    assert len(undisturbed) == 2 * 60 + 3

    folder = project()
    pool = folder / "pool" / "copy-paste" / "manifest.jsonl"
    kill_when(folder, arguments, lambda: lines_in(pool) >= 10)
    assert 10 <= lines_in(pool) < 60
    run(folder, *arguments)
    assert tree_hashes(folder / "pool") == undisturbed


def test_killed_build_ends_with_the_same_files(project):
    """Killed while it samples, continued, and killed again while it writes the dataset."""
    arguments = ("build", "--ratio", "0.6", "--generator", "copy-paste")
    folder = project()
    run(folder, *arguments)
    undisturbed = tree_hashes(folder / "pool", folder / "dataset")

    folder = project()
    manifest = folder / "pool" / "copy-paste" / "manifest.jsonl"
    moments = (
        lambda: lines_in(manifest) >= 5,
        lambda: any("dataset" in path.name for path in folder.iterdir()),
    )
    for ready in moments:
        kill_when(folder, arguments, ready)
        assert not (folder / "dataset" / "build.json").exists()
    run(folder, *arguments)
    assert tree_hashes(folder / "pool", folder / "dataset") == undisturbed
