"""The empirical law in shards: the numbers of `Empirical`, whatever the shards, whoever reads them, and whoever dies meanwhile."""

import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import criterion
import joblib
import numpy as np
import pytest
import test_empirical
import torch

from kss.distributions import Empirical, Gaussian, ShardedEmpirical, npy_shards
from kss.sweeps import sweep

cluster = pytest.mark.xdist_group("dask")  # one process starts it


def cut(points, kind="random", seed=0):
    """Shards of different sizes, one point among them, at random places or so that no two overlap."""
    points, rng = np.asarray(points, dtype=np.float64), np.random.default_rng([seed, len(points)])
    if kind == "apart":
        points = points[np.lexsort(points.T)]
    places = np.unique([1, *rng.integers(1, len(points) + 1, size=4)])
    return [shard for shard in np.split(points, places) if len(shard)]


@pytest.fixture(params=["random", "apart"])
def in_shards(request, monkeypatch):
    """Runs what was written for `Empirical` on shards."""
    made = []

    def law(points, method="auto"):
        made.append(ShardedEmpirical(cut(points, request.param)))
        return made[-1]

    monkeypatch.setattr(test_empirical, "Empirical", law)
    monkeypatch.setattr(criterion, "Empirical", law)
    yield
    assert made


# --- accuracy: against high precision, and against all points at once ----------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "pairs", "shifted", "outlier"])
def test_errs_by_no_more_than_its_inputs_do(in_shards, kind):
    assert criterion.beyond_criterion(criterion.data_set(kind, 24, 3), [1e-8, 1e-2, 1.0, 1e8]) == []


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "dim"), [(1e-150, 8), (1e150, 1)])
def test_is_never_nan_and_infinite_only_where_the_truth_is(in_shards, scale, dim):
    test_empirical.test_is_never_nan_and_infinite_only_where_the_truth_is(scale, dim)


@pytest.mark.parametrize("t", [1e-300, 1.0, 1e300])
def test_exact_cases_are_exact(in_shards, t):
    for copies in (1, 3):
        test_empirical.test_one_point_is_exact(t, copies)
    test_empirical.test_an_exact_tie_is_kept(t)


@pytest.mark.parametrize("t", [1e-16, 1e-8, 1.0])
def test_a_sum_that_the_fast_route_cannot_resolve(in_shards, t):
    test_empirical.test_a_sum_that_the_fast_route_cannot_resolve(t)


