"""augment export-model: a trained detector as one ONNX file."""

from pathlib import Path
from typing import Annotated

import typer

from augmentor.cli.console import DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, open_here


def export_model(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="TASK/ARM or TASK/ARM/SEED of the last evaluation (detection/mixed, seed 0 where "
            "none is named), or a folder under evaluation/runs.",
        ),
    ],
    onnx: Annotated[
        bool, typer.Option("--onnx", show_default=False, help="Write ONNX, the one format so far.")
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write. Default: exports/onnx/TASK-ARM-seedN.onnx."),
    ] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a trained detector for use elsewhere, once it gives what torch gives on real images."""
    with command(json, debug) as console:
        from augmentor.workflows.export_model import export_model as export

        exported = export(open_here(project, console), run, out, console)
        console.text(
            f"Written: {exported.path} ({exported.size / 1e6:.1f} MB, opset {exported.opset}, "
            f"{exported.nodes} nodes, input {exported.px} px)"
        )
        console.text(f"Against torch: {exported.parity}")
        console.text(f"Against what the run recorded: {exported.recorded}")
        speed = exported.latency
        console.table(
            f"One image at a time, {speed.threads} thread{'s' * (speed.threads != 1)}, "
            f"{speed.repeats} runs: onnxruntime is {speed.speedup:.1f} times as fast",
            ("engine", "median ms", "p95 ms"),
            [
                ("onnxruntime", round(speed.onnx_median_ms, 1), round(speed.onnx_p95_ms, 1)),
                ("torch", round(speed.torch_median_ms, 1), round(speed.torch_p95_ms, 1)),
            ],
        )
        console.result(exported.as_dict())
