# The two images:
#
#   docker build --build-arg REVISION=$(git rev-parse HEAD) --target operator .
#   docker build --build-arg REVISION=$(git rev-parse HEAD) --target bridge .
#
# The programs, the libraries they are linked to, the authorities of the web, and nothing else: no shell, no package manager,
# nobody but user 65532, nothing that has to be written. `make images` builds the same two last stages without a network.
FROM docker.io/library/rust:1.95-slim-trixie AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils ca-certificates \
    && rm -rf /var/lib/apt/lists/*
# Whoever is given the bridge's image finds its source by this label (/licenses/NOTICE): an image without it offers none.
ARG REVISION
RUN case "$REVISION" in '' | unknown) echo 'say which commit this is: docker build --build-arg REVISION=$(git rev-parse HEAD) ...' >&2; exit 1 ;; esac
WORKDIR /src
COPY . .
# Cargo would note the folder's path; the same bytes come from the same commit wherever it is built.
ENV CARGO_INCREMENTAL=0 RUSTFLAGS="--remap-path-prefix=/src=/ --remap-path-prefix=/usr/local/cargo=/cargo"
RUN cargo build --locked --release --bin whatsapp-operator \
    && .ci/rootfs /rootfs/operator target/release/whatsapp-operator \
    && .ci/sbom operator >/rootfs/operator/licenses/sbom.cdx.json
RUN cargo build --locked --release --features bridge --bin whatsapp-bridge \
    && .ci/rootfs /rootfs/bridge target/release/whatsapp-bridge \
    && .ci/sbom bridge >/rootfs/bridge/licenses/sbom.cdx.json

FROM scratch AS operator
COPY --from=build /rootfs/operator/ /
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="whatsapp-operator" \
      org.opencontainers.image.description="Operator, admission webhooks and REST gateway for WhatsApp Web sessions on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/whatsapp-operator/whatsapp-operator" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# One arena for all threads: glibc's own choice, eight for each core, holds a fifth more memory and is no faster (docs/benchmarks.md).
ENV MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072
USER 65532:65532
ENTRYPOINT ["/whatsapp-operator"]

FROM scratch AS bridge
COPY --from=build /rootfs/bridge/ /
ARG VERSION=0.1.0
ARG REVISION=unknown
# As a whole it is to be treated as AGPL-3.0: /licenses/NOTICE says why, and where its source is.
LABEL org.opencontainers.image.title="whatsapp-bridge" \
      org.opencontainers.image.description="The program that holds WhatsApp Web sessions for whatsapp-operator" \
      org.opencontainers.image.licenses="AGPL-3.0-only" \
      org.opencontainers.image.source="https://github.com/whatsapp-operator/whatsapp-operator" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 65532:65532
ENTRYPOINT ["/whatsapp-bridge"]
