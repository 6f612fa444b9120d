"""Where the daemon of one configuration keeps what survives a restart, and what older versions left there.

No file has the id in its name, since that may change with the machine's name. A service has a folder of its own; run by
hand, each configuration has one.
"""

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from edge.config import Config, hides_state, service_state, state_directory
from edge.files import parse_object
from edge.state.stores import replace_file
from edge.topics import ID, machine_id

logger = logging.getLogger(__name__)

Kind = tuple[str, str]

# Older versions put the id between the two parts.
ANNOUNCED: Kind = ("announced", ".json")
TRIGGERS: Kind = ("triggers", ".json")
REFERENCE: Kind = ("reference", ".safetensors")
OVERLAY: Kind = ("overlay", ".json")
_OF_OVERLAY = (("overlay", ".json.backup"), ("overlay", ".json.damaged"), OVERLAY)  # the last one says that all is here
_KINDS = (ANNOUNCED, TRIGGERS, REFERENCE, *_OF_OVERLAY)


def place_of(path: str | Path, file: Config) -> "Place":
    """Return where the daemon of a configuration's file, `path`, keeps what survives a restart."""
    config, shared, camera = Path(path).absolute(), state_directory(), file.id or machine_id()
    own = shared if os.environ.get("STATE_DIRECTORY") else service_state(config)
    if own:
        return Place(own, camera)
    config = config.resolve()
    name = f"{config.stem[:60]}-{hashlib.sha256(os.fsencode(config)).hexdigest()[:8]}"
    return Place(shared / "configurations" / name, camera, older=shared, hidden=hides_state(Path(path)))


class Place:
    """The folder of one configuration, and the names of its files.

    Versions up to 0.9 named the files by the id `camera`, in the folder `older`. What they left there is taken over by
    `settle`; until then it is read where it lies. `settle` leaves links of those names, so that an older version finds
    what was set since: a file in a link's place is newer, since only an older version puts one there. The links may go
    once no version is in use that needs them: two after this one.

    `unclear` says why nobody knows whose privacy masks those here are, None where that is known; `is_hidden`, that what
    was set is where this user may not look.
    """

    def __init__(self, folder: Path, camera: str, *, older: Path | None = None, hidden: bool = False) -> None:
        self.folder = folder
        self._camera = camera
        self._older = older or folder
        self._is_own = older is None
        self._former: str | None = None  # the id whose files are to be taken over
        self.unclear: str | None = None
        self.is_hidden = hidden
        self._look()

    def file(self, kind: Kind) -> Path:
        """Return where a file is, or is to be written."""
        new = self.folder / "".join(kind)
        old = self._named(kind, self._former) if self._former else new
        return old if old.exists() else new

    def hold(self) -> bool:
        """Let no other daemon keep its state here until this process ends; return false where one does already.

        Each would overwrite the other's masks.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)  # stays open; a restart by exec closes it
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            logger.warning("%s: can't be kept from other daemons: %s", self.folder, error)
        return True

    def settle(self) -> None:
        """Take over what older versions left, and leave links for them; where that can't be written, go on without."""
        try:
            for kind in _KINDS:
                if self._former:
                    self._take(kind, self._former)
                self._link(kind)
            self._former = None
        except OSError as error:
            logger.warning("%s: can't be put in order: %s; what is there is used as it is", self.folder, error)

    def confirm(self) -> None:
        """Let what is in force be this camera's own, whatever else lies here."""
        if self.unclear:
            self.unclear = None
            for kind in _KINDS:
                old = self._named(kind, self._camera)
                if _is_left(old):
                    old.replace(old.with_name(f"{old.name}.unused"))
            self.settle()

    def _look(self) -> None:
        """Find out whose files are to be taken over."""
        here = any((self.folder / "".join(kind)).exists() for kind in _KINDS)
        if any(_is_left(self._named(kind, self._camera)) for kind in _KINDS):
            if not (here and self._linked(OVERLAY) - {self._camera}):
                self._former = self._camera
            elif _is_left(self._named(OVERLAY, self._camera)):
                self.unclear = f"{OVERLAY[0]}-{self._camera}{OVERLAY[1]} is of an earlier time, or of another camera"
        elif here:
            return
        elif self._named(OVERLAY, self._camera).exists():  # of another configuration by now, and of this one before
            self._former = self._camera
        else:
            self._look_at_others()

    def _look_at_others(self) -> None:
        others = self._left(_OF_OVERLAY) or (self._left(_KINDS) if self._is_own else set())
        if self._is_own and len(others) == 1:
            (self._former,) = others  # an id that changed
            logger.info("%s: what was kept for the id %s is taken over", self.folder, self._former)
        elif masked := sorted(other for other in others if self._may_hold_masks(other)):
            names = ", ".join(f"{OVERLAY[0]}-{other}{OVERLAY[1]}" for other in masked)
            self.unclear = f"none of what was set is {self._camera}'s, and any may be this camera's: {names}"

    def _named(self, kind: Kind, camera: str) -> Path:
        return self._older / f"{kind[0]}-{camera}{kind[1]}"

    def _left(self, kinds: Iterable[Kind]) -> set[str]:
        """Return the ids for which older versions left files of these kinds."""
        return {camera for kind in kinds for camera, path in self._all(kind) if _is_left(path)}

    def _linked(self, kind: Kind) -> set[str]:
        """Return the ids under which older versions find a file that is here."""
        new = (self.folder / "".join(kind)).resolve()
        return {camera for camera, path in self._all(kind) if path.is_symlink() and path.resolve() == new}

    def _all(self, kind: Kind) -> Iterator[tuple[str, Path]]:
        """Yield the ids that files of a kind are named by, each with its file."""
        stem, suffix = kind
        for path in self._older.glob(f"{stem}-*{suffix}"):
            camera = path.name[len(stem) + 1 : -len(suffix)]
            if ID.fullmatch(camera):
                yield camera, path

    def _may_hold_masks(self, camera: str) -> bool:
        if self._named(("overlay", ".json.damaged"), camera).exists():
            return True
        try:
            document = parse_object(self._named(OVERLAY, camera).read_bytes())
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return True
        return "camera.privacy_masks" in str(document.get("overlay"))

    def _take(self, kind: Kind, camera: str) -> None:
        """Put what an older version left in its new place; a link leads to another configuration's, which keeps it."""
        old = self._named(kind, camera)
        if not old.exists():
            return
        replace_file(self.folder / "".join(kind), old.read_bytes())
        if not old.is_symlink():
            old.unlink()

    def _link(self, kind: Kind) -> None:
        """Let older versions find a file, under the present id alone."""
        new, link = self.folder / "".join(kind), self._named(kind, self._camera)
        for camera in self._linked(kind) - {self._camera}:
            self._named(kind, camera).unlink()
        if _is_left(link) or (link.is_symlink() and link.resolve() == new.resolve()):
            return
        self._older.mkdir(mode=0o700, parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(new, self._older))


def _is_left(path: Path) -> bool:
    """Return whether an older version left a file."""
    return path.is_file() and not path.is_symlink()
