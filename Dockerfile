# docker build -t higgsbench .
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" higgsbench run quick
FROM python:3.13-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.13-slim
# LightGBM needs the OpenMP library of the system.
RUN apt-get update \
    && apt-get install --no-install-recommends -y libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,from=build,source=/wheel,target=/wheel \
    pip install --no-cache-dir "$(echo /wheel/*.whl)[onnx,report,root]"
# Any user can run it, and the files in /work belong to this user.
ENV HIGGSBENCH_CACHE_DIR=/tmp/higgsbench MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --create-home --uid 1000 higgsbench && install --directory --mode=777 /work
USER 1000
WORKDIR /work
ENTRYPOINT ["higgsbench"]
CMD ["--help"]
