"""Set up, in a real Chromium: draw with mouse, finger and keys, set levels, measure, compare, apply, undo."""

import pytest
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from edge.daemon import setup
from tests.browser import all_of, errors, find, keep, says, serious, shown, text, until
from tests.page_rig import INFO, Works, serving

CORNERS = ((0.1, 0.5), (0.3, 0.5), (0.3, 0.9), (0.1, 0.9))


class Counter:
    """Obeys, and lets the board show what is read from then on."""

    def __init__(self, works, board):
        self.works = works
        self.board = board
        self.show()

    def ask(self, command, arguments):
        answer = self.works.ask(command, arguments)
        if command in ("apply", "undo", "confirm"):
            self.tell()
        self.show()
        return answer

    def tell(self):
        overlay = self.works.overlay
        doubts = {"withheld": overlay.withheld, "doubts": setup.doubts(overlay)}
        self.board.put(info=INFO | {"config_hash": str(self.works.applied)} | doubts)

    def show(self):
        for _ in range(3):
            scene, triggers = self.works.see()
        self.board.put_scene(scene, triggers)


@pytest.fixture
def works(tmp_path):
    """A room with a visitor in it."""
    return Works(tmp_path)


@pytest.fixture
def server(board, works):
    """The page on which it can be set up."""
    with serving(board, counter=Counter(works, board)) as running:
        yield running


@pytest.fixture
def page(visit):
    """The part of the page where things are set up, filled in."""
    opened = visit("setup")
    until(opened, lambda: len(all_of(opened, "#zone-list li")) == 2 and shown(opened, "picture"))
    return opened


def place(page, x, y):
    """Return where a place, in fractions of the picture, lies in the window, in px."""
    script = "const r = document.getElementById('canvas').getBoundingClientRect(); return [r.x, r.y, r.width, r.height]"
    left, top, width, height = page.execute_script(script)
    return round(left + x * width), round(top + y * height)


def drag(page, start, end):
    """Press the mouse at one place of the picture and let it go at another."""
    page.execute_script("document.getElementById('stage').scrollIntoView()")
    actions = ActionBuilder(page)
    actions.pointer_action.move_to_location(*place(page, *start)).pointer_down()
    actions.pointer_action.move_to_location(*place(page, *end)).pointer_up()
    actions.perform()


def click(page, x, y):
    drag(page, (x, y), (x, y))


def names(page):
    return [each.get_attribute("value") for each in all_of(page, "#zone-list input")]


def config(works):
    return works.overlay.config


def apply(page, works):
    """Press Apply, once that can be pressed, and wait until it is done."""
    before = works.applied
    until(page, lambda: find(page, "apply").is_enabled())
    find(page, "apply").click()
    until(page, lambda: works.applied == before + 1)
    assert says(page, "setup-state", "Applied.")
    until(page, lambda: not find(page, "apply").is_enabled())


def near(polygon, expected, error=0.01):
    pairs = zip(polygon, expected, strict=True)
    return all(abs(x - u) < error and abs(y - v) < error for (x, y), (u, v) in pairs)


def test_a_zone_is_drawn_named_and_applied(page, works, board):
    """By clicks on its corners and again on the first: what it reads and the difference are shown; then it is live."""
    find(page, "add-zone").click()
    for corner in (*CORNERS, CORNERS[0]):
        click(page, *corner)
    until(page, lambda: names(page) == ["door", "window", "zone-1"])
    page.switch_to.active_element.send_keys("garden")
    assert says(page, "difference", "+- name: garden")
    assert says(page, "zone-list", "free now")
    keep(page, "setup-zone")
    apply(page, works)
    (*_, zone) = config(works).zones
    assert "garden" == zone.name
    assert near(zone.polygon, CORNERS)
    all_of(page, "nav a")[0].click()
    until(page, lambda: "garden" in [each.text for each in all_of(page, "#labels span")])
    assert [] == errors(page)


def test_a_zone_is_drawn_with_keys_alone(page, works):
    """The cross is moved with the arrows, Enter sets a corner, Backspace takes it back, Escape ends it all."""
    find(page, "add-zone").send_keys(Keys.ENTER)
    canvas = find(page, "canvas")
    until(page, lambda: page.switch_to.active_element == canvas)
    canvas.send_keys(Keys.ENTER, Keys.ARROW_RIGHT, Keys.ENTER, Keys.BACKSPACE)
    canvas.send_keys(Keys.SHIFT, *[Keys.ARROW_RIGHT] * 4, Keys.ENTER, *[Keys.ARROW_DOWN] * 4, Keys.ENTER)
    page.execute_script("document.getElementById('finish').focus()")
    page.switch_to.active_element.send_keys(Keys.ENTER)
    until(page, lambda: len(names(page)) == 3)
    apply(page, works)
    assert near(config(works).zones[-1].polygon, ((0.5, 0.5), (0.71, 0.5), (0.71, 0.7)))
    find(page, "add-zone").send_keys(Keys.ENTER)
    find(page, "canvas").send_keys(Keys.ENTER, Keys.ESCAPE)
    until(page, lambda: page.switch_to.active_element == find(page, "add-zone"))
    assert 3 == len(names(page))


