"""Every engine says the same; their files are made, verified, kept, damaged and refused."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from safetensors.numpy import save_file

from edge import doctor
from edge.cli import main
from edge.config import ModelSection, load
from edge.daemon.overlay import Overlay
from edge.depth import export
from edge.depth.engines import FILES, INT8, NAMES, chosen, folder_of, make_engine, remember
from edge.depth.engines.onnx import OnnxEngine, onnx_runtime
from edge.depth.export.engines import simplify
from edge.depth.export.quantise import RUNGS, Quantiser
from edge.depth.export.samples import kept
from edge.depth.model import load_model, network_pixels
from edge.depth.weights import STARTER, identify, read
from edge.errors import EngineError
from edge.evaluation import agreement
from edge.pictures import read_picture
from edge.state.stores import OverlayStore
from edge.system.machine import has_int8_dot_product
from tests import parity
from tests.broker import eventually

ROOT = Path(__file__).parents[1]
AVX2 = "model name\t: Made-up CPU\nflags\t\t: fpu sse4_2 avx avx2\n"
VNNI = "model name\t: Made-up CPU\nflags\t\t: fpu sse4_2 avx avx2 avx_vnni\n"
FILED = tuple(name for name in NAMES if name != "torch")


@pytest.fixture
def files(exported, state_directory, monkeypatch):
    """The engine files, to be read, on a processor as they are made for."""
    become(monkeypatch, state_directory.parent, AVX2)
    state_directory.mkdir()
    (state_directory / "engines").symlink_to(exported / "engines")
    return folder_of(info())


@pytest.fixture
def own(exported, state_directory, monkeypatch):
    """A copy of the engine files, to be changed, on a processor as they are made for."""
    become(monkeypatch, state_directory.parent, AVX2)
    shutil.copytree(exported, state_directory)
    return folder_of(info())


def become(monkeypatch, folder, text):
    """Let this process take its processor for another one, by what /proc/cpuinfo would hold."""
    (folder / "cpuinfo").write_text(text)
    monkeypatch.setattr("edge.system.machine._CPUINFO", folder / "cpuinfo")


def info():
    return identify(STARTER.name)


def section(**values):
    return ModelSection(weights=STARTER.name, threads=1, **values)


def python(script):
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=100
    ).stdout.split()


# ------------------------------------------------------------------------------------------- the contract of an engine


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_says_what_the_plain_network_says(files, photos, name):
    """At several sizes: float engines to 1e-4 of the range, int8 as far as the accuracy rule allows."""
    plain, engine = make_engine("plain", section(), info()), make_engine(name, section(), info())
    assert (name, 1) == (engine.name, engine.threads)
    inputs = [network_pixels(read_picture(photos / photo)) for photo in ("stairs.jpg", "coffee.jpg", "selfie.jpg")]
    inputs.append(np.ascontiguousarray(inputs[0].transpose(1, 0, 2)))
    expected, results = [plain.run(pixels) for pixels in inputs], [engine.run(pixels) for pixels in inputs]
    assert {np.dtype(np.float32)} == {result.dtype for result in results}
    assert [pixels.shape[:2] for pixels in inputs] == [result.shape for result in results]
    if name == "onnxruntime-int8":
        assert agreement(results, expected).residual < 0.03  # these pictures are not all of those that it was made by
    else:
        for want, result in zip(expected, results, strict=True):
            assert np.abs(want - result).max() <= 1e-4 * np.ptp(want)


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_keeps_its_hands_off_its_input_and_its_last_output(files, name):
    """What was put in and what came out before stay as they are while the next frame is run."""
    engine = make_engine(name, section(), info())
    pixels = parity.picture(64, 96).astype(np.float32)
    before = pixels.copy()
    first = engine.run(pixels)
    kept = first.copy()
    engine.run(255 - pixels)
    assert np.array_equal(before, pixels)
    assert np.array_equal(kept, first)


@pytest.mark.parametrize("name", NAMES)
def test_a_processor_that_is_not_there_is_told_by_every_engine(files, name):
    """model.cpus with a processor that this process can't have names it."""
    with pytest.raises(EngineError, match=r"model\.cpus: \[1023\] can't be used"):
        make_engine(name, section(cpus=(1023,)), info())


