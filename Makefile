# Needs Rust (cargo) and Python 3.11 or newer with its venv module; everything else goes into .venv and target.
#
#   make demo    processes share values and are killed; see what is lost. From nothing it takes some 100 s of processor time
#   make test    all that must pass: builds, then runs `rust`, `loom`, `crash` and `python` at the same time
#   make check   format, lint, types, floors, public names
#   make api     writes docs/api.txt anew, which `check` compares the public names of the package with
#   make pythons  installs the wheel of this build into each Python that is here, and runs the quick tests
#   make quick   a fast loop while writing code
#   make bench   speed, as ratios, each with its aim; ends with the aims that are missed
#   make bench-core   instructions of the parts that calls consist of, counted by valgrind
#   make bench-peers   the same work by other ways to share values, beside shmvar; ten minutes
#   make performance   measures both again and fills docs/performance.md
#   make soak    processes do everything at once and are killed, for SOAK_MINUTES (5)
#   make remote-soak   the same on a server whose connections are killed, for SOAK_MINUTES, then primaries that die, hand
#                      over or move slots, once for each minute; prints what it counted
#   make search  the tests that draw their values, with values that no run had before
#   make fuzz    a minute of damaged input for each target, with a memory checker
#   make fuzz-plain   any bytes as a value that is not trusted (FUZZ_SECONDS; needs nightly Rust and cargo-fuzz)

PYTHON ?= python3
SOAK_MINUTES ?= 5
# What must pass draws the same in every run.
export PROPTEST_RNG_SEED ?= 1
# The interpreter whose stable ABI the extension is linted against.
export PYO3_PYTHON ?= $(PYTHON)

PIP = python -m pip --quiet --disable-pip-version-check install
CORE = --no-default-features
SOURCES := Cargo.toml Cargo.lock build.rs pyproject.toml README.md $(shell find src python -name '*.rs' -o -name '*.py' -o -name '*.pyi')

# Installs each package of an extra by itself, and says what it means if one cannot be installed.
define install_each
.venv/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$(1)"], sep="\n")' \
	| while read -r package; do \
		.venv/bin/$(PIP) "$$package" </dev/null || echo "$$package cannot be installed here: $(2)"; \
	done
endef

# Installs the packages of an extra into an environment, without the package itself.
define install_group
@$(1)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$(2)"], sep="\n")' \
	>$(1)/packages
$(1)/bin/$(PIP) -r $(1)/packages
@touch $(1)/$(2)
endef

# The interface of the crate, without Python, against that of the last release: its tag.
define compare_crate
if ! cargo semver-checks --version >/dev/null 2>&1; then \
	echo "skipped: cargo-semver-checks is not installed (cargo install --locked cargo-semver-checks)"; \
elif ! tag=$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null); then \
	echo "skipped: cargo semver-checks has no release to compare with: there is no tag v*"; \
else \
	cargo semver-checks --only-explicit-features --baseline-rev "$$tag"; \
fi
endef

.PHONY: demo test build build-core build-loom rust loom crash python check api site wheels pythons quick search fuzz fuzz-plain bench bench-core bench-peers performance soak remote-soak clean
.DELETE_ON_ERROR:

demo: .venv-demo/demo
	@echo "3 of 3: the demo. This build is not optimised: its speed is no measure."
	.venv-demo/bin/shmvar demo

# Side by side, because many tests wait. The output of each of the four is printed as a whole when it ends; if one fails, the
# others still run, and `make test` fails.
test: build
	@$(MAKE) --no-print-directory --keep-going --jobs=4 --output-sync=target rust loom crash python

# All that `test` needs, before its clock starts. Each of the three has a directory of its own for what it builds, and waits
# for a linker or for packages some of its time.
build:
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target .venv/programs build-core build-loom

# The two builds of the core share a directory, so they follow each other.
build-core:
	$(RUST) --no-run
	$(CRASH) --no-run

build-loom:
	$(LOOM) --no-run

RUST = cargo test $(CORE) --profile checked --no-fail-fast
rust:
	$(RUST)

# Every interleaving of the protocols. Everything is built anew under this flag: in a directory of its own.
LOOM = $(if $(wildcard tests/rust/loom/main.rs),RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target-loom cargo test $(CORE) --test loom --release,:)
loom:
	$(LOOM)

