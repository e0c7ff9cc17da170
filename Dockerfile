# Makes the image: one static executable, licenses and an SBOM; see deploy/static. What this file builds is not the image
# but what writes its archive, which is the same in every build of the same sources (deploy/image): `make docker-build`,
# or by hand: docker build -t archive . && docker run --rm --log-driver none archive | docker load
# BASE: any image of Debian 12 or newer, for instance one made with debootstrap if no registry is reachable.
# PLATFORM: linux/amd64, linux/arm64 or both with a comma between, in one archive; the base's own unless given. An amd64
# base builds for arm64 by itself, without emulation.
ARG BASE=debian:bookworm-slim

# The label of every stage: what `make docker-clean` removes of images without a name.
FROM ${BASE} AS packages
LABEL org.opencontainers.image.title="xtrace-catch"
WORKDIR /src
COPY deploy/static/build.sh deploy/static/target.sh deploy/static/
COPY deploy/image/build.sh deploy/image/
ARG PLATFORM
RUN deploy/image/build.sh --install

FROM packages AS build
ARG PLATFORM
ARG SOURCE_DATE_EPOCH=0
COPY . .
RUN deploy/image/build.sh /image

# Debug image with a shell and network tools, for the base's own platform: make docker-shell.
FROM ${BASE} AS debug
LABEL org.opencontainers.image.title="xtrace-catch"
RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
    ca-certificates curl iproute2 iputils-ping wget >/dev/null
COPY --from=build /image/*/xtrace-catch /usr/local/bin/
CMD ["bash"]

FROM build AS archive
ARG SOURCE
ARG SOURCE_DATE_EPOCH=0
ARG REVISION
RUN python3 -B -m deploy.image.archive xtrace-catch:latest "$(dpkg --print-architecture)" \
    "$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" "$REVISION" /image/* >/xtrace-catch.tar
CMD ["cat", "/xtrace-catch.tar"]