@pytest.mark.parametrize(("name", "absent"), [("onnxruntime-int8", "torch"), ("torchscript", "timm")])
def test_an_engine_does_not_load_what_it_does_not_need(files, name, absent):
    """A daemon on ONNX Runtime never pays for torch, one on TorchScript never for timm."""
    loaded = python(
        "import sys, numpy as np\nfrom edge.config import ModelSection\nfrom edge.depth.model import load_model\n"
        f"model = load_model(ModelSection(weights={STARTER.name!r}, engine={name!r}))\nmodel.warm_up(64, 64)\n"
        "print(*(name for name in ('torch', 'timm', 'torchvision', 'onnx') if name in sys.modules))"
    )
    assert absent not in loaded
    assert "onnx" not in loaded


# ------------------------------------------------------------------------------------------------------------ the files


def test_every_engine_file_is_accepted_and_described(files):
    """The record holds each engine's verdict, its figures and the versions that made it."""
    record = files.record()
    assert set(FILED) == set(record.engines)
    assert all(each.accepted for each in record.engines.values())
    assert record.engines["onnxruntime"].residual < 1e-4
    assert record.engines["onnxruntime-int8"].note
    assert not record.int8_dot_product
    assert "photographs" == record.calibration
    assert "torch" in record.made_by


def test_int8_is_smaller(files):
    """The int8 file has less than half the bytes of the float one."""
    assert files.path("onnxruntime-int8").stat().st_size < 0.5 * files.path("onnxruntime").stat().st_size


def test_what_is_there_is_not_made_again(files, capsys):
    """A second export says so and touches nothing."""
    before = files.path("onnxruntime").stat().st_mtime_ns
    assert 0 == main(["export", "--weights", STARTER.name])
    assert "is there already; --again" in capsys.readouterr().err
    assert before == files.path("onnxruntime").stat().st_mtime_ns


@pytest.mark.parametrize("name", FILED)
def test_an_engine_without_a_file_says_what_makes_one(name, capsys):
    """Without engine files the error names the command; predict ends with it."""
    with pytest.raises(EngineError, match=f"{name} has no file for these weights; run `edge-depth export`"):
        make_engine(name, section(), info())


@pytest.mark.parametrize("name", FILED)
def test_a_changed_file_is_not_run(own, name):
    """One flipped bit and the file is refused before anything reads it."""
    path = own.path(name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(EngineError, match="missing or damaged; run `edge-depth export --again`"):
        make_engine(name, section(), info())


@pytest.mark.parametrize("text", ["", "[]", "{", '{"revision": 1}', '{"revision": 1, "engines": {"torchscript": 3}}'])
def test_a_damaged_record_is_told(own, text):
    """Whatever stands in the record, the error names the file and the command that helps."""
    (own.folder / "manifest.json").write_text(text)
    with pytest.raises(EngineError, match=r"manifest\.json: .*run `edge-depth export --again`"):
        own.path("onnxruntime")


def test_a_record_of_another_revision_is_none(own):
    """Files that were made in another way are not used."""
    path = own.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"revision": 0}))
    assert own.record() is None


def test_an_export_that_fails_leaves_what_was_there(own, monkeypatch):
    """A full disk in the middle is told; the old files are whole and the unfinished ones gone."""

    def full(folder, *_, **__):
        (folder / "unfinished").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.depth.export.engines._make", full)
    with pytest.raises(EngineError, match="can't be written: No space left on device"):
        export.export(section(), info(), few_samples(), "photographs", print, again=True)
    assert own.path("onnxruntime-int8").exists()
    assert [] == [path.name for path in own.folder.parent.iterdir() if path.name.startswith(".making")]


