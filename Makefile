# make app     install, fetch the built-in model, scan the sample corpus, start the app
# make setup   all of that but start the app
# make describe-local   serve the built-in model, or GGUF=/path/to/file, for descriptions
# make test    format, lint, types and tests; what tests need is installed first
# make test-all   the same, random tests ten times as long
# make bench   every benchmark, its table printed, and kept in benchmarks/results and README
# make graph   build attn/ui/why/graph.js from frontend/; it needs npm, which nothing else does
#
# PYTHON=python3.12 chooses the Python that .venv is made with. ATTN_* settings are respected.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

export PIP_NO_INPUT := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help app setup describe-local test test-all bench browser graph

help:
	@sed -n "s/^# //p;/^$$/q" Makefile

app: setup
	@$(RUN) -m streamlit run app.py

describe-local: $(VENV)/installed
	@$(RUN) -m attn describe-local $(if $(GGUF),--gguf "$(GGUF)")

# One stamp for each set of places: the folder of the index that the last scan printed. It holds
# as long as that folder is there and neither the code nor the settings are newer.
setup: $(VENV)/installed
	@$(RUN) -c "from attn.models import builtin; builtin.folder()" 2>/dev/null || $(RUN) -m attn fetch
	@places="$$HOME|$$XDG_CACHE_HOME|$$ATTN_CACHE|$$ATTN_INDEXES|$$ATTN_MODEL"; \
	stamp="$(VENV)/index-$$(printf %s "$$places" | cksum | cut -d " " -f 1)"; \
	index="$$(tail -n 1 "$$stamp" 2>/dev/null)"; \
	newer="$$(find attn .env -type f ! -path "*/__pycache__/*" -newer "$$stamp" 2>/dev/null)"; \
	if [ -z "$$index" ] || [ ! -d "$$index" ] || [ -n "$$newer" ]; then \
		$(RUN) -m attn scan >"$$stamp.new" || exit 1; \
		mv "$$stamp.new" "$$stamp"; \
	fi

test test-all: $(VENV)/installed-dev browser
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(RUN) -m pytest -n 2 $(if $(filter test-all,$@),--all)

bench: setup browser
	@for name in startup scan memory queries size dtypes search why effects browser; do \
		echo; echo "benchmarks/$$name.py"; $(RUN) -m benchmarks.$$name || exit 1; \
	done
	@$(RUN) -m benchmarks.readme

graph:
	cd frontend && npm ci && npm run build

$(VENV)/installed: requirements.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || { \
		echo "attn needs Python 3.11 or newer as $(PYTHON): install it, or name another" \
			"with make PYTHON=/path/to/python3." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -r requirements.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(RUN) -m pip install -r requirements-dev.txt
	@touch $@

# The tests use a Chromium from PATH or, where there is none, the one that Playwright brings.
browser: $(VENV)/installed-dev
	@for name in chromium chromium-browser google-chrome; do \
		if command -v $$name >/dev/null; then exit 0; fi; \
	done; \
	if $(RUN) -c "$$BROUGHT" 2>/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get update -q && apt-get install -qy chromium </dev/null && exit 0; \
	fi; \
	if [ "$$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then deps=--with-deps; else deps=; fi; \
	$(RUN) -m playwright install $$deps chromium </dev/null

define BROUGHT
import os
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    assert os.path.exists(playwright.chromium.executable_path)
endef
export BROUGHT
