r"""Images as points of R^d.

A gray image of height h and width w is the point of `[-1, 1]^d`, `d = h w`, that lists its pixels row by row; -1 is paper and
+1 is ink. Every data set comes as `Images`, so that code written for the small digits runs on MNIST unchanged:

    digits()   1797 x 64    ships with scikit-learn; no download
    mnist()    60000 x 784  from local IDX files, or through scikit-learn's OpenML client where there is a network

The data sets are not part of this package. Each names its authors in `source`, which belongs beside any figure made of it.
"""

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kss._validation import as_points, as_tensor, reject

DIGITS_SOURCE = (
    "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998, "
    "doi:10.24432/C50P49, CC BY 4.0; the test part, 1797 images of 8 x 8 pixels, as shipped in scikit-learn"
)
MNIST_SOURCE = "Y. LeCun, C. Cortes and C. J. C. Burges, The MNIST Database of Handwritten Digits, 1998; images of 28 x 28 pixels"


@dataclass(frozen=True, eq=False)
class Images:
    """A labeled set of N gray images of one shape, as points.

    `points` (N, d), float64, pixels in [-1, 1] (-1 paper, +1 ink), row by row; `labels` (N,), int64; `shape` (height, width),
    with `height * width = d`; `source`, the attribution. `ValueError` if these do not fit together.

    >>> digits()
    Images(1797 points in R^64, shape (8, 8), labels 0..9)
    """

    points: Tensor
    labels: Tensor
    shape: tuple[int, int]
    source: str

    def __post_init__(self) -> None:
        points = as_points("points", self.points).double()
        extreme = max(abs(float(value)) for value in points.aminmax())
        if extreme > 1:
            raise reject("points", extreme, "pixels in [-1, 1]; this is the largest absolute value")
        labels = torch.as_tensor(self.labels)
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool or labels.shape != points.shape[:1]:
            raise reject("labels", labels, f"integers of shape ({len(points)},), one for each point")
        shape = tuple(int(side) for side in self.shape)
        if len(shape) != 2 or min(shape) < 1 or math.prod(shape) != points.shape[1]:
            raise reject("shape", self.shape, f"(height, width) with height * width = {points.shape[1]}")
        for name, value in (("points", points), ("labels", labels.long()), ("shape", shape)):
            object.__setattr__(self, name, value)  # the way to finish a frozen dataclass

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        return (
            f"Images({len(self)} points in R^{self.points.shape[1]}, shape {self.shape}, "
            f"labels {int(self.labels.min())}..{int(self.labels.max())})"
        )

    def images(self, points: Tensor | np.ndarray | None = None) -> Float[Tensor, "*batch h w"]:
        """The data as images (N, height, width); or other `points` (..., d) of this space, samples say, as (..., height, width).

        >>> digits().images().shape
        torch.Size([1797, 8, 8])
        """
        chosen = self.points if points is None else as_tensor("points", points)
        if chosen.ndim == 0 or chosen.shape[-1] != self.points.shape[1]:
            raise reject("points", chosen, f"points of shape (..., {self.points.shape[1]})")
        return chosen.reshape(*chosen.shape[:-1], *self.shape)


def digits() -> Images:
    """The 1797 handwritten digits of 8 x 8 pixels that ship with scikit-learn, in their order there; nothing is downloaded.

    Their pixels 0, 1, ..., 16 become `pixel / 8 - 1`, exactly.

    Source: the test part of "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI, 1998.
    """
    from sklearn.datasets import load_digits  # scikit-learn takes a second to import

    pixels, labels = load_digits(return_X_y=True)
    return Images(torch.as_tensor(pixels) / 8 - 1, torch.as_tensor(labels), (8, 8), DIGITS_SOURCE)


def mnist(folder: str | os.PathLike[str] | None = None, part: str = "train") -> Images:
    """MNIST: 60000 training or 10000 test images of 28 x 28 pixels; pixels 0..255 become `pixel / 127.5 - 1`.

    With `folder`, read from the IDX files there, under their usual names: `train-images-idx3-ubyte` and
    `train-labels-idx1-ubyte`, `t10k-...` for the test part; also with a dot before `idx`, and with `.gz`. Any data set
    distributed in the same way (Fashion-MNIST, EMNIST, fewer or other images) is read as well. Without it, fetched through
    `sklearn.datasets.fetch_openml`, which needs a network once and keeps what it got.

    Raises `FileNotFoundError` if a file is missing, `ValueError` if it is not what it should be, `ConnectionError` (from the
    error of the client) if the fetch fails.

    Source: Y. LeCun, C. Cortes and C. J. C. Burges, The MNIST Database of Handwritten Digits, 1998.
    """
    if part not in ("train", "test"):
        raise reject("part", part, "'train' or 'test'")
    images, labels = _openml_mnist(part) if folder is None else _idx_pair(Path(folder), part)
    n, height, width = images.shape
    points = torch.tensor(images.reshape(n, height * width), dtype=torch.float64).div_(127.5).sub_(1)  # 400 MB: in place
    return Images(points, torch.as_tensor(labels.astype(np.int64)), (height, width), MNIST_SOURCE)


