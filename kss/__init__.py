"""Kernel-smoothed scores in denoising diffusion: exact objects, theory, and a ledger of checked claims."""

from importlib.metadata import version

__version__ = version("kernel-smoothed-scores")
