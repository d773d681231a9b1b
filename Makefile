# Every target runs the setup that it needs, which takes no time once it is complete.

VENV_PYTHON := .venv/bin/python
SETUP = python=$$(PYTHON='$(PYTHON)' tools/find_python.sh) && TF='$(TF)' "$$python" tools/setup_env.py
DEMO_FLAGS = $(if $(DEMO_STEPS),--steps='$(DEMO_STEPS)')

DETECT_TESTS := tests/pse tests/evaluation tests/utils tests/inference tests/tools/serving \
  tests/tools/scoring tests/tools/test_convert_labels.py tests/tools/test_make_gt_zip.py \
  tests/tools/test_pack_results.py tests/tools/test_check_data.py tests/test_detect_alone.py \
  $(addprefix --ignore=tests/,inference/test_models.py inference/test_network.py \
  inference/test_detector.py inference/test_tiles.py inference/test_thresholds.py \
  tools/scoring/test_follower.py tools/scoring/test_score_log.py utils/test_cli.py)

.DEFAULT_GOAL := help
.PHONY: help setup setup-horovod setup-tools setup-detect setup-browser detect backbone demo demo-curved tools-demo test test-detect test-distributed fuzz soak lint bench clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 26
	@echo
	@echo '  PYTHON=/path/to/python3.7 chooses the interpreter, TF=intel-tensorflow==1.15.2 another'
	@echo '  build of TensorFlow; both are remembered.'

setup: ## create .venv with all packages, build pse
	@$(SETUP)

setup-horovod: setup ## add Horovod to .venv, for training with several processes
	@$(SETUP) horovod

setup-tools: setup ## add to .venv the packages for ONNX export and the demo server
	@$(SETUP) tools

setup-detect: ## create .venv-detect for detection only: any CPython from 3.8 to 3.13, PYTHON=...
	@python=$$(PYTHON='$(PYTHON)' tools/find_python.sh detect) && "$$python" tools/setup_env.py detect

setup-browser: ## install Debian's Chromium, for the demo server's tests
	@command -v chromium chromedriver >/dev/null || { apt-get update -qq && \
	  apt-get install -qq --yes --no-install-recommends chromium chromium-driver >/dev/null; } || { \
	  echo 'error: chromium and chromedriver could not be installed; put both on the PATH (as root' \
	  'on Debian and Ubuntu: make setup-browser)' >&2; exit 1; }

detect: setup ## find the text in IMAGES=directory with CHECKPOINT=checkpoint/icdar2015, into OUTPUT=output
	@test -n '$(IMAGES)' || { echo 'error: IMAGES is missing; use make detect IMAGES=directory' >&2; exit 1; }
	@$(VENV_PYTHON) eval.py --gpu_list="" --test_data_path='$(IMAGES)' --output_dir='$(or $(OUTPUT),output)' \
	  --checkpoint_path='$(or $(CHECKPOINT),checkpoint/icdar2015)'

backbone: setup ## write pretrain_model/resnet_v1_50.ckpt, the ImageNet weights
	@$(VENV_PYTHON) -m tools.import_backbone

demo: setup ## make data, train, detect and score, in minutes; DEMO_STEPS=20 shortens it
	@$(VENV_PYTHON) -m tools.demo $(DEMO_FLAGS)

demo-curved: setup ## the same with curved words, found as polygons
	@$(VENV_PYTHON) -m tools.demo $(DEMO_FLAGS) --curved --folder=./demo/curved

tools-demo: setup-tools ## run every tool on the demo's data, and keep their images in demo/tools
	@$(VENV_PYTHON) -m tools.tools_demo $(DEMO_FLAGS)

test: setup-tools ## run the tests, two files at a time; ARGS='tests/pse -x' is passed to pytest
	@$(VENV_PYTHON) -m pytest -n 2 --dist loadfile $(ARGS)

# What needs no TensorFlow; a deprecation that our own code meets is an error.
test-detect: setup-detect ## run the tests of detection, scoring, labels and serving in .venv-detect
	@.venv-detect/bin/python -W error::DeprecationWarning -m pytest -n 2 --dist loadfile -p no:cacheprovider \
	  $(DETECT_TESTS) $(ARGS)

# These files alone: loaded after OpenVINO and ONNX Runtime, which other tests import, Horovod crashes.
test-distributed: setup-tools setup-horovod ## run the tests with several processes: Horovod and NPUs
	@$(VENV_PYTHON) -m pytest -m distributed tests/test_horovod.py tests/test_npu_ranks.py $(ARGS)

fuzz: setup ## search for inputs that break the parsers and pse, for FUZZ_SECONDS=300
	@$(SETUP) fuzz
	@$(MAKE) -s -C pse sanitize PYTHON='$(CURDIR)/$(VENV_PYTHON)'
	@$(VENV_PYTHON) -m tests.fuzz

soak: setup ## kill and disturb a training run, for at most SOAK_SECONDS=1200
	@$(VENV_PYTHON) -m tests.soak

# Bandit: subprocesses are started (B404, B603), as readers, ranks and a demo's steps are processes;
# always with a list of arguments and never through a shell, which tests/test_security.py holds.
lint: setup ## check style, spelling and security
	@$(VENV_PYTHON) -m ruff check .
	@git ls-files -z | xargs -0 .venv/bin/codespell
	@.venv/bin/clang-format --dry-run -Werror pse/*.cpp
	@for script in $$(git ls-files '*.sh' .ci/run); do bash -n "$$script" || exit 1; done
	@.venv/bin/bandit -q -r . -x ./.venv,./.venv-detect,./tests -s B404,B603
	@$(VENV_PYTHON) -m tools.audit $(AUDIT)

bench: setup-tools ## measure the parts of the system, each against a baseline
	@$(VENV_PYTHON) -m tools.benchmark $(ARGS)

clean: ## remove files of builds, tests and the demo; keeps .venv and output/
	$(MAKE) -s -C pse clean
	rm -rf demo fuzz .pytest_cache .ruff_cache .hypothesis
	find . -name '.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv and .venv-detect
	rm -rf .venv .venv-detect
