"""The command `augment`, and `python -m augmentor`, which launchers of several processes need."""

import sys


def main() -> None:
    """Run the command; an interruption, of the imports too, ends with one sentence."""
    try:
        from augmentor.cli import app

        app()
    except KeyboardInterrupt:
        print("error: Interrupted; run the same command again to continue.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
