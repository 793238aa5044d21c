"""Build the book and check what was built; `make book` runs this.

1. Evidence: if a deterministic check has not run on this code, run the quick lane.
2. Drop the cache of executed pages if the package or the pins have changed: the cache itself looks at cell text only.
3. Build with Jupyter Book, every warning an error, from an empty tree so that a second try fails like the first.
4. Check the site.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from kss.claims import LEDGER, evidence
from kss.claims.runner import select_checks

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "_build"
HTML = BUILD / "html"


def main() -> int:
    """Run the steps; the exit code is that of the first that fails."""
    os.chdir(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"
    records = evidence.load(BUILD / "evidence.json")
    quick = select_checks(LEDGER, LEDGER.claims.values(), "quick")
    if any(records.get((c.claim, c.name), {}).get("key") != evidence.key_of(c) for c in quick):
        print("Some checks have not run on this code: running the quick lane ...", flush=True)
        if code := subprocess.run([sys.executable, "-m", "kss", "verify", "--quick"]).returncode:
            return code
    drop_stale_cache()
    for folder in (BUILD / ".doctrees", HTML):
        shutil.rmtree(folder, ignore_errors=True)
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", ".", "-W", "--keep-going"]
    if code := subprocess.run(command).returncode:
        return code
    print(f"\nThe book is in {HTML / 'index.html'}")
    return 0


def drop_stale_cache() -> None:
    """Remove the cached outputs of pages unless they were made by exactly this package, these pins and these scripts."""
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "kss").rglob("*.py"), ROOT / "constraints.txt", ROOT / "pyproject.toml"]):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    stamp, cache = BUILD / ".executed-with", BUILD / ".jupyter_cache"
    if not stamp.is_file() or stamp.read_text() != digest.hexdigest():
        shutil.rmtree(cache, ignore_errors=True)
    BUILD.mkdir(exist_ok=True)
    stamp.write_text(digest.hexdigest())


if __name__ == "__main__":
    sys.exit(main())