def everything(law, x, t):
    posterior = law.posterior(x, t)
    return {
        "displacement": posterior.displacement,
        "log-density": posterior.log_evidence,
        "covariance": posterior.covariance(),
        "trace": posterior.covariance_trace,
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_is_the_law_of_all_points(seed):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 12)), int(rng.integers(1, 8))
    points = rng.standard_normal((n, d))
    points[n // 2 :: 3] = points[0]  # in several shards
    points[rng.integers(n)] += 1e3  # and one of them far
    x = points[rng.integers(n, size=20)] + rng.standard_normal((20, d))
    whole = Empirical(points)
    for shards in (cut(points, seed=seed), list(points[:, None])):
        law = ShardedEmpirical(shards)
        assert (len(law), law.dim, law.intrinsic_dim) == (n, d, 0)
        assert set(map(tuple, law.bounds().tolist())) == set(map(tuple, whole.bounds().tolist()))
        for t in (1e-300, 1e-2, 1.0, 1e300):
            found, expected = everything(law, x, t), everything(whole, x, t)
            # Exponents err by a few eps |x - x_i|^2/t, in both laws; this moves averages of sizes up to the largest.
            far = 1e4 * d
            error = 8 * sys.float_info.epsilon * (2 + min(far**2 / t, 36))
            for name, power in (("displacement", 1), ("covariance", 2), ("trace", 2)):
                size = {1: expected[name].norm(dim=-1).max(), 2: expected["trace"].max()}[power]
                torch.testing.assert_close(found[name], expected[name], rtol=0, atol=float(error * size), msg=lambda m, n=name: f"{n}: {m}")
            torch.testing.assert_close(found["log-density"], expected["log-density"], rtol=1e-12, atol=1e-12)


# --- where shards come from ----------------------------------------------------------------------------------------------


POINTS = np.random.default_rng(7).standard_normal((500, 4))
PLACES = np.random.default_rng(8).standard_normal((30, 4))


def from_file(folder):
    np.save(folder / "points.npy", POINTS)
    return npy_shards(folder / "points.npy", rows=130)


def from_zarr(folder):
    array, zarr = pytest.importorskip("dask.array"), pytest.importorskip("zarr")
    zarr.create_array(folder / "points.zarr", data=POINTS, chunks=(130, 3))
    return array.from_zarr(folder / "points.zarr")


def from_parquet(folder):
    frame, pandas = pytest.importorskip("dask.dataframe"), pytest.importorskip("pandas")
    for number, part in enumerate(cut(POINTS, "random")):
        pandas.DataFrame(part, columns=list("abcd")).to_parquet(folder / f"{number}.parquet")
    return frame.read_parquet(folder / "*.parquet")


SOURCES = {
    "arrays": lambda folder: cut(POINTS),
    "functions": lambda folder: [lambda part=part: part for part in cut(POINTS)],
    "maps": lambda folder: [np.load(shard.args[0], mmap_mode="r")[shard.args[1]] for shard in from_file(folder)],
    "npy": from_file,
    "zarr": from_zarr,
    "parquet": from_parquet,
}


def assert_is_the_law_of(points, law):
    for t in (1e-3, 0.3):
        for found, expected in zip(everything(law, PLACES, t).values(), everything(Empirical(points), PLACES, t).values(), strict=True):
            # Exponents up to 50/1e-3 are right to 1e-11.
            torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
    assert torch.equal(law.bounds(), Empirical(points).bounds())
    # The same draws, in the same order.
    assert torch.equal(law.sample(1000, generator=3), Empirical(points).sample(1000, generator=3))


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_law_of_its_points(tmp_path, source):
    shards = SOURCES[source](tmp_path)
    law = ShardedEmpirical(shards)
    assert_is_the_law_of(POINTS, law)
    if source != "functions":
        assert torch.equal(pickle.loads(pickle.dumps(law)).score(PLACES, 0.1), law.score(PLACES, 0.1))


def test_one_shard_at_a_time_is_held():
    held, most = 0, 0

    class Part(np.ndarray):
        def __del__(self):
            nonlocal held
            held -= self.base is not None and self.base.ndim == 3

    def load(k):
        nonlocal held, most
        held, most = held + 1, max(most, held + 1)
        return POINTS[None, 50 * k : 50 * k + 50].copy().view(Part)[0]

    law = ShardedEmpirical([lambda k=k: load(k) for k in range(10)])
    everything(law, PLACES, 0.1)
    assert most <= 2  # the next is read while the last still has a name


GROWTH = """
import resource, sys, numpy, torch
from kss.distributions import ShardedEmpirical, npy_shards
torch.set_num_threads(1)
x = numpy.load(sys.argv[2])
ShardedEmpirical([x]).score(x, 0.5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
score = ShardedEmpirical(npy_shards(sys.argv[1], rows=8000)).score(x, 0.5)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
numpy.save(sys.argv[3], score.numpy())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in kilobytes on Linux only")
def test_memory_is_that_of_a_shard(tmp_path):
    points = np.random.default_rng(0).standard_normal((200_000, 64))
    x = points[:5] + 0.1
    np.save(tmp_path / "points.npy", points)
    np.save(tmp_path / "x.npy", x)
    arguments = [tmp_path / name for name in ("points.npy", "x.npy", "score.npy")]
    run = subprocess.run([sys.executable, "-c", GROWTH, *map(str, arguments)], capture_output=True, text=True, check=True)
    # The file has 102 MB; a shard 4, and a few copies of it are made.
    assert int(run.stdout) < 60
    torch.testing.assert_close(torch.from_numpy(np.load(arguments[2])), Empirical(points).score(x, 0.5), rtol=1e-11, atol=1e-11)


def test_sampling_reads_the_shards_it_draws_from():
    read = []
    law = ShardedEmpirical([lambda k=k: read.append(k) or [[float(k)]] * 3 for k in range(50)])
    read.clear()
    drawn = law.sample(5, generator=1)
    assert sorted(read) == sorted({int(value) for value in drawn.squeeze(-1)})
    assert drawn.squeeze(-1).tolist() != sorted(drawn.squeeze(-1).tolist())


def test_gradients_flow_through_x():
    x = torch.from_numpy(PLACES).requires_grad_()
    law = ShardedEmpirical(cut(POINTS))
    (gradient,) = torch.autograd.grad(law.log_density(x, 0.3).sum(), x)
    torch.testing.assert_close(gradient, law.score(PLACES, 0.3), rtol=0, atol=1e-11)


def test_dtype_and_shapes_are_those_of_the_empirical_law():
    law = ShardedEmpirical([torch.zeros(2, 3), torch.ones(1, 3)])
    assert law.score(torch.zeros(4, 1, 3), torch.tensor([0.1, 1.0], dtype=torch.float32)).shape == (4, 2, 3)
    assert law.score(torch.zeros(3), 0.1).dtype == law.sample(1, 0).dtype == law.bounds().dtype == torch.float32
    assert ShardedEmpirical([torch.zeros(2, 3), torch.ones(1, 3).double()]).sample(1, 0).dtype == torch.float64
    assert ShardedEmpirical([torch.zeros(2, 3)]).posterior(torch.zeros(0, 3), 1.0).covariance().shape == (0, 3, 3)


# --- on a cluster --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address="localhost:0", memory_limit=0) as client:
        yield client


@pytest.mark.slow
@cluster
@pytest.mark.parametrize("source", ["npy", "zarr"])
def test_a_cluster_gives_the_same_numbers(client, tmp_path, source):
    shards = SOURCES[source](tmp_path)
    law, here = ShardedEmpirical(shards, dask=True), ShardedEmpirical(shards)
    for found, expected in zip(everything(law, PLACES, 0.1).values(), everything(here, PLACES, 0.1).values(), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(law.sample(20, generator=0), here.sample(20, generator=0))
    assert torch.equal(law.bounds(), here.bounds())


@pytest.mark.slow
@cluster
def test_data_that_the_cluster_holds_are_used_where_they_are(client):
    from dask import array

    held = array.from_array(POINTS, chunks=(170, 4)).persist()
    assert_is_the_law_of(POINTS, ShardedEmpirical(held, dask=True))


def reader(folder: Path, number: int):
    """A function that reads a shard. Once `folder/armed` is there it leaves a note, and when four were read, it waits for a death."""

    def read():
        if (folder / "armed").exists():
            (folder / f"read {number} {os.getpid()}").touch()
            deadline = time.monotonic() + 30
            while len(list(folder.glob("read *"))) > 4 and not (folder / "killed").exists():
                (folder / f"wait {number} {os.getpid()}").touch()
                assert time.monotonic() < deadline, "nobody was killed"
                time.sleep(0.02)
        return POINTS[50 * number : 50 * number + 50]

    return read


@pytest.mark.slow
@cluster
def test_nothing_is_lost_with_a_worker_that_dies(client, tmp_path):
    shards = [reader(tmp_path, number) for number in range(10)]
    law = ShardedEmpirical(shards, dask=True)

    def notes(kind):
        return [tuple(map(int, path.name.split()[1:])) for path in tmp_path.glob(f"{kind} *")]

    def kill():
        # Both workers wait inside a task, and the one that read more has delivered sums that nobody else has.
        while len(notes("wait")) < 2:
            time.sleep(0.02)
        readers = [worker for _, worker in notes("read")]
        victim = max(set(readers), key=readers.count)
        (tmp_path / f"victim {victim}").touch()
        os.kill(victim, signal.SIGKILL)
        (tmp_path / "killed").touch()

    (tmp_path / "armed").touch()
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    found = law.posterior(PLACES, 0.1)
    killer.join()
    ((victim,),) = notes("victim")
    (interrupted,) = [number for number, worker in notes("wait") if worker == victim]
    assert [number for number, worker in notes("read") if worker == victim] != [interrupted]
    assert interrupted in [number for number, worker in notes("read") if worker != victim]  # done again
    expected = ShardedEmpirical(shards).posterior(PLACES, 0.1)
    assert torch.equal(found.displacement, expected.displacement)
    assert torch.equal(found.log_evidence, expected.log_evidence)
    assert torch.equal(found.covariance(), expected.covariance())


@pytest.mark.slow
@cluster
def test_a_sweep_runs_on_the_cluster_and_a_law_in_shards_within_it(client):
    def at(t, N, seed):
        generator = torch.Generator().manual_seed(seed)
        points = Gaussian(torch.zeros(3), torch.eye(3)).sample(N, generator)
        law = ShardedEmpirical([points[:1], points[1:]], dask=True)
        return {"value": law.log_density(torch.zeros(3), t).item(), "process": os.getpid()}

    axes = {"t": [0.1, 1.0], "N": [20], "seed": range(2)}
    client.wait_for_workers(2)  # with a single one joblib stays at home
    with joblib.parallel_config(backend="dask"):
        there = sweep(at, **axes)
    assert os.getpid() not in {row["process"] for row in there}
    here = sweep(at, **axes)
    for one, other in zip(there, here, strict=True):
        assert one | {"process": 0} == other | {"process": 0}


@pytest.mark.slow
@cluster
def test_an_error_on_the_cluster_names_the_shard(client):
    with pytest.raises(ValueError, match=r"^shards\[2\] = .*expected finite numbers"):
        ShardedEmpirical([POINTS, POINTS, np.full((2, 4), math.nan)], dask=True)
    with pytest.raises(ValueError, match=r"^x = .*expected points and noise variances without gradient"):
        ShardedEmpirical([POINTS], dask=True).score(torch.zeros(4, requires_grad=True), 1.0)


# --- bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ([], r"^shards = \[\]: expected a non-empty list of arrays"),
        (np.zeros((3, 2)), r"^shards = ndarray of shape \(3, 2\).*expected a non-empty list of arrays"),
        (torch.zeros(3, 2), r"^shards = Tensor of shape \(3, 2\).*expected a non-empty list of arrays"),
        ("ab", r"^shards = 'ab': expected a non-empty list"),
        (3, r"^shards = 3: expected a non-empty list"),
        ([[[0.0]], [[0.0, 1.0]]], r"^shards\[1\] = .*expected points of dimension 1, as in shards\[0\]"),
        ([[[0.0]], [[math.nan]]], r"^shards\[1\] = .*expected finite numbers"),
        ([[[0.0]], lambda: np.array([[np.inf]])], r"^shards\[1\] = .*expected finite numbers"),
        ([[[0.0]], np.zeros((0, 1))], r"^shards\[1\] = .*\(0, 1\).*expected a non-empty array of shape \(n, d\)"),
        ([[0.0]], r"^shards\[0\] = .*expected a non-empty array of shape \(n, d\)"),
        ([[[0.0]], lambda: "ab"], r"^shards\[1\] = 'ab': expected an array of real numbers"),
    ],
)
def test_bad_shards_are_named(shards, message):
    with pytest.raises(ValueError, match=message):
        ShardedEmpirical(shards)


def test_a_shard_that_went_bad_is_named_later_too():
    good = [True]
    law = ShardedEmpirical([[[0.0]], lambda: [[0.0]] if good else [[math.nan]]])
    good.clear()
    with pytest.raises(ValueError, match=r"^shards\[1\] = .*expected finite numbers"):
        law.score([0.0], 1.0)


def test_bad_files_are_named(tmp_path):
    np.save(tmp_path / "line.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"^path = .*\(3,\).*expected a file with a non-empty array of shape \(N, d\)"):
        npy_shards(tmp_path / "line.npy", rows=2)
    with pytest.raises(ValueError, match=r"^rows = 0: expected an integer >= 1"):
        npy_shards(tmp_path / "line.npy", rows=0)


def test_without_dask_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"dask=True needs the extra 'dask': pip install 'kernel-smoothed-scores\[dask\]'"):
        ShardedEmpirical([[[0.0]]], dask=True)


@pytest.mark.slow
def test_importing_the_package_does_not_import_dask():
    code = "import sys, kss.distributions, kss.sweeps; print({'dask', 'distributed', 'zarr', 'pandas', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
