# Images of Volley and of its benchmarks.
#
#   docker build -t volley .                          compiles everything: half an hour on a small machine
#   docker build -t volley-bench --target bench .     the same, with volley-bench
#   docker build --build-arg BUILDER=debian:bookworm-slim ..
#                                                     takes the programs as they are from the folder dist
#
# No stage needs more of a builder than the classic one has, which makes all stages above the one it is asked for.

# What programs are compiled in; without cargo they are to be there already.
ARG BUILDER=rust:1.95-bookworm

FROM debian:bookworm-slim AS runtime
# For object stores that are spoken to over TLS; a base that has them is left as it is.
RUN [ -s /etc/ssl/certs/ca-certificates.crt ] || { \
        apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*; }
# A volume takes its owner from the folder that it is mounted on for the first time.
RUN mkdir -p /data /var/lib/volley/state /var/lib/volley/warehouse /var/lib/volley/work \
    && chown -R 10001:10001 /data /var/lib/volley
ENV VOLLEY_STATE_DIR=/var/lib/volley/state \
    VOLLEY_WAREHOUSE=/var/lib/volley/warehouse \
    VOLLEY_WORK_DIR=/var/lib/volley/work
# A number, so that an orchestrator can tell that it is not root.
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["volley"]
CMD ["--help"]
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s --retries=3 CMD ["volley", "health"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Volley" \
      org.opencontainers.image.description="Distributed batch SQL engine: scheduler, executor and shell in one program" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

FROM ${BUILDER} AS build
# `release-dev` takes a fraction of the time to compile, and is larger and slower.
ARG PROFILE=release
WORKDIR /volley
COPY . .
RUN mkdir /programs \
    && if command -v cargo >/dev/null; then \
        cargo build --locked --profile "$PROFILE" --workspace --bins \
        && strip -o /programs/volley "target/$PROFILE/volley" \
        && strip -o /programs/volley-bench "target/$PROFILE/volley-bench"; \
    else cp dist/volley dist/volley-bench /programs/; fi

FROM runtime AS bench
COPY --from=build /programs/volley-bench /usr/local/bin/
ENTRYPOINT ["volley-bench"]
HEALTHCHECK NONE

FROM runtime AS volley
COPY --from=build /programs/volley /usr/local/bin/
