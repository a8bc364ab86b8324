"""A folder in the layout of DeepPCB, of a few drawn boards; whole, or with every kind of mistake."""

import numpy as np
from PIL import Image

from qat import data
from qat.data.boards import board

TRAINVAL, TEST = 6, 2
GROUPS = (1, 1, 1, 1, 2, 2, 1, 3)  # of each board; those of test come last


def draw():
    """Boards with defects, their templates, and the defects."""
    return [board(640, np.random.default_rng((3, index))) for index in range(TRAINVAL + TEST)]


def write(folder, drawn):
    for list_name, first, last in [("trainval", 0, TRAINVAL), ("test", TRAINVAL, TRAINVAL + TEST)]:
        lines = []
        for index in range(first, last):
            image, template, objects = drawn[index]
            name = name_of(index)
            path = folder / "PCBData" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            save(image, f"{path}_test.jpg")
            save(template, f"{path}_temp.jpg")
            text = [f"{x1:.0f} {y1:.0f} {x2:.0f} {y2:.0f} {label + 1}" for (x1, y1, x2, y2), label in listed(objects)]
            file = annotations(folder, index)
            file.parent.mkdir(exist_ok=True)
            file.write_text("\n".join(text))
            lines.append(f"{name}.jpg {file.relative_to(folder / 'PCBData')}")
        (folder / "PCBData" / f"{list_name}.txt").write_text("\n".join(lines))


def save(image, path, mode="L"):
    Image.fromarray((image * 255).astype(np.uint8)).convert(mode).save(path, quality=95)


def listed(objects):
    return zip(objects.boxes.tolist(), objects.labels.tolist(), strict=True)


def build(folder, **arguments):
    return data.build("deeppcb", folder=str(folder), **arguments)


def name_of(index):
    """The name of a board: `group1/1/1000` is the first."""
    group = GROUPS[index]
    return f"group{group}/{group}/{group}{index:03}"


def annotations(folder, index):
    group = GROUPS[index]
    return folder / "PCBData" / f"group{group}" / f"{group}_not" / f"{group}{index:03}.txt"


def image_file(folder, index, kind="test"):
    return folder / "PCBData" / f"{name_of(index)}_{kind}.jpg"


def rename(folder, index, name):
    """Give a board another name, in its list too; returns the paths of its image and its template."""
    root, old = folder / "PCBData", name_of(index)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    for kind in ("test", "temp"):
        (root / f"{old}_{kind}.jpg").rename(root / f"{name}_{kind}.jpg")
    file = root / ("trainval.txt" if index < TRAINVAL else "test.txt")
    file.write_text(file.read_text().replace(f"{old}.jpg", f"{name}.jpg"))
    return root / f"{name}_test.jpg", root / f"{name}_temp.jpg"


def spoil(folder):
    """Make every kind of mistake, and say how each is to be reported."""
    with annotations(folder, 0).open("a") as file:
        file.write(
            "\n600 10 641 40 1\n-1 0 20 20 2\n30 30 30 60 3\n50 50 40 60 4\n5 5 30 30 7\n5 5 30 30\nnan 5 30 30 1\n\nx"
        )
    lines = len(annotations(folder, 0).read_text().splitlines()) - 9
    name = "group1/1_not/1000.txt"
    image_file(folder, 1).unlink()
    annotations(folder, 2).unlink()
    Image.new("L", (640, 320)).save(image_file(folder, 3, "temp"))
    Image.new("CMYK", (640, 640)).save(image_file(folder, 4))
    image_file(folder, 6).write_bytes(image_file(folder, 6).read_bytes()[:5000])
    with (folder / "PCBData" / "trainval.txt").open("a") as file:
        file.write("\ngroup2/2/2005.jpg group2/2_not/2005.txt\nnonsense")
    return [
        f"{name}:{lines + 1}: box (600, 10, 641, 40) reaches outside the image of 640 x 640 pixels",
        f"{name}:{lines + 2}: box (-1, 0, 20, 20) reaches outside",
        f"{name}:{lines + 3}: box (30, 30, 30, 60) has no area",
        f"{name}:{lines + 4}: box (50, 50, 40, 60) has no area",
        f"{name}:{lines + 5}: unknown class 7. Known: 1 open, 2 short, 3 mousebite, 4 spur, 5 copper, 6 pin-hole",
        f"{name}:{lines + 6}: expected `x1 y1 x2 y2 type` in numbers, got '5 5 30 30'",
        f"{name}:{lines + 7}: box (nan, 5, 30, 30) has sides that are not finite",
        f"{name}:{lines + 9}: expected `x1 y1 x2 y2 type` in numbers, got 'x'",
        "group1/1/1001_test.jpg: the image cannot be read: No such file or directory (listed in trainval.txt:2)",
        "group1/1_not/1002.txt: the annotations cannot be read: No such file or directory (listed in trainval.txt:3)",
        "group1/1/1003_temp.jpg: expected an image of 640 x 640 pixels, got 640 x 320 (listed in trainval.txt:4)",
        "group2/2/2004_test.jpg: expected a grey image (mode L, or RGB without colours), got mode CMYK",
        "trainval.txt:7: group2/2/2005.jpg is listed before",
        "trainval.txt:8: expected `IMAGE.jpg ANNOTATIONS.txt`, got 'nonsense'",
        "group1/1/1006_test.jpg: the image is cut off (listed in test.txt:1)",
    ]
