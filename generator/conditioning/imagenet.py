"""ImageNet's classes by number, synset and name.

The numbers are those of ILSVRC 2012 (Russakovsky et al., 1409.0575), which pretrained labels
follow; synsets and names are WordNet's, as timm ships them.
"""

import difflib
import re
from dataclasses import dataclass
from functools import cache

from generator.errors import RecipeError

COUNT = 1000
_SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class ImageNetClass:
    """Attributes:
    index: number of the class, from 0.
    synset: WordNet's id, such as `n01440764`.
    names: its synonyms, the most usual first.
    """

    index: int
    synset: str
    names: tuple[str, ...]


@cache
def imagenet_classes() -> tuple[ImageNetClass, ...]:
    """The 1000 classes in their order."""
    # All of timm is imported with it, which takes seconds.
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return tuple(
        ImageNetClass(k, synset, _synonyms(info.label_name_to_description(synset)))
        for k, synset in enumerate(info.label_names())
    )


def is_synset(name: str) -> bool:
    """True for what looks like a synset's id: `n` and eight digits."""
    return _SYNSET.fullmatch(name) is not None


def synset_names(synset: str) -> tuple[str, ...]:
    """The synonyms of any of ImageNet's 21,841 synsets; empty if it is none of them."""
    from timm.data import ImageNetInfo

    # The smaller set knows the words of the larger one too.
    try:
        return _synonyms(ImageNetInfo("imagenet-22k").label_name_to_description(synset))
    except KeyError:
        return ()


def imagenet_index(name: int | str) -> int:
    """The number of a class.

    Args:
        name: its number, its synset, or one of its names, whatever the case.

    Raises:
        RecipeError: there is no such class, or several have that name.
    """
    if isinstance(name, int):
        if not 0 <= name < COUNT:
            raise RecipeError(f"ImageNet's classes are numbered from 0 to 999, not {name}.")
        return name
    wanted = name.strip().lower()
    found = [
        c.index
        for c in imagenet_classes()
        if wanted in (c.synset, *(n.lower() for n in c.names), ", ".join(c.names).lower())
    ]
    if len(found) == 1:
        return found[0]
    if found:
        numbers = ", ".join(map(str, found))
        raise RecipeError(f"ImageNet's classes {numbers} are all called {name!r}; give a number.")
    known = sorted({n for c in imagenet_classes() for n in c.names})
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "give its number."
    raise RecipeError(f"ImageNet has no class {name!r}, {hint}")


def label_name(index: int) -> str:
    """The most usual name of a class."""
    return imagenet_classes()[index].names[0]


def _synonyms(lemmas: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in lemmas.split(",") if name.strip())
