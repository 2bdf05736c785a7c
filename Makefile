# Everything runs in .venv, which each target makes when it isn't there.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all test-native lint format clean

# One stamp per set of extras: installs again, and builds the native library, only when what goes into that changes.
NATIVE_SOURCES := $(shell find plugins/core plugins/cpu plugins/onnxruntime -type f) plugins/CMakeLists.txt

.venv/.installed-%: pyproject.toml $(NATIVE_SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@

demo: .venv/.installed-demo
	$(BIN)/sn-deploy demo

test: .venv/.installed-test
	$(BIN)/python -m pytest -m "not slow"

test-all: .venv/.installed-test
	$(BIN)/python -m pytest

# The C++ tests, under the address and undefined-behaviour sanitizers. Needs GoogleTest (Debian: libgtest-dev).
test-native:
	cmake -S plugins -B build/native-tests -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSN_SANITIZE=address,undefined
	cmake --build build/native-tests
	ctest --test-dir build/native-tests --output-on-failure

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
