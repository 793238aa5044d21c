"""Denoisers that are learned from the data rather than computed from them."""

from kss.learned.mlp import TrainedDenoiser, train_denoiser, training_run

__all__ = ["TrainedDenoiser", "train_denoiser", "training_run"]