def test_corners_are_moved_added_and_removed(page, works):
    """A corner follows mouse and arrows; between two a new one is pulled out; Delete removes it; a zone moves whole."""
    click(page, 0.9, 0.3)  # within the window
    until(page, lambda: len(all_of(page, ".corner")) == 4)
    first = all_of(page, ".corner")[0]
    assert "window, corner 1 of 4: 70 % from the left, 10 % from the top" in first.get_attribute("aria-label")
    drag(page, (0.7, 0.1), (0.65, 0.15))
    first.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    drag(page, (0.79, 0.125), (0.79, 0.085))
    until(page, lambda: len(all_of(page, ".corner")) == 5)
    all_of(page, ".corner")[4].send_keys(Keys.DELETE)
    until(page, lambda: len(all_of(page, ".corner")) == 4)
    apply(page, works)
    assert near(config(works).zones[1].polygon, ((0.63, 0.15), (0.79, 0.085), (0.95, 0.1), (0.95, 0.4)), 0.02)
    drag(page, (0.9, 0.3), (0.7, 0.5))
    apply(page, works)
    assert near(config(works).zones[1].polygon, ((0.43, 0.35), (0.59, 0.285), (0.75, 0.3), (0.75, 0.6)), 0.03)


def test_a_mask_is_drawn_with_a_finger(page, works, screen):
    """On a telephone, by touch; it is black on the picture, and what it costs is said."""
    screen(390, "light", 844)
    find(page, "add-mask").click()
    until(page, lambda: shown(page, "hint"))
    for corner in (*CORNERS, CORNERS[0]):
        x, y = place(page, *corner)
        point = {"x": x, "y": y}
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    until(page, lambda: len(all_of(page, "#mask-list li")) == 1)
    assert all_of(page, "#canvas polygon.mask")
    assert says(page, "difference", "privacy_masks")
    keep(page, "setup-mask-390")
    apply(page, works)
    assert near(config(works).camera.privacy_masks[0], CORNERS, 0.02)
    assert "learned anew" in text(page, "main")


def test_a_level_shows_what_would_fire(page, works):
    """The slider says at every place what the trigger would do now; the mark beneath it is where the reading is."""
    item = all_of(page, "#trigger-list li")[0]
    nearness = works.see()[0].nearest.nearness
    until(page, lambda: item.get_attribute("data-event") == "near")
    assert f"Now {nearness:.2f}: would fire" in item.text
    assert item.find_element(By.CLASS_NAME, "mark").is_displayed()
    slider = item.find_element(By.CSS_SELECTOR, "input[type=range]")
    slider.send_keys(Keys.END)
    until(page, lambda: item.get_attribute("data-event") in ("clear", "between"))
    assert "would fire" not in item.text
    keep(page, "setup-level")
    slider.send_keys(*[Keys.ARROW_LEFT] * 5)
    apply(page, works)
    assert 1.45 == pytest.approx(config(works).triggers[0].near)


def test_a_trigger_is_added_and_removed(page, works):
    """With a zone of its own; a zone that is renamed takes its triggers along."""
    find(page, "add-trigger").click()
    until(page, lambda: len(all_of(page, "#trigger-list li")) == 2)
    field = all_of(page, "#zone-list input")[1]
    field.clear()
    field.send_keys("gate")
    apply(page, works)
    assert ["visitor", "trigger-1"] == [trigger.name for trigger in config(works).triggers]
    assert ("gate", "nearness") == (config(works).triggers[1].zone, config(works).triggers[1].measure)
    all_of(page, "#trigger-list li .quiet")[0].click()
    apply(page, works)
    assert ["trigger-1"] == [trigger.name for trigger in config(works).triggers]


def test_metres_by_clicking_places(page, works):
    """Each place says what is read there; one is too few, two fit, three tell the error; exchanged ones say so."""
    for i, (y, metres) in enumerate(((0.95, "1"), (0.75, "1.6"), (0.5, "4"))):
        find(page, "add-point").click()
        click(page, 0.9, y)
        until(page, lambda count=i + 1: len(all_of(page, "#point-list li")) == count)
        page.switch_to.active_element.send_keys(metres)
        words = ("must be two or more", "Measure a third place", "Expected error:")[i]
        assert says(page, "fit", words)
    assert says(page, "point-list", "off by")
    assert "residual" in text(page, "fit")
    keep(page, "setup-metres")
    field = all_of(page, "#point-list input")[0]
    field.clear()
    field.send_keys("9")
    assert says(page, "fit", "are they exchanged?")
    assert not find(page, "apply").is_enabled()
    field.clear()
    field.send_keys("1")
    assert says(page, "fit", "Expected error:")
    apply(page, works)
    assert [1.0, 1.6, 4.0] == [point.metres for point in config(works).calibration.points]
    all_of(page, "nav a")[0].click()
    until(page, lambda: " m" in text(page, "nearest"))


