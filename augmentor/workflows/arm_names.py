"""The names of arms, and what they are made of; docs/protocols.md lists them."""

from dataclasses import dataclass

from augmentor.classical import NAME as CLASSICAL
from augmentor.errors import UsageError
from generator.baselines import PLAIN_PASTE

REAL, FULL, MIXED, SYNTHETIC, COPY_PASTE = "real", "full", "mixed", "synthetic", "copy-paste"
PASTES = (COPY_PASTE, PLAIN_PASTE)
"""Arms of pasted real defects that no rule on their looks judges."""
ARMS = (REAL, CLASSICAL, COPY_PASTE, MIXED)
"""What is compared where nobody asks for anything else."""

GRAMMAR = (
    "an arm is real, classical, copy-paste, plain-paste, mixed, synthetic, full, real:K (K real "
    "defect images a class), or mixed@R, GENERATOR@R, GENERATOR+GENERATOR@R (classical is one too) "
    "with a ratio R above 0 and up to 1"
)


@dataclass(frozen=True)
class ArmName:
    """An arm's name, taken apart: `parts` are its generators, or one word of the grammar."""

    name: str
    parts: tuple[str, ...]
    ratio: float | None = None
    shots: int | None = None


def parse_arm(name: str) -> ArmName:
    """Take an arm's name apart.

    Raises:
        UsageError: it does not keep to the grammar.
    """
    if name in (*ARMS, *PASTES, FULL, SYNTHETIC):
        return ArmName(name, (name,))
    head, colon, number = name.partition(":")
    if colon and head == REAL and number.isdecimal() and int(number) > 0:
        return ArmName(name, (REAL,), shots=int(number))
    head, _, number = name.rpartition("@")
    try:
        ratio = float(number)
    except ValueError:
        ratio = -1.0
    parts = tuple(part.strip() for part in head.split("+"))
    alone = MIXED in parts
    closed = set(parts) & {REAL, FULL, SYNTHETIC, ""}
    if not 0 < ratio <= 1 or closed or (alone and len(parts) > 1) or len(set(parts)) < len(parts):
        raise UsageError(f"There is no arm {name!r}: {GRAMMAR}.")
    return ArmName(name, parts, ratio=ratio)
