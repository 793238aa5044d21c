import gzip
import re
import struct

import numpy as np
import pytest
import sklearn.datasets
import torch
from sklearn.utils import Bunch

from kss import data

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(array):
    """The IDX bytes of an array, written independently of the reader: with `struct`, element by element."""
    kind = array.dtype.str[1:]
    letter = {"u1": "B", "i1": "b", "i2": "h", "i4": "i", "f4": "f", "f8": "d"}[kind]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[kind], array.ndim, *array.shape)
    return header + b"".join(struct.pack(f">{letter}", value) for value in array.ravel().tolist())


def small_mnist(folder, prefix="train", dot="-", gz="", n=5, height=3, width=4):
    pixels = np.arange(n * height * width, dtype=np.uint8).reshape(n, height, width)
    pixels[0, 0, 0], pixels[-1, -1, -1] = 0, 255
    labels = np.arange(n, dtype=np.uint8) % 10
    pack = gzip.compress if gz else bytes
    (folder / f"{prefix}-images{dot}idx3-ubyte{gz}").write_bytes(pack(idx(pixels)))
    (folder / f"{prefix}-labels{dot}idx1-ubyte{gz}").write_bytes(pack(idx(labels)))
    return pixels, labels


# --- digits


def test_digits_are_those_of_scikit_learn_on_the_scale_of_the_package():
    images, bunch = data.digits(), sklearn.datasets.load_digits()
    assert images.points.shape == (1797, 64)
    assert images.points.dtype == torch.float64
    assert images.labels.dtype == torch.int64
    assert len(images) == 1797
    assert images.shape == (8, 8)
    # The scale is exact, so it inverts exactly.
    assert np.array_equal(((images.points + 1) * 8).numpy(), bunch.data)
    assert np.array_equal(images.images().numpy(), bunch.images / 8 - 1)
    assert np.array_equal(images.labels.numpy(), bunch.target)
    assert images.points.min() == -1
    assert images.points.max() == 1


def test_digits_name_their_authors():
    for word in ("Alpaydin", "Kaynak", "Optical Recognition of Handwritten Digits", "1998", "scikit-learn"):
        assert word in data.digits().source


def test_digits_do_not_share_memory_with_each_other():
    data.digits().points.fill_(0)
    assert data.digits().points.max() == 1


# --- Images


def test_other_points_take_the_shape_of_the_images():
    images = data.digits()
    assert images.images(torch.zeros(2, 3, 64)).shape == (2, 3, 8, 8)
    assert images.images(np.zeros(64)).shape == (8, 8)
    with pytest.raises(ValueError, match=r"points = Tensor of shape \(2, 63\).*expected points of shape \(\.\.\., 64\)"):
        images.images(torch.zeros(2, 63))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": torch.full((2, 6), 1.5)}, r"points = 1\.5: expected pixels in \[-1, 1\]"),
        ({"points": torch.full((2, 6), torch.nan)}, "points = .*expected finite numbers"),
        ({"points": torch.zeros(0, 6)}, "points = .*expected a non-empty array"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"labels = .*expected integers of shape \(2,\)"),
        ({"labels": torch.zeros(2)}, "labels = .*expected integers"),
        ({"shape": (2, 4)}, r"shape = \(2, 4\): expected \(height, width\) with height \* width = 6"),
        ({"shape": (-2, -3)}, "shape = "),
    ],
)
def test_images_reject_parts_that_do_not_fit(change, message):
    parts = {"points": torch.zeros(2, 6), "labels": torch.zeros(2, dtype=torch.int64), "shape": (2, 3), "source": "a test"}
    assert data.Images(**parts).points.dtype == torch.float64
    with pytest.raises(ValueError, match=message):
        data.Images(**(parts | change))


# --- MNIST from files


@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize(("part", "prefix"), [("train", "train"), ("test", "t10k")])
def test_mnist_from_local_files(tmp_path, dot, gz, part, prefix):
    pixels, labels = small_mnist(tmp_path, prefix, dot, gz)
    images = data.mnist(tmp_path, part)
    assert images.shape == (3, 4)
    assert images.points.dtype == torch.float64
    assert torch.equal(images.images(), torch.as_tensor(pixels).double() / 127.5 - 1)
    assert images.labels.tolist() == labels.tolist()
    assert images.points.min() == -1
    assert images.points.max() == 1
    assert "LeCun" in images.source


def test_mnist_takes_a_folder_as_text(tmp_path):
    small_mnist(tmp_path)
    assert len(data.mnist(str(tmp_path))) == 5


def test_mnist_says_which_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte, .*train-images\.idx3-ubyte\.gz"):
        data.mnist(tmp_path)
    small_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="train-labels-idx1-ubyte"):
        data.mnist(tmp_path)
    with pytest.raises(FileNotFoundError, match="t10k-images"):
        data.mnist(tmp_path, "test")


