# docker build -t handoff .
# The binary has everything in it but the C library: OpenSSL (for Kafka), zlib and zstd are built from source.

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
# The certificates are for Desk (HTTPS) and for Kafka (ssl.ca.location=probe finds them).
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/handoff --create-home handoff
COPY --from=build /handoff /usr/local/bin/handoff
# The ledger sqlite://handoff.db lies here: keep the volume, it is what handoff remembers across restarts.
WORKDIR /var/lib/handoff
VOLUME /var/lib/handoff
USER handoff
EXPOSE 9464
# No HEALTHCHECK: orchestrators ask GET /health (alive) and GET /ready (takes escalations) on the admin port,
# which listens beyond 127.0.0.1 only with HANDOFF__ADMIN__LISTEN=0.0.0.0:9464.
ENTRYPOINT ["handoff"]
CMD ["run"]
