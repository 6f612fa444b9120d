"""The draft of a set-up, in a real Chromium: nothing of it is lost, and what the forms show is what it says."""

import threading
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.browser import all_of, errors, find, keep, says, shown, text, until
from tests.page_rig import INFO, MadeBoard, Works, serving
from tests.test_page_setup import Counter, apply, click, config, names, near


class SlowCounter(Counter):
    """Obeys; what a change would do is said when a test lets it, and how often that was asked is counted."""

    def __init__(self, works, board):
        self.asked = 0
        self.go = threading.Event()
        self.go.set()
        super().__init__(works, board)

    def ask(self, command, arguments):
        if command == "propose":
            self.asked += 1
            self.go.wait(30)
        return super().ask(command, arguments)


@pytest.fixture
def works(tmp_path):
    """A room with a visitor in it."""
    return Works(tmp_path)


@pytest.fixture
def counter(works, board):
    """Where the page's commands are taken."""
    made = SlowCounter(works, board)
    yield made
    made.go.set()


@pytest.fixture
def server(board, counter):
    """The page on which it can be set up."""
    with serving(board, counter=counter) as running:
        yield running


@pytest.fixture
def page(visit):
    """The part of the page where things are set up, filled in."""
    return filled(visit("setup"))


def filled(page):
    until(page, lambda: len(all_of(page, "#zone-list li")) == 2 and shown(page, "picture"))
    return page


def retype(field, words):
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(words or Keys.DELETE)


def zone_of_trigger(page):
    """Return the choice of what the first trigger watches."""
    return Select(all_of(page, "#trigger-list select")[1])


def test_a_name_takes_no_other_zones_triggers(page, works):
    """While it is typed it may be another zone's for a moment; that one's triggers stay where they are."""
    retype(all_of(page, "#zone-list input")[1], "door-left")
    assert "door" == zone_of_trigger(page).first_selected_option.text
    apply(page, works)
    assert ["door", "door-left"] == [zone.name for zone in config(works).zones]
    assert "door" == config(works).triggers[0].zone


def test_a_trigger_whose_zone_is_removed_can_be_mended(page, works):
    """It shows what it has lost, as the problem says; any other choice mends it, the whole picture too."""
    all_of(page, "#zone-list .quiet")[0].click()
    assert says(page, "problems", "triggers: name zones that do not exist: door")
    assert "door (removed)" == zone_of_trigger(page).first_selected_option.text
    assert "would fire" not in text(page, "trigger-list")
    page.execute_script("document.getElementById('set-triggers').scrollIntoView()")
    keep(page, "setup-removed")
    zone_of_trigger(page).select_by_visible_text("the whole picture")
    until(page, lambda: text(page, "problems") == "")
    apply(page, works)
    assert config(works).triggers[0].zone is None


def test_a_zone_drawn_anew_has_the_triggers_of_its_name(page, works):
    """Who removes a zone and gives another one its name sees the trigger there, as the daemon does."""
    all_of(page, "#zone-list .quiet")[0].click()
    retype(all_of(page, "#zone-list input")[0], "door")
    assert "door" == zone_of_trigger(page).first_selected_option.text
    apply(page, works)
    assert (("door",), "door") == (tuple(zone.name for zone in config(works).zones), config(works).triggers[0].zone)


def test_every_number_is_taken(page, works):
    """What a field shows is what is proposed, and the daemon says what it may be."""
    level, clear = all_of(page, "#trigger-list [type=number]")
    for words, problem in (("0", "must be 0.01..200, not 0"), ("300", "not 300"), ("", "must be a number")):
        retype(level, words)
        assert says(page, "problems", "triggers.0.near")
        assert says(page, "problems", problem)
        assert not find(page, "apply").is_enabled()
    retype(level, "0.5")
    retype(clear, "0.4")
    find(page, "add-point").click()
    click(page, 0.9, 0.9)
    until(page, lambda: len(all_of(page, "#point-list li")) == 1)
    field = all_of(page, "#point-list input")[0]
    retype(field, "0")
    assert says(page, "problems", "calibration.points.0.metres: must be 0.1..200, not 0")
    retype(field, "")
    until(page, lambda: find(page, "apply").is_enabled())
    find(page, "apply").click()
    assert says(page, "setup-state", "Type the metres to place 1, or remove it, before you apply.")
    assert (1, field) == (works.applied, page.switch_to.active_element)
    all_of(page, "#point-list .quiet")[0].click()
    apply(page, works)
    assert (0.5, 0.4) == (config(works).triggers[0].near, config(works).triggers[0].clear)