def test_mnist_rejects_files_of_another_kind(tmp_path):
    small_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(4, np.uint8)))
    with pytest.raises(
        ValueError, match=r"train-labels-idx1-ubyte: found uint8 values of shape \(4,\), expected uint8 labels of shape \(5,\)"
    ):
        data.mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((5, 12), np.uint8)))
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte: found uint8 values of shape \(5, 12\)"):
        data.mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((5, 3, 4), np.float32)))
    with pytest.raises(ValueError, match="found float32 values"):
        data.mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((0, 3, 4), np.uint8)))
    with pytest.raises(ValueError, match=r"found uint8 values of shape \(0, 3, 4\)"):
        data.mnist(tmp_path)


def test_mnist_rejects_another_part(tmp_path):
    with pytest.raises(ValueError, match="part = 'validation': expected 'train' or 'test'"):
        data.mnist(tmp_path, "validation")


# --- MNIST from OpenML, stubbed: tests use no network


def test_mnist_through_openml(monkeypatch):
    pixels = np.zeros((70000, 784), np.uint8)
    pixels[0], pixels[60000, :2] = 255, (1, 254)
    target = np.array(["5"] + ["0"] * 59999 + ["7"] + ["0"] * 9999, dtype=object)
    asked = []

    def fetch(*args, **options):
        asked.append((args, options))
        return Bunch(data=pixels, target=target)

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    test = data.mnist(part="test")
    assert (len(test), test.shape, int(test.labels[0])) == (10000, (28, 28), 7)
    assert test.points[0, :3].tolist() == [1 / 127.5 - 1, 254 / 127.5 - 1, -1.0]
    train = data.mnist()
    assert (len(train), int(train.labels[0]), float(train.points[0].min())) == (60000, 5, 1.0)
    assert asked == [(("mnist_784",), {"version": 1, "as_frame": False})] * 2


def test_mnist_without_a_network(monkeypatch):
    def fetch(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    with pytest.raises(ConnectionError, match=r"needs a network.*mnist\(folder\)") as raised:
        data.mnist()
    assert isinstance(raised.value.__cause__, OSError)


def test_mnist_rejects_another_data_set_from_openml(monkeypatch):
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda *_, **__: Bunch(data=np.zeros((3, 784)), target=np.zeros(3)))
    with pytest.raises(ValueError, match=r"found shapes \(3, 784\) and \(3,\)"):
        data.mnist()


# --- IDX


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 3, 4), (1, 1, 1, 1, 2), (0, 5)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_round_trip(tmp_path, kind, shape, pack):
    info = np.iinfo(kind) if kind[0] in "iu" else np.finfo(kind)
    array = np.linspace(0, 100, int(np.prod(shape))).astype(kind).reshape(shape)
    if array.size:
        array.flat[0], array.flat[-1] = info.min, info.max
    path = tmp_path / "array"
    path.write_bytes(pack(idx(array)))
    result = data.read_idx(path)
    assert result.dtype == np.dtype(kind)
    assert result.dtype.isnative
    assert result.flags.writeable
    assert np.array_equal(result, array)


GOOD = idx(np.arange(6, dtype=np.int16).reshape(2, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found 0 bytes, expected an IDX file"),
        (b"\0\0\x08", "found 3 bytes, expected an IDX file"),
        (b"\1\0" + GOOD[2:], "found the magic number 01 00 0b 02, expected 00 00"),
        (b"\0\0\x0a" + GOOD[3:], "found the magic number 00 00 0a 02, expected 00 00, an element type out of 08, 09, 0b, 0c, 0d, 0e"),
        (b"\0\0\x08\0\5", "found the magic number 00 00 08 00"),
        (b"\x89PNG\r\n\x1a\n", "found the magic number 89 50 4e 47"),
        (GOOD[:9], "found 9 bytes, expected a header of 12 for 2 dimensions"),
        (GOOD[:12], r"found 0 bytes of elements, expected 12 for int16 of shape \(2, 3\) \(12 bytes missing\)"),
        (GOOD[:-1], r"found 11 bytes of elements, expected 12 .*\(1 bytes missing\)"),
        (GOOD + b"\0\0", r"found 14 bytes of elements, expected 12 .*\(2 bytes trailing\)"),
        # A header that asks for 2^64 bytes is refused before anything is allocated.
        (b"\0\0\x08\2" + b"\xff" * 8, "expected 18446744065119617025 for uint8"),
        (gzip.compress(GOOD, mtime=0)[:-9], "found damaged gzip data"),
        (gzip.compress(GOOD, mtime=0)[:-8] + b"\0" * 8, "found damaged gzip data"),
        (b"\x1f\x8b" + b"\0" * 20, "found damaged gzip data"),
        (gzip.compress(GOOD[:-1], mtime=0), r"\(1 bytes missing\)"),
    ],
)
def test_idx_rejects_damaged_files(tmp_path, content, message):
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        data.read_idx(path)
    assert re.match(re.escape(str(path)), str(raised.value))


def test_idx_of_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        data.read_idx(tmp_path / "nothing")
