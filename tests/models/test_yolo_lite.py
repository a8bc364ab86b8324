"""YOLO-lite: its outputs, its size, what it refuses; it learns, and it keeps what it learned in integers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from boards import CLASSES, boards, started

import qat
from qat import data, models, tasks
from qat.data import Columns
from qat.lab.experiment.objective import float_examples, float_loss, served_examples
from qat.models.adapter import forward
from qat.models.yolo_lite import ACTIVATIONS, space_to_depth
from qat.tasks.detection.boxes import STRIDES, points
from qat.train import TrainConfig, fit, per_example

TASK = tasks.build(f"detection(class_names={CLASSES})")
NET = forward("yolo_lite(width=8)", classes=len(CLASSES))
BATCH = boards(4, seed=5)
(IMAGES,) = TASK.inputs(BATCH)


@pytest.fixture(scope="module")
def learned():
    """The network after it has seen four boards again and again."""
    start = started(NET.init, IMAGES)
    config = TrainConfig(steps=120, batch_size=4, learning_rate=5e-3, warmup_steps=10, weight_decay=0.0, devices=1)
    batches = data.Batches(Columns(BATCH), 4, seed=0)
    state = {"batch_stats": start["batch_stats"]}
    result = fit(float_loss(TASK, NET), start["params"], state, batches, config, progress=False)
    return {"params": result.params, **result.state}


def scores(examples, variables):
    return TASK.summary(per_example(examples, variables, data.in_order(Columns(BATCH), 4)))


def outputs(text, shape, classes=6):
    net = forward(text, classes=classes)
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(net.init, jax.random.key(0), image)
    return variables, jax.eval_shape(net.inference, variables, image)


@pytest.mark.parametrize("shape", [(1, 640, 640, 2), (2, 320, 320, 1), (3, 64, 96, 3)], ids=str)
def test_there_is_one_row_of_outputs_for_each_point(shape):
    _, found = outputs("yolo_lite(width=16)", shape)
    count = len(points(*shape[1:3])[0])
    assert found["logits"].shape == (shape[0], count, 6)
    assert found["distances"].shape == (shape[0], count, 4)


@pytest.mark.parametrize(("width", "low", "high"), [(40, 0.3e6, 0.37e6), (48, 0.45e6, 0.52e6), (80, 1.2e6, 1.5e6)])
def test_the_width_sets_the_number_of_parameters(width, low, high):
    variables, _ = outputs(f"yolo_lite(width={width})", (1, 64, 64, 2))
    assert low < sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) < high


def test_space_to_depth_keeps_every_pixel_of_a_square_together():
    x = jnp.arange(2 * 8 * 12 * 3).reshape(2, 8, 12, 3)
    cells = space_to_depth(x, 4)
    assert cells.shape == (2, 2, 3, 48)
    np.testing.assert_array_equal(cells[1, 1, 2], x[1, 4:8, 8:12].ravel())


def test_the_first_convolution_has_channels_enough_to_be_fast_in_integers():
    variables, _ = outputs("yolo_lite(width=16)", (1, 64, 64, 1))
    assert variables["params"]["stem"]["Conv_0"]["kernel"].shape[2] >= 16


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_gives_finite_outputs_and_its_own(activation):
    net = forward(f"yolo_lite(width=8, activation='{activation}')", classes=2)
    found = net.inference(started(net.init, IMAGES), IMAGES)
    assert all(np.isfinite(x).all() for x in found.values())
    assert (np.asarray(found["distances"]) > 0).all()


def test_at_first_nothing_is_an_object():
    def biases(key):
        params = NET.init(key, IMAGES)["params"]
        return [params[f"head_{level}"]["class"]["bias"] for level in range(len(STRIDES))]

    for bias in jax.jit(biases)(jax.random.key(0)):
        np.testing.assert_allclose(jax.nn.sigmoid(bias), 0.01, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("yolo_lite(activation='rule')", "`activation` must be one of relu, relu6, hardswish, silu, got 'rule'"),
        ("yolo_lite(width=4)", "`width` must be at least 8"),
        ("yolo_lite(depth=0)", "`depth` at least 1"),
    ],
    ids=["activation", "width", "depth"],
)
def test_settings_that_make_no_network_are_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        models.build(text, classes=2)


def test_images_that_cells_do_not_fill_are_refused():
    with pytest.raises(ValueError, match="multiples of"):
        outputs("yolo_lite(width=8)", (1, 100, 96, 1))


@pytest.mark.slow
def test_it_learns_a_few_boards_by_heart(learned):
    assert scores(float_examples(TASK, NET.inference), learned)["map50"] > 0.9


@pytest.mark.slow
def test_served_integers_equal_the_simulation_and_know_the_boards_still(learned):
    q = qat.quantize(NET.inference, qat.recipe("w8a8"))
    assert all(site.rule is not None for site in q.sites(learned, IMAGES))
    state = q.calibrate(learned, [(IMAGES,)])
    int8 = q.convert(learned, state, IMAGES)
    simulated, served = q.simulate(learned, state, IMAGES), q.serve(int8, IMAGES)
    for name in simulated:
        np.testing.assert_array_equal(simulated[name], served[name])
    assert scores(served_examples(TASK, q.program), int8)["map50"] > 0.9
