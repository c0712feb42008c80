"""Reading a pickle that nobody vouches for: arrays, bytes and Python's plain values come out of it, and nothing is called."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.lab.errors import UserError


def _array(kind: object, shape: object, dtype: object) -> Any:
    """What pickled arrays begin as; their state, read next, gives shape, dtype and data."""
    return np.empty(0, np.uint8)


def _bytes(text: str, encoding: str) -> bytes:
    """Bytes as Python 3 writes them in the old protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy", "ndarray"): None,  # only ever the first argument of _array
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _bytes,
}
"""All that such a pickle may name, and what it gets for it."""


class _Arrays(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, arrays and bytes alone are read")
        return ALLOWED[module_name, global_name]


def read_pickle(path: Path) -> Any:
    """Read a pickle of arrays, bytes and plain values; strings of Python 2 come as bytes.

    Raises:
        UserError: it cannot be read, is damaged, or asks for a class or function beyond these.
    """
    try:
        with path.open("rb") as file:
            return _Arrays(file, encoding="bytes").load()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"{path} is no pickle of arrays: {error}; get the file again.") from error
