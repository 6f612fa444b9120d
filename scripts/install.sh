#!/usr/bin/env bash
# Install edge-depth as a service on Raspberry Pi OS or Debian; run it again to upgrade.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

target=${DESTDIR:-} # empty, but for a trial elsewhere
prefix=$target/opt/edge-depth
command=$prefix/venv/bin/edge-depth
link=$target/usr/local/bin/edge-depth
config=$target/etc/edge-depth/edge-depth.yaml
units=$target/etc/systemd/system
# Who may read the configurations, which hold secrets: root, and the services, by this group. A drop-in puts them into it,
# and not the unit, so that a version before this one can read them too.
group=edge-depth-config
drop_in=10-edge-depth-config.conf
needed_kb=2000000 # torch and what comes with it, unpacked
settle_seconds=${SETTLE_SECONDS:-10}

usage() {
    cat <<USAGE
usage: sudo scripts/install.sh [--uninstall]

Installs this checkout into $prefix, with the configuration $config
(kept where there is one) and the service edge-depth, for several cameras also edge-depth@NAME. Takes picamera2 from
apt where apt has it. Run it again to upgrade:

  1. the new version is put beside the old one, which goes on running
  2. it must run the network on a picture, and read every configuration in $(dirname "$config") that the old one reads
  3. the services are switched over to it, and must be ready and stay so for $settle_seconds s
  4. then the old one is deleted; if they are not, they go back to the old one and the new one is deleted

  --uninstall  take the services and $prefix away again; the configuration and what the
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

# What must be undone when the script ends, however it ends: the copy to build from, the new version until it is
# trusted, and the switch to it.
copy='' new='' switched=''

undo() {
    [ -z "$copy" ] || rm -rf "$copy"
    [ -n "$new" ] || return 0
    if [ -z "$previous" ]; then
        uninstall
    elif [ -n "$switched" ]; then
        say "Going back to the version before"
        switch_to "$previous"
        restart_all || say "The version before does not start either; see: journalctl -u edge-depth -n 50"
    fi
    rm -rf "$new"
}

# Builds from a copy: root's build files would be in the way of the checkout's owner, and old ones in that of a build.
install_program() {
    mkdir -p "$prefix/versions"
    local free
    free=$(df --output=avail -k "$prefix" | tail -1)
    [ "$free" -ge "$needed_kb" ] || die "needs $((needed_kb / 1000)) MB free in $prefix, where there are $((free / 1000))"
    copy=$(mktemp -d)
    cp -r "$root"/{edge,setup.cfg,pyproject.toml,README.md,LICENSE} "$copy"
    new=$(mktemp -d "$prefix/versions/$(date +%Y%m%d-%H%M%S)-XXXX")
    chmod 755 "$new"
    install_edge_depth "$new" true "${copy}[onnx]"
    install -m 644 "$root/systemd/edge-depth.service" "$new"
}

# The new version must work on this machine before anything of the old one is touched.
try_program() {
    local file picture
    say "Trying the new version on a picture"
    picture=$(find "$root/edge/data/photos" -name '*.jpg' | sort | head -1)
    "$new/bin/edge-depth" predict --weights starter-v2 -o "$new" "$picture" >/dev/null ||
        die "the network does not run here; \`edge-depth doctor\` of the checkout says more. Nothing is changed"
    for file in "${config%/*}"/edge-depth*.yaml; do
        if [ ! -e "$file" ] || "$new/bin/edge-depth" check "$file" >/dev/null; then
            continue
        elif [ -n "$previous" ] && "$previous/bin/edge-depth" check "$file" >/dev/null 2>&1; then
            die "the new version does not take $file, as said above. Nothing is changed: mend it and run this again"
        fi
        # As with a variable that only the service has, from a drop-in; whether it starts is seen soon.
        say "Going on although $file is refused, as said above: no version before has taken it here"
    done
}

install_config() {
    local name
    getent group "$group" >/dev/null || groupadd --system "$group"
    for name in edge-depth edge-depth@; do
        mkdir -p "$units/$name.service.d"
        cat >"$units/$name.service.d/$drop_in" <<DROP_IN
# Written by scripts/install.sh: the service may read what the group may.
[Service]
SupplementaryGroups=$group
ConfigurationDirectoryMode=2755
DROP_IN
    done
    # What is put there later belongs to the group too.
    install -d -m 2755 -g "$group" "${config%/*}"
    if [ -e "$config" ]; then
        say "Keeping the configuration $config"
    else
        say "Writing the configuration $config"
        install -m 640 -g "$group" "$root/config/edge-depth.yaml" "$config"
    fi
}

# hide_config : let nobody but root and the services read the configurations that older versions left for everybody. Every
# service is in the group by now.
hide_config() {
    local file
    for file in "${config%/*}"/edge-depth*.yaml; do
        [ ! -L "$file" ] && [ -n "$(find "$file" -type f -perm -o=r 2>/dev/null)" ] || continue
        say "From now on only root, its owner and the services read $file"
        if ! chgrp "$group" "$file" || ! chmod g=r,o= "$file"; then
            say "That failed; mend it by hand"
        fi
    done
}

# switch_to VERSION : let command and units be those of that version. The service is enabled once, before there is a
# program: where there is one and it isn't enabled, its owner wants that.
switch_to() {
    mkdir -p "$units" "${link%/*}"
    for name in edge-depth edge-depth@; do
        install -m 644 "$1/edge-depth.service" "$units/$name.service"
    done
    ln -sfn "$command" "$link"
    systemctl daemon-reload
    [ -n "$previous" ] || systemctl enable edge-depth
    ln -sfn "$1" "$prefix/venv.new"
    mv -T "$prefix/venv.new" "$prefix/venv"
}

# list_services [OPTION] : print a line for each service of ours that systemd knows: unit, loaded or not, state.
list_services() { systemctl list-units --plain --no-legend "$@" edge-depth.service 'edge-depth@*.service'; }

# What runs, and what is about to: loading, or waiting for a camera to be tried again.
running=() starting=()

find_services() {
    local unit state
    while read -r unit _ state _; do
        case $state in
            active | reloading | refreshing) running+=("$unit") ;;
            activating) starting+=("$unit") ;;
        esac
    done < <(list_services)
}

