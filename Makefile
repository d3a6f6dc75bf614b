# make demo    synthesize a volume from the example label map
# make test    lint and run all tests, in six minutes on two cores
# make test-fast  only the engine's tests that start no process, without lint, while writing it
# make lint    ruff and mypy
# make house   draw the rooms of the library and what they import from
# make xml     write the registries' names into the CLI modules' XML
# make screenshot  take the README's pictures of the module and of a reader study
# make lock    renew requirements.lock from pyproject.toml's newest allowed versions
# make clean   remove what these made

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
SLICER := .venv/.slicer
# What Qt, and VTK's pictures without a screen, need on Debian and Ubuntu.
SYSTEM := libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libxkbcommon-x11-0 libdbus-1-3 libfontconfig1 fonts-dejavu-core

# Two at once: what shares a process stays together, and what takes long comes first (conftest.py).
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-fast lint house xml screenshot lock clean

demo: $(READY)
	@mkdir -p demo
	$(BIN)/meddiffusion synthesize Resources/Examples/hippocampus.nii.gz \
	  -o demo/volume.nii.gz --preview demo/preview.png --overwrite
	@echo "The synthetic volume is demo/volume.nii.gz, its picture demo/preview.png."

test: $(SLICER) lint
	$(PYTEST)

test-fast: $(READY)
	$(PYTEST) -m "not process"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

house: $(READY)
	PYTHONPATH=Testing $(BIN)/python Testing/house.py

xml: $(READY)
	PYTHONPATH=Testing $(BIN)/python Testing/module_xml.py

screenshot: $(SLICER)
	PYTHONPATH=Testing $(BIN)/python Testing/screenshots.py
	PYTHONPATH=Testing $(BIN)/python Testing/study_pictures.py

# The virtual environment holds exactly what requirements.lock names. Debian and Ubuntu ship
# python3 without venv: it is installed where that is allowed, and named where it is not.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "MedDiffusion needs Python 3.10 or later: give one with make PYTHON=/path/to/python3."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { apt-get install -y python3-venv 2>/dev/null || sudo -n apt-get install -y python3-venv; } \
	  || { echo "Python's venv is missing: install the system package python3-venv."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

# Slicer's own core libraries, for the tests of what runs in Slicer.
$(SLICER): $(READY) requirements-slicer.lock
	@! command -v dpkg >/dev/null || dpkg -s $(SYSTEM) >/dev/null 2>&1 \
	  || { apt-get update -q && apt-get install -qy $(SYSTEM); } 2>/dev/null >/dev/null \
	  || { sudo -n apt-get update -q && sudo -n apt-get install -qy $(SYSTEM); } 2>/dev/null >/dev/null \
	  || { echo "System packages are missing, install them: $(SYSTEM)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-slicer.lock
	@touch $(SLICER)

lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet torch==2.13.0
	.venv-lock/bin/python -m pip install --quiet '.[test]' hatchling==1.33.0 editables
	{ grep '^#' requirements.lock; .venv-lock/bin/python -m pip freeze --exclude meddiffusion | sed 's/+cpu//' | grep -v ' @ '; } > requirements.new
	mv requirements.new requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-lock demo build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
