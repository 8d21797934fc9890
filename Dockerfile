# Anabranch with everything a fleet needs: the same binary in each of its roles. BuildKit keeps what cargo made.
#
#   docker build -t anabranch .
#   docker run --rm anabranch --help
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p anabranch --features cluster \
    && cp target/release/anabranch /anabranch

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/anabranch --create-home anabranch
COPY --from=build /anabranch /usr/local/bin/anabranch
USER anabranch
WORKDIR /var/lib/anabranch
# serve, planner, splitter.
EXPOSE 7600 7601 7602
ENTRYPOINT ["anabranch"]
CMD ["serve"]
