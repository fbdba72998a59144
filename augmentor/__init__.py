"""Data augmentation for industrial visual inspection: data in and out, mixing, workflows, CLI."""
