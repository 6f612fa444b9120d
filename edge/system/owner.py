"""Root gives up its rights before it works in a folder that is somebody else's.

Whoever owns a folder can put links, pipes and programs into it, and root would follow, write and run them.
"""

import ctypes
import grp
import logging
import os
import pwd
import sys
from pathlib import Path

from edge.errors import ConfigError

_log = logging.getLogger(__name__)

_DYNAMIC_USERS = range(61184, 65520)  # systemd.exec(5): DynamicUser=
_SERVICE_GROUPS = ("video", "edge-depth-config")  # as SupplementaryGroups= in systemd/edge-depth.service
_LEVELS = 3  # of folders that are handed over: the state's own, engines, and each engine's
# Of mount(2) and unshare(2).
_CLONE_NEWNS = 0x20000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 0x1000, 0x4000, 0x40000


def foreign_owner(path: Path) -> os.stat_result | None:
    """Return the status of the first part of a path that is not root's; None where no other user has a hand in it.

    Who owns that part can make of the rest what they like.
    """
    path = path.absolute()
    for part in (*reversed(path.parents), path):
        for look in (part.lstat, part.stat):
            try:
                status = look()
            except OSError:
                return None  # what is not there yet will be root's
            if status.st_uid:
                return status
    return None


def become_owner(folder: Path) -> None:
    """As root, go on for good as the user whose state directory it is, and which it is then still. Else do nothing.

    Folders in it that root made before are handed over. Call it before anything in the folder is looked at.

    Raises:
        ConfigError: that user can't reach the folder, or this program.
    """
    status = foreign_owner(folder) if os.geteuid() == 0 else None
    if status is None:
        return
    folder = folder.absolute()
    uid, gid, groups, home = _rights(status)
    os.setgroups(groups)
    try:
        if folder.exists():
            _hand_over(folder, uid, gid)
        _make_reachable(uid, gid, folder)
    except OSError as error:
        raise ConfigError(
            f"{folder}: belongs to the user {uid}, and root does nothing in it but as that user, who can't reach it or "
            f"this program from here ({error.strerror or error}); run the command as that user"
        ) from error
    os.setgid(gid)
    os.setuid(uid)
    # A folder that was not $STATE_DIRECTORY does not become it: run by hand, each configuration has a part of its own.
    place = {"STATE_DIRECTORY": folder} if os.environ.get("STATE_DIRECTORY") else {"XDG_DATA_HOME": folder.parent}
    os.environ.update({name: str(path) for name, path in place.items()}, HOME=home)
    _log.info("going on as user %d, whose folder %s is", uid, folder)


def _rights(status: os.stat_result) -> tuple[int, int, list[int], str]:
    """Return a user's number, group, groups and home; a service's user is known by its numbers alone while it rests."""
    uid, gid = status.st_uid, status.st_gid or status.st_uid  # root's group is no other user's
    try:
        user = pwd.getpwuid(uid)
        gid, groups, home = user.pw_gid, {*os.getgrouplist(user.pw_name, user.pw_gid)}, user.pw_dir
    except KeyError:
        groups, home = {gid}, "/"
    if uid in _DYNAMIC_USERS:
        groups |= {group.gr_gid for group in grp.getgrall() if group.gr_name in _SERVICE_GROUPS}
    return uid, gid, sorted(groups), home


def _hand_over(folder: Path, uid: int, gid: int) -> None:
    """Give the folders of root's in a user's own one to that user.

    No link is followed, no file is given away, since it may be a link too, and what counts is what was opened.
    """
    real = folder.resolve()
    for root, folders, _, inside in os.fwalk(real):
        depth, owner = len(Path(root).relative_to(real).parts), os.fstat(inside).st_uid
        if depth == 0 and owner != uid:
            return
        if owner == 0:
            os.fchown(inside, uid, gid)
        if owner not in (0, uid) or depth >= _LEVELS:
            folders.clear()


def _make_reachable(uid: int, gid: int, folder: Path) -> None:
    """Let that user, in the groups of this process, reach a folder and what runs here.

    What lies below a folder that only root may enter, as /var/lib/private, is laid over it, for this process alone.
    systemd does the same for the service.

    Raises:
        OSError: this root may not, as in most containers.
    """
    there = next(part for part in (folder, *folder.parents) if part.exists())
    needed = [path.resolve() for path in (there, Path(sys.base_prefix), Path(sys.prefix), Path(__file__).parents[2])]
    hidden = [path for path in needed if not _enters(uid, gid, path)]
    if not hidden:
        return
    _call("unshare", _CLONE_NEWNS)
    _call("mount", b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)
    opened = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW) for path in hidden]
    for path, inside in zip(hidden, opened, strict=True):
        shut = next((part for part in reversed(path.parents) if not _enters(uid, gid, part)), None)
        if shut:
            _call("mount", b"tmpfs", os.fsencode(shut), b"tmpfs", ctypes.c_ulong(_MS_NOSUID | _MS_NODEV), b"mode=755")
        path.mkdir(parents=True, exist_ok=True)
        _call("mount", b"/proc/self/fd/%d" % inside, os.fsencode(path), None, ctypes.c_ulong(_MS_BIND), None)
        os.close(inside)


def _enters(uid: int, gid: int, folder: Path) -> bool:
    """Return whether that user, in the groups of this process, can enter a folder."""
    os.setegid(gid)
    os.seteuid(uid)
    try:
        os.stat(f"{folder}/.")  # noqa: PTH116 - a Path would leave out the dot
    except PermissionError:
        return False
    finally:
        os.seteuid(0)
        os.setegid(0)
    return True


def _call(name: str, *arguments: object) -> None:
    """Call the C library; raise OSError where it fails."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
