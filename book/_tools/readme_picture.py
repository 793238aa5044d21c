"""Draw the picture of the README, `book/_static/copies.png`; run again when the sampler or the digits change."""

from pathlib import Path

import torch

from kss.data import digits
from kss.distributions import Empirical
from kss.dynamics import sample_reverse_sde
from kss.plots import image_grid, use_house_style
from kss.theory.collapse import nearest

PICTURE = Path(__file__).resolve().parents[1] / "_static" / "copies.png"


def main() -> None:
    """Twelve samples of exact reverse diffusion above their nearest training digits."""
    use_house_style()
    data = digits()
    law = Empirical(data.points)
    start = law.diffuse(12, 100.0, generator=0)
    samples = sample_reverse_sde(law, start, t_max=100.0, t_min=1e-3, steps=100, generator=1)
    pairs = torch.cat((samples, data.points[nearest(data.points, samples).which]))
    image_grid(data.images(pairs), columns=12).savefig(PICTURE, dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main()
