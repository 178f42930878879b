# labelfix on a CPU, as a user without rights:
#   docker build -t labelfix .
#   docker run --rm labelfix demo --out /tmp/demo
#   docker run --rm -v "$PWD/images:/data/images:ro" -v "$PWD/runs:/data/runs" --user "$(id -u):$(id -g)" labelfix scan images
FROM python:3.12-slim

RUN useradd --create-home labelfix && mkdir /data && chown labelfix /data
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY labelfix ./labelfix
# The wheels of torch without CUDA are a tenth of the others.
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir . \
    && rm -rf /src/*

# Anybody may be the user: the cache and what torch keeps lie where everybody can write.
ENV LABELFIX_CACHE=/tmp/labelfix-cache MPLCONFIGDIR=/tmp/matplotlib HOME=/tmp
USER labelfix
WORKDIR /data
ENTRYPOINT ["labelfix"]
CMD ["--help"]