# A process kills itself at each named point.
CRASH = $(if $(wildcard tests/rust/crash/main.rs),cargo test $(CORE) --profile checked --features crash-points --test crash,:)
crash:
	$(CRASH)

# `-n auto`: as many processes as tests/conftest.py says. Without it (`.venv/bin/pytest`) one test runs at a time.
python: .venv/programs
	.venv/bin/pytest -n auto --dist loadgroup

check: .venv/lint
	cargo fmt --check
	cargo fmt --manifest-path benches/Cargo.toml --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --all-targets $(CORE) -- -D warnings
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict python/shmvar
	.venv/bin/mypy --strict tools
	.venv/bin/mypy --strict tests/api/test_typed_use.py
	.venv/bin/python tools/floors.py
	.venv/bin/python tools/public_names.py
	@$(compare_crate)
	cd .venv && bin/stubtest --mypy-config-file $(CURDIR)/pyproject.toml --ignore-unused-allowlist shmvar $(addprefix --allowlist $(CURDIR)/,$(wildcard tests/stubtest_allowlist.txt))

api:
	$(PYTHON) tools/public_names.py --write

# In an environment of its own: it looks at sources only, so nothing has to be built for it.
site: .venv-site/site
	.venv-site/bin/python tools/docs_site/build.py

# Of what is committed. Part of it: WHEELS_OPTIONS="--only x86_64-unknown-linux-gnu"; what it would do: "--dry-run".
wheels: .venv-wheels/wheels
	.venv-wheels/bin/python tools/wheels.py $(WHEELS_OPTIONS)

# The wheel of this build (nothing is compiled again), on each Python that is here; on the one of `make test` no tests, for
# they ran there. Other tests: PYTHONS_OPTIONS="-- tests/memory".
pythons: .venv/test
	@rm -rf .venv/wheel
	.venv/bin/python -m pip --quiet --disable-pip-version-check wheel --no-deps --wheel-dir .venv/wheel .
	.venv/bin/python tools/pythons.py --tested -n .venv/wheel $(PYTHONS_OPTIONS)

quick: .venv-quick/test
	cargo test $(CORE) --lib
	.venv-quick/bin/pytest -x -m "not slow" tests/api tests/values/test_values.py

