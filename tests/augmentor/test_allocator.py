"""The allocator's settings, in processes of their own: they hold for a process's whole life."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch, torchvision
from augmentor.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
torch.set_num_threads(1)
model = torchvision.models.resnet18()
images = torch.randn(8, 3, 96, 96)

def train(steps):
    for _ in range(steps):
        model.zero_grad(set_to_none=True)
        model(images).sum().backward()

train(4)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
train(4)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
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
def test_freed_memory_is_used_again():
    returned, kept = int(run(FAULTS, "returned")), int(run(FAULTS, "kept"))
    assert returned > 1000, "activations come anew from the kernel"
    assert kept < returned / 3


def test_what_the_user_set_stays_and_children_inherit_the_rest():
    code = (
        "import os; from augmentor.allocator import keep_freed_memory; keep_freed_memory(); "
        "print(os.environ.get('MALLOC_TRIM_THRESHOLD_'), os.environ['MALLOC_MMAP_THRESHOLD_'])"
    )
    if not sys.platform.startswith("linux"):
        pytest.skip("Linux alone")
    assert run(code, MALLOC_MMAP_THRESHOLD_="4096") == f"{2**31 - 1} 4096"
