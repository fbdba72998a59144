"""Trains and measures detectors on exported files; knows no FiftyOne and no diffusion."""
