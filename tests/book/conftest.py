"""The book's extension and tools, which are no package."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "book" / "_ext"), str(ROOT / "book" / "_tools")]


@pytest.fixture
def site(tmp_path):
    """Write files of a site and return its folder."""

    def write(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / "html" / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path / "html"

    return write
