"""Pictures and labels that are not as they should be: npz files, class folders, picture files."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fuzzing.case import Answer, Box, Case, Wanted
from fuzzing.stock import NET

__all__ = ["arrays"]

_REFUSED, _EITHER = Wanted("refused"), Wanted("either")
_WEIGHTS = ("--weights", "embedded:lenet-signs-standard")


def _npy(shape: tuple[int, ...], dtype: str = "|u1", data: bytes = b"", header: bytes | None = None) -> bytes:
    text = (
        header if header is not None else f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    )
    text = text.ljust(117) + b"\n" if len(text) < 117 else text + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def _zip(*members: tuple[str, bytes], level: int = zipfile.ZIP_DEFLATED) -> bytes:
    import warnings

    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", level) as archive:
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


_X = _npy((2, 32, 32, 3), data=b"\x7f" * 6144)
_Y = _npy((2,), "<i8", data=struct.pack("<qq", 0, 1))
_BOMB = _zip(("x.npy", _npy((12 << 30,)) + b"\0" * (64 << 20)), ("y.npy", _Y))
_BYTES: dict[str, bytes] = {
    "no bytes": b"",
    "text": b"no archive at all",
    "half of it": _zip(("x.npy", _X), ("y.npy", _Y))[:190],
    "a header of 279 GiB": _zip(("x.npy", _npy((100_000, 1000, 1000, 3))), ("y.npy", _Y)),
    "labels of 10^18": _zip(("x.npy", _X), ("y.npy", _npy((10**18,), "<i8"))),
    "a negative shape": _zip(("x.npy", _npy((-2, 32, 32, 3))), ("y.npy", _Y)),
    "a shape of 10^30": _zip(("x.npy", _npy((10**30, 3, 3))), ("y.npy", _Y)),
    "a header that is code": _zip(("x.npy", _npy((), header=b"__import__('os').system('touch pwned')")), ("y.npy", _Y)),
    "a header of brackets": _zip(("x.npy", _npy((), header=b"(" * 9000)), ("y.npy", _Y)),
    "no header": _zip(("x.npy", b"\x93NUMPY"), ("y.npy", _Y)),
    "a pickle": _zip(("x.npy", _npy((2,), "|O", b"cos\nsystem\n(S'touch pwned'\ntR.")), ("y.npy", _Y)),
    "x twice": _zip(("x.npy", _X), ("x.npy", _X[:-6144] + b"\0" * 6144), ("y.npy", _Y)),
    "y twice": _zip(("x.npy", _X), ("y.npy", _Y), ("y.npy", _Y.replace(b"\x01", b"\x02"))),
    "x and x.npy": _zip(("x", _X), ("x.npy", _X), ("y.npy", _Y)),
    "a wrong checksum": _zip(("x.npy", _X), ("y.npy", _Y), level=zipfile.ZIP_STORED).replace(b"\x7f" * 10, b"\x7e" * 10, 1),
    "names that are not UTF-8": _zip(("x.npy", _X), ("y.npy", _Y), ("classes.npy", _npy((2,), "|S2", b"\xff\xfe\xfd\xfc"))),
    "names of no length": _zip(("x.npy", _X), ("y.npy", _Y), ("classes.npy", _npy((2,), "|S0"))),
    "an empty archive": _zip(),
    "only text": _zip(("readme.txt", b"hello")),
    "60 MB packed to nothing": _zip(("x.npy", _npy((20_000, 32, 32, 3)) + b"\0" * 61_440_000), ("y.npy", _Y)),
}  # fmt: skip


def _array_files() -> dict[str, tuple[Callable[[Any], dict[str, Any]], Wanted]]:
    """Arrays made with numpy: keyword arguments of savez."""

    def pixels(np: Any, *shape: int) -> Any:
        return np.full(shape or (2, 32, 32, 3), 127, np.uint8)

    def labelled(*labels: object, dtype: str = "int64") -> Callable[[Any], dict[str, Any]]:
        return lambda np: {"x": pixels(np, len(labels), 32, 32, 3), "y": np.array(labels, dtype)}

    def of(make: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
        return lambda np: {"x": make(np), "y": np.arange(2)}

    found: dict[str, tuple[Callable[[Any], dict[str, Any]], Wanted]] = {
        "fine": (labelled(0, 1), Wanted("result")),
        "labels uint8": (labelled(0, 1, dtype="uint8"), Wanted("result")),
        "labels 3e7": (labelled(0, 30_000_000), _REFUSED),
        "labels 2^62": (labelled(0, 2**62), _REFUSED),
        "labels 2^64 - 1": (labelled(0, 2**64 - 1, dtype="uint64"), _REFUSED),
        "labels -1": (labelled(0, -1), _REFUSED),
        "labels -2^63": (labelled(0, -(2**63)), _REFUSED),
        "ignore index 255": (labelled(0, 255), _REFUSED),
        "labels float": (labelled(0.0, 1.0, dtype="float64"), _REFUSED),
        "labels NaN": (labelled(0.0, float("nan"), dtype="float64"), _REFUSED),
        "labels bool": (labelled(False, True, dtype="bool"), _REFUSED),
        "labels text": (labelled("0", "1", dtype="U1"), _REFUSED),
        "labels complex": (labelled(0, 1, dtype="complex64"), _REFUSED),
        "labels one-hot": (lambda np: {"x": pixels(np), "y": np.eye(2, dtype=np.int64)}, _REFUSED),
        "labels of no length": (lambda np: {"x": pixels(np), "y": np.zeros(0, np.int64)}, _REFUSED),
        "a label alone": (lambda np: {"x": pixels(np), "y": np.int64(0)}, _REFUSED),
        "objects": (lambda np: {"x": np.array([None, 1], object), "y": np.arange(2)}, _REFUSED),
        "no picture": (lambda np: {"x": pixels(np, 0, 32, 32, 3), "y": np.zeros(0, np.int64)}, _REFUSED),
        "pictures 0 x 0": (of(lambda np: pixels(np, 2, 0, 0, 3)), _REFUSED),
        "pictures 1 x 1": (of(lambda np: pixels(np, 2, 1, 1, 3)), _REFUSED),
        "pictures 5000 x 1": (of(lambda np: pixels(np, 2, 5000, 1, 3)), _REFUSED),
        "pictures 1 x 5000": (of(lambda np: pixels(np, 2, 1, 5000, 3)), _REFUSED),
        "pictures 20 x 44": (of(lambda np: pixels(np, 2, 20, 44, 3)), _REFUSED),
        "4 channels": (of(lambda np: pixels(np, 2, 32, 32, 4)), _REFUSED),
        "2 channels": (of(lambda np: pixels(np, 2, 2, 32, 32)), _REFUSED),
        "five axes": (of(lambda np: pixels(np, 2, 1, 32, 32, 3)), _REFUSED),
        "one axis": (of(lambda np: pixels(np, 2)), _REFUSED),
        "no axis": (of(lambda np: np.uint8(1)), _REFUSED),
        "int64 pixels": (of(lambda np: pixels(np).astype(np.int64)), _REFUSED),
        "uint16 pixels": (of(lambda np: pixels(np).astype(np.uint16)), _REFUSED),
        "bool pixels": (of(lambda np: pixels(np) > 0), _REFUSED),
        "complex pixels": (of(lambda np: pixels(np).astype(np.complex64)), _REFUSED),
        "text pixels": (of(lambda np: pixels(np).astype(str)), _REFUSED),
        "dates as pixels": (of(lambda np: pixels(np).astype("datetime64[s]")), _REFUSED),
        "records": (of(lambda np: np.zeros((2, 32, 32, 3), [("a", "u1")])), _REFUSED),
        "pixels to 255 as floats": (of(lambda np: pixels(np).astype(np.float32)), _REFUSED),
        "pixels from -1": (of(lambda np: pixels(np) / 127.0 - 1.5), _REFUSED),
        "a pixel NaN": (of(lambda np: np.where(np.arange(6144).reshape(2, 32, 32, 3) == 7, np.nan, 0.5)), _REFUSED),
        "a pixel inf": (of(lambda np: np.where(np.arange(6144).reshape(2, 32, 32, 3) == 7, np.inf, 0.5)), _REFUSED),
        "float16 pixels": (of(lambda np: (pixels(np) / 255).astype(np.float16)), Wanted("result")),
        "float64 pixels": (of(lambda np: pixels(np) / 255), Wanted("result")),
        "longdouble pixels": (of(lambda np: (pixels(np) / 255).astype(np.longdouble)), _EITHER),
        "big-endian pixels": (of(lambda np: (pixels(np) / 255).astype(">f4")), Wanted("result")),
        "big-endian labels": (labelled(0, 1, dtype=">i8"), Wanted("result")),
        "Fortran order": (of(lambda np: np.asfortranarray(pixels(np))), Wanted("result")),
        "grey": (of(lambda np: pixels(np, 2, 32, 32)), _REFUSED),
        "(N, 3, H, W)": (of(lambda np: pixels(np, 2, 3, 32, 32)), Wanted("result")),
        "class names twice": (lambda np: {"x": pixels(np), "y": np.arange(2), "classes": np.array(["a"] * 35)}, _EITHER),
        "class names as numbers": (lambda np: {"x": pixels(np), "y": np.arange(2), "classes": np.arange(35)}, _REFUSED),
        "one class name": (lambda np: {"x": pixels(np), "y": np.arange(2), "classes": np.array(["a"])}, _REFUSED),
        "class names alone": (lambda np: {"x": pixels(np), "y": np.arange(2), "classes": np.array("a")}, _REFUSED),
        "class names with NUL": (lambda np: {"x": pixels(np), "y": np.arange(2), "classes": np.array(["a\0b"] * 35)}, _EITHER),
        "other names": (lambda np: {"images": pixels(np), "labels": np.arange(2)}, _REFUSED),
    }  # fmt: skip
    return found


def _words(path: object) -> list[object]:
    return ["attack", *NET, *_WEIGHTS, "--attack", "fgsm", "--data", path]


def arrays() -> Iterator[Case]:
    """Every odd array and picture: by the command line, and the npz files by advkit.load_data too."""
    for given, content in _BYTES.items():
        fine = given in ("x and x.npy",)
        yield from _npz(
            given, lambda box, content=content: box.write("odd.npz", content), _EITHER if fine else _REFUSED
        )
    yield from _npz("12 GB packed to 13 MB", lambda box: box.write("odd.npz", _BOMB), _REFUSED)
    for given, (make, wanted) in _array_files().items():

        def saved(box: Box, make: Callable[[Any], dict[str, Any]] = make) -> object:
            import numpy as np

            path = box.at / "odd.npz"
            np.savez(path, **make(np))
            return path

        yield from _npz(given, saved, wanted)
    yield from _pictures()
    yield from _class_folders()


_OF_THE_NETWORK = {
    "pictures 1 x 1",
    "pictures 5000 x 1",
    "pictures 1 x 5000",
    "pictures 20 x 44",
    "grey",
    "ignore index 255",
    "one class name",
}


def _npz(given: str, make: Callable[[Box], object], wanted: Wanted) -> Iterator[Case]:
    yield Case("arrays", "attack --data (npz)", given, wanted, lambda box: _words(make(box)), needs=("pictures",))

    def call(box: Box) -> Callable[[], object]:
        path = make(box)

        def load() -> object:
            import advkit

            data = advkit.load_data(str(path))
            return [part.shape for part in data.tensors()]

        return load

    alone = _EITHER if given in _OF_THE_NETWORK or (given.startswith("labels 3e7")) else wanted
    yield Case("arrays", "advkit.load_data --(npz)", given, alone, call=call)


def _image(draw: Callable[[Any], Any], suffix: str = "png", **options: Any) -> Callable[[Box], object]:
    def make(box: Box) -> object:
        from PIL import Image

        path = box.at / f"odd.{suffix}"
        draw(Image).save(path, **options)
        return path

    return make


_PNG_BOMB = (
    b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0) + b"\0\0\0\0"
)  # fmt: skip
_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n(pwned) (w) file closefile\nshowpage\n%%EOF\n"
_PICTURES: dict[str, tuple[Callable[[Box], object], str]] = {
    "no bytes": (lambda box: box.write("odd.png", b""), "refused"),
    "text": (lambda box: box.write("odd.png", b"no picture"), "refused"),
    "a bomb of 60,000 x 60,000": (lambda box: box.write("odd.png", _PNG_BOMB), "refused"),
    "half a PNG": (lambda box: box.write("odd.png", (box.stock / "sign.png").read_bytes()[:900]), "refused"),
    "EPS": (lambda box: box.write("odd.eps", _EPS), "refused"),
    "EPS named .png": (lambda box: box.write("odd.png", _EPS), "refused"),
    "SVG": (lambda box: box.write("odd.svg", "<svg/>"), "refused"),
    "PDF named .jpg": (lambda box: box.write("odd.jpg", b"%PDF-1.4\n"), "refused"),
    "1 x 1": (_image(lambda image: image.new("RGB", (1, 1))), "either"),
    "5000 x 1": (_image(lambda image: image.new("RGB", (5000, 1))), "either"),
    "1 x 5000": (_image(lambda image: image.new("RGB", (1, 5000))), "either"),
    "16 bit": (_image(lambda image: image.new("I;16", (32, 32), 30_000)), "either"),
    "32 bit": (_image(lambda image: image.new("I", (32, 32), 70_000), "tiff"), "either"),
    "floats": (_image(lambda image: image.new("F", (32, 32), 0.5), "tiff"), "either"),
    "one bit": (_image(lambda image: image.new("1", (32, 32), 1)), "either"),
    "CMYK": (_image(lambda image: image.new("CMYK", (32, 32), (10, 20, 30, 40)), "jpg"), "either"),
    "palette": (_image(lambda image: image.new("P", (32, 32), 3)), "either"),
    "with alpha": (_image(lambda image: image.new("RGBA", (32, 32), (9, 9, 9, 0))), "either"),
    "grey and alpha": (_image(lambda image: image.new("LA", (32, 32), (9, 0))), "either"),
    "LAB": (_image(lambda image: image.new("LAB", (32, 32)), "tiff"), "either"),
    "animated GIF": (
        _image(lambda image: image.new("P", (32, 32), 1), "gif", save_all=True, append_images=[]),
        "either",
    ),
    "WebP": (_image(lambda image: image.new("RGB", (32, 32), (9, 9, 9)), "webp"), "either"),
    "BMP": (_image(lambda image: image.new("RGB", (32, 32), (9, 9, 9)), "bmp"), "either"),
}


def _pictures() -> Iterator[Case]:
    for given, (make, what) in _PICTURES.items():
        wanted = Wanted("refused" if what == "refused" else "either")

        def image(box: Box, make: Callable[[Box], object] = make) -> list[object]:
            return ["attack", *NET, *_WEIGHTS, "--attack", "fgsm", "--image", make(box)]

        yield Case("arrays", "attack --image", given, wanted, image, needs=("pictures",))

        def folder(box: Box, make: Callable[[Box], object] = make) -> list[object]:
            root = box.copy("folder")
            path = make(box)
            target = root / "00" / str(path).rpartition("/")[2]
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(Path(str(path)).read_bytes())
            return [*_words(root), "--size", 32]

        loose = Wanted("either") if given in ("EPS", "SVG") else wanted  # not taken for pictures there
        yield Case("arrays", "attack --data (folder)", f"a file: {given}", loose, folder, needs=("pictures",))

        def photo(box: Box, make: Callable[[Box], object] = make) -> list[object]:
            box.copy("sticker")
            return ["photo", "sticker", *NET, "--image", make(box), "--corners", "0,0;1,0;1,1;0,1"]

        yield Case("arrays", "photo --image", given, wanted, photo, needs=("pictures", "sticker"))

        def mask(box: Box, make: Callable[[Box], object] = make) -> list[object]:
            return ["sticker", *NET, "--steps", 1, "--views", 1, "--test-views", 1, "--mask", make(box)]

        yield Case("arrays", "sticker --mask", given, wanted, mask, needs=("pictures",))


def _class_folders() -> Iterator[Case]:
    """Class folders by their names and what they hold."""

    def tree(*places: str) -> Callable[[Box], object]:
        def make(box: Box) -> object:
            for place in places:
                box.write(f"root/{place}", (box.stock / "sign.png").read_bytes())
            return box.at / "root"

        return make

    cases: dict[str, tuple[Callable[[Box], object], Wanted]] = {
        "an empty class": (lambda box: [(box.at / "root" / name).mkdir(parents=True) for name in "ab"] and box.at / "root", _REFUSED),
        "one class": (tree("a/1.png"), _REFUSED),
        "numbers of 36 classes": (tree(*(f"{n}/1.png" for n in range(36))), _REFUSED),
        "a class numbered 10^9": (tree("0/1.png", "1000000000/1.png"), _REFUSED),
        "classes in folders of classes": (tree("a/b/1.png", "c/d/1.png"), _REFUSED),
        "a FIFO as a picture": (_fifo, _REFUSED),
        "a device as a picture": (_zero, _REFUSED),
        "a link that loops": (_looping, _EITHER),
        "a name that is not UTF-8": (_named, _EITHER),
        "names with newlines": (tree("a\nb/1.png", "c\td/1.png"), _REFUSED),
        "35 classes": (tree(*(f"{n:02d}/1.png" for n in range(35))), Wanted("result", _thirty_five)),
        "35 classes, not padded": (tree(*(f"{n}/1.png" for n in range(35))), Wanted("result", _thirty_five)),
    }  # fmt: skip
    for given, (make, wanted) in cases.items():

        def words(box: Box, make: Callable[[Box], object] = make) -> list[object]:
            return [*_words(make(box)), "--format", "json"]

        yield Case("arrays", "attack --data (folder)", given, wanted, words, needs=("pictures",))


def _thirty_five(answer: Answer) -> str | None:
    import json

    right = json.loads(answer.out)["clean"]["accuracy"] * 35  # the same picture in each class: one of them is right
    return None if round(right) == 1 else f"{right} of 35 are right, not 1"


def _fifo(box: Box) -> object:
    import os

    root = box.copy("folder")
    os.mkfifo(next(root.iterdir()) / "aa.png")
    return root


def _zero(box: Box) -> object:
    root = box.copy("folder")
    (next(root.iterdir()) / "aa.png").symlink_to(box.device("zero"))
    return root


def _looping(box: Box) -> object:
    root = box.copy("folder")
    (next(root.iterdir()) / "deeper").symlink_to(root)
    return root


def _named(box: Box) -> object:
    import os

    root = box.copy("folder")
    os.rename(os.fsencode(next(root.iterdir())), os.fsencode(root) + b"/caf\xe9")
    return root
