# unisono, its Python package, and unisono-init as the first process: docs/containers.md, "The image".
FROM python:3.13-slim-bookworm AS build
COPY --from=rust:1.89-slim-bookworm /usr/local/cargo /usr/local/cargo
COPY --from=rust:1.89-slim-bookworm /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup PATH=/usr/local/cargo/bin:/usr/local/bin:/usr/bin:/bin
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && pip install --no-cache-dir --no-index --no-deps --prefix /install /wheels/*.whl
# Static, so that it can also be taken out of this image and put into any other.
RUN target="$(uname -m)-unknown-linux-musl" \
 && rustup target add "$target" \
 && cargo build --locked --profile small -p unisono-init --target "$target" \
 && install -D "target/$target/small/unisono-init" /install/bin/unisono-init

FROM python:3.13-slim-bookworm
# A number, since Kubernetes cannot tell of a name whether it is root.
RUN useradd --system --uid 10001 --create-home unisono
COPY --from=build /install /usr/local
WORKDIR /home/unisono
USER 10001
ENTRYPOINT ["unisono-init", "--"]
CMD ["unisono", "--help"]
