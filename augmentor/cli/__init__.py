"""The augment command: thin; loads no torch for --help."""


def main() -> None:
    """Entry point of `augment`."""
