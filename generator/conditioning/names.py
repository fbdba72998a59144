"""Words that a text encoder knows, for the ids that folders and label files give classes."""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from generator.conditioning.imagenet import is_synset, synset_names
from generator.errors import RecipeError

_RUNS = re.compile(r"[^\W\d_]+|\d+")
_CODE = re.compile(r"[A-Z]{2,4}")


def class_words(class_id: str, *, numbers: bool = False) -> str:
    """A class's id in words.

    A synset's id becomes its first name. Elsewhere words are parted at signs and at capitals, and
    what stands before or behind them without being one is left out: a data set's code of two to
    four capitals, and numbers. An id without any word stays as it is.

    >>> [class_words(c) for c in ("MT_Blowhole", "scratch_01", "rolled-in_scale", "n01440764")]
    ['blowhole', 'scratch', 'rolled in scale', 'tench']
    >>> [class_words(c) for c in ("Ölfleck", "rayéeProfonde", "划痕_2")]
    ['ölfleck', 'rayée profonde', '划痕']

    Args:
        class_id: a folder's or a label's name.
        numbers: keep numbers, to tell apart classes that differ in nothing else.
    """
    if is_synset(class_id) and (found := synset_names(class_id)):
        return found[0].lower()
    parts = _parts(class_id)
    if len(parts) > 1 and _CODE.fullmatch(parts[0]) and not parts[1].isdigit():
        parts = parts[1:]
    kept = [p.lower() for p in parts if numbers or not p.isdigit()]
    return " ".join(kept) if any(not p.isdigit() for p in kept) else class_id


def _parts(text: str) -> list[str]:
    """Words and numbers, in any script: parted at signs, and before a capital that begins one."""
    parts = []
    # letters with an accent of their own sign (as some file systems write them) become one
    for run in _RUNS.findall(unicodedata.normalize("NFC", text)):
        start = 0
        for k in range(1, len(run)):
            begins = run[k].isupper() and (run[k - 1].islower() or run[k + 1 : k + 2].islower())
            if begins:
                parts.append(run[start:k])
                start = k
        parts.append(run[start:])
    return parts


def class_names(class_ids: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """The words for each class, all different.

    Args:
        class_ids: in any order.
        given: words for some of them, as the user wants them.

    Raises:
        RecipeError: `given` names a class that there is not, or two classes have the same words.
    """
    for name in given:
        if name not in class_ids:
            near = difflib.get_close_matches(name, class_ids, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(class_ids)}."
            raise RecipeError(f"conditioning.names has {name!r}, which is no class, {hint}")
    words = {i: given.get(i) or class_words(i) for i in class_ids}
    count = Counter(words.values())
    words |= {
        i: class_words(i, numbers=True) for i in class_ids if count[words[i]] > 1 and i not in given
    }
    shared = [i for i in class_ids if Counter(words.values())[words[i]] > 1]
    if shared:
        raise RecipeError(
            f"The classes {', '.join(shared)} are called {words[shared[0]]!r} alike, so a prompt "
            "can't tell them apart; give each its words in conditioning.names of the recipe."
        )
    return words
