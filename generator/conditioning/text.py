"""CLIP's tokenizer and text encoder, and what of them can be trained.

Token rows of one's own follow Gal et al., Textual Inversion, 2208.01618; adapters in the encoder
are LoRA (Hu et al., 2106.09685).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from generator.backbones.latents import open_part
from generator.checkpoints import save_tensors
from generator.errors import RecipeError

PARTS = ("tokenizer", "text_encoder")
ADAPTER = "default"
ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True)
class Text:
    """A prompt, and the span of it (characters, end excluded) that names the defect."""

    prompt: str
    span: tuple[int, int] | None = None


class TokenTable(nn.Module):
    """The encoder's table of tokens, followed by rows that are trained."""

    def __init__(self, table: nn.Module, rows: Tensor, first: int) -> None:
        """Keep the table as it is.

        Args:
            table: id -> (D,), for ids below `first`.
            rows: (n, D) float32, where the new rows start.
            first: id of the first of them.
        """
        super().__init__()
        self.table = table
        self.rows = nn.Parameter(rows)
        self.first = first

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) int64 -> (B, T, D)."""
        own = ids >= self.first
        known = self.table(ids.masked_fill(own, 0))
        return torch.where(own[..., None], self.rows[(ids - self.first).clamp(min=0)], known)


class TextEncoder(nn.Module):
    """Prompts -> what cross-attention reads, as Stable Diffusion's pipelines make it: padded to
    the encoder's length, its last hidden state, no attention mask."""

    def __init__(self, folder: Path) -> None:
        """Open both, frozen.

        Args:
            folder: of the pretrained weights, in the hub's layout, known to be whole.

        Raises:
            WeightsError: the files are of another model, or damaged.
        """
        super().__init__()
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        self.encoder = open_part(CLIPTextModel, folder, "text_encoder").requires_grad_(False)

    @property
    def length(self) -> int:
        """Tokens in a prompt, those of its ends and the padding included."""
        return int(self.encoder.config.max_position_embeddings)

    def add_tokens(self, names: Sequence[Sequence[str]], like: Sequence[str]) -> None:
        """Add tokens with trainable rows, which start as what some words mean, on average.

        Args:
            names: for each of several things, the names of its tokens.
            like: for each of them, the words.
        """
        table = self.encoder.get_input_embeddings()
        ids = [self.tokenizer(words, add_special_tokens=False)["input_ids"] for words in like]
        means = [table.weight[torch.tensor(found)].mean(0) for found in ids]
        rows = [mean for mean, own in zip(means, names, strict=True) for _ in own]
        flat = [name for own in names for name in own]
        if self.tokenizer.add_tokens(flat) != len(flat):
            raise RecipeError(
                f"Some of the tokens {', '.join(flat)} are in the tokenizer already; give the "
                "classes other words in conditioning.names of the recipe."
            )
        first = int(self.tokenizer.convert_tokens_to_ids(flat[0]))
        self.encoder.set_input_embeddings(TokenTable(table, torch.stack(rows).detach(), first))

    def add_adapters(self, rank: int) -> None:
        """Add LoRA to the attention of every layer; `alpha` is twice the rank."""
        inject_adapter_in_model(_adapters(rank), self.encoder, ADAPTER)

    def trainable(self) -> dict[str, nn.Parameter]:
        """What was added, by name: token rows, then adapters."""
        own = {n: p for n, p in self.encoder.named_parameters() if ".lora_" in n}
        table = self.encoder.get_input_embeddings()
        rows = {"tokens": table.rows} if isinstance(table, TokenTable) else {}
        return rows | own

    def export(self, weights: Mapping[str, Tensor], rank: int, path: Path) -> None:
        """Write adapters in diffusers' own format.

        Args:
            weights: named as by `trainable`.
            rank: of the adapters.
            path: of the file.
        """
        layers = {
            f"text_encoder.{name.replace(f'.{ADAPTER}.', '.')}": value
            for name, value in weights.items()
            if ".lora_" in name
        }
        # Without the settings readers take alpha for equal to the rank; sorted, so that the same
        # weights make the same file.
        settled = _adapters(rank).to_dict() | {"target_modules": sorted(ATTENTION)}
        said = json.dumps({f"text_encoder.{k}": v for k, v in settled.items()}, sort_keys=True)
        save_tensors(path, layers, {LORA_ADAPTER_METADATA_KEY: said})

    def forward(self, texts: Sequence[Text]) -> tuple[Tensor, Tensor]:
        """Encode prompts, in float32 whatever surrounds the call.

        Returns:
            (B, T, D) float32 tokens; (B, T) bool, which of them name the defect.

        Raises:
            RecipeError: a prompt has more tokens than the encoder takes.
        """
        device = self.encoder.device
        read = self.tokenizer(
            [text.prompt for text in texts],
            padding="max_length",
            max_length=self.length,
            return_offsets_mapping=True,
        )
        for text, own in zip(texts, read["input_ids"], strict=True):
            if len(own) > self.length:
                raise RecipeError(
                    f"The prompt {text.prompt!r} has {len(own)} tokens and the text encoder takes "
                    f"{self.length}; shorten it in the recipe, then type the same command again."
                )
        ids = torch.tensor(read["input_ids"])
        spans = torch.tensor([text.span or (0, 0) for text in texts])[:, None]
        begin, end = torch.tensor(read["offset_mapping"]).unbind(-1)
        # Ends and padding have empty spans.
        words = (begin < spans[..., 1]) & (end > spans[..., 0]) & (begin < end)
        with torch.autocast(device.type, enabled=False):
            tokens: Tensor = self.encoder(ids.to(device)).last_hidden_state
        return tokens, words.to(device)


def _adapters(rank: int) -> LoraConfig:
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(ATTENTION))
