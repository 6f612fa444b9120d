"""The command calibrate: from places measured with a tape to the section to paste, with the real network."""

import contextlib
import io
import stat
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import cv2
import numpy as np
import pytest
import yaml

from edge.cli import main
from edge.config import ModelSection, load, parse
from edge.daemon.overlay import Overlay
from edge.depth.model import load_model
from edge.pictures import read_picture
from edge.records import Frame
from edge.state.stores import OverlayStore

A, B = 0.7, 0.15  # of the line that the made distances lie on
SIZE = 64  # what the network sees here, in pixels: quick


@dataclass
class Rig:
    """A camera that shows one photograph for ever, and its true nearness as the network sees it."""

    folder: str
    config: str
    nearness: np.ndarray

    def metres(self, x: float, y: float) -> float:
        """Return a made distance, on the line, of what is seen at x, y."""
        rows, columns = self.nearness.shape
        row, column = int(y * rows), int(x * columns)
        window = self.nearness[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
        return round(float(1 / (A * np.median(window) + B)), 4)

    def places(self, *places: tuple[float, float]) -> list[dict[str, float]]:
        return [{"x": x, "y": y, "metres": self.metres(x, y)} for x, y in places]


PLACES = ((0.5, 0.95), (0.9, 0.6), (0.3, 0.2), (0.6, 0.5))


@pytest.fixture(scope="module")
def rig(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("camera")
    (folder / "one.jpg").write_bytes((photos / "corridor.jpg").read_bytes())
    frame = Frame(
        sequence=1,
        captured_at=time.monotonic(),
        wall_time=datetime.now(UTC),
        pixels=read_picture(folder / "one.jpg"),
    )
    d = load_model(ModelSection(input_size=SIZE, threads=1)).estimate(frame).inverse_depth
    low, high = np.percentile(d, (2, 98))
    config = tmp_path_factory.mktemp("configuration") / "c.yaml"
    config.write_text(configuration(str(folder)))
    return Rig(folder=str(folder), config=str(config), nearness=(d - low) / (high - low))


def configuration(source: str, mode: str = "still") -> str:
    return yaml.safe_dump(
        {
            "camera": {"source": source, "fps": 30},
            "model": {"input_size": SIZE, "threads": 1},
            "scene": {"learn_seconds": 1, "mode": mode},
            "calibration": {"max_metres": 50.0},
        }
    )


def fit_in(printed: str) -> tuple[float, float]:
    """Return a and b of the line that was printed."""
    words = printed.splitlines()[0].split()
    assert ["#", "1/Z", "="] == words[:3]
    return float(words[3]), float(words[6].rstrip(","))


@pytest.fixture(scope="module")
def report(rig, tmp_path_factory):
    """What is printed for four points of a file."""
    path = tmp_path_factory.mktemp("points") / "points.yaml"
    path.write_text(yaml.safe_dump(rig.places(*PLACES)))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert 0 == main(["calibrate", "--config", rig.config, "--points", str(path)])
    return printed.getvalue()


def test_points_of_a_file_become_the_section_to_paste(rig, report):
    """The line that the distances lie on is found; what is printed is a valid configuration with those very points."""
    assert (A, B) == pytest.approx(fit_in(report), abs=0.02)
    section = parse(report.encode(), "printed").calibration
    assert rig.places(*PLACES) == [point.model_dump() for point in section.points]
    assert (None, 50.0) == (section.floor, section.max_metres)


def test_every_point_has_its_row_and_the_errors_are_told(rig, report):
    """Given, read and their difference for each point, the residual, and the expected error at 1, 2 and 4 m."""
    lines = report.splitlines()
    header = lines.index("#     x      y  metres    read  difference")
    for (x, y), line in zip(PLACES, lines[header + 1 :], strict=False):
        row = [float(word) for word in line[1:].split()]
        assert [x, y, pytest.approx(rig.metres(x, y), abs=0.01)] == row[:3]
        assert row[4] == pytest.approx(row[3] - row[2], abs=0.011)
    assert "# residual " in report
    for metres in (1, 2, 4):
        assert f" m at {metres} m" in report


def test_places_are_asked_for_on_a_terminal(rig, tmp_path, capsys, monkeypatch):
    """Lines `x y metres` until an empty one; what can't be read is told and asked for again; stdout stays clean."""
    typed = [f"{place['x']}, {place['y']} {place['metres']}" for place in rig.places(*PLACES[:3])]
    typed[1:1] = ["somewhere", "0.5 7 1.0"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(typed) + "\n\n0.5 0.5 9\n"))
    snapshot = tmp_path / "look.jpg"
    assert 0 == main(["calibrate", "--config", rig.config, "--snapshot", str(snapshot)])
    printed = capsys.readouterr()
    assert 3 == len(parse(printed.out.encode(), "printed").calibration.points)
    assert (A, B) == pytest.approx(fit_in(printed.out), abs=0.02)
    assert f"{snapshot} shows the picture" in printed.err
    assert "must be three numbers: x y metres" in printed.err
    assert "\nplace 2: calibration.points.0.y: must be 0..1, not 7.0\n" in printed.err.replace("\r", "")


def test_the_snapshot_is_for_this_user_and_has_a_grid(rig, tmp_path, capsys, monkeypatch):
    """The picture beside its depth, white lines at the tenths of both, nobody else may read it; no place is refused."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    snapshot = tmp_path / "look.jpg"
    assert 78 == main(["calibrate", "--config", rig.config, "--snapshot", str(snapshot)])
    assert "calibration.points: none given" in capsys.readouterr().err
    assert 0o600 == stat.S_IMODE(snapshot.stat().st_mode)
    picture = cv2.imread(str(snapshot))
    assert (600, 1600) == picture.shape[:2]
    photograph = cv2.resize(read_picture(f"{rig.folder}/one.jpg"), (800, 600))[..., ::-1]
    assert np.abs(picture[65:115, 85:155].astype(float) - photograph[65:115, 85:155]).mean() < 6
    for half in (picture[:, :800], picture[:, 800:]):
        assert half[100:500, 400].mean() > 220
        assert half[300, 100:700].mean() > 220


def test_masks_that_were_drawn_on_the_page_hold(rig, tmp_path, state_directory, monkeypatch):
    """What was set is in force here too: the picture to point at shows nothing of the masked half."""
    path = tmp_path / "c.yaml"
    path.write_text("id: hall\n" + configuration(rig.folder))
    overlay = Overlay(load(path), OverlayStore(state_directory / "overlay.json"))
    assert overlay.replace({"camera.privacy_masks": [[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]})
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    snapshot = tmp_path / "look.jpg"
    assert 78 == main(["calibrate", "--config", str(path), "--snapshot", str(snapshot)])  # no point was typed
    picture = cv2.imread(str(snapshot))[:, :800]
    between_grid_lines = picture[130:170, [100, 200, 300]]
    assert between_grid_lines.max() < 20 < picture[130:170, [500, 600, 700]].max()


def test_two_points_have_no_error_to_tell(rig, tmp_path, capsys):
    """Two points are enough for the line; the errors are said to be unknown."""
    path = tmp_path / "points.yaml"
    path.write_text(yaml.safe_dump(rig.places(*PLACES[1:3])))
    assert 0 == main(["calibrate", "--config", rig.config, "--points", str(path)])
    printed = capsys.readouterr().out
    assert "not known from two points: measure a third" in printed
    assert (A, B) == pytest.approx(fit_in(printed), abs=0.02)


def test_exchanged_points_end_with_78(rig, tmp_path, capsys):
    """A fit that is refused tells the two points that it is about, and prints nothing to paste."""
    first, second = rig.places(*PLACES[1:3])
    first["metres"], second["metres"] = second["metres"], first["metres"]
    path = tmp_path / "points.yaml"
    path.write_text(yaml.safe_dump([first, second]))
    assert 78 == main(["calibrate", "--config", rig.config, "--points", str(path)])
    printed = capsys.readouterr()
    assert "are they exchanged?" in printed.err
    assert "(0.3, 0.2)" in printed.err
    assert "" == printed.out


def test_a_floor_is_fitted_to_its_polygon(rig, tmp_path, capsys, monkeypatch):
    """Height, tilt and polygon from the command line are in the section; the network is given a true floor to see."""
    rows = np.linspace(0, 1, 96)[:, None].repeat(128, 1)
    true = np.maximum(0.1, (np.tan(np.radians(30)) * 0.75 * (2 * rows - 1) * np.cos(0.5) + np.sin(0.5)) / 1.5)
    monkeypatch.setattr(
        "edge.depth.engines.pytorch.TorchEngine.run", lambda self, x: (300 * true + 7).astype(np.float32)
    )
    low, high = np.percentile(true, (2, 98))
    arguments = ["--fov", "60", "--floor", f"1.5,{np.degrees(0.5)}", "--polygon", "0,0.4", "1,0.4", "1,1", "0,1"]
    assert 0 == main(["calibrate", "--config", rig.config, *arguments])
    printed = capsys.readouterr().out
    assert (high - low, low) == pytest.approx(fit_in(printed), abs=0.01)
    assert "needs scene.horizontal_fov_deg: 60" in printed
    with_view = printed.encode() + b"scene: {horizontal_fov_deg: 60}\n"
    floor = parse(with_view, "printed").calibration.floor
    assert (1.5, ((0, 0.4), (1, 0.4), (1, 1), (0, 1))) == (floor.height_metres, floor.polygon)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--floor", "1.2,20"], "calibration.floor.polygon: is missing"),
        (["--polygon", "0,0", "1,0", "1,1"], "calibration.floor.height_metres: is missing"),
        (["--floor", "1.2,95", "--polygon", "0,0", "1,0", "1,1", "--fov", "60"], "tilt_deg: must be -30..89, not 95.0"),
        (["--floor", "1.2,20", "--polygon", "0,0", "1,0", "1,1"], "floor needs scene.horizontal_fov_deg too"),
        (["--fov", "200"], "scene.horizontal_fov_deg: must be 10..179, not 200.0"),
        (["--points", "nowhere.yaml"], "nowhere.yaml: can't be read"),
    ],
)
def test_arguments_that_can_not_be_are_told_at_once(rig, capsys, arguments, words):
    """Before the camera is opened, with 78 and the key that is wrong."""
    assert 78 == main(["calibrate", "--config", rig.config, *arguments])
    told = capsys.readouterr().err
    assert words in told
    assert "learning" not in told


@pytest.mark.parametrize("given", [["--floor", "high"], ["--polygon", "0.1"], []])
def test_arguments_that_can_not_be_read_end_with_2(rig, capsys, given):
    """A floor or a corner that is not two numbers, or no camera at all, is a wrong call."""
    with pytest.raises(SystemExit) as caught:
        main(["calibrate", *(["--config", rig.config] if given else []), *given])
    assert 2 == caught.value.code
    assert "required" in capsys.readouterr().err if not given else "must be two numbers" in capsys.readouterr().err


def test_a_points_file_is_told_line_by_line(rig, tmp_path, capsys):
    """Every problem of the file at once, each with its line, as in a configuration."""
    path = tmp_path / "points.yaml"
    path.write_text("- {x: 0.5, y: 0.9, metres: 1.2}\n- {x: 0.5, y: 1.7, metre: 2}\n- {x: 0, y: 0, metres: far}\n")
    assert 78 == main(["calibrate", "--config", rig.config, "--points", str(path)])
    lines = capsys.readouterr().err.splitlines()
    assert f"{path}:2: calibration.points.1.metre: unknown key; did you mean 'metres'?" in lines
    assert f"{path}:2: calibration.points.1.y: must be 0..1, not 1.7" in lines
    assert f"{path}:3: calibration.points.2.metres: must be a number, not 'far'" in lines


@pytest.mark.parametrize("text", ["", "[]", "# nothing yet"])
def test_a_points_file_without_points_is_refused(rig, tmp_path, capsys, text):
    """An empty list does not fall back to asking."""
    path = tmp_path / "points.yaml"
    path.write_text(text)
    assert 78 == main(["calibrate", "--config", rig.config, "--points", str(path)])
    assert f"{path}: holds no point" in capsys.readouterr().err


def test_a_moving_camera_is_refused(tmp_path, rig, capsys):
    """A camera that moves has no background to fit metres to."""
    path = tmp_path / "c.yaml"
    path.write_text(configuration(rig.folder, mode="moving"))
    assert 78 == main(["calibrate", "--config", str(path)])
    assert "scene.mode: must be still" in capsys.readouterr().err


def test_a_camera_that_is_not_there_ends_with_69(capsys):
    """The reason is told, and that the daemon holds the camera where it runs."""
    assert 69 == main(["calibrate", "--camera", "/dev/video99"])
    told = capsys.readouterr().err
    assert "/dev/video99: can't be opened" in told
    assert "sudo systemctl stop edge-depth" in told


def test_darkness_is_not_learned(tmp_path, capsys):
    """A camera that sees nothing ends with 69 and says so, after a while."""
    folder = tmp_path / "dark"
    folder.mkdir()
    cv2.imwrite(str(folder / "black.png"), np.zeros((48, 64, 3), np.uint8))
    path = tmp_path / "c.yaml"
    path.write_text(configuration(str(folder)))
    assert 69 == main(["calibrate", "--config", str(path)])
    assert "could not be learned: nothing can be seen" in capsys.readouterr().err


def test_a_snapshot_that_can_not_be_written_is_told(rig, tmp_path, capsys):
    """A folder that is not there: 78, the path and what to do."""
    target = tmp_path / "no" / "look.jpg"
    assert 78 == main(["calibrate", "--config", rig.config, "--snapshot", str(target)])
    assert f"--snapshot: can't write {target}" in capsys.readouterr().err
