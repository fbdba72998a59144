"""Prompts, read by the text encoder that the network was pretrained with."""

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from generator.checkpoints import INVERSION, TEXT_LORA, save_tensors
from generator.conditioning.conditions import Conditioning, Conditions, Prompt, as_they_are
from generator.conditioning.names import class_names
from generator.conditioning.pixels import hidden_by
from generator.conditioning.text import PARTS, Text, TextEncoder
from generator.config import Choice, Recipe
from generator.registry import register
from generator.weights import find_weights

Decoration = Literal[
    "none", "photo", "industrial", "openjourney", "analog", "redshift", "dreamlike"
]
# What kinds of weights were fine-tuned to hear; their cards on the hub say so.
DECORATIONS: Mapping[Decoration, tuple[str, str]] = {
    "none": ("", ""),
    "photo": ("a photograph, ", ", sharp focus"),
    "industrial": ("an industrial inspection photograph, ", ", macro lens, even lighting"),
    "openjourney": ("mdjrny-v4 style ", ""),
    "analog": ("analog style ", ""),
    "redshift": ("redshift style ", ""),
    "dreamlike": ("dreamlikeart ", ""),
}
"""Kind of weights -> what is put before and behind every prompt but the empty one."""
_SIGNS = r"\W+"


@register("conditioning", "prompt")
class PromptConditioning(Conditioning):
    """The class as words in a template; 'no class' is the empty prompt.

    Every prompt is encoded once and kept, unless token rows (textual inversion, Gal et al.,
    2208.01618) or adapters of the text encoder are trained.
    """

    gives = "tokens"
    describes = True
    PARTS = PARTS

    class Settings(Choice):
        """Templates name the class's words with {class} and the part with {object}."""

        kind: Literal["prompt"] = "prompt"
        defect: str = Field("a photo of {class}", description="describes the defect")
        object: str = Field(
            "a {object} with {class}", description="describes the part with the defect"
        )
        clean: str = Field("a photo of a {object}", description="describes the part without it")
        object_name: str = Field("part", min_length=1, description="what is inspected")
        names: dict[str, str] = Field({}, description="words for classes whose id says too little")
        decoration: Decoration = Field(
            "none", description="what this kind of weights was fine-tuned to hear around a prompt"
        )
        drop_class: float = Field(0.1, ge=0, le=1, description="share trained without class")
        background: bool = Field(
            False, description="show the network the mask and what surrounds it"
        )
        margin_px: int = Field(
            0, ge=0, le=128, description="around the mask, painted too: for the defect's own rim"
        )
        learned_tokens: int = Field(
            0, ge=0, le=16, description="tokens a class that are trained and stand for its words"
        )
        token_init: str | None = Field(
            None, min_length=1, description="what learned tokens start as; none: the class's words"
        )
        text_lora_rank: int = Field(
            0, ge=0, le=256, description="of adapters trained in the text encoder; 0 is none"
        )
        rate: float = Field(
            1.0, gt=0, le=1000, description="factor on the learning rate of tokens and adapters"
        )

        @field_validator("defect", "object", "clean")
        @classmethod
        def _fields(cls, template: str) -> str:
            try:
                used = {name for _, name, _, _ in string.Formatter().parse(template) if name}
            except ValueError as fault:
                raise ValueError(f"is no template ({fault})") from None
            if odd := sorted(used - {"class", "object"}):
                raise ValueError(f"may name {{class}} and {{object}}, not {{{odd[0]}}}")
            return template

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """A prompt of a defect must name it, and one of the clean part must not."""
        settings: Any = recipe.conditioning
        for key in ("defect", "object"):
            if "{class}" not in getattr(settings, key):
                return (
                    f"conditioning.{key} does not name {{class}}, so all classes would look alike"
                )
        if "{class}" in settings.clean:
            return "conditioning.clean describes the part without a defect; take {class} out of it"
        if settings.token_init and not settings.learned_tokens:
            return "conditioning.token_init goes with learned_tokens; set that to 1 or more"
        return None

    def __init__(self, settings: Any, classes: Sequence[str], spread: float, backbone: Any) -> None:
        """Open the text encoder, and add what of it is to be trained.

        Raises:
            RecipeError: two classes have the same words.
            WeightsError: the backbone's weights come without a text encoder.
        """
        # Pretrained networks know images as they are, so there is no spread to divide by.
        super().__init__(settings, classes, 1.0, backbone)
        self.sees_background = settings.background
        self.rate = settings.rate
        self.words = class_names(self.classes, settings.names)
        self.tokens: dict[str, tuple[str, ...]] = {}
        self.text: Any = TextEncoder(find_weights(str(backbone.folder), PARTS))
        if settings.learned_tokens:
            self.learn_tokens(settings.learned_tokens, settings.token_init)
        if settings.text_lora_rank:
            self.text.add_adapters(settings.text_lora_rank)
        self._kept: dict[Prompt, tuple[Tensor, Tensor]] = {}

    def learn_tokens(self, count: int, init: str | None) -> None:
        """Let `count` tokens of its own stand for each class's words, and train them.

        Args:
            count: at least 1.
            init: words whose mean they start from; None: the class's own.
        """
        for name, words in self.words.items():
            token = f"<{re.sub(_SIGNS, '-', words)}>"
            # Names of further vectors as diffusers gives them when it loads several.
            self.tokens[name] = (token, *(f"{token}_{k}" for k in range(1, count)))
        like = [init or self.words[name] for name in self.classes]
        self.text.add_tokens([self.tokens[name] for name in self.classes], like)

    def forward(
        self, images: Tensor, masks: Tensor, class_ids: Tensor, prompt: Prompt = "defect"
    ) -> Conditions:
        """Conditions of a batch; see `Conditioning.forward`."""
        hidden = hidden_by(masks, self.settings.margin_px)
        return as_they_are(class_ids, images[:, :0], hidden, images, prompt)

    def embed(self, given: Conditions) -> Conditions:
        """`given` with `tokens` (B, T, D), and which of them are the class's words."""
        if self.own_weights():
            present, rows = given.class_ids.unique(return_inverse=True)
            tokens, words = self.text([self.prompt_of(int(k), given.prompt) for k in present])
        else:
            tokens, words = self._all(given.prompt, given.class_ids.device)
            rows = given.class_ids
        return replace(given, tokens=tokens[rows], words=words[rows])

    def prompt_of(self, class_id: int, prompt: Prompt) -> Text:
        """The prompt for a class id, and where in it the class's words stand.

        Args:
            class_id: of a class, of the clean surface, or of 'no class'.
            prompt: which description.
        """
        if class_id > len(self.classes):
            return Text("")
        before, behind = DECORATIONS[self.settings.decoration]
        part = self.settings.object_name
        if class_id == len(self.classes):
            return Text(f"{before}{self.settings.clean.format(object=part)}{behind}")
        name = self.classes[class_id]
        words = " ".join(self.tokens.get(name, ())) or self.words[name]
        head, tail = getattr(self.settings, prompt).split("{class}", 1)
        # A template may name the class again; where it does so first is what is looked at.
        fields = {"class": words, "object": part}
        start = before + head.format(**fields)
        span = len(start), len(start) + len(words)
        return Text(f"{start}{words}{tail.format(**fields)}{behind}", span)

    def own_weights(self) -> dict[str, nn.Parameter]:
        """Token rows and adapters, if there are any."""
        return self.text.trainable() if self.text is not None else {}

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Write what a plain diffusers pipeline reads: `text_lora/` with `load_lora_weights`, and
        `textual_inversion/CLASS.safetensors` with `load_textual_inversion`; that file's one key is
        the token to write in prompts."""
        if rank := self.settings.text_lora_rank:
            path = folder / TEXT_LORA / "pytorch_lora_weights.safetensors"
            self.text.export(weights, rank, path)
        if "tokens" not in weights:
            return
        rows = weights["tokens"].chunk(len(self.classes))
        for name, own in zip(self.classes, rows, strict=True):
            token = self.tokens[name][0]
            save_tensors(folder / INVERSION / f"{token.strip('<>')}.safetensors", {token: own})

    def _all(self, prompt: Prompt, device: torch.device) -> tuple[Tensor, Tensor]:
        """What all class ids are encoded as; after that the encoder has nothing left to do."""
        for which in get_args(Prompt) if not self._kept else ():
            texts = [self.prompt_of(k, which) for k in range(len(self.classes) + 2)]
            with torch.no_grad():
                self._kept[which] = self.text(texts)
        self.text = None
        tokens, words = self._kept[prompt]
        if tokens.device != device:
            self._kept[prompt] = tokens.to(device), words.to(device)
        return self._kept[prompt]
