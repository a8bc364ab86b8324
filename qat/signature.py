"""What a model was trained to take and to give, beside it on disk: it can be used where its data are not."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from qat.data import Dataset
from qat.storage import write_atomically

SIGNATURE_FILE = "signature.json"


class Signature(BaseModel):
    """`task` is the data set's; `class_names` are in the order of the labels, none where classes have no names;
    `input_shape` is one example's, and `scale` what its pixels are multiplied by before the model sees them."""

    model_config = ConfigDict(frozen=True)

    task: str
    classes: int
    class_names: tuple[str, ...] = ()
    input_shape: tuple[int, ...]
    scale: float = 1.0

    def name(self, label: int) -> str:
        """The class of a label."""
        return self.class_names[label] if self.class_names else str(label)


def signature_of(dataset: Dataset) -> Signature:
    """What a model of this data set takes and gives."""
    scale = dataset.splits["test"][0].get("scale", 1.0)
    return Signature(
        task=dataset.task,
        classes=dataset.classes,
        class_names=dataset.class_names,
        input_shape=dataset.input_shape,
        scale=float(scale),
    )


def write_signature(folder: Path, signature: Signature) -> None:
    """Keep it in a trial's folder."""
    write_atomically(folder / SIGNATURE_FILE, signature.model_dump_json(indent=2) + "\n")


def read_signature(folder: Path) -> Signature:
    """That of the model in a trial's folder; `ValueError` where it is missing or damaged."""
    path = folder / SIGNATURE_FILE
    try:
        return Signature.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        problem = "is missing"
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = f"is damaged ({'.'.join(map(str, first['loc']))}: {first['msg']})"
    raise ValueError(f"{str(path)!r} {problem}. Run the sweep again: it redoes this trial alone.")