def test_an_export_that_is_stopped_leaves_what_was_there(own):
    """SIGTERM ends it at once; the old files are whole, and the next export takes the unfinished ones away."""

    def unfinished():
        return [*own.folder.parent.glob(".making-*/*")]

    command = [sys.executable, "-m", "edge", "export", "--weights", STARTER.name, "--again"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as running:
        eventually(unfinished, "a file is being made", 100)
        running.terminate()
        assert -signal.SIGTERM == running.wait(5)
    assert unfinished()
    assert own.path("onnxruntime-int8").exists()
    assert 0 == main(["export", "--weights", STARTER.name])
    assert not unfinished()


def test_an_export_that_was_stopped_while_it_replaced_files_is_mended(own):
    """What it had put aside comes back with the next export."""
    own.folder.rename(own.folder.with_name(f".old-{own.folder.name}"))
    assert own.record() is None
    assert 0 == main(["export", "--weights", STARTER.name])
    assert own.path("onnxruntime-int8").exists()
    assert [own.folder.name] == [path.name for path in own.folder.parent.iterdir() if path.is_dir()]


def few_samples():
    return export.samples_of([parity.picture(96, 128), parity.picture(128, 96)])


def test_what_is_not_accurate_enough_is_refused(own, monkeypatch):
    """With no error allowed nothing passes: the files are marked, not used, and torch is what is left.

    What is worked at is told before it is done: nobody waits a minute without a word.
    """
    monkeypatch.setattr("edge.evaluation.scores._MOST_RESIDUAL", -1.0)
    monkeypatch.setattr("edge.depth.export.engines.RUNGS", RUNGS[:1])
    said = []
    export.export(section(), info(), few_samples(), "photographs", said.append, again=True)
    steps = [re.split("[:,]", words)[0] for words in said]
    assert ["this processor", "loading PyTorch", "the plain network"] == steps[:3]
    assert ["torchscript"] * 2 + ["onnxruntime"] * 2 + ["onnxruntime-int8"] * 3 == steps[3:]
    assert 3 == sum("refused: not accurate enough" in words for words in said)
    with pytest.raises(EngineError, match=r"onnxruntime-int8 was refused for these weights: delta1 .* --from-camera"):
        make_engine("onnxruntime-int8", section(), info())
    assert make_engine("onnxruntime-int8", section(), info(), refused=True)


def test_int8_is_calibrated_with_ones_own_camera(own, tmp_path, photos, monkeypatch):
    """`--from-camera` watches the configured camera, here a folder, and the record says so."""
    monkeypatch.setattr("edge.depth.export.engines._make", lambda *_, **__: {})
    config = tmp_path / "config.yaml"
    config.write_text(f"camera: {{source: {photos}, fps: 30}}\nmqtt: {{enabled: false}}\n")
    assert 0 == main(["export", "--weights", STARTER.name, "--from-camera", str(config), "--seconds", "0.4"])
    assert "camera" == own.record().calibration


def test_frames_to_calibrate_with_have_their_masks(tmp_path, photos, state_directory, monkeypatch):
    """A privacy mask that was drawn on the page, and is not in the file, is in force for `--from-camera` too."""
    config = tmp_path / "config.yaml"
    config.write_text(f"id: hall\ncamera: {{source: {photos}, fps: 30}}\nmqtt: {{enabled: false}}\n")
    overlay = Overlay(load(config), OverlayStore(state_directory / "overlay.json"))
    assert overlay.replace({"camera.privacy_masks": [[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]]})
    given = []
    monkeypatch.setattr(export, "export", lambda _, info, samples, *__, **___: given.append(samples) or folder_of(info))
    assert 0 == main(["export", "--weights", STARTER.name, "--from-camera", str(config), "--seconds", "0.4"])
    frames = given[0].verifying[::2]  # the others are their mirror images
    assert frames
    assert all(frame[:, : frame.shape[1] // 2 - 4].max() < 10 < frame.max() for frame in frames)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_a_folder_of_pictures_that_is_none_is_told(tmp_path, capsys, name):
    """Not there, or a file: 65, as for pictures that can't be used."""
    (tmp_path / "file").write_text("x")
    assert 65 == main(["export", "--weights", STARTER.name, "--pictures", str(tmp_path / name)])
    assert f"{tmp_path / name}: can't be read as a folder of pictures: " in capsys.readouterr().err


def test_too_few_pictures_are_told(files, tmp_path, capsys):
    """An almost empty folder is no calibration."""
    (tmp_path / "few").mkdir()
    assert 65 == main(["export", "--weights", STARTER.name, "--pictures", str(tmp_path / "few")])
    assert "0 pictures are too few to calibrate with; 6 are needed" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- kinds of processors

ARM = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes crc32 {}cpuid\nCPU part\t: 0xd08\n"
KINDS = pytest.mark.parametrize("int8_dot_product", [True, False])


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (AVX2, False),
        (VNNI, True),
        (AVX2.replace("avx2", "avx2 avx512f avx512_vnni"), True),
        (AVX2.replace("avx2", "avx2 avx512f"), False),
        (ARM.format(""), False),
        (ARM.format("asimddp "), True),
    ],
)
def test_an_export_is_for_the_processor_that_it_runs_on(monkeypatch, tmp_path, cpuinfo, expected):
    """It says first what the processor has, makes int8 for it, and keeps for which kind it was made."""
    become(monkeypatch, tmp_path, cpuinfo)
    asked, said = [], []

    def make(*_, int8_dot_product):
        asked.append(int8_dot_product)
        return {}

    monkeypatch.setattr("edge.depth.export.engines._make", make)
    files = export.export(section(), info(), few_samples(), "photographs", said.append)
    assert said[0].endswith(f", has {'an' if expected else 'no'} int8 dot product")
    assert [expected] == asked
    assert expected == files.record().int8_dot_product


@pytest.fixture(scope="module")
def kinds(exported, tmp_path_factory):
    """Int8 for both kinds of processors, the first three levels in float: {has an int8 dot product: path}."""
    scratch = tmp_path_factory.mktemp("kinds")
    folder = next(exported.glob("engines/*/manifest.json")).parent
    pictures = export.samples_of(export.photographs()).calibrating
    quantiser = Quantiser(folder / FILES["onnxruntime"], pictures, scratch, int8_dot_product=True)
    quantiser.write(scratch / "int8.onnx", RUNGS[3])
    return {True: scratch / "int8.onnx", False: folder / FILES[INT8]}


@KINDS
def test_weights_have_the_bits_that_a_kind_of_processor_can_add_up(kinds, int8_dot_product):
    """Eight bits where there is an int8 dot product; else seven: two products with eight bits more fit into sixteen."""
    numbers = [numpy_helper.to_array(each) for each in onnx.load(kinds[int8_dot_product]).graph.initializer]
    largest = max(np.abs(each.astype(int)).max() for each in numbers if each.dtype == np.int8 and each.ndim == 4)
    assert (127 if int8_dot_product else 64) == largest
    assert int8_dot_product or 2 * 255 * largest < 2**15


@KINDS
def test_int8_of_both_kinds_is_accurate_where_nothing_overflows(exported, kinds, int8_dot_product):
    """Computed in float, as it is written, it passes the accuracy rule: what else is lost is the processor's."""
    inputs, outputs = kept_samples(exported)
    assert agreement([run_as_written(kinds[int8_dot_product], pixels) for pixels in inputs], outputs).accepted


def all_at_their_most(path):
    """Write a model that adds up the pixels around each, all with the largest weight."""
    ones = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "weights")
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weights"], ["sums"], "conv"),
    ]
    shapes = {"pixels": (1, 16, 16, 3), "sums": (1, 8, 14, 14)}
    pixels, sums = (helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items())
    graph = helper.make_graph(nodes, "sums", [pixels], [sums], [ones])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_nothing_overflows_on_this_processor(tmp_path):
    """White pixels and the largest weights, as an export makes them for this processor, add up; with seven on any."""
    all_at_their_most(tmp_path / "raw.onnx")
    simplify(tmp_path / "raw.onnx", tmp_path / "model.onnx")
    white = np.full((16, 16, 3), 255, np.float32)
    for kind in {has_int8_dot_product(), False}:
        quantiser = Quantiser(tmp_path / "model.onnx", [0 * white, white], tmp_path, int8_dot_product=kind)
        quantiser.write(tmp_path / "int8.onnx", RUNGS[0])
        sums = OnnxEngine(section(), tmp_path / "int8.onnx", "onnxruntime-int8").run(white)
        np.testing.assert_allclose(sums, 27 * 255, rtol=0.02)


