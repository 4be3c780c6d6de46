# syntax=docker/dockerfile:1
# The program alone, in an image without a shell, as a user that is nobody else.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --release --package countersign && install -D target/release/countersign /out/usr/bin/countersign \
  && install -d -m 0700 -o 65532 -g 65532 /out/var/lib/countersign /out/var/lib/countersign-keys /out/issuer

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="countersign" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build --chown=65532:65532 /out/var/lib/ /var/lib/
COPY --from=build --chown=65532:65532 /out/issuer /issuer
COPY --from=build /out/usr/bin/countersign /usr/bin/countersign
USER 65532:65532
WORKDIR /var/lib/countersign
VOLUME /var/lib/countersign
EXPOSE 8443 9090
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/countersign", "--config", "/etc/countersign/countersign.toml"]
CMD ["--log-format", "json", "--log", "info", "serve"]
