"""The page in Chromium, as a person uses it; each picture of it is kept in `.screenshots/`."""

from __future__ import annotations

import json
import time

import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def choose(visitor, group, steps: int = 12, samples: int = 1):
    """Upload the group, and say how long a search it is; 300 steps for 8 candidates take minutes."""
    visitor.click("#more button")
    visitor.number("steps", steps)
    visitor.number("samples", samples)
    visitor.upload(group)
    visitor.told("faces found")


def test_a_group_from_upload_to_download(visit, server, group):
    visitor = visit()
    visitor.shot("desktop-1-start")
    assert "must not be used to identify anyone" in visitor.see(".lf-notice").text
    assert "up to 10 visitors wait" in visitor.driver.page_source
    choose(visitor, group, samples=2)
    assert visitor.see("#boxes img")
    faces = visitor.all("#faces input[type=checkbox]")
    assert [face.is_selected() for face in faces] == [True] * 3
    visitor.click("#faces label", "2 (")
    visitor.shot("desktop-2-faces")
    visitor.click("button#run")
    visitor.see("#preview img")
    visitor.see("#curve canvas, #curve svg")
    visitor.shot("desktop-3-exploring")
    visitor.see("#compare img", 120)
    done = visitor.told("upscaled")
    assert "of 3 faces upscaled" in done
    assert "not asked for" in done
    slider = visitor.see("#compare input[type=range]")
    edge = visitor.see("#compare .lf-edge").location["x"]
    slider.send_keys(*["\ue014"] * 20)  # the right arrow key
    assert visitor.see("#compare .lf-edge").location["x"] > edge + 10
    assert len(visitor.all("#made button img")) >= 4  # of each face the input, two candidates and their spread
    visitor.shot("desktop-4-done")
    links = [link.get_attribute("href") for link in visitor.all("#files a, #save a, a#save")]
    record = fetched(visitor, next(link for link in links if link.endswith(".json")))
    told = json.loads(record)
    assert told["input"] == "group.png"
    assert told["settings"]["photo"]["faces"] == [1, 3]
    assert "identify" in told["notice"]
    assert not [e for e in visitor.driver.get_log("browser") if e["level"] == "SEVERE"]


def fetched(visitor, link: str) -> str:
    return visitor.driver.execute_async_script(
        "const done = arguments[1]; fetch(arguments[0]).then(r => r.text()).then(done)", link
    )


def test_stop_keeps_the_best_of_a_long_search(visit, group):
    visitor = visit()
    choose(visitor, group, steps=300, samples=8)
    visitor.click("button#run")
    visitor.see("#preview img")
    began = time.monotonic()
    visitor.click("button#stop")
    visitor.see("#compare img", 60)
    assert time.monotonic() - began < 60
    assert "faces" in visitor.told("3 faces")
    assert not [b for b in visitor.all("button#stop") if b.is_displayed()]


def test_two_visitors_at_once_see_their_own_pictures(visit, group, tmp_path):
    one, other = visit(), visit()
    turned = tmp_path / "single.png"
    Image.open(group).crop((0, 10, 100, 110)).save(turned)
    choose(one, group)
    other.click("#more button")
    other.number("steps", 12)
    other.upload(turned)
    other.told("1 face found")
    one.click("button#run")
    other.click("button#run")
    one.see("#compare img", 120)
    other.see("#compare img", 120)
    assert "of 3 faces" in one.told("of 3 faces")
    assert "of 1 face" in other.told("of 1 face")
    names = [{cell.text for cell in visitor.all("#files .filename, #files td")} for visitor in (one, other)]
    assert any("group" in name for name in names[0])
    assert not any("group" in name for name in names[1])


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("empty.png", b"", "empty"),
        ("page.jpg", b"<script>document.title = 'taken'</script>" * 9, "not a picture"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "not a picture"),
        ("cut.png", None, "broken or cut off"),
    ],
)
def test_a_hostile_file_is_refused_in_words_and_the_page_goes_on(visit, group, tmp_path, name, data, words):
    path = tmp_path / name
    path.write_bytes(group.read_bytes()[:2000] if data is None else data)
    visitor = visit()
    visitor.upload(path)
    assert words in visitor.told("cannot be done")
    assert visitor.driver.title == "latentface"
    if name == "cut.png":
        visitor.shot("desktop-refused")
        visitor.click("#picture button[aria-label='Remove Image']")
        visitor.upload(group)
        visitor.told("3 faces found")


def test_a_reload_in_the_middle_frees_the_server(visit, group):
    visitor = visit()
    choose(visitor, group, steps=300, samples=8)
    visitor.click("button#run")
    visitor.see("#preview img")
    visitor.driver.refresh()
    visitor.see("button#run")
    began = time.monotonic()
    choose(visitor, group, steps=6)
    visitor.click("button#run")
    visitor.see("#compare img", 60)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_everything_fits_the_width(visit, group, dark):
    visitor = visit(width=390, dark=dark)
    choose(visitor, group)
    visitor.click("button#run")
    visitor.see("#compare img", 120)
    time.sleep(1)
    visitor.shot(f"phone-{'dark' if dark else 'light'}")
    assert visitor.driver.execute_script("return document.documentElement.scrollWidth") <= 390


def test_every_control_has_a_name_and_the_keyboard_reaches_it(visit):
    visitor = visit()
    visitor.click("#more button")
    time.sleep(0.5)
    tree = visitor.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    controls = ("button", "slider", "spinbutton", "radio", "checkbox", "combobox", "textbox", "listbox")
    nodes = [node for node in tree if node.get("role", {}).get("value") in controls and not node["ignored"]]
    nameless = [node["role"]["value"] for node in nodes if not node.get("name", {}).get("value")]
    assert len(nodes) > 20
    assert nameless == []
    body = visitor.driver.find_element("css selector", "body")
    reached = set()
    for _ in range(60):
        body.send_keys("\ue004")  # tab
        active = visitor.driver.switch_to.active_element
        reached.add(visitor.driver.execute_script("return (arguments[0].closest('[id]') || {}).id", active))
        body = active
    assert {"prior", "factor"} <= {name.split("-")[0] for name in reached if name} | reached
