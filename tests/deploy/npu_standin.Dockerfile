# The npu-worker over a stand-in for the kernel driver, for deploy/test alone: no NPU is needed, and none is used. It is never shipped.
ARG BUILD_IMAGE
ARG NPU_WORKER_IMAGE

FROM ${BUILD_IMAGE} AS build
RUN --mount=type=cache,id=tandem-apt,target=/var/cache/apt,sharing=locked apt-get update -q && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q libgtest-dev libgmock-dev libbenchmark-dev libsentencepiece-dev && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q -t trixie-backports libxrt-utils && rm -rf /var/lib/apt/lists/*
COPY tests tests
RUN --mount=type=cache,id=tandem-ccache,target=/ccache \
    export CCACHE_DIR=/ccache CCACHE_BASEDIR=/src CCACHE_NOHASHDIR=1 && \
    cmake -S . -B build/standin -G Ninja -DCMAKE_BUILD_TYPE=Release -DTANDEM_BUILD_BENCHMARKS=OFF && \
    cmake --build build/standin --target fake_amdxdna npu_test_packages

FROM ${NPU_WORKER_IMAGE}
COPY --from=build /src/build/standin/tests/libfake_amdxdna.so /src/build/standin/tests/xrt.ini /standin/
COPY --from=build /src/build/standin/tests/npu_packages /standin/npu_packages
ENV LD_PRELOAD=/standin/libfake_amdxdna.so XRT_INI_PATH=/standin/xrt.ini