def kept_samples(exported):
    inputs, outputs = kept(next(exported.glob("engines/*/samples.safetensors")).parent)
    return inputs[::4], outputs[::4]


def run_as_written(path, pixels):
    """Return what a model says whose every node is computed in float: int8 is then numbers, and no instruction."""
    runtime = onnx_runtime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": pixels[None]})[0]


def test_int8_of_another_kind_is_told_wherever_it_is_used_or_listed(own, monkeypatch, tmp_path, caplog, capsys):
    """By the log of who runs it, the first start, bench, doctor and export, each with the command that helps."""
    become(monkeypatch, tmp_path, VNNI)
    words = "was made for processors without an int8 dot product, this one has one: it may be slower or less accurate"
    helps = "run `edge-depth export --again`"
    assert words in own.foreign()
    assert helps in own.foreign()
    make_engine("onnxruntime-int8", section(), info())
    assert 1 == caplog.text.count(own.foreign())
    monkeypatch.setattr("edge.depth.export.contest.measured", lambda *_: [])
    export.settled(section(), (64, 64), lambda: True)
    assert 2 == caplog.text.count(own.foreign())
    make_engine("onnxruntime", section(), info())
    assert 2 == caplog.text.count(own.foreign())
    assert 0 == main(["export", "--weights", STARTER.name])
    assert own.foreign() in capsys.readouterr().err
    bench = ["bench", "--weights", STARTER.name, "--engines", "onnxruntime", "--seconds", "0.1", "--sizes", "64"]
    assert 0 == main(bench)
    assert own.foreign() in capsys.readouterr().out
    (tmp_path / "c.yaml").write_text(f"model: {{weights: {STARTER.name}}}\n")
    finding = next(each for each in doctor._engines(load(tmp_path / "c.yaml")))
    assert ("note", own.foreign()) == (finding.state, finding.words)
    assert "edge-depth export --again" in finding.command


