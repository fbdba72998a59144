"""The augment command: thin, one file per command, and no torch for --help."""

import typer

from augmentor.cli import (
    build,
    decisions,
    demo,
    doctor,
    evaluate,
    export,
    export_model,
    filters,
    import_,
    loop,
    predictions,
    report,
    review,
    sample,
    sheet,
    train,
    weights,
)

app = typer.Typer(
    name="augment",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A few real defects in; synthetic ones, and a measured answer whether they help, out.",
    epilog="A project is a folder with augment.yaml; go into it and no command needs --project. "
    "Exit codes: 0 done, 1 bug (or a FAIL of doctor), 2 wrong arguments, 3 project or recipe, "
    "4 data, 5 weights, 6 leak between splits, 7 built but short of the ratio, 8 database, 9 disk, "
    "10 a training or sampling failed, 130 interrupted.",
)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
app.command("import")(import_.import_)
app.command("train")(train.train)
app.command("sample")(sample.sample)
app.command("build")(build.build)
app.command("review")(review.review)
app.command("evaluate")(evaluate.evaluate)
app.command("predictions")(predictions.predictions)
app.command("loop")(loop.loop)
app.command("export")(export.export)
app.command("export-model")(export_model.export_model)
app.command("sheet")(sheet.sheet)
app.add_typer(report.app)
app.add_typer(filters.app)
app.add_typer(decisions.app)
app.add_typer(weights.app)
