#!/bin/bash
# Takes the commands that the public images of postgres, valkey and seaweedfs take, so that the chart need not know which it got.
set -euo pipefail
case "${1-}" in
  postgres)
    : "${PGDATA:=/var/lib/postgresql/data}" "${POSTGRES_USER:=postgres}" "${POSTGRES_DB:=$POSTGRES_USER}"
    export PGDATA
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
      initdb --username="$POSTGRES_USER" --pwfile=<(echo "${POSTGRES_PASSWORD:?}") --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync >/dev/null
      echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
      if [ "$POSTGRES_DB" != postgres ]; then
        echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -D "$PGDATA" postgres >/dev/null
      fi
    fi
    shift
    exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
    ;;
  server | mini | master | volume | filer | s3) exec weed "$@" ;; # seaweedfs' image starts its program for the bare name of a part
  *) exec "$@" ;;
esac
