"""A folder in COCO's format with an object on each image; whole, or with every kind of mistake."""

import json

import numpy as np
from PIL import Image

from qat import data

SIZES = [(200, 120), (64, 64), (96, 128), (300, 310), (50, 40), (130, 70)]  # width, height
CATEGORIES = [{"id": 7, "name": "scratch"}, {"id": 3, "name": "hole"}]


def write(folder, sizes=SIZES, mode="RGB", name="annotations.json", images="images", first=0):
    """Images that are black but for one white box each; the boxes are annotated, of each class in turn."""
    (folder / images).mkdir(parents=True)
    content = {"images": [], "annotations": [], "categories": CATEGORIES}
    for number, (width, height) in enumerate(sizes, first):
        box = [number - first + 5, 2 * (number - first) + 3, width // 2, height // 3]
        pixels = np.zeros((height, width), np.uint8)
        pixels[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = 255
        Image.fromarray(pixels).convert(mode).save(folder / images / f"{number}.png")
        content["images"].append({"id": 100 + number, "file_name": f"{number}.png", "width": width, "height": height})
        category = CATEGORIES[number % 2]["id"]
        content["annotations"].append(
            {"id": 1000 + number, "image_id": 100 + number, "category_id": category, "bbox": box, "iscrowd": 0}
        )
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder


def build(folder, **arguments):
    return data.build("coco", folder=str(folder), **arguments)


def change(folder, edit):
    """Let `edit` change the annotations."""
    file = folder / "annotations.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def examples(dataset):
    return [split[index] for split in dataset.splits.values() for index in range(len(split))]


def spoil(folder):
    """Make every kind of mistake, and say how each is to be reported."""

    def edit(content):
        images, boxes = content["images"], content["annotations"]
        boxes[0]["bbox"] = [190, 0, 20, 20]
        boxes += [{**boxes[0], "id": n} for n in range(9)]
        boxes[6].update(bbox=[5, 5, 0, 20])
        boxes[7].update(bbox=[5, 5, 10, -1])
        boxes[8].update(bbox=[5, 5, 10])
        boxes[9].update(bbox=[5, 5, 10, float("inf")])
        boxes[10].update(category_id=4)
        boxes[11].update(image_id=17)
        boxes[12].update(bbox=None)
        boxes[13].update(bbox=[200.2, 5, 0.5, 9])
        boxes[14].update(bbox=[150, 5, 50.6, 9])  # passes the edge by less than a pixel, as rounding does
        images[1]["width"] = 65
        images[2].update(width=128, height=96)
        images.append({"id": 200, "file_name": "gone.png", "width": 9, "height": 9})
        images.append({**images[0]})
        images.append({"id": "x"})
        boxes.append({"id": 2000, "image_id": 200, "category_id": 3, "bbox": [1, 1, 2, 2]})
        boxes.append("box")

    change(folder, edit)
    (folder / "images" / "4.png").write_text("no image")
    Image.new("L", SIZES[5]).save(folder / "images" / "5.png")
    name = "annotations.json: "
    return [
        f"{name}annotation 1000: box (190, 0, 210, 20) reaches outside the image of 200 x 120 pixels",
        f"{name}annotation 0: box (5, 5, 5, 25) has no area",
        f"{name}annotation 1: box (5, 5, 15, 4) has no area",
        f"{name}annotation 2: expected `bbox` as [x, y, width, height], got [5, 5, 10]",
        f"{name}annotation 3: box (5, 5, 15, inf) has sides that are not finite",
        f"{name}annotation 4: unknown class 4. Known: 3, 7",
        f"{name}annotation 5: unknown image 17",
        f"{name}annotation 6: expected `bbox` as [x, y, width, height], got None",
        f"{name}annotation 7: box (200, 5, 200, 14) has no area",
        f"{name}annotation 'box': unknown image 'box'",
        f"{name}image 101: expected an image of 65 x 64 pixels, got 64 x 64.",
        f"{name}image 102: expected an image of 128 x 96 pixels, got 96 x 128. Is it turned by an orientation tag?",
        f"{name}image 200: no file 'gone.png'",
        f"{name}image 100: its `id` is that of an image before",
        f"{name}image 'x': expected a whole `id` and a `file_name`",
        f"{name}image 104: is not an image",
        f"{name}image 105: expected rgb like most; pass colour='grey' or 'rgb' to convert, got mode L",
    ]
