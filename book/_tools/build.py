"""Build the book and check what was built; `make book` runs this.

1. Evidence: if a deterministic check has not run on this code, run the quick lane.
2. Drop the cache of executed pages if the package or the pins have changed: the cache itself looks at cell text only.
3. Run the pages that the cache does not know, two at a time: the build would run one after the other.
4. Build with Jupyter Book, every warning an error, from an empty tree so that a second try fails like the first.
5. Check the site, with and without a browser.

The book is built even when a claim is failing, so that the page says so; the exit code then says so too.
"""

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import check_browser
import check_site
import yaml

from kss.claims import LEDGER, evidence
from kss.claims.runner import select_checks

ROOT = Path(__file__).resolve().parents[2]
KERNELS = 2


def main() -> int:
    """Run the steps; the exit code is 0 only if nothing is wrong."""
    started = time.perf_counter()
    os.chdir(ROOT)
    # One thread in each kernel: two make the time of a chapter vary by a factor of three.
    os.environ["OMP_NUM_THREADS"] = "1"
    refresh_evidence(ROOT)
    drop_stale_cache(ROOT)
    execute_pages(ROOT)
    if code := build(ROOT):
        print("\nThe book was not built: see the messages above.", file=sys.stderr)
        return code
    html = ROOT / "_build" / "html"
    problems = check_site.check(html, ROOT) + failing_claims(ROOT)
    print("site: links, remote assets and tracebacks checked", flush=True)
    problems += browser_problems(html)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    found = f"{len(problems)} problems" if problems else "no problem"
    print(f"\n{found} found in {time.perf_counter() - started:.0f} s. The book is in {html / 'index.html'}")
    return 1 if problems else 0


def refresh_evidence(root: Path) -> None:
    """Run the quick lane unless each of its checks has run on exactly this code."""
    records = evidence.load(root / evidence.DEFAULT_PATH)
    quick = select_checks(LEDGER, LEDGER.claims.values(), "quick")
    if any(records.get((c.claim, c.name), {}).get("key") != evidence.key_of(c) for c in quick):
        print("Some checks have not run on this code: running the quick lane ...", flush=True)
        subprocess.run([sys.executable, "-m", "kss", "verify", "--quick"], cwd=root)


def failing_claims(root: Path) -> list[str]:
    """Claims that a check of today's code contradicts."""
    records = evidence.load(root / evidence.DEFAULT_PATH)
    return [f"claim {c.id} is failing" for c in LEDGER.claims.values() if evidence.status(c, LEDGER, records) == "failing"]


def drop_stale_cache(root: Path) -> None:
    """Remove the cached outputs of pages unless they were made by exactly this package, these measurements, these pins and this Python."""
    digest = hashlib.sha256(sys.version.encode())
    folders = (root / "kss", root / "benchmarks")
    code = [path for folder in folders for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    for path in sorted([*code, root / "constraints.txt", root / "pyproject.toml"]):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    folder = root / "_build"
    stamp = folder / ".executed-with"
    if not stamp.is_file() or stamp.read_text() != digest.hexdigest():
        shutil.rmtree(folder / ".jupyter_cache", ignore_errors=True)
    folder.mkdir(exist_ok=True)
    stamp.write_text(digest.hexdigest())


def execute_pages(root: Path) -> None:
    """Fill the cache of outputs, with two kernels; a page that fails is left to the build, which runs it again and says why."""
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn
    from myst_nb.core.read import is_myst_markdown_notebook, myst_nb_reader_plugin
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    cache = get_cache(root / "_build" / ".jupyter_cache")
    timeout = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["execute"]["timeout"]
    known = {record.hashkey for record in cache.list_cache_records()}

    async def execute(path: Path, kernels: asyncio.Semaphore) -> None:
        notebook = myst_nb_reader_plugin(str(path))
        if cache.create_hashed_notebook(notebook)[1] in known:
            return
        async with kernels:
            folder, started, outcome = {"metadata": {"path": str(path.parent)}}, time.perf_counter(), "run"
            try:  # times would become part of the notebook's key
                await NotebookClient(notebook, timeout=timeout, record_timing=False, resources=folder).async_execute()
            except (CellExecutionError, CellTimeoutError, DeadKernelError):
                outcome = "failed"
            seconds = time.perf_counter() - started
        print(f"{path.name}: {outcome} in {seconds:.0f} s", flush=True)
        if outcome == "run":
            bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)

    async def execute_all() -> None:
        pages = [path for path in (root / "book").glob("*.md") if is_myst_markdown_notebook(path.read_text(encoding="utf-8"))]
        # Long pages first, so that neither kernel is left with one when the other is done.
        pages.sort(key=lambda path: -path.stat().st_size)
        kernels = asyncio.Semaphore(KERNELS)
        await asyncio.gather(*(execute(path, kernels) for path in pages))

    asyncio.run(execute_all())


def build(root: Path) -> int:
    """Jupyter Book, from nothing but the cache of outputs."""
    for folder in ("_build/.doctrees", "_build/html", "_build/jupyter_execute"):
        shutil.rmtree(root / folder, ignore_errors=True)
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", ".", "-W", "--keep-going"]
    return subprocess.run(command, cwd=root).returncode


def browser_problems(html: Path) -> list[str]:
    """What a browser finds; without one, a line that says that nobody looked."""
    browser = check_browser.find_browser()
    if browser is None:
        message = "browser checks: not run (no Chromium found)"
        print(message, flush=True)
        return [message] if os.environ.get("KSS_REQUIRE_BROWSER") else []
    started = time.perf_counter()
    print("browser checks: running ...", flush=True)
    problems = check_browser.check(html, browser)
    print(f"browser checks: {len(problems)} problems in {time.perf_counter() - started:.0f} s", flush=True)
    return problems


if __name__ == "__main__":
    sys.exit(main())