# restart_all : restart what ran before; whether all of it is ready, and still the same process some seconds later.
# What was about to start is started again too, since the version that it was started from goes; nobody waits for it.
restart_all() {
    local unit pid
    for unit in "${starting[@]}"; do
        systemctl restart --no-block "$unit"
    done
    for unit in "${running[@]}"; do
        systemctl restart "$unit" || return 1
        pid=$(systemctl show -P MainPID "$unit")
        sleep "$settle_seconds"
        systemctl is-active --quiet "$unit" && [ "$(systemctl show -P MainPID "$unit")" = "$pid" ] || return 1
    done
}

switch_over() {
    local services
    if [ -n "$previous" ]; then
        find_services
        services=("${running[@]}" "${starting[@]}")
        say "Switching to the new version${services[*]:+ and restarting ${services[*]}; each may take a minute}"
    fi
    switched=yes
    switch_to "$new"
    restart_all || die "the new version does not start; its words: journalctl -u edge-depth -n 50"
}

# first_start : start the service where nothing of ours runs or is about to, unless its owner disabled it. That may fail
# for what is not there yet: a camera, or a broker's password. The program itself was tried.
first_start() {
    [ ${#running[@]} = 0 ] && [ ${#starting[@]} = 0 ] && systemctl is-enabled --quiet edge-depth || return 0
    say "Starting edge-depth; loading the model takes up to a minute"
    running=(edge-depth.service)
    restart_all && return
    systemctl stop edge-depth
    "$command" doctor --config "$config" || true
    die "installed, but stopped, since it does not start yet; mend what is said above, then: sudo systemctl start edge-depth"
}

# The new version is trusted: nothing of it is undone any more, and no other is needed.
trust() {
    local version
    new=''
    for version in "$prefix"/versions/*; do
        [ "$version" -ef "$prefix/venv" ] || rm -rf "$version"
    done
}

next_steps() {
    local unit
    echo
    for unit in "${running[@]}" "${starting[@]}"; do
        if systemctl is-active --quiet "$unit"; then
            echo "${unit%.service} runs$(systemctl is-enabled --quiet "$unit" && echo ' and starts with the machine')."
        else
            echo "${unit%.service} is being started, and does not run yet."
        fi
    done
    if [ -z "${running[*]}${starting[*]}" ]; then
        echo "edge-depth is installed, but disabled, and does not run: sudo systemctl enable --now edge-depth"
    fi
    cat <<STEPS
Next:

  sudo nano $config     name the camera and the broker
  sudo STATE_DIRECTORY=/var/lib/edge-depth edge-depth weights fetch     the official weights
  sudo STATE_DIRECTORY=/var/lib/edge-depth edge-depth export            the files of the faster engines
  sudo edge-depth check $config
  sudo systemctl restart edge-depth
  sudo edge-depth doctor --config $config       what is wrong, where something is
  journalctl -u edge-depth -f                   what it does
STEPS
}

uninstall() {
    local unit
    say "Removing the services and $prefix"
    for unit in $(list_services --all | cut -d' ' -f1) \
        $(cd "$units/multi-user.target.wants" 2>/dev/null && ls -d edge-depth*.service 2>/dev/null); do
        systemctl stop "$unit"
        systemctl disable "$unit"
    done
    rm -rf "$units"/edge-depth{,@}.service "$units"/edge-depth{,@}.service.d/"$drop_in" "$prefix" "$link"
    rmdir --ignore-fail-on-non-empty "$units"/edge-depth{,@}.service.d 2>/dev/null || true
    systemctl daemon-reload
    say "Kept: ${config%/*} and /var/lib/private/edge-depth*; remove them by hand when they are not wanted any more"
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
    previous=$(readlink "$prefix/venv" || true)
    trap undo EXIT
    install_packages
    install_program
    try_program
    install_config
    switch_over
    hide_config
    trust
    first_start
    next_steps
fi