def test_files_of_a_version_that_knew_one_kind_are_for_an_int8_dot_product(own, monkeypatch, tmp_path):
    """They were made with eight bits; where they were refused or overflow, the error says what to do."""
    path = own.folder / "manifest.json"
    document = json.loads(path.read_text())
    del document["int8_dot_product"]
    document["engines"]["onnxruntime-int8"]["accepted"] = False
    path.write_text(json.dumps(document | {"calibration": "camera"}))
    words = (
        "was made for processors with an int8 dot product, this one has none: .* less accurate .* --from-camera FILE`"
    )
    with pytest.raises(EngineError, match=f"was refused for these weights: .*{words}"):
        own.path("onnxruntime-int8")
    become(monkeypatch, tmp_path, VNNI)
    assert own.foreign() is None


def test_the_choice_holds_for_the_kind_of_processor(files, monkeypatch, tmp_path):
    """Virtual machines call processors of both kinds by one name."""
    remember(section(), info(), "onnxruntime-int8")
    become(monkeypatch, tmp_path, VNNI)
    assert chosen(section(), info()) is None


def made_up(folder):
    """Return weights of which one of the last channels is thousands of times as large as the others, and says nothing.

    One scale of eight bits for all of them holds nothing of the others.
    """
    arrays, metadata = read(info().path)
    arrays = {key: value.astype(np.float32) for key, value in arrays.items()}
    arrays["scratch.output_conv.2.bias"][0] = 3e6
    arrays["scratch.output_conv.4.weight"][:, 0] = 0
    save_file(arrays, folder / "made-up.safetensors", metadata)
    return folder / "made-up.safetensors"


