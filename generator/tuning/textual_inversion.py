"""Only new words are learnt; the network that reads them stays as it was pretrained."""

from typing import Any, Literal

from pydantic import Field
from torch import nn

from generator.config import Choice, Recipe
from generator.registry import register
from generator.tuning.tuning import Tuning, pretrained_reason


@register("tuning", "textual_inversion")
class TextualInversion(Tuning):
    """Rows of the text encoder's table of tokens, a few for each class (Gal et al., An Image is
    Worth One Word, 2208.01618, section 4.1).

    `conditioning.learned_tokens` trains them beside other tunings.
    """

    class Settings(Choice):
        """The paper has one token, which starts as a single coarse word."""

        kind: Literal["textual_inversion"] = "textual_inversion"
        tokens: int = Field(1, ge=1, le=16, description="learnt tokens a class")
        init: str | None = Field(
            None, min_length=1, description="what they start as; none: the class's words"
        )

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """Words are only learnt where there are any."""
        if recipe.conditioning.kind != "prompt":
            return (
                "tuning 'textual_inversion' learns words of a prompt, and conditioning "
                f"{recipe.conditioning.kind!r} has none; choose conditioning 'prompt'"
            )
        if getattr(recipe.conditioning, "learned_tokens", 0):
            return (
                "tuning 'textual_inversion' adds tokens itself; set conditioning.learned_tokens to "
                "0, or choose another tuning to train them beside it"
            )
        return pretrained_reason(recipe)

    def prepare(self, backbone: nn.Module, conditioning: Any) -> dict[str, nn.Parameter]:
        """Add the tokens, then as every tuning."""
        conditioning.learn_tokens(self.settings.tokens, self.settings.init)
        return super().prepare(backbone, conditioning)

    def choose(self, backbone: nn.Module) -> dict[str, nn.Parameter]:
        """Nothing of the backbone."""
        return {}
