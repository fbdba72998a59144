"""What a training step costs with freed memory handed back, and with it kept.

    python benchmarks/allocator.py

Each line is a training step of a downstream network, as torch runs it and after
`augmentor.allocator.keep_freed_memory`: fresh processes on one thread, turn about, the best of
three. Processor seconds, and pages that the kernel had to hand out.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
NETWORKS = ("resnet18 64 px", "resnet18 128 px", "unet 128 px", "unet 256 px")
STEPS = 12
TURNS = 3


def main() -> None:
    """Print the table."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {time.strftime('%d %B %Y')}\n")
    print("| step | CPU s, handed back | CPU s, kept | ratio | page faults a step | kept |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in NETWORKS:
        found: dict[str, list[dict[str, float]]] = {"back": [], "kept": []}
        for _ in range(TURNS):
            for how, results in found.items():
                command = [sys.executable, __file__, name, how]
                environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
                done = subprocess.run(command, env=environment, capture_output=True, check=True)
                results.append(json.loads(done.stdout))
        best = {how: min(r["seconds"] for r in results) for how, results in found.items()}
        faults = {how: min(r["faults"] for r in results) for how, results in found.items()}
        ratio = best["back"] / best["kept"]
        print(
            f"| {name} | {best['back']:.3f} | {best['kept']:.3f} | {ratio:.2f} | "
            f"{faults['back']:.0f} | {faults['kept']:.0f} |",
            flush=True,
        )


def one(name: str, how: str) -> None:
    """Time the steps of one network in this process, and print them as JSON."""
    if how == "kept":
        from augmentor.allocator import keep_freed_memory

        keep_freed_memory()
    step = stepper(name)
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(STEPS):
        step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    faults = after.ru_minflt - before.ru_minflt
    print(json.dumps({"seconds": seconds / STEPS, "faults": faults / STEPS}))


def stepper(name: str) -> Callable[[], None]:
    """A training step of the network that a line names."""
    import torch

    torch.set_num_threads(1)
    kind, px, _ = name.split()
    if kind == "unet":
        from downstream.detectors.unet import UNet

        model, batch = UNet(16, 2), 8
    else:
        import torchvision

        model, batch = torchvision.models.resnet18(num_classes=6), 32
    model = model.to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, int(px), int(px)).contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        model(images).square().mean().backward()
        optimiser.step()

    return step


if __name__ == "__main__":
    one(*sys.argv[1:]) if len(sys.argv) > 1 else main()