def test_int8_of_weights_that_it_can_not_hold_is_refused(tmp_path, monkeypatch):
    """For both kinds of processors, on every one, when all was tried; float engines are as good as ever."""
    monkeypatch.setattr("edge.depth.export.engines.RUNGS", RUNGS[-2:])
    weights, said = made_up(tmp_path), []
    mine = ModelSection(weights=str(weights), threads=1)
    samples = few_samples()
    files = export.export(mine, identify(str(weights)), samples, "photographs", said.append, int8_dot_product=False)
    verdicts = {name: file.accepted for name, file in files.record().engines.items()}
    assert {"torchscript": True, "onnxruntime": True, "onnxruntime-int8": False} == verdicts
    assert [rung.words in words for rung, words in zip(RUNGS[-2:], said[-3:-1], strict=True)] == [True, True]
    other = tmp_path / "other.onnx"
    floats = files.path("onnxruntime")
    Quantiser(floats, samples.calibrating, tmp_path, int8_dot_product=True).write(other, RUNGS[-1])
    inputs, outputs = kept(files.folder)
    assert not agreement([run_as_written(other, pixels) for pixels in inputs], outputs).accepted


# ------------------------------------------------------------------------------------------------------ auto and bench


def test_auto_measures_once_and_remembers(files, monkeypatch, caplog):
    """The first time every engine that is there is measured; the fastest is kept, told, and taken from then on."""
    caplog.set_level("INFO")
    monkeypatch.setattr("edge.depth.export.contest._SECONDS", 0.2)
    decided = export.settled(section(), (64, 64), lambda: True)
    name = chosen(section(), info())
    assert name in NAMES
    assert name == decided.engine
    assert f"engine {name} is the fastest here: onnxruntime-int8 " in caplog.text
    monkeypatch.setattr("edge.depth.export.contest.measured", None)  # a second measurement would fail
    export.settled(section(), (64, 64), lambda: True)
    assert name == load_model(section()).engine.name


@pytest.mark.parametrize("missing", ["onnxruntime", "torch"])
def test_auto_remembers_nothing_while_an_engine_can_not_be_measured(files, monkeypatch, caplog, missing):
    """What killed its process may be gone at the next start; until then the fastest of the others runs."""
    times = {"onnxruntime-int8": 9.0, "onnxruntime": 5.0, "torchscript": 7.0, "torch": 8.0}

    def apart(section, name, *_):
        if name == missing:
            raise EngineError("its process died of SIGKILL")
        return measured_row(name, times[name], True)

    monkeypatch.setattr("edge.depth.export.contest._apart", apart)
    expected = "torchscript" if missing == "onnxruntime" else "onnxruntime"
    assert expected == export.settled(section(), (64, 64), lambda: True).engine
    assert chosen(section(), info()) is None
    assert f"engine {expected} for now: " in caplog.text
    assert "measured again at the next start" in caplog.text


def test_auto_without_a_measurement_is_torch_for_now(own, monkeypatch, caplog):
    """Damaged samples keep every engine from being measured: what mends them is told, and nothing is remembered."""
    monkeypatch.setattr("edge.depth.export.contest._SECONDS", 0.2)
    refuse(own, "torchscript", "onnxruntime")
    (own.folder / "samples.safetensors").write_bytes(bytes(200))
    assert "torch" == export.settled(section(), (64, 64), lambda: True).engine
    assert chosen(section(), info()) is None
    assert "engine torch for now: none could be measured" in caplog.text
    assert "samples.safetensors: is missing or damaged" in caplog.text
    assert "run `edge-depth export --again`" in caplog.text


def refuse(own, *names):
    path = own.folder / "manifest.json"
    document = json.loads(path.read_text())
    for name in names:
        document["engines"][name]["accepted"] = False
    path.write_text(json.dumps(document))


def test_auto_never_takes_an_engine_that_was_refused(own, monkeypatch):
    """It isn't measured: were it the fastest and just accurate enough this time, it would not start."""
    refuse(own, "onnxruntime-int8")
    tried = []
    monkeypatch.setattr(
        "edge.depth.export.contest._apart", lambda _, name, *__: tried.append(name) or measured_row(name, 5.0, True)
    )
    decided = export.settled(section(), (64, 64), lambda: True)
    assert ["onnxruntime", "torchscript", "torch"] == tried
    assert "onnxruntime" == decided.engine == load_model(decided).engine.name


