#!/bin/bash
# The images that are there before ours: the pause container and the training operator, for the cluster; and a base for all images,
# which stands in for python:3.11-slim-bookworm: made of Debian's own packages, since it must work where no registry can be reached.
# Each is made once; those of the cluster are handed to it when it has not got them.
set -euo pipefail
. "$(dirname "$0")/env.sh"
made() { store images --quiet "$1" >/dev/null 2>&1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! made $BASE_IMAGE; then
  echo "cluster: making the base image of Debian's packages"
  mirror=$(awk '/^URIs:/ { print $2; exit }' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
  # what the public image has beside a bare Debian, and what its slimness leaves out
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/root" "${mirror:-http://deb.debian.org/debian}" >"$work/log" ||
    { tail "$work/log" >&2; exit 1; }
  rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/* "$work"/root/usr/share/{doc,man,locale,info}/*
  c=$(store from scratch)
  tar -C "$work/root" -cf "$work/root.tar" .
  store add --quiet "$c" "$work/root.tar" / >/dev/null
  store config --cmd /bin/bash "$c"
  store commit --quiet --rm "$c" $BASE_IMAGE >/dev/null
fi
if ! made localhost/pause:1; then
  # Debian has no pause program: it waits, reaps what is handed to it, and ends when it is asked to
  cat >"$work/pause.c" <<'C'
#include <signal.h>
#include <unistd.h>
static void end(int number) { _exit(0); }
int main(void) {
  signal(SIGTERM, end);
  signal(SIGINT, end);
  signal(SIGCHLD, SIG_IGN);
  for (;;) pause();
}
C
  gcc -static -O2 -o "$work/pause" "$work/pause.c"
  c=$(store from scratch)
  store copy --quiet "$c" "$work/pause" /pause >/dev/null
  store config --entrypoint '["/pause"]' "$c"
  store commit --quiet --rm "$c" localhost/pause:1 >/dev/null
fi
if ! made "$OPERATOR_IMAGE"; then
  c=$(store from $BASE_IMAGE)
  store copy --quiet "$c" "$OPERATOR_BIN/training-operator" /manager >/dev/null
  # the operator puts an init container before workers which asks this program until the master has an address
  printf '#!/bin/sh\nexec getent hosts "$1"\n' >"$work/nslookup"
  chmod +x "$work/nslookup"
  store copy --quiet "$c" "$work/nslookup" /usr/bin/nslookup >/dev/null
  store commit --quiet --rm "$c" "$OPERATOR_IMAGE" >/dev/null
fi
[ ! -S "$SOCK" ] || python3 "$SCRIPTS/load.py" localhost/pause:1 "$OPERATOR_IMAGE"
