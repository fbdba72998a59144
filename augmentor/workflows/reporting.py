"""How a workflow tells whoever started it what it is doing; the CLI is one listener."""

from typing import Protocol


class Reporter(Protocol):
    """A listener. None of its methods may change what a workflow does."""

    def say(self, text: str) -> None:
        """Take one line meant for a person."""
        ...

    def warn(self, text: str) -> None:
        """Take one line that a person must not miss."""
        ...

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Take the state of something long: `done` of `total` units of `task`."""
        ...


class Silent:
    """Listens to nothing."""

    def say(self, text: str) -> None:
        """Drop the line."""

    def warn(self, text: str) -> None:
        """Drop the line."""

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Drop the state."""
