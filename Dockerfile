# docker build --build-arg REVISION="$(git rev-parse HEAD)" -t handoff .
# It needs BuildKit (for the cache mounts): the default from Docker 23 on, DOCKER_BUILDKIT=1 before.
# The binary links only the C library dynamically: OpenSSL (for Kafka), zlib and zstd are built from source. The image that is
# not slim has what that needs (a C and C++ compiler, make, perl).

FROM rust:1.95-bookworm AS build
# Lists the dependencies inside the binary, for scanners of images (cargo audit bin, trivy, grype).
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo install --locked cargo-auditable@0.7.7
WORKDIR /src
COPY . .
ARG REVISION=unknown
ENV HANDOFF_REVISION=${REVISION}
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo auditable build --release --locked --bin handoff \
 && cp target/release/handoff /handoff \
 && mkdir /ledger

# Only the C library and CA certificates (for Desk and for Kafka): no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG REVISION=unknown
LABEL org.opencontainers.image.title="handoff" \
      org.opencontainers.image.description="Hands chatbot escalations from Kafka to human agents in Tencent Cloud Desk" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /handoff /usr/local/bin/handoff
# The directory of the ledger sqlite://handoff.db, the only place that is written to: the root may be read-only. Keep the volume:
# without the ledger, parked events are lost. With PostgreSQL nothing is written.
COPY --from=build --chown=10001:10001 /ledger /var/lib/handoff
WORKDIR /var/lib/handoff
VOLUME /var/lib/handoff
# Numbers, because Kubernetes cannot tell for a name that it is not root (runAsNonRoot).
USER 10001:10001
EXPOSE 9464
# The admin port listens on 127.0.0.1 only, unless HANDOFF__ADMIN__LISTEN=0.0.0.0:9464 is set. No HEALTHCHECK, because other commands
# than `run` have no such port: `handoff health` asks it from inside.
ENTRYPOINT ["handoff"]
CMD ["run"]
