"""The page of a report in headless Chromium: what it shows, does, and never does."""

import pytest
from browser import CHROMIUM, tab
from pages import written
from run_folders import make_runs

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

NO_CHARTS = ["histograms", "lost", "map", "differences"]
DRAWN = f"""Object.keys(drawings).filter(find).every((id) => {{
  return {NO_CHARTS}.includes(id) ? find(id).children.length > 0 : find(id).matches('.js-plotly-plot');
}})"""
LABELS = (
    "[...document.querySelectorAll('#trials-box tbody tr')].map((row) => row.cells[row.cells.length - 1].textContent)"
)
ATTACKS = (
    "<script>window.hit = 1</script>",
    "</script><img src=x onerror='window.hit = 2'>",
    "\"><svg onload='window.hit = 3'>",
    "<a href='http://example.org/'>link</a> &lt;b&gt; $\\frac{1}{",
)


def draw_all(opened):
    opened.run("Object.keys(drawings).filter(find).forEach(see)")
    opened.until(DRAWN)
    opened.until("document.querySelectorAll('#histograms .js-plotly-plot').length > 0")


def type_into(opened, name, text):
    opened.run(f"find('{name}').value = `{text}`; find('{name}').dispatchEvent(new Event('input'))")
    opened.run(f"find('{name}').dispatchEvent(new Event('change'))")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)], ids=["light", "dark", "phone"])
def test_the_page_draws_everything_without_a_problem_or_a_request(browser, study, width, dark):
    with tab(browser, width, dark=dark) as opened:
        opened.go(study.address)
        draw_all(opened)
        assert opened.problems() == []
        assert opened.requests() == [study.address]
        assert opened.run("document.documentElement.scrollWidth <= innerWidth")
        assert opened.run("getComputedStyle(document.body).backgroundColor") == (
            "rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)"
        )
        titles = opened.run("[...document.querySelectorAll('.modebar-btn')].map((one) => one.dataset.title)")
        assert not [title for title in titles if "hare" in title or "lotly" in title or "loud" in title]


def test_the_filter_leaves_the_rows_that_hold_every_word(browser, study):
    with tab(browser) as opened:
        opened.go(study.address)
        type_into(opened, "filter", "QAT w4a4")
        assert opened.run("find('count').textContent") == "2 of 20 trials"
        assert all(name.startswith("qat-w4a4-") for name in opened.run(LABELS))
        type_into(opened, "filter", "no such trial")
        assert opened.run(LABELS) == []
        assert opened.problems() == []


def test_a_choice_leaves_the_rows_of_that_value(browser, study):
    with tab(browser) as opened:
        opened.go(study.address)
        for column, value, count in (("state", "failed", 1), ("state", "finished", 17), ("arm", "ptq", 8)):
            opened.run(
                f"""(() => {{
                  document.querySelectorAll('#trials-choices select').forEach((one) => {{ one.value = ""; }});
                  const label = [...document.querySelectorAll('#trials-choices label')]
                    .find((one) => one.firstChild.textContent === '{column}');
                  label.lastChild.value = '={value}';
                  label.lastChild.dispatchEvent(new Event('change'));
                }})()"""
            )
            assert len(opened.run(LABELS)) == count


def test_a_heading_sorts_by_the_keyboard_down_up_and_back(browser, study):
    with tab(browser) as opened:
        opened.go(study.address)
        column = opened.run("columns.findIndex((column) => column.name === 'accuracy, %')")
        head = f"document.querySelectorAll('#trials-box th[aria-sort]')[{column}]"
        values = f"[...body.rows].map((row) => row.cells[{column + 1}].textContent).filter(Boolean).map(Number)"
        natural = opened.run(values)
        for direction, expected in (
            ("descending", sorted(natural, reverse=True)),
            ("ascending", sorted(natural)),
            ("none", natural),
        ):
            opened.run(f"{head}.querySelector('button').focus()")
            for kind in ("keyDown", "keyUp"):
                opened.call(
                    "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
                )
            assert opened.run(f"{head}.getAttribute('aria-sort')") == direction
            assert opened.run(values) == expected


def test_a_reload_keeps_filter_order_choice_colours_and_place(browser, study):
    with tab(browser) as opened:
        opened.go(study.address)
        type_into(opened, "filter", "w4a4")
        opened.run("document.querySelectorAll('#trials-box th button')[0].click(); find('theme').click()")
        opened.run("body.querySelector('input:not(:checked)').click(); find('unfinished').open = true")
        opened.run("scrollTo(0, 700)")
        kept = "[find('filter').value, state.sort, [...chosen], root.dataset.theme, find('unfinished').open, scrollY]"
        before = opened.run(kept)
        opened.run("window.old = true; setTimeout(() => location.reload())")
        opened.until("!window.old && document.readyState === 'complete'")
        assert opened.run(kept) == before
        assert (before[0], before[3:]) == ("w4a4", ["dark", True, 700])
        assert opened.problems() == []


