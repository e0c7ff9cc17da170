# Makes the image: one static executable, licenses and an SBOM; see deploy/static. What this file builds is not the image
# but what writes its archive, which is the same in every build of the same sources (deploy/image): `make docker-build`,
# or by hand: docker build -t archive . && docker run --rm --log-driver none archive | docker load
# BASE: any image of Debian 12 or newer, for instance one made with debootstrap if no registry is reachable.
ARG BASE=debian:bookworm-slim

# The label of every stage: what `make docker-clean` removes of images without a name.
FROM ${BASE} AS packages
LABEL org.opencontainers.image.title="xtrace-catch"
WORKDIR /src
COPY deploy/static/build.sh deploy/static/
RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
    $(deploy/static/build.sh --packages) >/dev/null

FROM packages AS build
ARG SOURCE_DATE_EPOCH=0
COPY . .
RUN deploy/static/build.sh
# Run it in the otherwise empty root, where anything the executable lacks is missing.
RUN mkdir -p /image/etc/ssl/certs /image/sbom \
    && cp dist/xtrace-catch /image/ \
    && chroot /image /xtrace-catch --version && chroot /image /xtrace-catch --help >/dev/null \
    && cp -r dist/licenses /image/ && cp dist/xtrace-catch.cdx.json /image/sbom/ \
    && cp /usr/share/doc/ca-certificates/copyright /image/licenses/ca-certificates \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

# Debug image with a shell and network tools: make docker-shell.
FROM ${BASE} AS debug
LABEL org.opencontainers.image.title="xtrace-catch"
RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
    ca-certificates curl iproute2 iputils-ping wget >/dev/null
COPY --from=build /image/xtrace-catch /usr/local/bin/
CMD ["bash"]

FROM build AS archive
ARG SOURCE
ARG SOURCE_DATE_EPOCH=0
ARG REVISION
RUN python3 -B -m deploy.image.archive /image xtrace-catch:latest "$(dpkg --print-architecture)" \
    "$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" "$REVISION" >/xtrace-catch.tar
CMD ["cat", "/xtrace-catch.tar"]
