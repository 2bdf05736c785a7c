# Everything runs in .venv, which each target makes when it isn't there.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all lowest test-lowest newest test-newest check-lock lock test-native test-tensorrt tensorrt \
	tensorrt-plugin test-triton triton test-ort-versions ort-versions sanitized fuzzers test-fuzz soak soak-long wheel sbom lint format clean

# One stamp per set of extras: installs again, and builds the native library, only when what goes into that changes. The
# libraries are those of the lock file, each held against its hash.
NATIVE_SOURCES := $(shell find plugins -type f -not -path '*/tests/*' -not -name '*.md')

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

.venv/.installed-%: requirements/%.txt pyproject.toml $(NATIVE_SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) --upgrade "pip>=24"
	$(BIN)/python $(PIP_INSTALL) --require-hashes --requirement $<
	$(MAKE) --no-print-directory .venv/.project
	touch $@

# The project itself, the same for all sets of libraries.
.venv/.project: pyproject.toml $(NATIVE_SOURCES)
	$(BIN)/python $(PIP_INSTALL) --no-deps --editable .
	touch $@

demo: .venv/.installed-demo
	$(BIN)/sn-deploy demo

# Two processes, a file to each at a time, with a thread each: what tests share within a file is made once.
IN_PARALLEL := -n 2 --dist loadfile
test test-all test-tensorrt test-lowest test-newest: export OMP_NUM_THREADS := 1

test: .venv/.installed-test
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not slow"

test-all: .venv/.installed-test
	$(BIN)/python -m pytest $(IN_PARALLEL)

# The lock files anew: with the newest libraries that pyproject.toml allows, for every Python that it allows; and with the
# oldest, for one.
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
	$(COMPILE) --upgrade --resolution lowest-direct --python-version 3.11 --generate-hashes --extra test \
		-o requirements/lowest.txt

# What meets other libraries, with the oldest of them that pyproject.toml allows, and with the newest. Why these tests, and
# what becomes of a library that is newer than the lock file: docs/decisions/0015-libraries.md.
OLD_AND_NEW := $(IN_PARALLEL) -m "not slow" -W default \
	tests/onnx_export/test_export.py tests/onnx_export/test_proof.py tests/graph/test_function_body.py tests/graph/test_op.py tests/graph/test_overloads.py \
	tests/fuse/test_exporters.py tests/runtime tests/native tests/recognise/test_accepted.py tests/calibrate \
	tests/cli/test_check_command.py tests/cli/test_calibrate_command.py tests/test_nn.py \
	tests/capture/test_wrapped_models.py tests/capture/test_torchscript.py tests/capture/test_sizes.py \
	tests/capture/test_exporter_faults.py tests/graph/test_raise_opset.py \
	tests/test_agreement.py::test_onnxruntime_fused tests/test_agreement.py::test_openvino_inlined \
	tests/test_checkpoint.py --deselect tests/test_checkpoint.py::test_the_mend_for_pickled_objects_works \
	--deselect tests/test_checkpoint.py::test_torchscript_is_refused_and_its_mend_works

# In an environment of their own, which `make lowest` brings alone.
LOWEST := build/lowest
lowest: $(LOWEST)/.complete

$(LOWEST)/.complete: requirements/lowest.txt | $(UV)
	$(PYTHON) -m venv --clear $(LOWEST)/.venv
	$(UV) pip install --quiet --require-hashes --python $(LOWEST)/.venv/bin/python --requirement $<
	touch $@

test-lowest: $(LOWEST)/.complete
	$(LOWEST)/.venv/bin/python $(PIP_INSTALL) --no-deps --editable .
	SN_TEST_OLD_LIBRARIES=1 $(LOWEST)/.venv/bin/python -m pytest $(OLD_AND_NEW)

