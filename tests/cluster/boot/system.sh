#!/bin/bash
# The images that the cluster itself runs: the pause container and the training operator. Made once, and handed to it if it lacks them.
set -euo pipefail
. "$(dirname "$0")/env.sh"
"$SCRIPTS/base.sh"
made() { store images --quiet "$1" >/dev/null 2>&1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

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
python3 "$SCRIPTS/load.py" localhost/pause:1 "$OPERATOR_IMAGE"
