"""A network's passes as one launch each, where launching its kernels takes longer than they do.

A small detector on small images is a thousand kernels of some microseconds; a CPU core launches
them slower than a large GPU runs them. Recorded as a CUDA graph they are launched together
(pytorch.org, "Accelerating PyTorch with CUDA Graphs").
"""

from typing import Any

import torch


class _Passes(torch.nn.Module):
    """Only what is recorded: the images' way through the network, without the loss."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        return self.model.predict(images)  # type: ignore[operator]


def record(model: torch.nn.Module, images: torch.Tensor, bf16: bool) -> torch.nn.Module:
    """Record forward and backward passes of a detector in training; its weights stay as they are.

    Args:
        model: of ultralytics, on a CUDA device.
        images: a batch of the shape and type that every batch of the training has.
        bf16: whether it trains under autocast.

    Returns:
        A module that maps images to what `model.predict` does, and can be trained through.
    """
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    passes = _Passes(model).train()
    # casts that are remembered from outside would keep the weights of the first step
    with torch.autocast("cuda", torch.bfloat16, enabled=bf16, cache_enabled=False):
        graphed = torch.cuda.make_graphed_callables(passes, (images,), allow_unused_input=True)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])
    return graphed


def use(model: torch.nn.Module, passes: torch.nn.Module, images: torch.Tensor) -> None:
    """Let `model` train through what `record` returned, and do all else as before."""
    shape = images.shape

    def forward(x: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(x, dict):
            return model.loss(x, *args, **kwargs)  # type: ignore[operator]
        if model.training and torch.is_grad_enabled() and x.shape == shape:
            return passes(x)
        return model.predict(x, *args, **kwargs)  # type: ignore[operator]

    model.forward = forward  # type: ignore[method-assign]