def test_trials_are_chosen_by_name_by_arm_and_by_their_ticks(browser, study):
    with tab(browser) as opened:
        opened.go(study.address)
        draw_all(opened)
        chips = "[...find('chips').children].map((chip) => chip.firstChild.nextSibling.textContent)"
        opened.run("choose([...chosen], false)")
        assert opened.run(chips) == []
        type_into(opened, "add", "QAT w4a4 (all seeds)")
        assert opened.run(chips) == [f"QAT w4a4, seed {seed}" for seed in range(2)]
        opened.run("find('chips').querySelector('button').click()")
        type_into(opened, "filter", "ptq w4a4")
        opened.run("body.querySelector('input').click()")
        assert opened.run(chips) == ["QAT w4a4, seed 1", "PTQ w4a4, seed 0"]
        opened.until("document.querySelectorAll('#histograms figure').length === 4")
        captions = opened.run("[...document.querySelectorAll('#histograms figcaption')].map((one) => one.textContent)")
        assert captions[2].startswith("PTQ w4a4, seed 0activation (lhs) · 4 bits · ")
        assert opened.run("find('curves').data.map((trace) => trace.name)") == ["QAT w4a4", "PTQ w4a4"]
        opened.run("find('layers').emit('plotly_click', { points: [{ customdata: 'block1/conv2:conv:0' }] })")
        opened.until("find('site').value === 'block1/conv2:conv:0'")
        assert opened.problems() == []


@pytest.mark.slow
def test_the_map_shows_every_site_under_its_module_and_leads_to_its_ranges(browser, study):
    with tab(browser) as opened:
        opened.go(study.address)
        draw_all(opened)
        tiles = "[...find('map').querySelectorAll('button')]"
        assert opened.run(f"{tiles}.map((one) => one.title.split(': ')[0])") == [
            "stem/conv:conv:0", "block1/conv1:conv:0", "block1/conv2:conv:0", "block2/conv1:conv:0",
        ]  # fmt: skip
        modules = "[...find('map').querySelectorAll('.module > span')].map((one) => one.textContent)"
        assert opened.run(modules) == ["stem", "block1", "block2"]
        opened.run("find('overlay').value = 'bits of weights'; find('overlay').dispatchEvent(new Event('change'))")
        opened.until(f"{tiles}[0].textContent.endsWith(' bits')")
        opened.run(f"{tiles}[2].click()")
        opened.until("find('site').value === 'block1/conv2:conv:0'")
        opened.run("leadToMap('QAT w8a8')")
        opened.until(f"{tiles}[0].textContent.endsWith('8 bits')")
        assert opened.problems() == []


def test_what_configs_and_data_say_is_never_markup(browser, tmp_path):
    root = tmp_path / "hostile"
    make_runs(root, 40, name=ATTACKS[1], variants=ATTACKS, seeds=1)
    url = written(root).address
    with tab(browser) as opened:
        opened.go(url)
        opened.run("choose([...chosen], false)")
        opened.run("choose(names.map((_, i) => i).filter((i) => i % 10 > 7), true)")
        draw_all(opened)
        assert opened.run("window.hit === undefined")
        assert opened.run("[document.title, find('answer').textContent.includes('<svg')]") == [
            f"{ATTACKS[1]}: quantization study", True,
        ]  # fmt: skip
        assert opened.run("document.querySelectorAll('main img, main a[href^=http], main svg [onload]').length") == 0
        shown = opened.run("[...document.querySelectorAll('#layers .legendtext')].map((one) => one.textContent)")
        assert sorted(shown) == sorted(f"{arm} w2a4, {attack}" for attack in ATTACKS for arm in ("ptq", "qat"))
        assert opened.problems() == []
        assert opened.requests() == [url]


def test_a_study_without_a_finished_trial_has_a_page(browser, tmp_path):
    make_runs(tmp_path, 4, unfinished=4)
    with tab(browser) as opened:
        opened.go(written(tmp_path).address)
        assert len(opened.run(LABELS)) == 4
        assert opened.problems() == []


@pytest.mark.slow
def test_two_thousand_trials_stay_usable(browser, tmp_path):
    variants = [f"width {i}" for i in range(40)]
    make_runs(tmp_path, 2000, variants=variants, seeds=5, sites=1, points=3, examples=10)
    with tab(browser) as opened:
        opened.go(written(tmp_path).address)
        draw_all(opened)
        assert opened.run("find('count').textContent") == "2,000 of 2,000 trials"
        assert opened.run("body.rows.length") < 200
        opened.run("box.scrollTop = box.scrollHeight")
        opened.until("body.rows.length > 100")
        type_into(opened, "filter", "qat width-39-")
        assert len(opened.run(LABELS)) == 20
        assert opened.run("find('front-size').data.length") == 5
        assert opened.problems() == []