# Laid over the environment of the tests: only what is newer is brought. `make newest` brings it and says what it is.
NEWEST := build/newest
newest: $(UV)
	mkdir -p $(NEWEST)
	$(COMPILE) --upgrade --extra test -o $(NEWEST)/newest.txt --python $(PYTHON)
	$(UV) pip compile --quiet --no-header --no-annotate --python $(PYTHON) requirements/test.txt -o $(NEWEST)/locked.txt
	grep --invert-match --line-regexp --fixed-strings --file $(NEWEST)/locked.txt $(NEWEST)/newest.txt \
		> $(NEWEST)/newer.txt || test $$? = 1
	rm -rf $(NEWEST)/packages
	test ! -s $(NEWEST)/newer.txt || $(UV) pip install --quiet --no-deps --python $(PYTHON) \
		--target $(NEWEST)/packages --requirement $(NEWEST)/newer.txt
	@sed 's/^/newer than the lock file: /' $(NEWEST)/newer.txt

test-newest: newest .venv/.installed-test
	@if test -s $(NEWEST)/newer.txt; then \
		PYTHONPATH=$(CURDIR)/$(NEWEST)/packages $(BIN)/python -m pytest $(OLD_AND_NEW); \
	else echo "the lock file has the newest: make test runs with them"; fi

# Fails where the lock file is old: then `make lock`, `make test`, and a change of its own.
check-lock: newest
	test ! -s $(NEWEST)/newer.txt

# The C++ tests, under the address and undefined-behaviour sanitizers; then the short forms of what `make soak` does with
# them: the tests' and the library's threads under the thread sanitizer, the library in ONNX Runtime under both, and some
# thousand runs. Needs GoogleTest (Debian: libgtest-dev).
#
# With -O1 GCC compiles what it instruments in a third of the time, and the tests take no longer.
SANITIZED := -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1 -DNDEBUG"
WITHOUT_GPU := -DSN_WITH_CUDA=OFF -DSN_WITH_ORT_CUDA=OFF -DSN_WITH_TENSORRT=OFF
sanitized:
	cmake -S plugins -B build/native-tests $(SANITIZED) $(WITHOUT_GPU) -DSN_SANITIZE=address,undefined
	cmake --build build/native-tests
	cmake -S plugins -B build/native-threads $(SANITIZED) $(WITHOUT_GPU) -DSN_SANITIZE=thread
	cmake --build build/native-threads

test-native: .venv/.installed-test sanitized
	ctest --test-dir build/native-tests --output-on-failure --parallel 2
	$(BIN)/python tools/soak.py build/soak-short --short --again \
		--only thread-tests threads addresses repeats inferences sessions

# A real TensorRT 10 and 11 and a CUDA compiler, for tests; fetched once. Needs mvn and cargo.
TENSORRT := build/tensorrt
TRITON := build/triton
tensorrt: $(TENSORRT)/root/.complete

$(TENSORRT)/root/.complete: tools/get_tensorrt.py
	PYTHONPATH=. $(PYTHON) tools/get_tensorrt.py $(TENSORRT)/root
	touch $@

# The CUDA and TensorRT code without a GPU: for all architectures and both versions of TensorRT, and under the sanitizers
# (what `make sanitized` hasn't built); then loaded into the real TensorRT. test_gpu_check.py takes nothing of it, and runs
# with `make test`. `make tensorrt-plugin` builds alone, and needs no .venv.
WITH_TENSORRT = -G Ninja -DSN_WITH_TENSORRT=ON -DSN_CUDA_ROOT=$(CURDIR)/$(TENSORRT)/root/cuda/nvidia/cu13 \
	"-DTENSORRT_ROOT=$(CURDIR)/$(TENSORRT)/root/10;$(CURDIR)/$(TENSORRT)/root/11"
# Beside it, under the sanitizers: nvcc's code isn't instrumented, and no GPU runs it, so any will do, however slow.
QUICK_CUDA := -DCMAKE_CUDA_ARCHITECTURES=90-virtual "-DCMAKE_CUDA_FLAGS_RELWITHDEBINFO=--Ofast-compile=max -DNDEBUG"

tensorrt-plugin: $(TENSORRT)/root/.complete
	cmake -S plugins -B $(TENSORRT)/plugin $(WITH_TENSORRT)
	cmake --build $(TENSORRT)/plugin --target all sn_deploy_convolution sn_deploy_convolution_trt10 \
		sn_deploy_convolution_trt11
	cmake -S plugins -B $(TENSORRT)/sanitized $(WITH_TENSORRT) $(SANITIZED) $(QUICK_CUDA) -DSN_SANITIZE=address,undefined
	cmake --build $(TENSORRT)/sanitized \
		--target test_trt10 test_trt11 cuda_tests test_onnxruntime_cuda

