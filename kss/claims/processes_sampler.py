"""Chapter "Other processes": DDPM's sampler."""

import itertools
import math
from typing import Any

import numpy as np
import torch

from kss.claims.processes import CHAPTER, DATA, MIXTURE, Moments, seen_directly
from kss.claims.registry import check, claim, instead, returns
from kss.dynamics import geometric_times, sample_reverse_sde
from kss.testing.compare import agree

Numbers = dict[str, Any]


claim(
    "process.sampler",
    title="DDPM's sampler is the bridge sampler of this package",
    statement=r"""Let $\bar\alpha = \frac1{1+t}$ and $\bar\alpha' = \frac1{1+u}$, $u < t$, and
$\beta = 1 - \bar\alpha/\bar\alpha'$. Ho et al.'s ancestral step

$$Y' = \frac{\sqrt{\bar\alpha'}\,\beta}{1 - \bar\alpha}\,m + \frac{\sqrt{1 - \beta}\,(1 - \bar\alpha')}{1 - \bar\alpha}\,Y
+ \sqrt{\frac{1 - \bar\alpha'}{1 - \bar\alpha}\,\beta}\;Z$$

is $\sqrt{\bar\alpha'}$ times the bridge step $X' = X + (t - u)\,s_t(X) + \sqrt{u(t - u)/t}\;Z$ of $X = Y/\sqrt{\bar\alpha}$, with the
same $Z$. So a whole run is the same run.""",
    source="Ho et al., arXiv 2006.11239, equations 6 and 7; the identity derived here",
    regime=r"""Every score, every sequence of noise levels; $m = X + t\,s_t(X)$ is what the network says of $X_0$. The
variance is the smaller one of the two that Ho et al. use; with the larger, $\beta$, it is another sampler. So is an Euler step in $\tau$
or $s$.""",
    uses=("process.change_of_time", "heat.reversal_sde"),
    chapter=CHAPTER,
    verdict="holds",
)


def ancestral(law: Any, start: np.ndarray, times: list[float], noises: list[np.ndarray]) -> np.ndarray:
    """Ho et al.'s chain, its denoiser from the joint law of X_0 and Y; returns `Y/sqrt(alpha bar)` at the end."""
    y = start / math.sqrt(1 + times[0])
    for t, u, z in zip(times[:-1], times[1:], noises, strict=True):
        bar, after = 1 / (1 + t), 1 / (1 + u)
        beta = 1 - bar / after
        clean = seen_directly(law, y, Moments(math.sqrt(bar), 1 - bar)).denoise
        mean = math.sqrt(after) * beta / (1 - bar) * clean + math.sqrt(1 - beta) * (1 - after) / (1 - bar) * y
        y = mean + math.sqrt((1 - after) / (1 - bar) * beta) * z
    return np.asarray(y * math.sqrt(1 + times[-1]))


@check(
    "process.sampler",
    by="property",
    lane="full",
    mutants={
        "off by 1e-7": returns(lambda x, *_, **__: x * (1 + 1e-7)),
        "Euler": instead(lambda *given, **run: sample_reverse_sde(*given, method="euler", **run)),
        "left in the process's units": returns(lambda x, *_, t_min, **__: x / math.sqrt(1 + t_min)),
        "started in the process's units": instead(
            lambda score, start, *, t_max, **run: sample_reverse_sde(score, start / math.sqrt(1 + t_max), t_max=t_max, **run)
        ),
        "score of the process": instead(
            lambda score, start, **run: sample_reverse_sde(lambda x, t: score.score(x, t) * math.sqrt(1 + t), start, **run)
        ),
    },
)
def ancestral_sampling(predict: Any = sample_reverse_sde, *, generator: torch.Generator) -> Numbers:
    """Runs of 1, 7 and 30 steps for a mixture and for data, with the same normal numbers; rounding grows by no more than 100 on the way."""
    worst = 0.0
    for law, (t_max, t_min, steps) in itertools.product((MIXTURE, DATA), ((4.0, 0.5, 1), (20.0, 0.1, 7), (3.0, 0.05, 30))):
        start = law.diffuse(6, t_max, generator)
        seed = int(torch.randint(2**31, (), generator=generator))
        chance = torch.Generator().manual_seed(seed)
        noises = [torch.randn(6, 2, dtype=torch.float64, generator=chance).numpy() for _ in range(steps)]
        expected = ancestral(law, start.numpy(), geometric_times(t_max, t_min, steps).tolist(), noises)
        got = predict(law, start, t_max=t_max, t_min=t_min, steps=steps, generator=seed)
        worst = max(worst, agree(f"{law}, {steps} steps", got, expected, 1e-13 * (1 + np.abs(expected))))
    return {"worst error/allowance": worst}