def test_auto_with_nothing_but_refused_engines_is_torch(own, monkeypatch, caplog):
    """Nothing is measured; the log says what may help."""
    caplog.set_level("INFO")
    refuse(own, *FILED)
    monkeypatch.setattr("edge.depth.export.contest.measured", None)
    assert "auto" == export.settled(section(), (64, 64), lambda: True).engine
    assert "not accurate enough for these weights" in caplog.text
    assert "`edge-depth export --again --from-camera FILE`" in caplog.text


def test_auto_without_files_is_torch_and_says_what_is_faster(caplog):
    """Nothing is measured, nothing made behind one's back; the log names the command."""
    caplog.set_level("INFO")
    assert "auto" == export.settled(section(), (64, 64), lambda: True).engine
    assert "`edge-depth export` makes faster ones" in caplog.text
    assert "torch" == load_model(section()).engine.name


def test_auto_is_given_up_when_the_daemon_stops(files):
    """A daemon that is stopped while it measures does not wait for it, and remembers nothing."""
    answers = iter([True, False])
    assert "auto" == export.settled(section(), (64, 64), lambda: next(answers)).engine
    assert chosen(section(), info()) is None


def test_the_choice_holds_for_the_conditions_that_it_was_made_under(files):
    """Another number of threads is another question."""
    remember(section(), info(), "onnxruntime")
    assert "onnxruntime" == chosen(section(), info())
    assert chosen(ModelSection(weights=STARTER.name, threads=2), info()) is None


def test_the_choice_holds_for_the_files_that_it_was_made_with(own):
    """After another export it is measured anew."""
    remember(section(), info(), "onnxruntime")
    path = own.folder / "manifest.json"
    path.write_text(path.read_text().replace(own.record().engines["onnxruntime-int8"].sha256, "0" * 64))
    assert chosen(section(), info()) is None


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"a": 1}'])
def test_a_damaged_choice_is_none(files, state_directory, text):
    """It is measured and written anew."""
    (state_directory / "fastest-engines.json").write_text(text)
    assert chosen(section(), info()) is None
    remember(section(), info(), "onnxruntime")
    assert "onnxruntime" == chosen(section(), info())


def test_a_choice_that_can_not_be_kept_holds_all_the_same(files, monkeypatch, caplog):
    """A read-only state directory, or one that is another user's: a warning, and the fastest engine for this time."""
    monkeypatch.setattr("edge.depth.engines.choice._path", lambda: Path("/proc/nobody/may/write"))
    rows = [measured_row(name, 5.0 if name == "onnxruntime" else 9.0, True) for name in NAMES]
    monkeypatch.setattr("edge.depth.export.contest.measured", lambda *_: rows)
    assert "onnxruntime" == export.settled(section(), (64, 64), lambda: True).engine
    assert "/proc/nobody/may/write can't be written: " in caplog.text


def test_a_remembered_engine_that_broke_is_replaced_by_torch(own, caplog):
    """It is told why, once, and readings go on."""
    remember(section(), info(), "onnxruntime")
    own.path("onnxruntime").unlink()
    assert "torch" == load_model(section()).engine.name
    assert "the fastest engine can't be used: " in caplog.text


def test_auto_with_a_damaged_record_is_torch(own, caplog):
    """Readings go on, and the log says what mends it."""
    (own.folder / "manifest.json").write_text("{")
    assert "torch" == export.settled(section(), (64, 64), lambda: True).engine
    assert "torch" == load_model(section()).engine.name
    assert 2 == caplog.text.count("run `edge-depth export --again`")


def measured_row(engine, median, accepted):
    values = dict.fromkeys(export.Measured.__dataclass_fields__, 1.0)
    return export.Measured(**values | {"engine": engine, "median_ms": median, "accepted": accepted, "size": (64, 64)})


