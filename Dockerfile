# The two images:
#
#   docker build --build-arg REVISION=$(git rev-parse HEAD) --target operator .
#   docker build --build-arg REVISION=$(git rev-parse HEAD) --target bridge .
#
# `docker buildx build --platform linux/amd64,linux/arm64 ...` makes them for both architectures: the programs are compiled on the
# machine's own, by a cross compiler, and nothing is emulated.
#
# The programs, the libraries they are linked to, the authorities of the web, and nothing else: no shell, no package manager,
# nobody but user 65532, nothing that has to be written. `make images` builds the same two last stages without a network.

# Builders that know no platforms leave the variable empty; `linux` alone is the machine's own. (An old buildah, 1.28 for one, does not
# know that word: --build-arg BUILDPLATFORM=linux/amd64.)
FROM --platform=${BUILDPLATFORM:-linux} docker.io/library/rust:1.95-slim-trixie AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils ca-certificates \
    && rm -rf /var/lib/apt/lists/*
# Whoever is given the bridge's image finds its source by this label (/licenses/NOTICE): an image without it offers none.
ARG REVISION
RUN case "$REVISION" in '' | unknown) echo 'say which commit this is: docker build --build-arg REVISION=$(git rev-parse HEAD) ...' >&2; exit 1 ;; esac
WORKDIR /src
# Empty as well where platforms are not known. It has no default on purpose: one would take precedence over what the builder says.
ARG TARGETARCH
# What another architecture than the machine's takes; it does not change with the source.
COPY rust-toolchain.toml ./
COPY .ci/architectures .ci/cross-tools .ci/
RUN .ci/cross-tools "${TARGETARCH:-$(dpkg --print-architecture)}" && rm -rf /var/lib/apt/lists/*
COPY . .
RUN export ARCHITECTURES="${TARGETARCH:-$(dpkg --print-architecture)}" \
    && .ci/programs whatsapp-operator whatsapp-bridge \
    && for name in operator bridge; do \
        .ci/rootfs "/rootfs/$name" "target/shipped/$ARCHITECTURES/whatsapp-$name" \
        && ROOTFS="/rootfs/$name" .ci/sbom "$name" "$ARCHITECTURES" >"/rootfs/$name/licenses/sbom.cdx.json" || exit 1; \
    done

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