def test_a_floor_gives_metres(page, works):
    """Height, tilt and the floor's corners, with the daemon's own fit."""
    all_of(page, "#floor summary")[0].click()
    all_of(page, "#floor-form button")[0].click()
    until(page, lambda: all_of(page, "#canvas polygon.floor"))
    until(page, lambda: text(page, "fit"))
    assert "calibration.floor" in text(page, "fit") or "residual" in text(page, "fit")
    assert says(page, "difference", "height_metres: 2")


def test_discard_and_undo(page, works):
    """Discard brings back what is in force; undo what was in force before the last change."""
    all_of(page, "#zone-list .quiet")[1].click()
    until(page, lambda: names(page) == ["door"] and find(page, "discard").is_enabled())
    find(page, "discard").click()
    until(page, lambda: names(page) == ["door", "window"])
    assert not find(page, "undo").is_enabled()
    all_of(page, "#zone-list .quiet")[1].click()
    apply(page, works)
    assert 1 == len(config(works).zones)
    until(page, lambda: find(page, "undo").is_enabled())
    find(page, "undo").click()
    until(page, lambda: names(page) == ["door", "window"])
    assert 2 == len(config(works).zones)


def test_problems_are_told_where_they_are_made(page, works):
    """What the daemon would refuse can't be applied, and why is said in its words."""
    field = all_of(page, "#zone-list input")[1]
    field.clear()
    field.send_keys("The window")
    assert says(page, "problems", "zones.1.name: must be lower-case letters, digits and single hyphens")
    assert not find(page, "apply").is_enabled()
    assert 1 == works.applied


def test_somebody_elses_change_is_not_overwritten(page, works, board):
    """It is told, and Discard loads it."""
    all_of(page, "#trigger-list .quiet")[0].click()
    until(page, lambda: find(page, "apply").is_enabled())
    works.overlay.set_all({"triggers": [], "zones": []})
    board.put(info=INFO | {"config_hash": "somebody else's"})
    assert says(page, "setup-state", "changed by somebody else")
    find(page, "apply").click()
    assert says(page, "setup-state", "changed by somebody else in the meantime")
    find(page, "discard").click()
    until(page, lambda: names(page) == [])


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (360, "light")])
def test_setting_up_fits_the_screen(visit, screen, width, scheme):
    """Nothing sticks out sideways, and nobody is shut out; while drawing too."""
    screen(width, scheme)
    page = visit("setup")
    until(page, lambda: len(all_of(page, "#zone-list li")) == 2 and shown(page, "picture"))
    all_of(page, "#zone-list input")[0].click()
    until(page, lambda: len(all_of(page, ".corner")) == 4)
    keep(page, f"setup-{width}-{scheme}")
    assert page.execute_script("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert [] == serious(page)
    page.execute_script("document.getElementById('add-zone').click()")
    until(page, lambda: shown(page, "drawing"))
    click(page, 0.2, 0.2)
    click(page, 0.4, 0.2)
    keep(page, f"drawing-{width}-{scheme}")
    assert [] == serious(page)


def test_what_shuts_people_out_is_noticed(page):
    """axe-core does not pass because it looks at nothing."""
    page.execute_script("document.getElementById('picture').removeAttribute('alt')")
    assert ["image-alt"] == [rule for rule, *_ in serious(page)]


def test_logging_in(chromium, board, works):
    """Beyond loopback the page asks for the token once; a wrong one is told."""
    token = "0123456789abcdef-token"
    with serving(board, counter=Counter(works, board), token=token) as server:
        chromium.get(server.url)
        until(chromium, lambda: chromium.current_url.endswith("/login"))
        keep(chromium, "log-in")
        assert [] == serious(chromium)
        find(chromium, "token").send_keys("wrong", Keys.ENTER)
        until(chromium, lambda: "This is not the token." in chromium.page_source)
        find(chromium, "token").send_keys(token, Keys.ENTER)
        assert says(chromium, "state", "Live")
        chromium.get(f"{server.url}#setup")
        until(chromium, lambda: len(all_of(chromium, "#zone-list li")) == 2)
        all_of(chromium, "#zone-list .quiet")[1].click()
        apply(chromium, works)
        chromium.get("about:blank")


def test_what_is_in_doubt_is_told_and_confirmed(works, visit, board):
    """The reason stands in place of the picture; in Set up it is confirmed, and the picture is back."""
    drawn = {"camera": "usb one", "size": [640, 480], "rotate": 0, "flip": "none"}
    works.overlay.look(drawn)
    works.overlay.replace({"camera.privacy_masks": [[[0.0, 0.0], [0.2, 0.0], [0.2, 0.2]]]})
    works.overlay.look(drawn | {"rotate": 180})
    Counter(works, board).tell()
    opened = visit("live")
    reason = "drawn for another view (camera.rotate was 0 and is 180)"
    until(opened, lambda: reason in text(opened, "doubt-list") and reason in text(opened, "no-picture"))
    assert not shown(opened, "picture")
    assert not shown(opened, "confirm")
    opened.execute_script("location.hash = 'setup'")
    until(opened, lambda: shown(opened, "confirm"))
    find(opened, "confirm").click()
    until(opened, lambda: shown(opened, "picture"))
    assert not shown(opened, "doubts")
    assert works.overlay.withheld is None