@pytest.mark.parametrize("draft", ["a problem", "no answer yet", "a place without metres"])
def test_a_draft_outlives_somebody_elses_change(page, works, board, counter, draft):
    """Whether or not the daemon could say what it would do; Discard loads what was changed meanwhile."""
    if draft == "a place without metres":
        find(page, "add-point").click()
        click(page, 0.9, 0.9)
        until(page, lambda: len(all_of(page, "#point-list li")) == 1)
        asked = counter.asked
        until(page, lambda: counter.asked > asked + 2)  # so that the page knows that nothing would change
        counter.go.clear()
    else:
        if draft == "no answer yet":
            counter.go.clear()
        retype(all_of(page, "#zone-list input")[1], "Front door")
        if draft == "a problem":
            assert says(page, "problems", "zones.1.name: must be")
    works.overlay.set_all({"triggers": []})
    board.put(info=INFO | {"config_hash": "somebody else's"})
    assert says(page, "setup-state", "The settings were changed by somebody else; Discard loads them.")
    assert ["door", "window" if draft == "a place without metres" else "Front door"] == names(page)
    assert (1, not find(page, "undo").is_enabled()) == (len(all_of(page, "#trigger-list li")), True)
    find(page, "discard").click()
    until(page, lambda: not all_of(page, "#trigger-list li, #point-list li") and names(page) == ["door", "window"])
    counter.go.set()
    until(page, lambda: not find(page, "discard").is_enabled())


def test_undo_is_of_what_was_applied(page, works):
    """While there is a draft it can't be pressed: it would throw that away, and what is in force too."""
    undo = find(page, "undo")
    assert "Undo the last Apply" == undo.text
    retype(all_of(page, "#zone-list input")[1], "gate")
    apply(page, works)
    until(page, undo.is_enabled)
    retype(all_of(page, "#zone-list input")[1], "porch")
    until(page, lambda: not undo.is_enabled())
    page.execute_script("document.getElementById('apply').scrollIntoView({ block: 'end' })")
    keep(page, "setup-undo")
    retype(all_of(page, "#zone-list input")[1], "gate")
    until(page, undo.is_enabled)
    undo.click()
    until(page, lambda: names(page) == ["door", "window"])


def test_an_open_page_outlives_a_restart_of_the_daemon(chromium, board, works):
    """Without a token every run of it wants another proof; the page gets it, and the draft can be applied."""
    with serving(board, counter=Counter(works, board)) as server:
        address = urlsplit(server.url).netloc
        chromium.get(f"{server.url}#setup")
        field = all_of(filled(chromium), "#zone-list input")[1]
        before = chromium.execute_script("return document.body.dataset.proof")
        retype(field, "gate")
        assert says(chromium, "difference", "gate")
    assert says(chromium, "setup-state", "The daemon does not answer.")
    again = MadeBoard()
    with serving(again, counter=Counter(works, again), listen=address):
        until(chromium, lambda: text(chromium, "setup-state") == "" and "Live" in text(chromium, "state"))
        assert before != chromium.execute_script("return document.body.dataset.proof")
        assert ["door", "gate"] == names(chromium)
        apply(chromium, works)
        assert "gate" == config(works).zones[1].name
        find(chromium, "relearn").click()
        assert says(chromium, "setup-state", "learned anew")
        errors(chromium)
        chromium.get("about:blank")


# What is not finished

FOUR = ((0.1, 0.5), (0.3, 0.5), (0.3, 0.9), (0.1, 0.9))


def draw(page, kind, corners):
    """Begin a shape and set corners of it with the mouse."""
    find(page, f"add-{kind}").click()
    until(page, lambda: shown(page, "drawing"))
    for corner in corners:
        click(page, *corner)
    until(page, lambda: len(all_of(page, ".handles .dot")) == len(corners))


