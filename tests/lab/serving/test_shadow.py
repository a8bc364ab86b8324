"""Float beside int8: it never delays an answer, and takes over once the disagreement is shown to be too much."""

import asyncio

import numpy as np
import pytest
import scipy.stats
from served import Doubling, figure, predict, serving, until

from qat.lab.serving.shadow import ShadowRule, Window, lower_bound

ALWAYS = ShadowRule(share=1.0, most=0.02)


@pytest.mark.parametrize("count", [1, 7, 300])
def test_of_disagreement_alone_the_bound_is_the_exact_one(count):
    assert lower_bound(1.0, count, 0.99) == pytest.approx(0.01 ** (1 / count))


@pytest.mark.parametrize(("found", "count"), [(1, 5), (3, 40), (30, 1000), (999, 1000)])
def test_the_bound_is_below_the_exact_one_of_coins_and_close_to_it(found, count):
    exact = scipy.stats.beta.ppf(0.001, found, count - found + 1)
    bound = lower_bound(found / count, count, 0.999)
    assert 0.3 * exact < bound < exact


def test_the_bound_covers_shares_too_which_are_no_coins():
    rng = np.random.default_rng(0)
    draws = rng.choice([0.0, 0.25, 1.0], p=[0.9, 0.08, 0.02], size=(2000, 50))
    above = [lower_bound(mean, 50, 0.95) > 0.04 for mean in draws.mean(1)]
    assert np.mean(above) <= 0.05


def test_nothing_seen_shows_nothing():
    assert lower_bound(0.0, 500, 0.999) == lower_bound(0.0, 0, 0.999) == 0.0
    assert Window(ALWAYS).disagreement.count == 0


def test_the_window_forgets_what_is_older():
    window = Window(ShadowRule(window=3))
    for value in (1.0, 1.0, 0.0, 0.5, 0.0):
        window.add(value)
    assert (window.disagreement.mean, window.disagreement.count) == (pytest.approx(0.5 / 3), 3)


@pytest.mark.parametrize("wrong", [{"share": -0.1}, {"share": 1.1}, {"most": 2.0}, {"window": 0}, {"confidence": 1.0}])
def test_rules_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        ShadowRule(**wrong)


def test_a_model_that_disagrees_too_often_is_replaced_by_float_for_good():
    async def main():
        said = []
        async with serving(Doubling(error=1.0), Doubling(), rule=ALWAYS, told=said) as (service, client):
            before = (await predict(client, 3)).json()
            await until(lambda: service.engine.fallen_back or not service.engine._comparing)
            while not service.engine.fallen_back:
                await predict(client, 3)
                await service.engine.settle()
            after = (await predict(client, 3)).json()
            health = (await client.get("/health")).json()
            text = (await client.get("/metrics")).text
            assert before == {"model": "int8", "outputs": [{"twice": 7.0}]}
            assert after == {"model": "float", "outputs": [{"twice": 6.0}]}
            assert health["answering"] == "float" and health["status"] == "ready"
            assert health["fallback"]["lower_bound"] > 0.02 and "disagree" in health["fallback"]["fallen_back"]
            assert figure(text, "fallbacks_total") == 1 and figure(text, 'answering{model="float"}') == 1
            assert figure(text, "comparisons_total") == health["fallback"]["comparisons"] < 10
            assert [line for line in said if "From now on float answers" in line]

    asyncio.run(main())


def test_models_that_agree_stay_and_one_slip_is_no_proof():
    async def main():
        model = Doubling()
        async with serving(model, Doubling(), rule=ALWAYS) as (service, client):
            for value in range(60):
                model.error = float(value == 50)
                await predict(client, value)
                await service.engine.settle()
            now = service.engine.disagreement
            assert (now.mean, now.count) == (pytest.approx(1 / 60), 60)
            assert service.engine.fallen_back is None

    asyncio.run(main())


def test_answers_do_not_wait_for_float_and_comparisons_that_are_behind_are_passed_over():
    async def main():
        fallback = Doubling()
        async with serving(Doubling(error=1.0), fallback, rule=ALWAYS) as (service, client):
            fallback.gate.clear()
            for value in range(6):
                assert (await predict(client, value)).status_code == 200
            text = (await client.get("/metrics")).text
            assert figure(text, "comparisons_total") == 0
            assert figure(text, "comparisons_passed_over_total") == 4
            fallback.gate.set()
            await service.engine.settle()
            assert service.engine.disagreement.count == 2

    asyncio.run(main())


def test_a_share_of_the_inputs_is_compared():
    async def main():
        async with serving(Doubling(), Doubling(), rule=ShadowRule(share=0.25)) as (service, client):
            for _ in range(100):
                await predict(client, 1, 2, 3, 4)
                await service.engine.settle()
            assert 60 < service.engine.disagreement.count < 140

    asyncio.run(main())


def test_a_fallback_that_fails_is_told_and_harms_no_answer():
    async def main():
        said, fallback = [], Doubling()
        async with serving(Doubling(), fallback, rule=ALWAYS, told=said) as (service, client):
            fallback.fails = True
            assert (await predict(client, 1)).status_code == 200
            await service.engine.settle()
            assert (await predict(client, 1)).status_code == 200
            await service.engine.settle()
            assert service.engine.disagreement.count == 0
        assert "Warning: a comparison with float failed: it broke" in said

    asyncio.run(main())
