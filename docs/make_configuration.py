"""Writes docs/configuration.md from the models that read augment.yaml and the recipes."""

import sys
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from augmentor.workflows.project import ProjectConfig

HERE = Path(__file__).parent
INTRO = """\
# Every key of augment.yaml

`augment import` writes the file with what differs from the defaults; every key can be set there.
An unknown key is an error that names the nearest known one. The protocols of `split.protocol` and
the names that `evaluate.arms` takes stand in [protocols.md](protocols.md). Written by
`docs/make_configuration.py`; a test keeps it true.

| key | default | what |
| --- | --- | --- |
"""


def rows(model: type[BaseModel], prefix: str = "") -> list[str]:
    """A Markdown row for each leaf of `model`."""
    lines = []
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            lines += rows(annotation, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True)
        shown = "required" if default is PydanticUndefined else f"`{default}`"
        bounds = [_bound(part) for part in field.metadata]
        what = "; ".join(filter(None, [field.description, *bounds]))
        lines.append(f"| `{prefix}{name}` | {shown} | {what.replace('|', '/')} |")
    return lines


_BOUNDS = (
    ("ge", "at least"),
    ("gt", "above"),
    ("le", "at most"),
    ("lt", "below"),
    ("multiple_of", "a multiple of"),
)


def _bound(part: object) -> str:
    for sign, text in _BOUNDS:
        if hasattr(part, sign):
            return f"{text} {getattr(part, sign)}"
    return ""


def document() -> str:
    """The whole page."""
    return INTRO + "\n".join(rows(ProjectConfig)) + "\n"


if __name__ == "__main__":
    sys.stdout.write(f"{(HERE / 'configuration.md').write_text(document())} characters\n")
