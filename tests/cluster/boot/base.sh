#!/bin/bash
# Makes the base of all images once: it stands in for python:3.11-slim-bookworm and is made of Debian's own packages, since it must work
# where no registry can be reached.
set -euo pipefail
. "$(dirname "$0")/env.sh"
mkdir -p "$CACHE"
exec 8>"$CACHE/base.lock"
flock 8 # the cluster's own images and ours may be built at the same time
! store images --quiet $BASE_IMAGE >/dev/null 2>&1 || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
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
