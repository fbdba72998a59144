"""A pool of samples as it lies on disk: its manifest, read, replaced and mended.

Beside `generator.sampling`, which fills it, so that reading what was made loads no network.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from generator.errors import PoolError
from generator.files import locked, read_lines, write_lines
from generator.records import SyntheticDefect

MANIFEST = "manifest.jsonl"


def read_pool(pool: Path) -> list[SyntheticDefect]:
    """Every record of a pool, in the order in which they were made.

    Raises:
        PoolError: there is no pool, or a line of its manifest can't be read.
    """
    manifest = pool / MANIFEST
    if not manifest.exists():
        raise PoolError(f"There is no pool in {pool}; make one with: augment sample -n 100.")
    try:
        return [SyntheticDefect.model_validate(line) for line in read_lines(manifest)]
    except (json.JSONDecodeError, ValidationError, UnicodeDecodeError) as fault:
        raise PoolError(
            f"{manifest} is damaged ({' '.join(str(fault).split())[:200]}); delete {pool} and "
            "sample again."
        ) from None


def read_pools(folder: Path) -> Iterator[tuple[Path, SyntheticDefect]]:
    """Every record of every pool in a folder, with its pool; pools by name, records as they were
    made.

    Raises:
        PoolError: a line of a manifest can't be read.
    """
    for manifest in sorted(folder.glob(f"*/{MANIFEST}")):
        for record in read_pool(manifest.parent):
            yield manifest.parent, record


def forget_lost(pool: Path) -> int:
    """Take out of a pool's manifest the samples whose image or masks are gone, so that they are
    made again where they are wanted; returns how many. Also what a killed run left of a line.

    Raises:
        PoolError: the manifest is damaged.
    """
    if not (pool / MANIFEST).exists():
        return 0
    with locked(pool.with_name(f".{pool.name}.lock")):
        _cut_unfinished_line(pool / MANIFEST)
        records = read_pool(pool)
        whole = [record for record in records if all(map(Path.is_file, _files(pool, record)))]
        if len(whole) < len(records):
            write_pool_manifest(pool, whole)
    return len(records) - len(whole)


def _files(pool: Path, record: SyntheticDefect) -> list[Path]:
    carried = [one.mask_path for one in record.carried_instances]
    return [pool / path for path in (record.image, record.mask, *carried) if path is not None]


def write_pool_manifest(pool: Path, records: Iterable[SyntheticDefect]) -> None:
    """Replace a pool's manifest, for example after verdicts changed; whole or not at all."""
    write_lines(pool / MANIFEST, [record.model_dump(mode="json") for record in records])


def _cut_unfinished_line(manifest: Path) -> None:
    """Cut what a killed run left after the last line's end."""
    with manifest.open("rb+") as stream:
        content = stream.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            stream.truncate(whole)
