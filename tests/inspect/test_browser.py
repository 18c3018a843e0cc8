"""The microscope in a real browser: keys, colours in place, addresses that lead back, and a phone's width."""

import json
import shutil

import pytest

from docs.screenshots import chromium, wait
from fipo.inspect.pages import Pages
from fipo.run.rollouts import Rollouts
from tests.inspect.conftest import LINEAGE, serving

FOUND = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(not FOUND, reason="no Chromium on this machine")
GROUP = f"/{LINEAGE}/3/aaaaaaaaaaaa-0"


class Window:
    """A window on the pages."""

    def __init__(self, browser, site):
        self.browser, self.site = browser, site

    def size(self, width, height=800, scheme="light"):
        call = self.browser.call
        call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, path):
        self.browser.call("Page.navigate", url="about:blank")
        self.browser.call("Page.navigate", url=self.site.url + path)
        self.until("document.readyState === 'complete' && location.port")

    def until(self, expression):
        wait(lambda: self(expression), 60)

    def __call__(self, expression):
        return self.browser.script(expression)

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.browser.call("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else "")

    @property
    def address(self):
        return self("location.pathname + location.search + location.hash")


@pytest.fixture(scope="module")
def window(records):
    pages = Pages(Rollouts(records.store, "mine/train/rollouts/"), "mine", LINEAGE)
    with serving(pages) as site, chromium() as browser:
        browser.call("Page.enable")
        yield Window(browser, site)


def test_keys_lead_through_responses_and_groups(window):
    window.size(1200)
    window.open(f"{GROUP}/0")
    for key, expected in [("j", "/aaaaaaaaaaaa-0/1"), ("j", "/aaaaaaaaaaaa-0/2"), ("k", "/aaaaaaaaaaaa-0/1"),
                          ("J", "/bbbbbbbbbbbb-0/0"), ("K", "/aaaaaaaaaaaa-0/0"), ("u", f"/{LINEAGE}/3"),
                          ("]", f"/{LINEAGE}/4"), ("j", "/cccccccccccc-0/0")]:  # fmt: skip
        window.press(key)
        window.until(f"location.pathname.endsWith({json.dumps(expected)}) && document.readyState === 'complete'")


def test_colours_change_in_place_and_the_address_says_so(window):
    window.size(1200)
    window.open(f"{GROUP}/1")
    window("window.stayed = true")
    background = "getComputedStyle(document.getElementById('a3')).backgroundColor"
    by_f = window(background)
    window.press("4")
    window.until("location.search === '?colour=entropy'")
    assert window(background) != by_f and window("document.getElementById('a3').className") == "t s8"
    assert window("[...document.querySelectorAll('.legend')].filter(one => !one.hidden).length") == 1
    window.press("j")
    window.until("location.pathname.endsWith('/2') && document.readyState === 'complete'")
    assert window("location.search") == "?colour=entropy" and not window("window.stayed")
    window.open(f"{GROUP}/1?colour=entropy")
    assert window("document.getElementById('a3').className") == "t s8", "the same without a script's help"


def test_a_token_has_an_address_and_numbers(window):
    window.size(1200)
    window.open(f"{GROUP}/1")
    window("document.getElementById('a2').click()")
    assert window.address.endswith("#a2")
    told = window("document.getElementById('token').innerText")
    assert "token 2" in told and "three" in told and "f 1.1" in told and "entropy 1 " in told
    window.press("l")
    assert window.address.endswith("#a3")
    window.open(f"{GROUP}/1#a1")
    window.until("document.querySelector('.chosen')?.id === 'a1'")


def test_b_puts_a_sibling_beside_and_d_leads_to_where_they_part(window):
    window.size(1200)
    window.open(f"{GROUP}/0")
    window.press("b")
    window.until("location.search.includes('beside=1') && document.readyState === 'complete'")
    left, right = (window(f"document.querySelectorAll('article')[{at}].getBoundingClientRect().x") for at in (0, 1))
    assert right > left + 300
    window.press("d")
    window.until("location.hash === '#parts-a'")


@pytest.mark.parametrize("path", [f"{GROUP}/0?beside=1", f"/{LINEAGE}/3", f"/{LINEAGE}/all?outcome=wrong"])
def test_nothing_is_cut_on_a_phone(window, path):
    window.size(360)
    window.open(path)
    assert window("document.documentElement.scrollWidth - innerWidth") <= 0
    inside = """[...document.querySelectorAll('article, .groups li, .search, dl')].filter(
        one => one.scrollWidth > one.clientWidth + 1).map(one => one.className || one.tagName)"""
    assert window(inside) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("depth", ["above8", "below8", "s8", "above4", "middle"])
def test_text_is_readable_on_every_colour(window, scheme, depth):
    """The contrast of WCAG's level AA, 4.5 to 1, as the browser paints it."""
    window.size(1200, scheme=scheme)
    window.open(f"{GROUP}/0")
    ratio = window(
        """(depth => {
          const token = document.querySelector('.t'); token.className = `t ${depth}`;
          const canvas = new OffscreenCanvas(1, 1).getContext('2d');
          const paint = (...colours) => {
            for (const one of colours) { canvas.fillStyle = one; canvas.fillRect(0, 0, 1, 1); }
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
          };
          const light = rgb => rgb.map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
            .reduce((sum, c, at) => sum + c * [.2126, .7152, .0722][at], 0);
          const paper = getComputedStyle(token.closest('article')).backgroundColor;
          const style = getComputedStyle(token);
          const [one, other] = [light(paint(paper, style.backgroundColor)), light(paint(style.color))];
          return (Math.max(one, other) + .05) / (Math.min(one, other) + .05);
        })("""
        + json.dumps(depth)
        + ")"
    )
    assert ratio >= 4.5


def test_what_a_model_wrote_does_not_act(window):
    window.size(1200)
    for path in (f"{GROUP}/0?beside=1", f"/{LINEAGE}/3"):
        window.open(path)
        assert window("document.title").endswith("mine") and window("document.images.length") == 0
        assert "onerror" in window("document.body.innerText"), "it is shown"
