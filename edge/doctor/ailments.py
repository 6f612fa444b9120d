"""What can be wrong, as data: how it shows, what causes it, which command helps. systemd/README.md has the same table.

`{unit}` in a command is the service's name, `edge-depth` or one of several such as `edge-depth@front`.
"""

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `wrong` means that the daemon does not work like this."""

    state: Literal["ok", "note", "wrong"]
    name: str
    words: str
    cause: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ailment:
    """Something to mend. `shows` is searched for in what a failed check says; the first that fits is it."""

    symptom: str
    check: str
    cause: str
    command: str
    shows: str = "(?!)"  # nothing: it is named by who finds it
    state: Literal["note", "wrong"] = "wrong"


GROUP = "edge-depth-config"  # the services are in it; scripts/install.sh makes it
INSTALL = "sudo scripts/install.sh"

AILMENTS = (
    Ailment(
        symptom="Python or system too old",
        check="machine",
        cause="not a 64-bit Python 3.11 to 3.13: 32-bit Raspberry Pi OS, or older than Bookworm",
        command="uname -m; python3 --version",
    ),
    Ailment(
        symptom="clock in the past",
        check="clock",
        cause="no time from the network yet; certificates seem not valid",
        command="sudo timedatectl set-ntp true; timedatectl",
    ),
    Ailment(
        symptom="configuration refused",
        check="configuration",
        cause="a key is wrong, as said; exit status 78",
        command="edge-depth check FILE",
    ),
    Ailment(
        symptom="file hidden from the service",
        check="configuration",
        cause=f"permission: the service reads what everybody or the group {GROUP} may; secrets belong to the group",
        command=f"sudo chgrp {GROUP} FILE && sudo chmod 640 FILE",
    ),
    Ailment(
        symptom="secret for everybody to read",
        check="configuration",
        cause="permission: every user and program of this machine can read it",
        command=f"sudo chgrp {GROUP} FILE && sudo chmod 640 FILE",
        state="note",
    ),
    Ailment(
        symptom="host name of every new Pi",
        check="configuration",
        cause="two Pis of one name share topics on one broker",
        command="sudo hostnamectl set-hostname NAME",
        state="note",
    ),
    Ailment(
        symptom="two cameras of one id",
        check="configuration",
        cause="they share topics, and the broker throws out one for the other",
        command="grep '^id:' /etc/edge-depth/*.yaml",
    ),
    Ailment(
        symptom="disk full",
        check="state",
        cause="the disk is full: nothing learned survives a restart",
        command="df -h; sudo journalctl --vacuum-size=100M",
    ),
    Ailment(
        symptom="state directory read-only",
        check="state",
        cause="read-only: a worn card, or another user's folder",
        command="ls -ld DIR; sudo dmesg --level=err",
    ),
    Ailment(
        symptom="illegal instruction (SIGILL)",
        check="torch|onnxruntime|network",
        shows=r"SIGILL",
        cause="a build for other processors: torch 2.6.0 and 2.10.0 stop so on a Pi 4",
        command=INSTALL,
    ),
    Ailment(
        symptom="library missing (`.so`: cannot open shared object file)",
        check="torch|onnxruntime|network|camera|broker",
        shows=r"\.so[.\d]*: cannot open shared object file",
        cause="a library of the system is missing",
        command="apt-file search LIBRARY; sudo apt install PACKAGE",
    ),
    Ailment(
        symptom="operator torchvision::nms does not exist",
        check="torch|network",
        shows=r"operator torchvision::nms does not exist",
        cause="torch and torchvision come from two indexes",
        command=INSTALL,
    ),
    Ailment(
        symptom="killed (SIGKILL), or can't allocate memory",
        check="torch|onnxruntime|network|camera",
        shows=r"SIGKILL|MemoryError|can't allocate memory|Cannot allocate memory",
        cause="too little memory: with torch the daemon needs 950 MB, with ONNX Runtime 350 MB",
        command="free -m; sudo systemctl status {unit}",
    ),
    Ailment(
        symptom="a check that does not end",
        check="torch|onnxruntime|network|camera|broker",
        shows=r"has not ended after",
        cause="a driver or a card that hangs",
        command="sudo reboot",
    ),
    Ailment(
        symptom="no picamera2 in the environment",
        check="camera",
        shows=r"picamera2 needs Picamera2|No module named '(picamera2|libcamera)'",
        cause="picamera2 is not installed, or the environment does not see the system's packages",
        command="sudo apt install python3-picamera2; " + INSTALL,
    ),
    Ailment(
        symptom="numpy.dtype size changed",
        check="camera",
        shows=r"does not fit this numpy",
        cause="Bookworm's simplejpeg beside numpy 2",
        command=INSTALL,
    ),
    Ailment(
        symptom="No module named …",
        check="torch|onnxruntime|network|camera|broker",
        shows=r"No module named",
        cause="the installation is not whole",
        command=INSTALL,
    ),
    Ailment(
        symptom="a crash (SIGSEGV, SIGBUS)",
        check="torch|onnxruntime|network|camera|broker",
        shows=r"stopped by SIG",
        cause="a damaged installation, or a worn card",
        command=INSTALL,
    ),
    Ailment(
        symptom="model.cpus can't be used",
        check="network",
        shows=r"model\.cpus",
        cause="model.cpus names processors that the machine or CPUAffinity= does not give",
        command="nproc; systemctl cat {unit}",
    ),
    Ailment(
        symptom="starter weights",
        check="weights",
        cause="the official weights are not here: things are blurred",
        command="sudo STATE_DIRECTORY=/var/lib/{unit} edge-depth weights fetch",
        state="note",
    ),
    Ailment(
        symptom="no faster engine than torch",
        check="engines",
        cause="the files of the faster engines were never made for these weights",
        command="sudo STATE_DIRECTORY=/var/lib/{unit} edge-depth export",
        state="note",
    ),
    Ailment(
        symptom="engine files for another kind of processor",
        check="engines",
        cause="int8 is made for processors with an int8 dot product, or for those without",
        command="sudo STATE_DIRECTORY=/var/lib/{unit} edge-depth export --again",
        state="note",
    ),
    Ailment(
        symptom="engine files damaged",
        check="engines|network",
        shows=r"edge-depth export --again",
        cause="a worn card, or another hand",
        command="sudo STATE_DIRECTORY=/var/lib/{unit} edge-depth export --again",
    ),
    Ailment(
        symptom="weights missing or damaged",
        check="weights|network",
        shows=r"model\.weights|safetensors|is not midas|does not fit",
        cause="weights missing, damaged, or others than named; exit status 78",
        command="edge-depth weights list; sudo STATE_DIRECTORY=/var/lib/{unit} edge-depth weights fetch",
    ),
    Ailment(
        symptom="torch or the network fails otherwise",
        check="torch|onnxruntime|network",
        shows=r"",
        cause="the network does not run, as said",
        command=INSTALL,
    ),
    Ailment(
        symptom="camera not allowed",
        check="camera",
        shows=r"is not allowed to open",
        cause="permission: the user is not in the group of the camera; the service is",
        command="sudo usermod -aG video $USER",
    ),
    Ailment(
        symptom="no such camera device",
        check="camera",
        shows=r"there is no /dev/",
        cause="unplugged, or numbered anew; /dev/v4l/by-id/ keeps its names",
        command="ls /dev/v4l/by-id; lsusb",
    ),
    Ailment(
        symptom="no such file or folder",
        check="camera",
        shows=r"is not there, or not for this user to see",
        cause="its disk is not mounted, or the path is wrong; /home is hidden from the service",
        command="findmnt; ls -ld PATH",
    ),
    Ailment(
        symptom="black picture",
        check="camera",
        shows=r"picture is black",
        cause="lens covered, or no light: nothing is learned in the dark",
        command="edge-depth calibrate --help",
        state="note",
    ),
    Ailment(
        symptom="stream can't be opened",
        check="camera",
        shows=r"^\w+://",
        cause="the stream's camera, path, user or password",
        command="ffprobe ADDRESS",
    ),
    Ailment(
        symptom="camera can't be opened",
        check="camera",
        shows=r"",
        cause="the ribbon cable, or another program holds the camera; exit status 69",
        command="rpicam-hello --list-cameras; sudo fuser -v /dev/video*",
    ),
    Ailment(
        symptom="login refused",
        check="broker",
        shows=r"bad user name or password|mqtt\.password_file|client id is not accepted",
        cause="refused login: user, password or client id",
        command="mosquitto_sub -h HOST -u USER -P PASSWORD -t x",
    ),
    Ailment(
        symptom="topics refused",
        check="broker",
        shows=r"lets this client not|the broker refuses",
        cause="the broker's access list: write edge-depth/# and homeassistant/#, read the commands' topics",
        command="sudo cat /etc/mosquitto/acl",
    ),
    Ailment(
        symptom="certificate or TLS refused",
        check="broker",
        shows=r"certificate|TLS|mqtt\.tls",
        cause="TLS: another authority or name, a certificate that has run out, the wrong port, a wrong clock",
        command="openssl s_client -connect HOST:8883; timedatectl",
    ),
    Ailment(
        symptom="broker can't be reached",
        check="broker",
        shows=r"",
        cause="no broker there: its name, port, a firewall, or it does not run",
        command="systemctl status mosquitto; ping HOST",
    ),
    Ailment(
        symptom="service failed",
        check="service",
        cause="the service can't start or was stopped by its watchdog",
        command="journalctl -u {unit} -n 50",
    ),
)


def found(symptom: str, words: str) -> Finding:
    """Return the finding of an ailment by its symptom."""
    ailment = next(each for each in AILMENTS if each.symptom == symptom)
    return _finding(ailment, ailment.check, words)


def diagnosed(check: str, words: str) -> Finding:
    """Return the finding of the first ailment that fits what a failed check says."""
    for ailment in AILMENTS:
        if check in ailment.check.split("|") and re.search(ailment.shows, words):
            return _finding(ailment, check, words)
    return Finding("wrong", check, words)


def _finding(ailment: Ailment, check: str, words: str) -> Finding:
    return Finding(ailment.state, check, words, ailment.cause, ailment.command)
