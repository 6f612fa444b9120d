"""What is known of weights, as data, and where they lie."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from edge.config import state_directory
from edge.errors import WeightsError
from edge.records import Architecture

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFacts:
    """What is known of one weights file.

    `sha256` is that of the file as its makers publish it; fewer than 64 digits are the known beginning of it. `urls`
    are where that file is fetched from, the first that has it; none: the file comes with edge-depth. `depth_error` is
    that of `DepthMap`.
    """

    name: str
    sha256: str
    architecture: Architecture
    licence: str
    source: str
    depth_error: float
    urls: tuple[str, ...] = ()
    note: str = ""

    @property
    def file(self) -> str:
        """The file's name, here."""
        return self.name + _SUFFIX

    def is_made_of(self, sha256: str) -> bool:
        """Return whether a published file with that hash is this one, as far as it is known."""
        return sha256.startswith(self.sha256)


_RELEASE = "https://github.com/isl-org/MiDaS/releases/download/v2_1"
OFFICIAL = WeightsFacts(
    name="midas_v21_small_256",
    # The file's older name holds the hash's first 8 digits. Who knows all 64 puts them here: that pins the file.
    sha256="70d6b9c8",
    architecture=Architecture(encoder="tf_efficientnet_lite3", features=64, expand=True),
    licence="MIT",
    source="MiDaS v2.1 (82 MB), Ranftl et al., TPAMI 2022",
    # As published, 13.4 % of NYUv2's pixels are off by more than a factor of 1.25: of a normal error that is 1.5 sigma.
    depth_error=0.15,
    urls=(f"{_RELEASE}/midas_v21_small_256.pt", f"{_RELEASE}/model-small-70d6b9c8.pt"),
)
STARTER = WeightsFacts(
    name="starter-v2",
    sha256="0d4d8a4744e83bc1568b6d5b98ba16b7218c38628963295f9a94e85f1244fb76",
    architecture=Architecture(encoder="tf_efficientnet_lite0", features=48, expand=False),
    licence="MIT",
    source="comes with edge-depth",
    # With it 68 % of what scripts/evaluate_scene.py reads of scripts/render_walks.py's figures lie within what is told.
    depth_error=0.24,
    note="starter weights: a small network trained for two hours on rendered rooms and streets; large shapes are "
    "right, small things are blurred",
)
REGISTRY = (OFFICIAL, STARTER)

# How the checkpoints that are taken for the official small one by mistake are told from it: by a tensor's name.
OTHER_MODELS = (
    (re.compile(r"pretrained\.model\."), "a DPT model (MiDaS v3 or later)"),
    (re.compile(r"pretrained\.layer3\.22\."), "MiDaS v2 or v2.1 large (midas_v21_384.pt, model-f6b98070.pt)"),
    (re.compile(r"(pretrained|depth_head)\.(blocks|projects)\."), "a Depth Anything model"),
    (re.compile(r"core\.core\."), "a ZoeDepth model"),
)


def directory() -> Path:
    """Return where weights that the user brought lie: `weights` in the daemon's state directory."""
    return state_directory() / "weights"


def path_of(facts: WeightsFacts) -> Path:
    """Return where a known file lies or would lie."""
    return (directory() if facts.urls else Path(__file__).parents[2] / "data") / facts.file


def named_path(name: str) -> Path:
    """Return where weights that are imported under a name of the user's lie.

    Raises:
        WeightsError: the name is a known one, `auto`, or can't be a file's.
    """
    taken = name == "auto" or any(name == facts.name for facts in REGISTRY)
    if taken or not _NAME.fullmatch(name) or name.endswith((_SUFFIX, ".pt")):
        raise WeightsError(
            f"--name: must be a name of your own in letters, digits, '.', '_' and '-', without an ending, not {name!r}"
        )
    return directory() / (name + _SUFFIX)


def imported() -> list[Path]:
    """Return the files that were imported under names of the user's."""
    known = {facts.file for facts in REGISTRY}
    return sorted(path for path in directory().glob(f"*{_SUFFIX}") if path.name not in known)


def locate(setting: str) -> tuple[Path, WeightsFacts | None]:
    """Return the file that `model.weights` means and what is known of it.

    `auto` is the official file where it was imported, else the starter; any other text is a known name, the name of
    imported weights, or a path.

    Raises:
        WeightsError: there is no such file, with what to do.
    """
    if setting == "auto":
        facts = OFFICIAL if path_of(OFFICIAL).exists() else STARTER
        return path_of(facts), facts
    for facts in REGISTRY:
        if setting in (facts.name, str(path_of(facts))):
            if path_of(facts).exists():
                return path_of(facts), facts
            raise WeightsError(f"model.weights: {facts.name} is not at {path_of(facts)}; {_how_to_bring()}")
    for path in (directory() / (setting + _SUFFIX), Path(setting).expanduser()):
        if path.is_file():
            return path, None
    known = ", ".join([*(facts.name for facts in REGISTRY), *(path.stem for path in imported())])
    raise WeightsError(
        f"model.weights: there is no file {setting}; give a path, auto, or one of {known}. "
        f"For the official weights {_how_to_bring()}"
    )


def _how_to_bring() -> str:
    """Say the two commands that help; a service has its state, and so its weights, where systemd says."""
    state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    command = f"sudo STATE_DIRECTORY={state} edge-depth" if state else "edge-depth"
    return (
        f"run `{command} weights fetch`, or `{command} weights import FILE` with a copy of midas_v21_small_256.pt "
        "that you carried over"
    )
