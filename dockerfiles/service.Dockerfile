# The service: API, worker and migrations; the command says which. There is no torch in it and nothing of the trainer.
#   docker build -f dockerfiles/service.Dockerfile -t dayrun-service .
# Two build secrets may be given: `index`, a shell file that exports where packages come from (UV_DEFAULT_INDEX, PIP_INDEX_URL, …), and `ca`,
# certificates that it can name as /run/secrets/ca. Neither they nor what they say stay in a layer.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE}
# Debian keeps one version of a package in a release: a pin would break the build on the day of a security fix
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf /var/log/apt /var/log/dpkg.log \
 && groupadd --gid 10001 dayrun \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin dayrun \
 && install --directory --owner 10001 --group 10001 /var/lib/dayrun
COPY requirements/uv.txt requirements/service.txt /requirements/
ARG UV_CACHE_DIR=/var/cache/uv
RUN --mount=type=cache,target=/var/cache/uv --mount=type=secret,id=index --mount=type=secret,id=ca \
    if [ -f /run/secrets/index ]; then . /run/secrets/index; fi \
 && python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --quiet --no-cache-dir --require-hashes -r /requirements/uv.txt \
 && python3 -m venv --without-pip /opt/venv \
 && /opt/uv/bin/uv pip install --python /opt/venv/bin/python --require-hashes --link-mode=copy --compile-bytecode -r /requirements/service.txt \
 && rm -rf /opt/uv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DAYRUN_HOST=0.0.0.0 \
    DAYRUN_PORT=8765
WORKDIR /app
COPY LICENSE NOTICE dockerfiles/health.py dockerfiles/sbom.py ./
COPY migrations migrations
COPY dayrun dayrun
COPY k8s k8s
COPY service service
# checked by content, not by time: a copy of a layer may round its files' times, and nothing can write new bytecode later
RUN python -m compileall -q --invalidation-mode unchecked-hash . \
 && printf '#!/opt/venv/bin/python\nfrom dayrun.cli import main\n\nmain()\n' > /opt/venv/bin/dayrun \
 && chmod 755 /opt/venv/bin/dayrun \
 && python sbom.py dayrun-service > sbom.json
ARG VERSION=0 REVISION=unknown
LABEL org.opencontainers.image.title="dayrun-service" \
      org.opencontainers.image.description="API, worker and migrations of dayrun" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
EXPOSE 8765
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "health.py"]
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "service.api"]
