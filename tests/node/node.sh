# What up, down, load and apiserver share. For sourcing, after `set -euo pipefail`.
#
# A node is one process tree: `unshare` gives it its own processes, mounts and network, and the end of
# its first process ends all of it. What remains are its control groups and its directory. Inside, the
# node's directory is at /mnt, whatever its name outside, and /run, /var/lib and /var/log are its own.
# shellcheck shell=bash

PATH=$PATH:/usr/sbin:/sbin

# One file a node, named as the node is, so that a later run finds what an earlier one left.
registry=/run/cmk-node

say() { printf 'node: %s\n' "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

# Waits until the command after $1 seconds and a description succeeds: `until_true 60 'the API server' cmd`.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= deadline)); then
      say "waited in vain for $what"
      return 1
    fi
    sleep 0.1
  done
}

# The absolute path of a node's directory. It must exist.
directory_of() {
  [[ -n ${1:-} && -d $1 ]] || fail "there is no directory '${1:-}'"
  (cd "$1" && pwd -P)
}

# The time at which the process $1 started, in ticks since the machine did: with the number, it says
# which process is meant, as numbers are used again. The name in parentheses may hold spaces.
start_of() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  stat=${stat##*) }
  # shellcheck disable=SC2086
  set -- $stat
  echo "${20}"
}

# Whether the process of "NUMBER START" lives.
lives() {
  local number start
  read -r number start <<<"$1"
  [[ -n $start && $(start_of "$number") == "$start" ]]
}

ended() { ! lives "$1"; }

# The node's first process, as seen from outside; fails when it is gone.
init_of() {
  local init
  init=$(cat "$1/run/init" 2>/dev/null) || return 1
  lives "$init" && echo "${init%% *}"
}

# Runs a command inside the node of the directory $1.
enter() {
  local init
  init=$(init_of "$1") || fail "no node runs in $1"
  shift
  nsenter --target "$init" --mount --pid --net -- "$@"
}

# Starts the component $2 of the node in $1 with the arguments that follow; its output goes to a log.
start_component() {
  local directory=$1 name=$2
  shift 2
  # shellcheck disable=SC2016
  setsid nsenter --target "$(init_of "$directory")" --mount --pid --net -- bash -c '
    echo $$ >"/mnt/run/$1.pid"
    cd /mnt/work
    PATH=/mnt/bin:$PATH exec "$@"
  ' component "$name" "$@" </dev/null >>"$directory/logs/$name.log" 2>&1 &
}

# Sends the signal $3 to the component $2, and waits until it is gone.
stop_component() {
  local pid
  pid=$(cat "$1/run/$2.pid" 2>/dev/null) || return 0
  rm -f "$1/run/$2.pid"
  enter "$1" kill "-$3" "$pid" 2>/dev/null || return 0
  # shellcheck disable=SC2016
  until_true 90 "the end of $2" enter "$1" bash -c '! kill -0 "$1" 2>/dev/null' - "$pid"
}

# Whether the component still runs.
component_runs() {
  local pid
  pid=$(cat "$1/run/$2.pid" 2>/dev/null) && enter "$1" kill -0 "$pid" 2>/dev/null
}

# Makes the control group $1, under which the kubelet has all others. With version 1 there is one in
# each hierarchy; with version 2 only one, whose controllers the root has to pass on.
make_cgroups() {
  local root=/sys/fs/cgroup hierarchy controller controllers
  if [[ ! -e $root/cgroup.controllers ]]; then
    for hierarchy in "$root"/*/; do mkdir -p "$hierarchy$1"; done
    return
  fi
  mkdir -p "$root/$1"
  read -ra controllers <"$root/cgroup.controllers"
  for controller in "${controllers[@]}"; do
    echo "+$controller" >"$root/cgroup.subtree_control" || say "the controller $controller is not to be had"
  done
}

# Removes the control groups called $1, in every hierarchy, and first what may still run in them.
remove_cgroups() {
  local group procs pid
  while read -r group; do
    while read -r procs; do
      while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done <"$procs"
    done < <(find "$group" -name cgroup.procs)
    until_true 20 "the end of what is in $group" remove_cgroup "$group" || true
  done < <(find /sys/fs/cgroup -maxdepth 2 -type d -name "$1" 2>/dev/null)
}

remove_cgroup() {
  find "$1" -depth -type d -exec rmdir {} + || [[ ! -e $1 ]]
}

# Ends the node that the file $1 of the registry names, and removes what it left outside its
# directory. The files in the directory stay, for those who want to read the logs.
tear_down() {
  local entry=$1 name init=
  name=$(basename "$entry")
  init=$(sed -n 's/^init //p' "$entry")
  if [[ -n $init ]] && lives "$init"; then
    kill -KILL "${init%% *}" 2>/dev/null || true
    until_true 30 "the end of node $name" ended "$init" || true
  fi
  remove_cgroups "$name"
  # It goes with the network namespace, but not at once.
  ip link delete "$name" 2>/dev/null || true
  rm -f "$entry"
}

# The registry's files of the nodes in the directory $1.
entries_of() {
  local entry
  for entry in "$registry"/cmk-*; do
    [[ -f $entry && $(sed -n 's/^directory //p' "$entry") == "$1" ]] && echo "$entry"
  done
  return 0
}

# Ends the nodes that nobody wants any more: their directory is gone, or their owner is.
tear_down_stale() {
  local entry directory owner
  for entry in "$registry"/cmk-*; do
    [[ -f $entry ]] || continue
    directory=$(sed -n 's/^directory //p' "$entry")
    owner=$(sed -n 's/^owner //p' "$entry")
    if [[ ! -d $directory ]] || { [[ -n $owner ]] && ! lives "$owner"; }; then
      say "removing $(basename "$entry"), which nobody uses any more"
      tear_down "$entry"
    fi
  done
}
