# The trainer, and torch with the CUDA libraries that it brings: one image for GPUs and for the CPU. Nothing of the service is in it.
#   docker build -f dockerfiles/trainer.Dockerfile -t dayrun-trainer .
# `--target worker` puts a worker of the service on top, whose runs train in its own container: docker-compose.yml has one.
# Build secrets `index` and `ca`: as in service.Dockerfile.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS trainer
# gcc and Python's headers: what torch.compile generates for a GPU is started from a C file that is compiled on the node.
# Debian keeps one version of a package in a release: a pin would break the build on the day of a security fix.
# hadolint ignore=DL3008
RUN apt-get update \
 && headers=$(python3 -c 'import os, sysconfig; print("" if os.path.exists(sysconfig.get_path("include") + "/Python.h") else "libpython3-dev")') \
 && apt-get install -y --no-install-recommends tini gcc libc6-dev ${headers:+"$headers"} \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf /var/log/apt /var/log/dpkg.log \
 && groupadd --gid 10001 dayrun \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin dayrun
ARG UV_CACHE_DIR=/var/cache/uv
# torch alone first: 5.5 GB that change once a quarter stand under everything that changes more often
COPY requirements/uv.txt requirements/torch.txt /requirements/
RUN --mount=type=cache,target=/var/cache/uv --mount=type=secret,id=index --mount=type=secret,id=ca \
    if [ -f /run/secrets/index ]; then . /run/secrets/index; fi \
 && python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --quiet --no-cache-dir --require-hashes -r /requirements/uv.txt \
 && python3 -m venv --without-pip /opt/venv \
 && /opt/uv/bin/uv pip install --python /opt/venv/bin/python --require-hashes --link-mode=copy --compile-bytecode -r /requirements/torch.txt \
 && rm -rf /opt/uv
COPY requirements/uv.txt requirements/trainer.txt /requirements/
RUN --mount=type=cache,target=/var/cache/uv --mount=type=secret,id=index --mount=type=secret,id=ca \
    if [ -f /run/secrets/index ]; then . /run/secrets/index; fi \
 && python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --quiet --no-cache-dir --require-hashes -r /requirements/uv.txt \
 && /opt/uv/bin/uv pip install --python /opt/venv/bin/python --require-hashes --link-mode=copy --compile-bytecode -r /requirements/trainer.txt \
 && rm -rf /opt/uv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY LICENSE NOTICE dockerfiles/sbom.py ./
COPY dayrun dayrun
COPY trainer trainer
# checked by content, not by time: a copy of a layer may round its files' times, and nothing can write new bytecode later
RUN python -m compileall -q --invalidation-mode unchecked-hash . \
 && python sbom.py dayrun-trainer > sbom.json
ARG VERSION=0 REVISION=unknown
LABEL org.opencontainers.image.title="dayrun-trainer" \
      org.opencontainers.image.description="Trainer of dayrun, started by torchrun" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
# it listens on nothing; whether it lives is seen by how its run folder grows
HEALTHCHECK NONE
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "trainer", "--help"]

FROM trainer AS worker
USER 0
COPY requirements/uv.txt requirements/service.txt requirements/demo.txt /requirements/
RUN --mount=type=cache,target=/var/cache/uv --mount=type=secret,id=index --mount=type=secret,id=ca \
    if [ -f /run/secrets/index ]; then . /run/secrets/index; fi \
 && python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --quiet --no-cache-dir --require-hashes -r /requirements/uv.txt \
 && /opt/uv/bin/uv pip install --python /opt/venv/bin/python --require-hashes --link-mode=copy --compile-bytecode \
      -r /requirements/service.txt -r /requirements/demo.txt \
 && rm -rf /opt/uv \
 && install --directory --owner 10001 --group 10001 /var/lib/dayrun
COPY k8s k8s
COPY service service
COPY demo demo
RUN python -m compileall -q --invalidation-mode unchecked-hash k8s service demo \
 && python sbom.py dayrun-worker > sbom.json
ARG VERSION=0 REVISION=unknown
LABEL org.opencontainers.image.title="dayrun-worker" \
      org.opencontainers.image.description="Worker of dayrun that trains in its own container" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
CMD ["python", "-m", "service.worker"]

# what is built where no target is named
FROM trainer
