# shellcheck shell=bash
# What the scripts beside this file share: a virtual environment with edge-depth in it, made once and kept.
# To be sourced under `set -euo pipefail`; sets `root`, the checkout.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# PyTorch's own index has x86-64 builds without CUDA; the ordinary index has none.
cpu_index=https://download.pytorch.org/whl/cpu
# Where apt puts picamera2; only the system's own Python sees it.
apt_picamera2=/usr/lib/python3/dist-packages/picamera2
os_release=/etc/os-release

say() { printf '== %s\n' "$*" >&2; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# apt_install PACKAGE... : install Debian packages, or say how and stop where we may not.
apt_install() {
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120)
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || die "needs Debian packages that are not here; run: sudo apt install $*"
        apt=(sudo -n "${apt[@]}")
    fi
    say "Installing with apt: $*"
    "${apt[@]}" install -y --no-install-recommends "$@" && return
    say "apt does not know them all: reading the package lists anew"
    "${apt[@]}" update
    "${apt[@]}" install -y --no-install-recommends "$@"
}

# need COMMAND=PACKAGE... : install the packages of those commands that are missing.
need() {
    local pair missing=()
    for pair in "$@"; do
        type -P "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

# is_supported PYTHON : whether it is one that edge-depth and torch have builds for.
is_supported() {
    "$1" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 14) and sys.maxsize > 2**32))' 2>/dev/null
}

# find_python SYSTEM : print the Python to build on; with SYSTEM = true only the system's own will do.
find_python() {
    local name names=(python3 python3.13 python3.12 python3.11)
    [ "$1" = false ] || names=(/usr/bin/python3)
    for name in "${names[@]}"; do
        if is_supported "$name"; then
            command -v "$name"
            return
        fi
    done
    die "needs a 64-bit Python 3.11, 3.12 or 3.13, but ${names[0]} is $(describe_python "${names[0]}");" \
        "on a Raspberry Pi use the 64-bit Raspberry Pi OS, Bookworm or newer"
}

describe_python() {
    "$1" -c 'import sys; print(sys.version.split()[0], "64-bit" if sys.maxsize > 2**32 else "32-bit")' 2>/dev/null ||
        echo missing
}

# system_packages : print whether an environment should see the system's packages: true or false.
system_packages() { [ -d "$apt_picamera2" ] && echo true || echo false; }

# venv_fits VENV SYSTEM : whether it is whole and of the kind wanted. A Python upgraded under it leaves it without pip.
venv_fits() {
    is_supported "$1/bin/python" && grep -qx "include-system-site-packages = $2" "$1/pyvenv.cfg" &&
        "$1/bin/python" -c 'import pip, sys; sys.exit(not pip.__file__.startswith(sys.prefix))' 2>/dev/null
}

# make_venv VENV SYSTEM : make the environment, afresh where what is there does not fit.
make_venv() {
    local python options=()
    venv_fits "$1" "$2" && return
    python=$(find_python "$2")
    "$python" -c 'import ensurepip' 2>/dev/null || apt_install "${python##*/}-venv"
    [ "$2" = false ] || options=(--system-site-packages)
    say "Making $1 with $python ($(describe_python "$python"))"
    "$python" -m venv --clear "${options[@]}" "$1"
}

# pip_install VENV ARGUMENT...
pip_install() {
    # Debian 13 keeps /tmp in memory, where torch does not fit on a small machine.
    local venv=$1 temporary=$1/tmp
    shift
    rm -rf "$temporary"
    mkdir "$temporary"
    TMPDIR=$temporary "$venv/bin/python" -m pip install --disable-pip-version-check "$@"
    rm -rf "$temporary"
}

# torch_pins : print `name==version` of torch and torchvision as setup.cfg pins them.
torch_pins() { sed -nE 's/^ *(torch|torchvision) ==/\1==/p' "$root/setup.cfg"; }

# has_pins VENV NAME==VERSION... : whether those versions are installed, from whichever index.
has_pins() {
    "$1/bin/python" - "${@:2}" 2>/dev/null <<'PYTHON'
import sys
from importlib.metadata import version

wanted = dict(pin.split("==") for pin in sys.argv[1:])
sys.exit(any(version(name).partition("+")[0] != number for name, number in wanted.items()))
PYTHON
}

# cpu_index_has VENV NAME==VERSION : whether PyTorch's index answers in a few seconds, and with that build. It is asked
# through pip, which knows the proxy and the certificates.
cpu_index_has() {
    timeout 20 "$1/bin/python" -m pip --timeout 5 --retries 0 index versions --index-url "$cpu_index" "${2%%==*}" 2>/dev/null |
        grep -F "${2#*==}+cpu" >/dev/null
}

# install_torch VENV : install torch and torchvision together, from one index: a mixture does not load.
install_torch() {
    local pins options=()
    mapfile -t pins <<<"$(torch_pins)"
    has_pins "$1" "${pins[@]}" && return
    # An interrupted run may have left one of the two, from the other index.
    "$1/bin/python" -m pip uninstall --yes --quiet torch torchvision 2>/dev/null
    if [ "$(uname -m)" != x86_64 ]; then
        say "Installing ${pins[*]}"
    elif cpu_index_has "$1" "${pins[0]}"; then
        say "Installing ${pins[*]}, builds without CUDA"
        pins=("${pins[@]/%/+cpu}")
        options=(--index-url "$cpu_index")
    else
        say "Installing ${pins[*]} with CUDA, 7 GB: PyTorch's index of builds without it does not answer"
    fi
    pip_install "$1" "${options[@]}" "${pins[@]}"
}

# install_simplejpeg VENV : Bookworm's own was built for numpy 1 and breaks beside the numpy 2 here (picamera2#1211).
install_simplejpeg() {
    if [ -d "$apt_picamera2" ] && grep -q '^VERSION_CODENAME=bookworm' "$os_release"; then
        pip_install "$1" --ignore-installed --no-deps 'simplejpeg>=1.8,<2'
    fi
}

# install_edge_depth VENV SYSTEM PIP_ARGUMENT... : a whole environment, from nothing or from what is there.
install_edge_depth() {
    make_venv "$1" "$2"
    install_torch "$1"
    say "Installing edge-depth and what else it needs"
    pip_install "$1" "${@:3}"
    install_simplejpeg "$1"
}

# lock : let no other set-up run until unlock or the end. The lock is on this file, so that none is left behind.
lock() {
    exec 9<"$root/scripts/lib.sh"
    flock -n 9 && return
    say "Waiting for another set-up to end"
    flock 9
}

unlock() { exec 9<&-; }

# fingerprint VENV EXTRA : print a hash of all that decides what is installed; moving the checkout changes it too.
fingerprint() {
    {
        cat "$root/setup.cfg" "$root/pyproject.toml" "$root/scripts/lib.sh"
        echo "$2 $(system_packages)"
        "$1/bin/python" -c 'import sys; print(sys.version, sys.prefix)' 2>/dev/null || echo none
    } | sha256sum
}

# set_up EXTRA : make .venv fit to run the checkout with that extra. Once it is, this takes no network and no time.
set_up() {
    local venv=$root/.venv
    local stamp=$venv/.set-up-$1
    lock
    if [ "$(cat "$stamp" 2>/dev/null)" != "$(fingerprint "$venv" "$1")" ]; then
        say "Setting up $venv; the first time takes some minutes"
        install_edge_depth "$venv" "$(system_packages)" --editable "${root}[$1]"
        fingerprint "$venv" "$1" >"$stamp"
        say "Set up"
    fi
    unlock
}
