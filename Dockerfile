# docker build -t handoff .
# It needs BuildKit (for the cache mounts): the default from Docker 23 on, DOCKER_BUILDKIT=1 before.
# The binary links only the C library dynamically: OpenSSL (for Kafka), zlib and zstd are built from source.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc g++ libc6-dev make perl \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin handoff \
 && cp target/release/handoff /handoff

FROM debian:bookworm-slim
# CA certificates, used for Desk (HTTPS) and for Kafka (librdkafka's ssl.ca.location=probe).
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/handoff --create-home handoff
COPY --from=build /handoff /usr/local/bin/handoff
# The directory of the ledger sqlite://handoff.db. Keep the volume: without the ledger, parked events are lost.
WORKDIR /var/lib/handoff
VOLUME /var/lib/handoff
USER handoff
EXPOSE 9464
# No HEALTHCHECK: orchestrators probe GET /health (liveness) and GET /ready (readiness) on the admin port. It listens on
# 127.0.0.1 only, unless HANDOFF__ADMIN__LISTEN=0.0.0.0:9464 is set.
ENTRYPOINT ["handoff"]
CMD ["run"]