search: .venv/test
	PROPTEST_RNG_SEED=$$(date +%s) cargo test $(CORE)
	.venv/bin/pytest -n auto --dist loadgroup --hypothesis-profile search $(shell grep -l "^@given\|RuleBasedStateMachine" tests/*/test_*.py)

# Coverage-guided, under AddressSanitizer, so many seconds for each target. What it finds is kept in fuzz/artifacts.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS = segment pickle identity
# Sanitizers need an unstable option: a nightly compiler, or the stable one told that it may.
CARGO_FUZZ = $(if $(shell rustup toolchain list 2>/dev/null | grep nightly),cargo +nightly,RUSTC_BOOTSTRAP=1 cargo) fuzz

fuzz:
	@cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	@for target in $(FUZZ_TARGETS); do \
		echo "== $$target"; new=$$(mktemp -d); \
		$(CARGO_FUZZ) run $$target $$new fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=1024 -len_control=0 -timeout=30 -print_final_stats=1; \
		status=$$?; rm -rf $$new; [ $$status -eq 0 ] || exit $$status; \
	done
	$(MAKE) fuzz-plain

# Part of it: BENCH_OPTIONS="--only containers,sizes", or "--quick".
bench: .venv/test
	.venv/bin/python bench/every.py $(BENCH_OPTIONS)

# Instructions of the slot, the table, the slabs and the codec, by valgrind; each beside the run before. Two states are
# compared with CORE_OPTIONS="-- --save-baseline=before" in the first and "-- --baseline=before" in the second.
BENCHES = CARGO_TARGET_DIR=$(CURDIR)/target-benches
GUNGRAUN = $(shell sed -n 's/^gungraun = "=\(.*\)"/\1/p' benches/Cargo.toml)
bench-core:
	@target-benches/bin/gungraun-runner --version 2>/dev/null | grep -q " $(GUNGRAUN)$$" \
		|| cargo install --locked --root target-benches --version $(GUNGRAUN) gungraun-runner
	cd benches && PATH=$(CURDIR)/target-benches/bin:$$PATH $(BENCHES) $(PYTHON) ../bench/hide_vdso.py cargo bench $(CORE_OPTIONS)

# Part of it, or the tables and plots in files: PEERS_OPTIONS="--quick", "--only shmvar,LMDB", "--json FILE --plots FOLDER".
bench-peers: .venv/peers
	.venv/bin/python bench/peers.py $(PEERS_OPTIONS)

# The tables and plots of docs/performance.md, from a run of what has aims and a run of the peers.
performance: .venv/peers
	.venv/bin/python bench/every.py --only ratios --json docs/plots/rows.json
	.venv/bin/python bench/peers.py --json docs/plots/peers.json
	.venv/bin/python bench/page.py

# More: SOAK_OPTIONS="--workers 8 --seed 7".
soak: .venv/test
	.venv/bin/python tests/soak --minutes $(SOAK_MINUTES) $(SOAK_OPTIONS)
	.venv/bin/python tests/soak/cache_for_long.py --minutes $(SOAK_MINUTES)

remote-soak: .venv/test
	SHMVAR_REMOTE_SECONDS=$$(( $(SOAK_MINUTES) * 60 )) .venv/bin/pytest --timeout=0 -k "killed_all" tests/remote/test_exactly_once.py \
		tests/remote/test_waits_on_servers.py
	SHMVAR_REMOTE_SECONDS=$$(( $(SOAK_MINUTES) * 60 )) .venv/bin/pytest --timeout=0 tests/remote/test_failover.py tests/remote/test_migration.py
	.venv/bin/python tests/soak/both_ends.py --minutes $(SOAK_MINUTES)

fuzz-plain: .venv/test
	PYO3_PYTHON=$(CURDIR)/.venv/bin/python sh fuzz/plain.sh -max_total_time=$(FUZZ_SECONDS) -max_len=2000

clean:
	rm -rf .venv .venv-demo .venv-quick .venv-site .venv-wheels site target-site target-wheels target-loom target-benches fuzz/target
	cargo clean

%/bin/python:
	$(PYTHON) -m venv $*

# A stamp for each set of packages that was installed. What is tested and measured is what is released.
.venv/test: .venv/bin/python $(SOURCES)
	@echo "Building the extension module as it is released; the first time takes some minutes."
	.venv/bin/$(PIP) ".[test]"
	@touch $@

# In an environment of its own: a build without optimisation, by maturin itself, because pip would hide that it moves.
# Rich is for colours; the demo does without.
.venv-demo/demo: $(SOURCES)
	@echo "1 of 3: an environment for Python, $(@D), with the tool that builds."
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/$(PIP) $$($(@D)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
	@$(@D)/bin/$(PIP) $$($(@D)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["cli"])') \
		|| echo "rich cannot be installed here: the demo prints plain lines"
	@echo "2 of 3: $$(cargo tree --locked --edges normal,build --prefix none --no-dedupe | sort --unique | wc -l) crates." \
		"The last one, shmvar, takes a third of the time."
	@rm -rf $(@D)/wheel
	$(@D)/bin/maturin build --profile demo --locked --interpreter $(@D)/bin/python --out $(@D)/wheel
	@$(@D)/bin/$(PIP) --no-index --no-deps --force-reinstall $(@D)/wheel/*.whl
	@touch $@

# One by one: of those that cannot be installed here, the tests are skipped.
.venv/programs: .venv/test
	@$(call install_each,programs,what tests it is skipped)
	@$(call install_each,jupyter,what tests it is skipped)
	@touch $@

.venv/peers: .venv/test
	@$(call install_each,peers,bench/peers.py does without)
	@touch $@

.venv/lint: .venv/test
	.venv/bin/$(PIP) ".[test,lint]"
	@touch $@

.venv-site/site: .venv-site/bin/python pyproject.toml
	$(call install_group,.venv-site,site)

.venv-wheels/wheels: .venv-wheels/bin/python pyproject.toml
	$(call install_group,.venv-wheels,wheels)

# Without optimisation: built in seconds.
.venv-quick/test: .venv-quick/bin/python $(SOURCES)
	MATURIN_PEP517_ARGS="--profile dev" .venv-quick/bin/$(PIP) ".[test]"
	@touch $@
