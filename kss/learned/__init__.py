"""Denoisers that are learned from the data rather than computed from them."""

from kss.learned.loss import denoising_loss, excess_loss, least_loss
from kss.learned.mlp import TrainedDenoiser, train_denoiser, training_run

__all__ = ["TrainedDenoiser", "denoising_loss", "excess_loss", "least_loss", "train_denoiser", "training_run"]
