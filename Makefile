# Everything runs in .venv, which each target makes when it isn't there.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all test-lowest test-newest lock test-native test-tensorrt tensorrt test-triton triton \
	test-ort-versions ort-versions sanitized fuzzers test-fuzz soak wheel sbom lint format clean

# One stamp per set of extras: installs again, and builds the native library, only when what goes into that changes. The
# libraries are those of the lock file, each held against its hash.
NATIVE_SOURCES := $(shell find plugins -type f -not -path '*/tests/*')

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

.venv/.installed-%: requirements/%.txt pyproject.toml $(NATIVE_SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) --upgrade "pip>=24"
	$(BIN)/python $(PIP_INSTALL) --require-hashes --requirement $<
	$(BIN)/python $(PIP_INSTALL) --no-deps --editable .
	touch $@

demo: .venv/.installed-demo
	$(BIN)/sn-deploy demo

# Two processes, a file to each at a time, with a thread each: what tests share within a file is made once.
IN_PARALLEL := -n 2 --dist loadfile
test test-all test-lowest test-newest: export OMP_NUM_THREADS := 1

test: .venv/.installed-test
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not slow"

test-all: .venv/.installed-test
	$(BIN)/python -m pytest $(IN_PARALLEL)

# The lock files anew, with the newest libraries that pyproject.toml allows, for every Python that it allows.
UV := build/uv/bin/uv
LOCKS := demo test dev
COMPILE := $(UV) pip compile --quiet pyproject.toml --no-header --no-annotate

$(UV):
	$(PYTHON) -m venv build/uv
	build/uv/bin/python $(PIP_INSTALL) "uv>=0.9,<1"

lock: $(UV)
	for extra in $(LOCKS); do \
		$(COMPILE) --upgrade --universal --python-version 3.10 --generate-hashes --extra $$extra -o requirements/$$extra.txt \
		|| exit 1; done

# What meets other libraries, with the oldest of them that pyproject.toml allows, and with the newest, in environments
# of their own. The newest need no run of their own where they are those of the lock file.
OLD_AND_NEW := $(IN_PARALLEL) -m "not slow" -W default tests/graph tests/runtime tests/native tests/calibrate \
	tests/fuse/test_exporters.py tests/recognise/test_accepted.py tests/cli/test_check_command.py tests/test_nn.py \
	tests/cli/test_calibrate_command.py tests/test_agreement.py tests/test_checkpoint.py

test-lowest: $(UV)
	mkdir -p build/lowest
	$(COMPILE) --resolution lowest-direct --extra test -o build/lowest/requirements.txt --python $(PYTHON)
	$(PYTHON) -m venv build/lowest/.venv
	$(UV) pip install --quiet --python build/lowest/.venv/bin/python --requirement build/lowest/requirements.txt pip
	build/lowest/.venv/bin/python $(PIP_INSTALL) --no-deps --editable .
	SN_TEST_OLD_LIBRARIES=1 build/lowest/.venv/bin/python -m pytest $(OLD_AND_NEW)

test-newest: $(UV) .venv/.installed-test
	mkdir -p build/newest
	$(COMPILE) --upgrade --extra test -o build/newest/requirements.txt --python $(BIN)/python
	build/uv/bin/uv pip compile --quiet --no-header --no-annotate --python $(BIN)/python requirements/test.txt \
		-o build/newest/locked.txt
	if diff build/newest/locked.txt build/newest/requirements.txt; then echo "the lock file has the newest"; else \
		$(PYTHON) -m venv build/newest/.venv && \
		$(UV) pip install --quiet --python build/newest/.venv/bin/python --requirement build/newest/requirements.txt pip && \
		build/newest/.venv/bin/python $(PIP_INSTALL) --no-deps --editable . && \
		build/newest/.venv/bin/python -m pytest $(OLD_AND_NEW); fi

# The C++ tests, under the address and undefined-behaviour sanitizers; then the short forms of what `make soak` does with
# them: the tests' and the library's threads under the thread sanitizer, the library in ONNX Runtime under both, and some
# thousand runs. Needs GoogleTest (Debian: libgtest-dev).
SANITIZED := -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSN_WITH_CUDA=OFF -DSN_WITH_ORT_CUDA=OFF -DSN_WITH_TENSORRT=OFF
sanitized:
	cmake -S plugins -B build/native-tests $(SANITIZED) -DSN_SANITIZE=address,undefined
	cmake --build build/native-tests
	cmake -S plugins -B build/native-threads $(SANITIZED) -DSN_SANITIZE=thread
	cmake --build build/native-threads

test-native: .venv/.installed-test sanitized
	ctest --test-dir build/native-tests --output-on-failure
	$(BIN)/python tools/soak.py build/soak-short --short --again \
		--only thread-tests threads addresses repeats inferences sessions

# A real TensorRT 10 and 11 and a CUDA compiler, for tests; fetched once. Needs mvn and cargo.
TENSORRT := build/tensorrt
tensorrt: $(TENSORRT)/root/.complete

$(TENSORRT)/root/.complete: tools/get_tensorrt.py
	PYTHONPATH=. $(PYTHON) tools/get_tensorrt.py $(TENSORRT)/root
	touch $@