test-tensorrt: .venv/.installed-test tensorrt-plugin
	ctest --test-dir $(TENSORRT)/plugin --output-on-failure --parallel 2
	ctest --test-dir $(TENSORRT)/sanitized --output-on-failure --parallel 2 --no-tests=error \
		--tests-regex '^(trt10|trt11|cuda|test_onnxruntime_cuda)\.'
	TENSORRT_TEST_ROOT=$(TENSORRT)/root SN_PLUGIN_BUILD=$(TENSORRT)/plugin $(BIN)/python -m pytest $(IN_PARALLEL) \
		tests/tensorrt tests/gpu --ignore tests/gpu/test_gpu_check.py

# The fuzzers of the custom op and of the plugin. Needs Clang (Debian: clang, libclang-rt-dev).
fuzzers: $(TENSORRT)/root/.complete
	cmake -S plugins -B build/native-fuzz $(WITH_TENSORRT) -DCMAKE_CUDA_ARCHITECTURES=90 -DSN_WITH_ORT_CUDA=OFF \
		-DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER=clang++ \
		-DSN_SANITIZE=address,undefined,fuzzer-no-link -DSN_WITH_FUZZERS=ON
	cmake --build build/native-fuzz --target fuzz_node fuzz_plugin10 fuzz_plugin11

# The client of Triton and atheris are taken along where they have been brought.
ATHERIS := build/atheris
SOAK = TENSORRT_TEST_ROOT=$(TENSORRT)/root SN_PLUGIN_BUILD=$(TENSORRT)/plugin TRITON_TEST_ROOT=$(CURDIR)/$(TRITON) \
	PYTHONPATH=$(CURDIR)/$(ATHERIS) $(BIN)/python tools/soak.py

test-fuzz: .venv/.installed-test fuzzers $(ATHERIS)/.complete
	$(SOAK) build/fuzz-short --short --again \
		--only fuzz-node fuzz-plugin-11 fuzz-fuse fuzz-checkpoints creators kills

$(ATHERIS)/.complete: requirements/fuzz.in
	rm -rf $(ATHERIS)
	$(PYTHON) $(PIP_INSTALL) --target $(ATHERIS) --requirement $<
	touch $@

# docs/reliability.md in half an hour and what is built, and all of its figures in some hours. Both go on where they were
# ended.
soak soak-long: .venv/.installed-test sanitized fuzzers $(TRITON)/.complete $(ATHERIS)/.complete
	cmake -S plugins -B $(TENSORRT)/plugin $(WITH_TENSORRT)
	cmake --build $(TENSORRT)/plugin
	cmake -S plugins -B $(TENSORRT)/threads $(WITH_TENSORRT) $(SANITIZED) $(QUICK_CUDA) -DSN_SANITIZE=thread
	cmake --build $(TENSORRT)/threads --target cuda_tests
	$(SOAK) build/$@ $(if $(findstring long,$@),--long)

# A real Triton, its clients, Ray and the schemas of Kubernetes, for tests; fetched once. HAProxy's test wants haproxy.
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

# The wheel as it is released: for every Linux with a C library from a certain version on, in dist/; first installed and
# looked at by doctor and mypy in a fresh environment. Without TensorRT and CUDA where these aren't found.
RELEASE := build/release/bin
$(RELEASE)/auditwheel: requirements/release.in
	test -x $(RELEASE)/python || $(PYTHON) -m venv build/release
	$(RELEASE)/python $(PIP_INSTALL) --requirement $<
	touch $@

WHEEL := build/wheel
wheel: .venv/.installed-dev $(RELEASE)/auditwheel
	rm -rf $(WHEEL)
	mkdir -p dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(WHEEL)/plain .
	$(RELEASE)/auditwheel show $(WHEEL)/plain/*.whl
	PATH=$(CURDIR)/$(RELEASE):$$PATH auditwheel repair --wheel-dir $(WHEEL)/repaired $(WHEEL)/plain/*.whl
	SN_WHEEL_FOLDER=$(CURDIR)/$(WHEEL)/repaired $(BIN)/python -m pytest tests/test_wheel.py
	cp $(WHEEL)/repaired/*.whl dist/

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
