# The digest is that of the index for all processors: docker buildx imagetools inspect python:3.12.12-slim-bookworm
FROM python:3.12.12-slim-bookworm@sha256:593bd06efe90efa80dc4eee3948be7c0fde4134606dd40d8dd8dbcade98e669c

# Behind a company's index: docker compose build --build-arg PIP_INDEX_URL=https://…
ARG PIP_INDEX_URL

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    OMP_NUM_THREADS=1 \
    MPLCONFIGDIR=/tmp/matplotlib

# /data (orders) and /model (the artifact) are volumes: one that starts empty takes its owner from here.
RUN useradd --system --create-home --uid 10001 clv \
    && install --directory --owner=clv --group=clv /data /model

# The pins alone first, so that a change of the code does not install everything again.
COPY requirements.txt /app/
RUN pip install --no-cache-dir --disable-pip-version-check -r /app/requirements.txt

COPY LICENSE /app/
COPY features /app/features
COPY model /app/model
COPY streamer /app/streamer

USER clv
WORKDIR /home/clv

# Alive, not ready: an outage of Kafka or Redis is retried in place and is no reason for a restart.
# The slim image has no curl.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:6066/healthz', timeout=2)"]

ENTRYPOINT ["python", "-m", "streamer"]
CMD ["worker"]
