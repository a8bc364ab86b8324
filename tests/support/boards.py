"""Small boards with squares on them and a small detector: what detection can be tried on in seconds."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from qat.tasks.detection.boxes import STRIDES

CLASSES = ("filled", "hollow")


def board(rng, side=64, most=3):
    """One example: up to `most` squares that do not touch, filled or hollow, as pixels of 0 and 1."""
    image, boxes, labels = np.zeros((side, side, 1), np.uint8), np.zeros((most, 4), np.float32), np.full(most, -1)
    taken = np.zeros((side, side), bool)
    for i in range(most):
        size = int(rng.integers(12, 25))
        x, y = (int(v) for v in rng.integers(0, side - size, 2))
        if taken[max(y - 3, 0) : y + size + 3, max(x - 3, 0) : x + size + 3].any():
            continue
        taken[y : y + size, x : x + size] = True
        label = int(rng.integers(len(CLASSES)))
        image[y : y + size, x : x + size] = 1
        if label:
            image[y + 3 : y + size - 3, x + 3 : x + size - 3] = 0
        boxes[i], labels[i] = (x, y, x + size, y + size), label
    return {"image": image, "boxes": boxes, "labels": labels.astype(np.int32)}


def boards(count, seed=0, **options):
    """A batch of boards."""
    rng = np.random.default_rng(seed)
    made = [board(rng, **options) for _ in range(count)]
    return {name: np.stack([one[name] for one in made]) for name in made[0]}


class Small(nn.Module):
    """One convolution, its maps averaged for the coarser levels, and one head for all."""

    classes: int
    width: int

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.Conv(self.width, (STRIDES[0],) * 2, (STRIDES[0],) * 2, name="see")(x))
        levels = [nn.avg_pool(x, (s // STRIDES[0],) * 2, (s // STRIDES[0],) * 2) for s in STRIDES]
        cells = jnp.concatenate([level.reshape(len(x), -1, self.width) for level in levels], 1)
        sizes = jnp.concatenate([jnp.full(level[0, ..., 0].size, s) for level, s in zip(levels, STRIDES, strict=True)])
        sides = nn.softplus(nn.Dense(4, name="box")(cells)) * sizes[:, None]
        return {"logits": nn.Dense(self.classes, name="class")(cells), "distances": sides}


def started(init, *inputs, seed=0):
    """Variables to start from, of the shapes that `init` gives: what it draws itself takes long to compile."""
    rng = np.random.default_rng(seed)

    def leaf(path, like):
        name = path[-1].key
        if name == "kernel":
            return rng.normal(0, np.sqrt(2 / np.prod(like.shape[:-1])), like.shape).astype(np.float32)
        return np.full(like.shape, name in ("scale", "var"), np.float32)

    return jax.tree_util.tree_map_with_path(leaf, dict(jax.eval_shape(init, jax.random.key(0), *inputs)))
