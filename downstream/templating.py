"""What all pages are filled in with: undefined names are errors, numbers are written alike."""

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def page_environment() -> Environment:
    """The templates, with the filters `number` and `signed`, in which None is a dash."""
    environment = Environment(
        loader=PackageLoader("downstream", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda v: "–" if v is None else f"{v:.3f}"
    environment.filters["signed"] = lambda v: "–" if v is None else f"{v:+.3f}"
    return environment
