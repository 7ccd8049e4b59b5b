# Conversion on a Ray cluster: the trainer's image with what requirements/data.txt adds. KubeRay starts head and workers from it.
#   docker build -f dockerfiles/data.Dockerfile --build-arg TRAINER=dayrun-trainer -t dayrun-data .
# Build secrets `index` and `ca`: as in service.Dockerfile.
ARG TRAINER=dayrun-trainer

FROM ${TRAINER}
USER 0
# what KubeRay's probes ask with
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends wget \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf /var/log/apt /var/log/dpkg.log
COPY requirements/uv.txt requirements/data.txt /requirements/
ARG UV_CACHE_DIR=/var/cache/uv
RUN --mount=type=cache,target=/var/cache/uv --mount=type=secret,id=index --mount=type=secret,id=ca \
    if [ -f /run/secrets/index ]; then . /run/secrets/index; fi \
 && python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --quiet --no-cache-dir --require-hashes -r /requirements/uv.txt \
 && /opt/uv/bin/uv pip install --python /opt/venv/bin/python --require-hashes --link-mode=copy --compile-bytecode -r /requirements/data.txt \
 && rm -rf /opt/uv \
 && python sbom.py dayrun-data > sbom.json
ARG VERSION=0 REVISION=unknown
LABEL org.opencontainers.image.title="dayrun-data" \
      org.opencontainers.image.description="Conversion of training data on Ray" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
HEALTHCHECK NONE
CMD ["python", "-m", "trainer.data.convert", "--help"]
