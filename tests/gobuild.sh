# Builds programs from pinned Go modules into a cache outside the checkout. For sourcing, after
# `set -euo pipefail`, by the scripts called build that make what tests use; those define
#
#   gobuild_name        the directory in the cache, and the prefix of messages
#   gobuild_modules     the directories with go.mod and go.sum
#   gobuild_programs    the names of the programs
#   gobuild_source NAME prints the module's directory, the package and the arguments of `go build`,
#                       one a line
#   gobuild_expected NAME  prints how long the first build takes on two cores
#   gobuild_files       the sources that are here and not in a module with a version (may be left out)
#
# and call `gobuild SCRIPT`. The programs are then in "$gobuild_bin".
#
#   CMK_TESTBED_CACHE   where to keep them (default: ${XDG_CACHE_HOME:-$HOME/.cache}/cmk-operator)
# shellcheck shell=bash disable=SC2154

say() { printf '%s: %s\n' "$gobuild_name" "$*" >&2; }

# The programs that are not built yet.
gobuild_missing() {
  local name
  for name in "${gobuild_programs[@]}"; do [[ -x $gobuild_bin/$name ]] || echo "$name"; done
}

# Runs a command up to three times: what was downloaded by then stays, and a registry may fail once.
gobuild_persistently() {
  local try
  for try in 1 2; do
    "$@" && return
    say "failed (try $try of 3); again in 5 s ..."
    sleep 5
  done
  "$@"
}

# Builds $1: under another name first, so that a name in the cache is always a whole binary. The lock
# is not for go's own children, which may stay behind.
gobuild_one() {
  local source
  mapfile -t source < <(gobuild_source "$1")
  gobuild_persistently env CGO_ENABLED=0 GOWORK=off go build -C "${source[0]}" -mod=readonly -trimpath -buildvcs=false \
    "${source[@]:2}" -o "$gobuild_bin/.$1.new" "${source[1]}" >&2 9>&-
  mv -f "$gobuild_bin/.$1.new" "$gobuild_bin/$1"
}

# Builds what is missing. $1 is the calling script: the cache's key is made of it, the pins, our own
# sources and the Go version, so that a clean clone finds the programs again.
gobuild() {
  if ! command -v go >/dev/null; then
    say "cannot build ${gobuild_programs[*]}: there is no 'go' command." \
      'Install Go (https://go.dev/doc/install).'
    exit 1
  fi
  local key cache name step=0 started
  # cat and not names: the key must not depend on where the checkout is.
  key=$({
    for name in "${gobuild_modules[@]}"; do cat "$name"/go.{mod,sum}; done
    cat ${gobuild_files[@]+"${gobuild_files[@]}"} "$1" "${BASH_SOURCE[0]}"
    GOWORK=off go -C "${gobuild_modules[0]}" env GOVERSION GOOS GOARCH
  } | sha256sum | cut -c1-16)
  cache=${CMK_TESTBED_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cmk-operator}/$gobuild_name/$key
  mkdir -p "$cache/bin"
  gobuild_bin=$(cd "$cache/bin" && pwd)
  if [[ -z $(gobuild_missing) ]]; then
    say "already built: $gobuild_bin"
    return
  fi
  # One build at a time: a second run waits and then finds the first one's programs.
  exec 9>"$cache/lock"
  if ! flock -n 9; then
    say 'another run is building: waiting for it'
    flock 9
  fi
  for name in "${gobuild_programs[@]}"; do
    step=$((step + 1))
    [[ -x $gobuild_bin/$name ]] && continue
    say "[$step/${#gobuild_programs[@]}] $name: building, $(gobuild_expected "$name") the first time ..."
    started=$SECONDS
    gobuild_one "$name"
    say "[$step/${#gobuild_programs[@]}] $name: done in $((SECONDS - started)) s"
  done
  exec 9>&-
}
