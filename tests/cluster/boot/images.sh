#!/bin/bash
# Builds our images with buildah, and hands them to the cluster if it runs: images.sh [--build-only | --hand-over-only] [service] [trainer] [parts]; these by default.
# `worker` (docker-compose.yml) stands on the trainer, and no cluster needs it: --build-only worker.
# Cold, the trainer takes two to six minutes (torch); layers are kept, and changed code costs seconds. DAYRUN_IMAGE_TAG keeps the images of
# two working trees apart.
set -euo pipefail
. "$(dirname "$0")/env.sh"
"$SCRIPTS/base.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Where this machine's packages come from is the build's secret: no address and no certificate of it gets into an image.
{
  for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL UV_DEFAULT_INDEX UV_INDEX; do
    [ -z "${!name-}" ] || printf 'export %s=%q\n' "$name" "${!name}"
  done
  if index=$(python3 -m pip config get global.index-url 2>/dev/null); then printf 'export PIP_INDEX_URL=%q UV_DEFAULT_INDEX=%q\n' "$index" "$index"; fi
  echo 'export PIP_CERT=/run/secrets/ca SSL_CERT_FILE=/run/secrets/ca'
} >"$work/index"
cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$work/ca"

# the packages that made this machine's environment are made use of again
uv_cache="${UV_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/uv}"
mkdir -p "$uv_cache"
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$ROOT/dayrun/__init__.py")
revision=$(git -C "$ROOT" rev-parse HEAD 2>/dev/null || echo unknown)
build() { # NAME FILE [TARGET]
  local before
  before=$(store images --quiet "localhost/dayrun-$1:$TAG" 2>/dev/null || true)
  # docker's format, since the other knows no health check
  store bud --quiet --layers --format docker --network host --build-arg BASE=$BASE_IMAGE --build-arg UV_CACHE_DIR=/mnt/uv-cache --volume "$uv_cache:/mnt/uv-cache" \
    --secret "id=index,src=$work/index" --secret "id=ca,src=$work/ca" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    --ignorefile "$ROOT/.dockerignore" --tag "localhost/dayrun-$1:$TAG" --file "$ROOT/$2" ${3:+--target "$3"} "$ROOT" >"$work/id" 2>"$work/log" || { tail -n 30 "$work/log" >&2; exit 1; }
  # the predecessor goes, and with it the layers that no other image has: torch's would fill the disk soon
  [ -z "$before" ] || [ "$before" = "$(store images --quiet "localhost/dayrun-$1:$TAG")" ] ||
    store rmi "$before" >/dev/null 2>&1 || true # a build beside this one may stand on it
}
build=1 hand_over=1
case ${1-} in
  --build-only) hand_over=0; shift ;;
  --hand-over-only) build=0; shift ;;
esac
[ $# -gt 0 ] || set -- parts service trainer
for name in "$@"; do
  start=$SECONDS target=
  case $name in
    parts) file=tests/cluster/parts.Dockerfile ;;
    service | trainer) file=dockerfiles/$name.Dockerfile ;;
    worker) file=dockerfiles/trainer.Dockerfile target=worker ;;
    *) echo "images: $name is none of service, trainer, worker, parts" >&2; exit 2 ;;
  esac
  [ $build = 0 ] || build "$name" "$file" "$target"
  built=$((SECONDS - start))
  [ $hand_over = 0 ] || [ ! -S "$SOCK" ] || python3 "$SCRIPTS/load.py" "localhost/dayrun-$name:$TAG"
  echo "images: localhost/dayrun-$name:$TAG built in $built s, handed over in $((SECONDS - start - built)) s"
done