def handwriting() -> Images:
    """MNIST's training images from the folder that the environment variable `KSS_MNIST` names, or `digits()` where it is not set.

    Nothing is downloaded. Errors are those of `mnist`.
    """
    folder = os.environ.get("KSS_MNIST")
    return mnist(folder) if folder else digits()


def _idx_pair(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    stem = {"train": "train", "test": "t10k"}[part]
    images_path, labels_path = _find(folder, f"{stem}-images", 3), _find(folder, f"{stem}-labels", 1)
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.dtype != np.uint8 or images.size == 0:
        raise ValueError(f"{images_path}: found {images.dtype} values of shape {images.shape}, expected uint8 images (N, height, width)")
    if labels.shape != images.shape[:1] or labels.dtype != np.uint8:
        expected = f"uint8 labels of shape ({len(images)},), one for each image of {images_path.name}"
        raise ValueError(f"{labels_path}: found {labels.dtype} values of shape {labels.shape}, expected {expected}")
    return images, labels


def _find(folder: Path, stem: str, ndim: int) -> Path:
    names = [f"{stem}{dot}idx{ndim}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"folder = {str(folder)!r}: expected one of the files {', '.join(names)} in it")


def _openml_mnist(part: str) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import fetch_openml

    try:
        bunch = fetch_openml("mnist_784", version=1, as_frame=False)
    except Exception as error:  # the client raises whatever went wrong below it
        raise ConnectionError(
            "mnist() could not fetch MNIST from OpenML, which needs a network; "
            "without one, put its IDX files in a folder and call mnist(folder)"
        ) from error
    pixels, labels = np.asarray(bunch.data), np.asarray(bunch.target)
    if pixels.shape != (70000, 784) or labels.shape != (70000,):
        raise ValueError(f"OpenML's mnist_784: found shapes {pixels.shape} and {labels.shape}, expected (70000, 784) and (70000,)")
    rows = slice(0, 60000) if part == "train" else slice(60000, 70000)  # OpenML keeps the two parts in this order
    return pixels[rows].reshape(-1, 28, 28), labels[rows]


_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file, compressed with gzip or not.

    The format (LeCun, with MNIST) is, big endian throughout: two zero bytes; one byte for the type of the elements (0x08
    uint8, 0x09 int8, 0x0B int16, 0x0C int32, 0x0D float32, 0x0E float64); one byte for the number of dimensions, at least 1;
    each dimension in four bytes; the elements, last index fastest.

    Returns an array of the machine's byte order. A file that says or holds anything else raises `ValueError` naming the file,
    what was found and what was expected.
    """
    path = Path(path)
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":  # gzip is known by its content, whatever the name
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: found damaged gzip data ({error}), expected a whole compressed file") from error
    if len(content) < 4:
        raise ValueError(f"{path}: found {len(content)} bytes, expected an IDX file, which starts with 4 bytes of magic number")
    kind, ndim = content[2], content[3]
    if content[:2] != b"\0\0" or kind not in _IDX_TYPES or ndim == 0:
        kinds = ", ".join(f"{code:02x}" for code in _IDX_TYPES)
        raise ValueError(
            f"{path}: found the magic number {content[:4].hex(' ')}, "
            f"expected 00 00, an element type out of {kinds}, and the number of dimensions, at least 01"
        )
    start = 4 + 4 * ndim
    if len(content) < start:
        raise ValueError(f"{path}: found {len(content)} bytes, expected a header of {start} for {ndim} dimensions")
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    dtype = np.dtype(_IDX_TYPES[kind])
    size = math.prod(shape) * dtype.itemsize
    if len(content) - start != size:
        excess = "missing" if len(content) - start < size else "trailing"
        difference = abs(len(content) - start - size)
        raise ValueError(
            f"{path}: found {len(content) - start} bytes of elements, "
            f"expected {size} for {dtype.newbyteorder('=')} of shape {shape} ({difference} bytes {excess})"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