# The CUDA and TensorRT code without a GPU: for all architectures and both versions of TensorRT, then, for one
# architecture, under the sanitizers; then loaded into the real TensorRT.
WITH_TENSORRT = -G Ninja -DSN_WITH_TENSORRT=ON -DSN_CUDA_ROOT=$(CURDIR)/$(TENSORRT)/root/cuda/nvidia/cu13 \
	"-DTENSORRT_ROOT=$(CURDIR)/$(TENSORRT)/root/10;$(CURDIR)/$(TENSORRT)/root/11"

test-tensorrt: .venv/.installed-test $(TENSORRT)/root/.complete
	cmake -S plugins -B $(TENSORRT)/plugin $(WITH_TENSORRT)
	cmake --build $(TENSORRT)/plugin
	ctest --test-dir $(TENSORRT)/plugin --output-on-failure
	cmake -S plugins -B $(TENSORRT)/sanitized $(WITH_TENSORRT) -DCMAKE_CUDA_ARCHITECTURES=90 \
		-DCMAKE_BUILD_TYPE=RelWithDebInfo -DSN_SANITIZE=address,undefined
	cmake --build $(TENSORRT)/sanitized
	ctest --test-dir $(TENSORRT)/sanitized --output-on-failure
	TENSORRT_TEST_ROOT=$(TENSORRT)/root SN_PLUGIN_BUILD=$(TENSORRT)/plugin $(BIN)/python -m pytest tests/tensorrt tests/gpu

# The fuzzers of the custom op and of the plugin. Needs Clang (Debian: clang, libclang-rt-dev).
fuzzers: $(TENSORRT)/root/.complete
	cmake -S plugins -B build/native-fuzz $(WITH_TENSORRT) -DCMAKE_CUDA_ARCHITECTURES=90 -DSN_WITH_ORT_CUDA=OFF \
		-DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER=clang++ \
		-DSN_SANITIZE=address,undefined,fuzzer-no-link -DSN_WITH_FUZZERS=ON
	cmake --build build/native-fuzz --target fuzz_node fuzz_plugin10 fuzz_plugin11

SOAK = TENSORRT_TEST_ROOT=$(TENSORRT)/root SN_PLUGIN_BUILD=$(TENSORRT)/plugin $(BIN)/python tools/soak.py

test-fuzz: .venv/.installed-test fuzzers
	$(SOAK) build/fuzz-short --short --again --only fuzz-node fuzz-plugin-11 creators kills

# All of docs/reliability.md; some hours. Goes on where it was ended.
soak: .venv/.installed-test sanitized fuzzers
	cmake -S plugins -B $(TENSORRT)/plugin $(WITH_TENSORRT)
	cmake --build $(TENSORRT)/plugin
	$(SOAK) build/soak

# A real Triton, its clients, Ray and the schemas of Kubernetes, for tests; fetched once. HAProxy's test wants haproxy.
TRITON := build/triton
triton: $(TRITON)/.complete

$(TRITON)/.complete: tools/get_triton.py tools/get_tensorrt.py
	PYTHONPATH=. $(PYTHON) tools/get_triton.py $(TRITON)
	touch $@

test-triton: .venv/.installed-test $(TRITON)/.complete
	TRITON_TEST_ROOT=$(TRITON) PYTHONPATH=$(CURDIR)/$(TRITON)/client $(BIN)/python -m pytest tests/serve

# Exported files in ONNX Runtime 1.18 to the newest, each minor version, with and without the native operators.
ORT_VERSIONS := build/ort-versions
ort-versions:
	PYTHONPATH=. $(PYTHON) tools/get_ort_versions.py $(ORT_VERSIONS)

test-ort-versions: .venv/.installed-test ort-versions
	ORT_VERSIONS_ROOT=$(ORT_VERSIONS) $(BIN)/python -m pytest tests/serve/test_ort_versions.py

# The wheel as it is released: for every Linux with a C library from a certain version on, in dist/; then installed and
# looked at by doctor in a fresh environment. Without TensorRT and CUDA where these aren't found.
RELEASE := build/release/bin
$(RELEASE)/auditwheel: requirements/release.in
	test -x $(RELEASE)/python || $(PYTHON) -m venv build/release
	$(RELEASE)/python $(PIP_INSTALL) --requirement $<
	touch $@

wheel: .venv/.installed-test $(RELEASE)/auditwheel
	rm -rf build/wheel && mkdir -p build/wheel dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	$(RELEASE)/auditwheel show build/wheel/*.whl
	PATH=$(CURDIR)/$(RELEASE):$$PATH auditwheel repair --wheel-dir dist build/wheel/*.whl
	SN_WHEEL_FOLDER=$(CURDIR)/dist $(BIN)/python -m pytest tests/test_wheel.py

# What `make demo` installs, with versions and hashes, as a CycloneDX document.
sbom: $(RELEASE)/auditwheel
	mkdir -p dist
	$(RELEASE)/cyclonedx-py requirements requirements/demo.txt --pyproject pyproject.toml --mc-type library \
		--output-reproducible --short-PURLs --validate -o dist/sn-deploy.cdx.json

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files '*.h' '*.hpp' '*.cpp' '*.inc' '*.cu' '*.cuh' | xargs --no-run-if-empty $(BIN)/clang-format --dry-run --Werror

format: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files '*.h' '*.hpp' '*.cpp' '*.inc' '*.cu' '*.cuh' | xargs --no-run-if-empty $(BIN)/clang-format -i

clean:
	rm -rf .venv build dist