def test_the_fastest_is_the_fastest_that_is_accurate():
    """Speed alone does not count; where nothing is accurate torch remains."""
    rows = [measured_row("a", 1.0, False), measured_row("b", 3.0, True), measured_row("c", 2.0, True)]
    assert "c" == export.fastest(rows)
    assert "torch" == export.fastest(rows[:1])


def test_bench_measures_each_engine_apart(files, capsys):
    """One row an engine, thread number and size, with times, memory and agreement; the machine is described."""
    arguments = ["bench", "--weights", STARTER.name, "--engines", "onnxruntime,onnxruntime-int8", "--seconds", "0.2"]
    assert 0 == main([*arguments, "--threads", "1", "--sizes", "64,128", "--json"])
    document = json.loads(capsys.readouterr().out)
    rows = document["rows"]
    assert [("onnxruntime", 64), ("onnxruntime-int8", 64), ("onnxruntime", 128), ("onnxruntime-int8", 128)] == [
        (row["engine"], row["size"][0]) for row in rows
    ]
    assert all(0 < row["median_ms"] <= row["p95_ms"] and row["rss_mb"] > 20 for row in rows)
    assert all(row["accepted"] and row["delta1"] > 0.99 for row in rows)
    assert document["machine"]["processors"] >= 1


def test_bench_prints_a_table_and_a_row_for_the_readme(files, capsys):
    """What can't be measured is left out by name; the row is Markdown."""
    own_engine = ["bench", "--weights", STARTER.name, "--engines", "onnxruntime", "--seconds", "0.1", "--sizes", "64"]
    assert 0 == main(own_engine)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("engine")
    assert lines[1].startswith("onnxruntime ")
    assert lines[-1].startswith("| ")
    assert lines[-1].endswith(" MB |")


def test_bench_takes_weights_by_a_relative_path(tmp_path, monkeypatch, capsys):
    """It means the file that it means to every other command."""
    shutil.copy(identify(STARTER.name).path, tmp_path / "mine.safetensors")
    monkeypatch.chdir(tmp_path)
    arguments = ["bench", "--weights", "mine.safetensors", "--engines", "torch", "--seconds", "0.1", "--sizes", "64"]
    assert 0 == main([*arguments, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (["torch"], {}) == ([row["engine"] for row in document["rows"]], document["left_out"])


def test_bench_without_anything_to_measure_fails(capsys):
    """Without engine files there is nothing to say, and 70 says that."""
    assert 70 == main(["bench", "--weights", STARTER.name, "--engines", "onnxruntime", "--seconds", "0.1"])
    assert "no engine could be measured: " in capsys.readouterr().err


def test_an_engine_that_dies_is_no_end(files, monkeypatch):
    """A child that dies of an illegal instruction is a row left out, in words."""
    monkeypatch.setattr(sys, "executable", str(ROOT / "tests" / "data" / "dies_of_sigill"))
    (found,) = export.measured(section(), ["onnxruntime"], (64, 64), 0.1)
    assert "died of SIGILL: this processor lacks an instruction" in found


# ---------------------------------------------------------------------------------------------------- the accuracy rule


@given(st.floats(0.01, 1000), st.floats(-1e4, 1e4), st.integers(0, 2**32 - 1))
def test_agreement_does_not_see_scale_and_shift(scale, shift, seed):
    """An output that differs by a > 0 and b agrees wholly; noise of a tenth of the range does not."""
    reference = np.random.default_rng(seed).uniform(0, 1, (24, 32)).astype(np.float32)
    same = agreement([scale * reference.astype(np.float64) + shift], [reference])
    assert same.accepted
    assert same.residual < 1e-5
    noisy = agreement([reference + np.random.default_rng(seed + 1).normal(0, 0.1, reference.shape)], [reference])
    assert not noisy.accepted


def test_agreement_of_a_flat_reference_is_defined():
    """Where the reference is the same everywhere, no number is divided by zero."""
    flat = np.full((8, 8), 3.0, np.float32)
    assert agreement([flat], [flat]).accepted
