#!/usr/bin/env bash
# Install edge-depth as a service on Raspberry Pi OS or Debian; run it again to upgrade.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

prefix=/opt/edge-depth
command=$prefix/venv/bin/edge-depth
link=/usr/local/bin/edge-depth
config=/etc/edge-depth/edge-depth.yaml
unit=/etc/systemd/system/edge-depth.service

usage() {
    cat <<USAGE
usage: sudo scripts/install.sh [--uninstall]

Installs this checkout into $prefix, with the configuration $config
(kept where there is one) and the service edge-depth. Run it again to upgrade.

  --uninstall  take the service and $prefix away again; the configuration and what the
               daemon has learnt stay
USAGE
}

install_packages() {
    local packages=()
    /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
    if [ ! -d "$apt_picamera2" ] && apt-cache show python3-picamera2 >/dev/null 2>&1; then
        packages+=(python3-picamera2)
    fi
    [ ${#packages[@]} = 0 ] || apt_install "${packages[@]}"
}

# Builds from a copy: root's build files would be in the way of the checkout's owner, and old ones in that of a build.
install_program() {
    local copy
    copy=$(mktemp -d)
    # shellcheck disable=SC2064  # the folder of now
    trap "rm -rf '$copy'" EXIT
    cp -r "$root"/{edge,setup.cfg,pyproject.toml,README.md,LICENSE} "$copy"
    mkdir -p "$prefix"
    install_edge_depth "$prefix/venv" true "$copy"
    ln -sfn "$command" "$link"
}

install_config() {
    if [ -e "$config" ]; then
        say "Keeping the configuration $config"
    else
        say "Writing the configuration $config"
        install -D -m 644 "$root/config/edge-depth.yaml" "$config"
    fi
}

install_unit() {
    say "Installing the service edge-depth ($unit)"
    install -m 644 "$root/systemd/edge-depth.service" "$unit"
    systemctl daemon-reload
    systemctl enable edge-depth
}

start() {
    if ! "$command" check "$config"; then
        say "Installed, not started: mend $config as said above, then: sudo systemctl restart edge-depth"
        exit 78
    fi
    say "Starting edge-depth; loading the model takes up to a minute"
    systemctl restart edge-depth || die "it does not start; see: journalctl -u edge-depth -n 50"
}

next_steps() {
    cat <<STEPS

edge-depth runs and starts with the machine. Next:

  sudo nano $config     name the camera and the broker
  sudo STATE_DIRECTORY=/var/lib/edge-depth edge-depth weights fetch     the official weights
  edge-depth check $config
  sudo systemctl restart edge-depth
  journalctl -u edge-depth -f                   what it does
STEPS
}

uninstall() {
    say "Removing the service edge-depth and $prefix"
    if [ -e "$unit" ]; then
        systemctl stop edge-depth
        systemctl disable edge-depth
    fi
    rm -rf "$unit" "$prefix" "$link"
    systemctl daemon-reload
    say "Kept: ${config%/*} and /var/lib/private/edge-depth; remove them by hand when they are not wanted any more"
}

case ${1-} in
    '' | --uninstall) ;;
    -h | --help)
        usage
        exit
        ;;
    *) die "unknown option $1; see $0 --help" ;;
esac
[ "$(id -u)" = 0 ] || die "needs root; run: sudo $0 $*"
# The daemon's user is another one and must be able to read what root installs.
umask 022
lock
if [ "${1-}" = --uninstall ]; then
    uninstall
else
    install_packages
    install_program
    install_config
    install_unit
    start
    next_steps
fi
