"""augment filters: what the rules remove, and thresholds refitted to what people decided."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from augmentor.cli.console import Console, DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, open_here

if TYPE_CHECKING:
    from augmentor.thresholds import Fit

app = typer.Typer(
    name="filters",
    no_args_is_help=True,
    help="The rules that reject samples: what each removes, and fitting their thresholds.",
)


@app.command()
def report(
    generator: Annotated[
        str | None, typer.Option(help="Only samples of this generator. Default: all.")
    ] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what each rule removes, alone and together with others, with pictures of it."""
    with command(json, debug) as console:
        from augmentor.workflows.filters import report_filters

        found = report_filters(open_here(project, console), console, generator=generator)
        _show(console, found)
        console.result(found)


def _show(console: Console, found: dict[str, Any]) -> None:
    rules = found["rules"]
    classes = list(next(iter(rules.values()))["per_class"])
    console.table(
        f"{found['rejected']} of {found['samples']} samples are rejected",
        ("rule", "threshold", "rejected", "alone", "accepted by hand", *classes),
        [
            (
                rule,
                ", ".join(f"{v:g}" for v in row["thresholds"].values())
                if row["enabled"]
                else "off",
                row["rejected"],
                row["alone"],
                row["accepted_by_hand"],
                *row["per_class"].values(),
            )
            for rule, row in rules.items()
        ],
    )
    fired = [rule for rule, row in rules.items() if row["rejected"]]
    if len(fired) > 1:
        console.table(
            "Rejected by both",
            ("", *fired),
            [(rule, *(found["overlap"][rule][other] for other in fired)) for rule in fired],
        )
    if found["scored_by"]:
        console.text(f"Compared with real defects by {', '.join(found['scored_by'])}")
    console.text(f"Pictures: {found['sheet']}")


@app.command()
def fit(
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the thresholds into augment.yaml if they help.")
    ] = False,
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Refit the thresholds to decisions by hand, judged on decisions that were held out."""
    with command(json, debug) as console:
        from augmentor.thresholds import LEAST
        from augmentor.workflows.built import build_again
        from augmentor.workflows.filters import fit_filters

        opened = open_here(project, console)
        fitted = fit_filters(opened, console, apply=apply)
        counts = f"{fitted.rejected} rejected and {fitted.accepted} accepted by hand"
        if fitted.fit is None:
            console.text(
                f"Too few decisions to learn from: {counts}, at least {LEAST} of each are needed. "
                "Nothing was changed; decide about more: augment review"
            )
            console.result(fitted.as_json())
            return
        found = fitted.fit
        console.table(
            f"Agreement with {counts}",
            ("thresholds", "balanced accuracy", "precision", "recall", "F1"),
            [
                (name, *(f"{v:.2f}" for v in (q.balanced_accuracy, q.precision, q.recall, q.f1)))
                for name, q in (("of today", found.today), ("fitted, held out", found.held_out))
            ],
        )
        for key, (old, new) in found.changes.items():
            console.text(f"filters.{key}: {old:g} -> {new:g}")
        console.text(_conclusion(fitted.applied, found, build_again(opened)))
        console.result(fitted.as_json())


def _conclusion(applied: bool, found: "Fit", again: str) -> str:
    low, high = found.interval
    gain = f"gain in balanced accuracy {found.gain:+.3f} [{low:+.3f}, {high:+.3f}], 90 %"
    if not found.changes:
        return "The thresholds of today fit best; nothing was changed."
    if applied:
        return f"Written into augment.yaml ({gain}). Next: {again}"
    if not found.better:
        return (
            f"The fitted thresholds are not surely better on held-out decisions ({gain}), so "
            "nothing was changed; decide about more: augment review"
        )
    return f"Better on held-out decisions ({gain}); use them: augment filters fit --apply"