@pytest.mark.parametrize("kind", ["mask", "zone"])
def test_apply_finishes_what_is_drawn(page, works, kind):
    """Nobody believes to have hidden something that is not: a shape need not be closed before."""
    draw(page, kind, FOUR)
    keep(page, f"setup-open-{kind}")
    apply(page, works)
    masks, zones = config(works).camera.privacy_masks, config(works).zones
    assert ((1, 2) if kind == "mask" else (0, 3)) == (len(masks), len(zones))
    assert near(masks[0] if masks else zones[-1].polygon, FOUR)
    assert not shown(page, "drawing")
    assert [] == errors(page)


def test_apply_does_not_drop_what_is_no_shape_yet(page, works):
    """With two corners it says that the shape has to be finished or discarded, and nothing else is applied either."""
    retype(all_of(page, "#zone-list input")[1], "gate")
    draw(page, "mask", FOUR[:2])
    until(page, lambda: find(page, "apply").is_enabled())
    find(page, "apply").click()
    assert says(page, "setup-state", "Finish the shape, or discard it, before you apply: it needs three corners")
    assert (1, 2, True) == (works.applied, len(all_of(page, ".handles .dot")), shown(page, "drawing"))
    click(page, *FOUR[2])
    apply(page, works)
    assert near(config(works).camera.privacy_masks[0], FOUR[:3])
    assert "gate" == config(works).zones[1].name
    draw(page, "mask", FOUR[:2])
    find(page, "discard").click()
    until(page, lambda: not shown(page, "drawing") and not find(page, "discard").is_enabled())
    assert 1 == len(all_of(page, "#mask-list li"))


def test_enter_finishes_a_shape(page):
    """After the last corner was set, by mouse or keys; with too few corners it says so, and sets none."""
    draw(page, "mask", FOUR[:2])
    canvas = find(page, "canvas")
    canvas.send_keys(Keys.ENTER)
    assert says(page, "hint", "three corners at least")
    canvas.send_keys(Keys.ARROW_DOWN, Keys.ENTER)
    assert says(page, "hint", "3 corners; Enter or Finish makes them a shape")
    canvas.send_keys(Keys.ENTER)
    until(page, lambda: len(all_of(page, "#mask-list li")) == 1 and not shown(page, "drawing"))


def test_a_shape_that_is_begun_does_not_drop_another(page):
    """One with three corners is taken; one with fewer stays open until it is finished or cancelled."""
    draw(page, "mask", FOUR)
    find(page, "add-zone").click()
    until(page, lambda: len(all_of(page, "#mask-list li")) == 1 and shown(page, "drawing"))
    assert [] == all_of(page, ".handles .dot")
    click(page, *FOUR[0])
    find(page, "add-point").click()
    assert says(page, "hint", "three corners at least")
    assert 1 == len(all_of(page, ".handles .dot"))


def test_leaving_asks(page, works):
    """Whoever goes to another part of the page, or closes it, is told that something is not finished or not applied."""
    leaves = "const e = new Event('beforeunload', { cancelable: true }); return !window.dispatchEvent(e)"
    assert not page.execute_script(leaves)
    live = all_of(page, "nav a")[0]
    draw(page, "mask", FOUR)
    assert page.execute_script(leaves)
    live.click()
    assert "A shape is not finished: it would be dropped." in page.switch_to.alert.text
    page.switch_to.alert.dismiss()
    until(page, lambda: page.current_url.endswith("#setup") and shown(page, "canvas"))
    assert 4 == len(all_of(page, ".handles .dot"))
    find(page, "finish").click()
    live.click()
    assert "The changes are not applied." in page.switch_to.alert.text
    page.switch_to.alert.accept()
    until(page, lambda: shown(page, "nearest"))
    all_of(page, "nav a")[2].click()
    until(page, lambda: len(all_of(page, "#mask-list li")) == 1)
    apply(page, works)
    assert not page.execute_script(leaves)
    live.click()
    until(page, lambda: shown(page, "nearest"))


def test_a_number_that_is_none_yet_is_not_taken_for_nothing(page, works):
    """A field that holds a beginning of a number counts as empty in a browser; here it does not."""
    retype(all_of(page, "#zone-list input")[1], "gate")
    clear = all_of(page, "#trigger-list [type=number]")[1]
    retype(clear, "1e")
    until(page, lambda: find(page, "apply").is_enabled())
    find(page, "apply").click()
    assert says(page, "setup-state", "A number is not finished")
    assert (1, clear) == (works.applied, page.switch_to.active_element)
    retype(clear, "0.7")
    apply(page, works)
    assert 0.7 == config(works).triggers[0].clear
