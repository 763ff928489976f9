"""The report in a real browser: Chromium by selenium, where there is one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stores import Made, cell_of

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (extra 'dev')")
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402  # only where selenium is
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

from advkit.results.grid import load_grid  # noqa: E402
from advkit.results.report import write_report  # noqa: E402
from advkit.results.serve import ReportServer  # noqa: E402

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",  # a page that scrolls smoothly slides from under a click
    "--window-size=1280,900",
)

pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="needs chromium and chromedriver on PATH"),
    # CPython tells of sockets and processes that selenium leaves to be collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def made_up(folder: Path, models: int = 3, examples: int = 60) -> Path:
    counts = [
        f"--models={models}",
        "--defenses=2",
        "--attacks=2",
        "--radii=3",
        f"--examples={examples}",
        "--pictures=3",
    ]
    subprocess.run([sys.executable, ROOT / "scripts" / "made_up_store.py", folder, *counts], check=True)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up(tmp_path_factory.mktemp("browser") / "store")


@pytest.fixture(scope="module")
def file(store: Path) -> Path:
    write_report(store, store / "report.html")
    return store / "report.html"


@pytest.fixture
def page(browser: Any, file: Path) -> Iterator[Any]:
    """The page, freshly opened; afterwards the console must be empty and nothing asked of the network."""
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(file.as_uri())
    browser.execute_script("localStorage.clear(); document.documentElement.removeAttribute('data-theme')")
    yield browser
    assert browser.get_log("browser") == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in urls} <= {"file", "data"}
    assert {url for url in urls if url.startswith("file:")} <= {file.as_uri()}


def by(page: Any, selector: str) -> Any:
    return page.find_element(By.CSS_SELECTOR, selector)


def texts(page: Any, selector: str) -> list[str]:
    found: list[str] = page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility()).map(e => e.textContent.trim())",
        selector,
    )
    return found


def column(page: Any, name: str) -> list[str]:
    names = [th.get_attribute("data-name") for th in page.find_elements(By.CSS_SELECTOR, ".results thead th")]
    return texts(page, f"#rows tr > :nth-child({names.index(name) + 1})")


def accuracies(page: Any) -> list[float]:
    return [float(text.split()[0]) for text in column(page, "accuracy")]


def until(page: Any, condition: Callable[[Any], Any], seconds: float = 15) -> Any:
    waiting = WebDriverWait(page, seconds, poll_frequency=0.05, ignored_exceptions=[StaleElementReferenceException])
    return waiting.until(condition)


def width(page: Any, pixels: int) -> None:
    size = {"width": pixels, "height": 700, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def test_the_script_draws_the_rows_that_the_page_arrived_with(page: Any):
    before, after = page.execute_script(
        """
        const raw = new DOMParser().parseFromString(arguments[0], 'text/html');
        const rows = (doc) => [...doc.querySelectorAll('#rows tr')].map((tr) => tr.outerHTML.replace(/\\s+/g, ' '));
        return [rows(raw), rows(document)];
        """,
        Path(page.current_url.removeprefix("file://")).read_text(encoding="utf-8"),
    )
    assert len(before) == 60
    assert before == after


def test_a_click_on_a_header_sorts(page: Any):
    at_first = accuracies(page)
    header = by(page, "#sort-accuracy")
    header.click()
    assert accuracies(page) == sorted(at_first, reverse=True)
    assert by(page, "th[data-name=accuracy]").get_attribute("aria-sort") == "descending"
    by(page, "#sort-accuracy").click()
    assert accuracies(page) == sorted(at_first)
    by(page, "#sort-accuracy").click()
    assert accuracies(page) == at_first
    assert by(page, "th[data-name=accuracy]").get_attribute("aria-sort") is None


def test_the_keyboard_sorts_and_reaches_everything(page: Any):
    body = by(page, "body")
    body.send_keys(Keys.TAB)
    assert page.switch_to.active_element.text == "Skip to the results"
    page.execute_script("document.getElementById('sort-model').focus()")
    seen = []
    for _ in range(3):
        seen.append(page.switch_to.active_element.get_attribute("id"))
        page.switch_to.active_element.send_keys(Keys.TAB)
    assert seen == ["sort-model", "sort-defense", "sort-attack"]
    page.execute_script("document.getElementById('sort-attack').focus()")
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert column(page, "attack") == sorted(column(page, "attack"))
    assert page.switch_to.active_element.get_attribute("id") == "sort-attack", "sorting keeps the focus"
    outline = page.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_filters_narrow_the_table_and_stay_in_the_address(page: Any, file: Path):
    by(page, "#filter-q").send_keys("made-up-2 JPEG")
    assert set(column(page, "model")) == {"made-up-2"}
    assert set(column(page, "defense")) == {"jpeg:75"}
    Select(by(page, "#filter-attack")).select_by_value("pgd")
    assert column(page, "attack") == ["pgd"] * 3
    assert by(page, "#shown").text == "3 lines (60 in all)"
    assert "attack=pgd" in page.current_url
    page.refresh()
    assert column(page, "attack") == ["pgd"] * 3
    assert by(page, "#filter-q").get_attribute("value") == "made-up-2 JPEG"
    by(page, "#filter-clear").click()
    assert len(column(page, "model")) == 60
    by(page, "#filter-q").send_keys("<b>no such</b>")
    assert column(page, "model") == []
    by(page, "#filter-clear").click()
    assert page.current_url == file.as_uri()


def test_curves_show_values_by_pointer_and_by_key_and_lines_can_be_left_out(page: Any):
    assert len(page.find_elements(By.CSS_SELECTOR, "#plot .curve")) == 6
    assert len(page.find_elements(By.CSS_SELECTOR, "#plot .band")) == 6
    assert by(page, "#legend-head").text == "Accuracy at 3/255"
    area = by(page, "#plot")
    page.execute_script("arguments[0].focus()", area)
    area.send_keys(Keys.HOME)
    assert by(page, "#legend-head").text == "Accuracy without attack"
    area.send_keys(Keys.ARROW_RIGHT)
    assert by(page, "#legend-head").text == "Accuracy at 1/255"
    said = area.get_attribute("aria-valuetext")
    assert said.startswith("at 1/255: made-up-")
    ActionChains(page).move_to_element_with_offset(area, area.size["width"] // 2 - 20, 0).perform()
    assert by(page, "#legend-head").text == "Accuracy at 3/255"
    row = by(page, "#line-0 .value").text.split()
    assert float(row[0]) <= 100
    assert "–" in row[-1]
    by(page, "#line-0").click()
    assert by(page, "#line-0").get_attribute("aria-pressed") == "false"
    assert len(page.find_elements(By.CSS_SELECTOR, "#plot .curve")) == 5
    by(page, "#curve-bands").click()
    assert not page.find_elements(By.CSS_SELECTOR, "#plot .band")
    options = [option.text for option in Select(by(page, "#curve-view")).options]
    assert options[0] == "worst case"
    Select(by(page, "#curve-view")).select_by_visible_text("made-up-1 + jpeg:75")
    assert texts(page, "#legend .name") == ["fgsm", "pgd", "worst case"]


def _levels(page: Any, canvas: str) -> list[int]:
    found: list[int] = page.execute_script(
        "const c = document.getElementById(arguments[0]);"
        "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]",
        canvas,
    )
    return found


def test_the_slider_goes_from_the_clean_to_the_adversarial_picture(page: Any, store: Path):
    from advkit.results.store import Store

    button = by(page, "#gallery button")
    key = button.get_attribute("data-example")
    button.click()
    until(page, lambda p: by(p, "#blend").get_attribute("width") == "32")
    assert "taken for" in by(page, "#blend-caption").text
    record = Store(store).record(key.split("-")[0])
    assert record is not None
    picture = next(p for p in Store(store).pictures(record.cell) if p.index == int(key.split("-")[1]))

    def flat(x: Any) -> list[int]:
        found: list[int] = x.transpose(1, 2, 0).reshape(-1).tolist()
        return found

    def colours(levels: list[int]) -> list[int]:
        return [level for place, level in enumerate(levels) if place % 4 != 3]

    assert colours(_levels(page, "blend")) == flat(picture.x_adv)
    difference = colours(_levels(page, "difference"))
    assert max(abs(level - 128) for level in difference) > 100
    by(page, "#amount").send_keys(Keys.HOME)
    assert by(page, "#amount-shown").text == "0.00"
    assert colours(_levels(page, "blend")) == flat(picture.x)
    assert set(colours(_levels(page, "difference"))) == {128}
    by(page, "#amount").send_keys(Keys.ARROW_RIGHT)
    assert by(page, "#amount-shown").text == "0.01", "on the slider the arrows are the slider's"
    by(page, "#amount").send_keys(Keys.END)
    Select(by(page, "#gain")).select_by_value("1")
    assert colours(_levels(page, "difference"))[:50] == [
        128 + b - a for a, b in list(zip(flat(picture.x), flat(picture.x_adv), strict=True))[:50]
    ]
    assert dict(zip(texts(page, "#dialog-facts dt"), texts(page, "#dialog-facts dd"), strict=True))["attack"] == "fgsm"


def test_arrow_keys_move_between_examples_and_escape_goes_back(page: Any):
    buttons = page.find_elements(By.CSS_SELECTOR, "#gallery button")
    page.execute_script("arguments[0].focus()", buttons[0])
    buttons[0].send_keys(Keys.ENTER)
    until(page, lambda p: by(p, "#position").text == f"1 of {len(buttons)}")
    assert by(page, "#dialog").get_attribute("open") is not None
    ActionChains(page).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT).perform()
    assert by(page, "#position").text == f"2 of {len(buttons)}"
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert by(page, "#dialog").get_attribute("open") is None
    assert page.switch_to.active_element == buttons[1], "the focus stands where the reader left"


def test_examples_can_be_narrowed(page: Any):
    everything = len(texts(page, "#gallery li"))
    Select(by(page, "#picture-attack")).select_by_value("pgd")
    some = texts(page, "#gallery li")
    assert 0 < len(some) < everything
    assert all("pgd at" in text for text in some)
    by(page, "#gallery li:not([hidden]) button").click()
    assert by(page, "#position").text == f"1 of {len(some)}"
    by(page, "#dialog-close").click()


def test_names_that_hold_markup_are_shown_as_text(page: Any):
    odd = '<b>odd & "name"</b>'
    assert any(odd in text for text in texts(page, "#gallery .story"))
    assert not page.find_elements(By.XPATH, "//b[starts-with(text(), 'odd')]")
    button = next(b for b in page.find_elements(By.CSS_SELECTOR, "#gallery button") if odd in b.text)
    button.click()
    assert odd in by(page, "#dialog-title").text
    assert not page.find_elements(By.CSS_SELECTOR, "#dialog-title b")


def test_the_theme_can_be_switched_and_is_kept(page: Any):
    def paper() -> str:
        found: str = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        return found

    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    )
    light = paper()
    by(page, "#theme").click()
    dark = paper()
    assert dark != light
    assert by(page, "#theme").text == "Light"
    page.refresh()
    assert paper() == dark
    by(page, "#theme").click()
    assert paper() == light
    page.execute_script("localStorage.clear(); document.documentElement.removeAttribute('data-theme')")
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    assert paper() == dark
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("pixels", [320, 375])
def test_a_phone_needs_no_sideways_scrolling_of_the_page(page: Any, pixels: int):
    width(page, pixels)
    try:
        page.refresh()
        assert (
            page.execute_script("return [document.documentElement.scrollWidth, document.body.scrollWidth]")
            == [pixels] * 2
        )
        assert len(column(page, "model")) == 40, "a phone gets fewer rows at once"
        by(page, "#more").click()
        assert len(column(page, "model")) == 60
        page.execute_script("document.querySelector('#gallery button').click()")
        box = page.execute_script(
            "const r = document.getElementById('dialog').getBoundingClientRect(); return [r.left, r.right]"
        )
        assert 0 <= box[0] < box[1] <= pixels
        assert page.execute_script("return document.documentElement.scrollWidth") == pixels
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_names_of_any_length_leave_a_phone_alone(browser: Any, tmp_path: Path):
    name = "an-endless-name" * 12 + " <b>and more</b>"
    made = Made(tmp_path / "s")
    for defense in ("none", name):
        made.put(cell_of(model=name, defense=defense), [1] * 9, data=name, weights=name)
        made.put(cell_of(name, model=name, defense=defense), [1, 0, 0] * 3, [1] * 9, data=name, weights=name, git=name)
    write_report(tmp_path / "s", tmp_path / "page.html")
    width(browser, 360)
    try:
        browser.get((tmp_path / "page.html").as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert browser.get_log("browser") == []


CONTRAST = """
const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const parse = (text) => { const v = text.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
function ground(element) {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
}
const poor = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.checkVisibility() || element.closest('script, noscript, .hidden, :disabled')) continue;
  const style = getComputedStyle(element);
  const behind = ground(element);
  const ink = element.closest('svg') ? parse(style.fill) : parse(style.color);
  const [light, dark] = [luminance(over(ink, behind)), luminance(behind)].sort((a, b) => b - a);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
  const ratio = (light + 0.05) / (dark + 0.05);
  if (ratio < (large ? 3 : 4.5))
    poor.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)} ${element.textContent.trim().slice(0, 30)}`);
}
return [...new Set(poor)];
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_stands_out_as_wcag_asks(page: Any, theme: str):
    page.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    page.execute_script("for (const details of document.querySelectorAll('details')) details.open = true")
    assert page.execute_script(CONTRAST) == []
    page.execute_script("document.querySelector('#gallery button').click()")
    until(page, lambda p: by(p, "#blend").get_attribute("width") == "32")
    assert page.execute_script(CONTRAST) == []
    by(page, "#dialog-close").click()
    page.execute_script("document.querySelector('.lead').style.color = '#777777'")
    assert [found[:2] for found in page.execute_script(CONTRAST)] == ["P."]


def test_the_pointer_is_told_which_line_is_near(page: Any):
    area = by(page, "#plot")
    place = page.execute_script(
        "const r = document.querySelector('#plot').getBoundingClientRect();"
        "const m = document.querySelector('#plot path[data-curve][transform]').getBoundingClientRect();"
        "return [m.left + m.width / 2 - r.left - r.width / 2, m.top + m.height / 2 - r.top - r.height / 2]"
    )
    ActionChains(page).move_to_element_with_offset(area, *(round(value) for value in place)).perform()
    (tip,) = texts(page, "#plot .tip")
    assert "made-up-" in tip
    assert " %" in tip
    assert "n = 60" in tip
    box = page.execute_script(
        "const [t, p] = ['.tip', '#plot'].map((name) => document.querySelector(name).getBoundingClientRect());"
        "return t.left >= p.left && t.right <= p.right + 1"
    )
    assert box
    ActionChains(page).move_to_element(by(page, "h1")).perform()
    assert not texts(page, "#plot .tip")


def test_the_gallery_begins_with_a_few_and_steps_through_all(browser: Any, tmp_path: Path):
    page = browser
    counts = ["--models=1", "--defenses=1", "--attacks=2", "--radii=8", "--pictures=20"]
    subprocess.run([sys.executable, ROOT / "scripts" / "made_up_store.py", tmp_path / "s", *counts], check=True)
    write_report(tmp_path / "s", tmp_path / "page.html")
    page.get((tmp_path / "page.html").as_uri())
    everything = len(page.find_elements(By.CSS_SELECTOR, "#gallery li"))
    shown = len(texts(page, "#gallery li"))
    assert shown == 28 < everything
    assert by(page, "#pictures-shown").text == f"28 of {everything} shown"
    page.execute_script("document.querySelectorAll('#gallery li:not([hidden]) button')[27].click()")
    until(page, lambda p: by(p, "#position").text == f"28 of {everything}")
    by(page, "#next").click()
    assert by(page, "#position").text == f"29 of {everything}"
    by(page, "#dialog-close").click()
    back = "const e = document.activeElement; return e.checkVisibility() && e.dataset.example"
    until(page, lambda p: p.execute_script(back))  # the reader comes back to what he saw last
    by(page, "#more-pictures").click()
    assert len(texts(page, "#gallery li")) == everything
    assert not by(page, "#more-pictures").is_displayed()


def test_an_address_of_another_page_hides_nothing_for_good(browser: Any, tmp_path: Path):
    made = Made(tmp_path / "s")
    made.put(cell_of("pgd"), [1, 0, 0], [1, 1, 1])
    write_report(tmp_path / "s", tmp_path / "page.html")
    browser.get(f"{(tmp_path / 'page.html').as_uri()}#defense=jpeg%3A75&model=gone&attack=worst+case&sort=-none")
    assert column(browser, "attack") == ["worst case"]
    by(browser, "#filter-clear").click()
    assert column(browser, "attack") == ["pgd", "worst case"]
    assert browser.get_log("browser") == []


def test_sorting_is_stable_and_rows_without_a_value_come_last(page: Any):
    by(page, "#sort-attack").click()
    once = [" ".join(pair) for pair in zip(column(page, "model"), column(page, "attack"), strict=True)]
    models = [text for text in once if text.endswith(" pgd")]
    assert models == sorted(models), "equal attacks keep the order that they had"
    for _ in range(2):
        by(page, "#sort-distance").click()
        values = column(page, "distance")
        empty = [place for place, value in enumerate(values) if value == "–"]
        assert empty == list(range(len(values) - len(empty), len(values)))


def test_without_script_the_page_is_a_readable_table(page: Any, file: Path):
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.get(file.as_uri())
        assert len(page.find_elements(By.CSS_SELECTOR, "#rows tr")) == 60
        assert by(page, "#rows tr").is_displayed()
        assert not by(page, "#filter-q").is_displayed()
        assert not by(page, "#theme").is_displayed()
        assert "drawn by a script" in by(page, "#curves").text
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_paper_gets_every_row_and_no_controls(page: Any):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        page.execute_script("dispatchEvent(new Event('beforeprint'))")
        assert len(column(page, "model")) == 60
        assert not by(page, "#filter-q").is_displayed()
        assert not by(page, ".top").is_displayed()
        assert texts(page, ".reprs code")
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_served_page_renews_itself_and_leaves_the_reader_where_he_is(browser: Any, tmp_path: Path):
    browser.get("about:blank")
    browser.get_log("browser")
    with ReportServer(tmp_path / "store", "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            browser.get(server.url)
            assert by(browser, "h1").text == "Waiting for results"
            made_up(tmp_path / "store", models=1)
            until(browser, lambda p: "made-up-1" in by(p, "h1").text)
            by(browser, "#filter-q").send_keys("pgd")
            by(browser, "#sort-accuracy").click()
            by(browser, "#filter-q").click()
            browser.execute_script("document.getElementById('line-1').click()")
            browser.execute_script("document.getElementById('attack-1').open = true")
            browser.execute_script("document.getElementById('filter-q').focus({preventScroll: true})")
            browser.execute_script("document.getElementById('examples').scrollIntoView({behavior: 'instant'})")
            time.sleep(0.2)
            top = browser.execute_script("return document.getElementById('examples').getBoundingClientRect().top")
            made_up(tmp_path / "store", models=3)
            until(browser, lambda p: "3 models" in p.find_element(By.TAG_NAME, "h1").text)
            assert set(column(browser, "attack")) == {"pgd"}
            assert accuracies(browser) == sorted(accuracies(browser), reverse=True)
            assert browser.switch_to.active_element.get_attribute("id") == "filter-q"
            assert browser.execute_script("return document.getElementById('attack-1').open")
            after = browser.execute_script("return document.getElementById('examples').getBoundingClientRect().top")
            assert abs(after - top) < 3
            assert by(browser, "#live").text.startswith("live, new results at")
            browser.execute_script("document.querySelector('#gallery button').click()")
            until(browser, lambda p: by(p, "#blend").get_attribute("width") == "32")
            by(browser, "#amount").send_keys(Keys.HOME)
            title, position = by(browser, "#dialog-title").text, by(browser, "#position").text
            made_up(tmp_path / "store", models=4)
            until(
                browser,
                lambda p: p.execute_script("return document.querySelector('h1').textContent").startswith("4 models"),
            )
            assert by(browser, "#dialog").get_attribute("open") is not None
            assert by(browser, "#dialog-title").text == title
            assert by(browser, "#position").text != position, "there are more examples now"
            assert by(browser, "#amount-shown").text == "0.00"
        finally:
            server.shutdown()
            thread.join()
    assert [entry for entry in browser.get_log("browser") if "ERR_CONNECTION_REFUSED" not in entry["message"]] == []
    until(
        browser, lambda p: "does not answer" in p.execute_script("return document.getElementById('live').textContent")
    )
    browser.get("about:blank")


def test_a_large_store_is_usable(browser: Any, tmp_path: Path):
    counts = ["--models=20", "--defenses=4", "--attacks=5", "--radii=8", "--examples=20", "--pictures=1"]
    subprocess.run([sys.executable, ROOT / "scripts" / "made_up_store.py", tmp_path / "s", *counts], check=True)
    write_report(tmp_path / "s", tmp_path / "page.html")
    lines = len((grid := load_grid(tmp_path / "s")).lines) + len(grid.clean) + len(grid.worst)
    browser.get((tmp_path / "page.html").as_uri())
    assert by(browser, "#shown").text == f"100 of {lines:,} lines"
    took = browser.execute_script(
        "const before = performance.now(); document.getElementById('sort-accuracy').click(); return performance.now() - before"
    )
    assert took < 1000
    assert accuracies(browser) == sorted(accuracies(browser), reverse=True)
    assert "72 of 80 lines off" in by(browser, "#legend-head").text
    assert "30 of 80 settings" in by(browser, "#summary").text
