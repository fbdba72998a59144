"""A FiftyOne plugin: the face of augmentor in the App, thin like the command line.

FiftyOne loads this file by its path and under a name of its own; everything else is imported from
the installed package, once.
"""

from typing import Any


def register(plugin: Any) -> None:
    """Give FiftyOne the operators and the panel that `fiftyone.yml` names."""
    from augmentor.plugin.operators import OPERATORS
    from augmentor.plugin.panel import ReviewPanel

    for operator in (*OPERATORS, ReviewPanel):
        plugin.register(operator)
