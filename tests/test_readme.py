"""The README's example runs as it stands there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_example_runs_and_its_samples_are_copies(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    scope: dict = {}
    exec(block, scope)
    assert float(scope["nearest"](scope["images"].points, scope["samples"]).distance.max()) < 0.5  # digits are 2 apart or more
    assert "passed empirical.collapse" in capsys.readouterr().out
