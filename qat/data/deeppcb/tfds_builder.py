"""DeepPCB as tensorflow-datasets prepares it, in ArrayRecord files, written and read without TensorFlow."""

import functools
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qat.data.deeppcb.files import CLASSES, SIDE, Board, Listing, Pair, content, flaws, read_pairs
from qat.data.images.binary import binary
from qat.data.images.pictures import Objects, most
from qat.data.images.reading import open_image

NAME = "deeppcb"
VERSION = "1.1.0"
DESCRIPTION = "Binarised images of circuit boards with six kinds of defects (Tang et al. 2019, arXiv 1902.06197)."
KINDS = ("test", "template")


def prepare(folder: str | Path, data_dir: str | Path, bad: str = "refuse") -> Path:
    """The folder of prepared data, made in `data_dir` from the published `folder`.

    The data set `deeppcb` takes it as its `folder`. Images are kept as the bytes that were published, but those with
    three channels as grey PNG; boxes are in pixels. `bad` is "refuse" or "drop", as in the data set. What is prepared
    already stays; raises `ValueError` where that was made of other files.
    """
    pairs = read_pairs(Path(folder).expanduser(), True, bad)
    builder = _builder_class()(pairs, data_dir=Path(data_dir).expanduser(), file_format="array_record")
    place = Path(builder.data_path)
    if place.exists() and json.loads((place / "metadata.json").read_text()) != _facts(pairs):
        raise ValueError(
            f"`data_dir` must not hold data of other files, got {str(data_dir)!r}. Remove {str(place)!r}, or choose "
            "another."
        )
    builder.download_and_prepare()
    return place


def prepared_folder(folder: Path) -> Path | None:
    """Find prepared data in `folder`: there itself, or in its newest version; None where it holds none."""
    if (folder / "dataset_info.json").is_file():
        return folder
    versions = [path.parent for path in (folder / NAME).glob("*/dataset_info.json")]
    return max(
        versions, key=lambda path: [int(part) for part in path.name.split(".") if part.isdecimal()], default=None
    )


def read_prepared(folder: Path, template: bool) -> dict[str, Listing]:
    """The lists of prepared data. Raises `ValueError` where they are not DeepPCB's or cannot be opened."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
        if builder.name != NAME:
            raise ValueError(f"it holds the data set {builder.name!r}")
        records: Any = builder.as_data_source(decoders=dict.fromkeys(KINDS, tfds.decode.SkipDecoding()))
        facts: Mapping[str, Any] = builder.info.metadata or {}
        return {name: _listing(records[name], facts[name], template) for name in ("trainval", "test")}
    except Exception as error:
        raise ValueError(
            f"`folder` must hold readable prepared data of DeepPCB, but {str(folder)!r} does not: {error}. "
            "Prepare the published folder again by `qat.data.deeppcb.tfds_builder.prepare`."
        ) from error


def _listing(records: Any, facts: Mapping[str, Any], template: bool) -> Listing:
    if "names" not in facts:
        raise ValueError("it is of an earlier version, without the names of the boards")
    names = tuple(facts["names"])
    if len(records) != len(names):
        raise ValueError(f"of {len(names)} records there are {len(records)}")
    _ = records[len(records) - 1]

    def read(index: int) -> Board:
        record = records[index]
        name = record["name"].decode()
        board, *more = (binary(io.BytesIO(record[kind]), f"{name} ({kind})") for kind in KINDS[: 1 + template])
        return board, more[0] if more else None, Objects.of(record["boxes"], record["labels"])

    digest = facts["content"]["pair" if template else "test"]
    flawed = {name: image for name, image in facts["flaws"].items() if template or image != "template"}
    return Listing(names=names, flaws=flawed, rows=facts["rows"], content=digest, read=read)


@functools.cache
def _builder_class() -> Any:
    """The builder's class, made at first use: tensorflow-datasets is slow to import."""
    import tensorflow_datasets as tfds

    class Builder(tfds.core.GeneratorBasedBuilder):
        """Takes the usable pairs of each list."""

        name = NAME
        VERSION = tfds.core.Version(VERSION)

        def __init__(self, pairs: Mapping[str, Sequence[Pair]], **options: Any):
            self.pairs = pairs
            super().__init__(**options)

        def _info(self) -> tfds.core.DatasetInfo:
            image = {kind: tfds.features.Image(shape=(SIDE, SIDE, 1)) for kind in KINDS}
            boxes = tfds.features.Tensor(shape=(None, 4), dtype=np.float32)
            labels = tfds.features.Sequence(tfds.features.ClassLabel(names=CLASSES))
            features = {"name": tfds.features.Text(), **image, "boxes": boxes, "labels": labels}
            return tfds.core.DatasetInfo(
                builder=self,
                description=DESCRIPTION,
                features=tfds.features.FeaturesDict(features),
                metadata=tfds.core.MetadataDict(_facts(self.pairs)),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {name: self._generate_examples(pairs) for name, pairs in self.pairs.items()}

        def _generate_examples(self, pairs: Sequence[Pair]) -> Iterator[tuple[str, dict[str, Any]]]:
            for pair in pairs:
                images = dict(zip(KINDS, map(_grey_file, pair.images), strict=True))
                objects = {"boxes": pair.objects.boxes, "labels": pair.objects.labels.tolist()}
                yield pair.name, {"name": pair.name, **images, **objects}

    return Builder


def _facts(pairs: Mapping[str, Sequence[Pair]]) -> dict[str, Any]:
    """Facts that are stored beside the records: names of boards, their flawed images, the most defects on a board, and
    digests of the published files.
    """
    rows = most([pair.objects for listed in pairs.values() for pair in listed])
    return {
        name: {
            "names": [pair.name for pair in listed],
            "flaws": flaws(listed),
            "rows": rows,
            "content": {"test": content(listed, template=False), "pair": content(listed, template=True)},
        }
        for name, listed in pairs.items()
    }


def _grey_file(path: Path) -> io.BytesIO:
    """The file's bytes, or those of a grey PNG where it has several channels."""
    with open_image(path) as image:
        if image.mode == "L":
            return io.BytesIO(path.read_bytes())
        file = io.BytesIO()
        try:
            image.convert("L").save(file, "png")
        except OSError as error:
            raise ValueError(f"{path}: the image cannot be read: {error}. Replace it.") from error
    return io.BytesIO(file.getvalue())
