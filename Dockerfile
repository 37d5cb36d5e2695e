# syntax=docker/dockerfile:1
# Tollway as an image: no build tools, no root, a root file system that may be read-only.
#
#   docker build -t tollway .
#   docker build --build-arg EXTRAS=kms,s3 -t tollway .    # with boto3, for a KEK in AWS KMS and a ledger in S3
#   docker run --read-only -p 8080:8080 -v tollway-state:/var/lib/tollway -v ./tollway.toml:/etc/tollway/tollway.toml:ro tollway
#
# `make image-check` does the same steps without Docker.

ARG PYTHON=3.14
FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
WORKDIR /src
# Dependencies first: a change of the code does not install them again.
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/tollway
RUN /opt/tollway/bin/python -m pip install --require-hashes --only-binary :all: -r requirements.lock
RUN python -m pip install --require-hashes -r requirements-build.lock
# What pyproject.toml's extras of these names bring is one package, larger than all the rest.
ARG EXTRAS=
COPY requirements-aws.lock ./
RUN case "${EXTRAS:-}" in \
      "") ;; \
      kms|s3|kms,s3|s3,kms) /opt/tollway/bin/python -m pip install --require-hashes --only-binary :all: -r requirements-aws.lock ;; \
      *) echo "EXTRAS is kms, s3 or kms,s3, not ${EXTRAS}" >&2; exit 1 ;; \
    esac
COPY pyproject.toml README.md ./
COPY config ./config
COPY proxy ./proxy
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /dist .
RUN /opt/tollway/bin/python -m pip install --no-deps --no-index --find-links /dist tollway
RUN /opt/tollway/bin/python -m pip uninstall --yes pip

FROM python:${PYTHON}-slim
# The numbers, so that `runAsNonRoot` can be checked without a user database.
RUN mkdir -p /var/lib/tollway /etc/tollway && chown 10001:10001 /var/lib/tollway
COPY --from=build /opt/tollway /opt/tollway
ENV PATH=/opt/tollway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TOLLWAY_CONFIG=/etc/tollway/tollway.toml
USER 10001:10001
# `[state] folder` is relative to it by default: the one place that is written to.
WORKDIR /var/lib/tollway
VOLUME ["/var/lib/tollway"]
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
# Alive, not ready: a gateway whose store is away must not be killed for it. `[server] admin_bind`
# has to stay on port 8081 for this.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8081/livez', timeout=2)"]
ENTRYPOINT ["tollway"]
CMD ["serve"]
