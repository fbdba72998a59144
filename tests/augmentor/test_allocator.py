"""The allocator's settings, in processes of their own: they hold for a process's whole life."""

import os
import platform
import subprocess
import sys

import pytest

FREED = """
import os, sys
from pathlib import Path
import torch
from augmentor.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

before = resident()
block = torch.ones(64, 2**18)
held = resident()
del block
print(held - before, resident() - before)
"""
"""Prints what a block of 64 MiB adds to the process's memory while it is held and once it is freed.
It is above all to which glibc ever raises the threshold of its own accord (32 MiB), and a page of
whatever size counts the same, unlike page faults, which some kernels of virtual machines leave out.
"""


def run(code: str, *args: str, **env: str) -> str:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env={**plain, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_freed_memory_stays_with_the_process():
    (held, returned), (_, kept) = (
        map(float, run(FREED, memory).split()) for memory in ("returned", "kept")
    )
    assert held > 60
    assert returned < 10, "by itself glibc hands it back"
    assert kept > 60


def test_what_the_user_set_stays_and_children_inherit_the_rest():
    code = (
        "import os; from augmentor.allocator import keep_freed_memory; keep_freed_memory(); "
        "print(os.environ.get('MALLOC_TRIM_THRESHOLD_'), os.environ['MALLOC_MMAP_THRESHOLD_'])"
    )
    if not sys.platform.startswith("linux"):
        pytest.skip("Linux alone")
    assert run(code, MALLOC_MMAP_THRESHOLD_="4096") == f"{2**31 - 1} 4096"
