# Everything a newcomer needs. Each target sets the checkout up first (see genreward_jax/bootstrap.py); the second
# time that costs nothing. Values may hold spaces and quotes: they reach the program as they were typed.

PYTHON ?=
TORCH_INDEX ?=
WORKERS ?= 2
export PYTHON TORCH_INDEX

# Values go to the programs as quoted arguments; make would expand a $ in them on the way to the environment.
unexport TASK TASKS STEPS SEED METHOD REWARDS ENV_REWARD LOGDIR PRESET GOAL MODEL FLAGS RUN EPISODES REVISION GENERATION DRY PROMPT IMAGE FRAMES OUT DATA PART PARTS CARDS QUICK FULL ITEMS SWEEP FIGURE RUNS

VENV := .venv/bin/python
# Any python3 can run the set-up, which then looks for the right one; PYTHON only stands in where there is none.
ANY_PYTHON := p=python3; command -v $$p >/dev/null || p="$${PYTHON:-python3}"; command -v "$$p" >/dev/null || \
	{ echo 'There is no python3 here: apt-get install python3 python3-venv' >&2; exit 2; }
RUN_SETUP := $(ANY_PYTHON); "$$p" -m genreward_jax.bootstrap

# $(call flag,--name,VARIABLE): the flag with the variable's value in single quotes, or nothing if it is empty.
quote = '$(subst ','\'',$(1))'
flag = $(if $(value $(2)), $(1) $(call quote,$(3)$(value $(2))))

# TASK=shelf_place is metaworld_shelf_place; TASK=gym_CartPole-v1 is itself.
SUITE = $(if $(filter gym_%,$(value TASK)),,metaworld_)

# One line a variable: the name on the make line and the flag of `python -m genreward_jax train` that it stands for.
TRAIN_FLAGS = $(call flag,--task,TASK,$(SUITE))$(call flag,--preset,PRESET)$(call flag,--method,METHOD)$\
	$(call flag,--env.$(or $(SUITE:_=),gym).reward,ENV_REWARD)$(call flag,--run.steps,STEPS)$(call flag,--seed,SEED)$\
	$(call flag,--logdir,LOGDIR)$(call flag,--goal.source,GOAL)$(call flag,--model.family,MODEL)$\
	$(call flag,--goal.prompt,PROMPT)$(call flag,--goal.image,IMAGE)
FETCH_FLAGS = $(call flag,--model.family,MODEL)$(call flag,--model.revision,REVISION)$\
	$(call flag,--generation,GENERATION)$(call flag,--dry,DRY)

# The same for `python -m genreward_jax goal`; SEED is the video's.
GOAL_FLAGS = $(call flag,--task,TASK,metaworld_)$(call flag,--goal.prompt,PROMPT)$(call flag,--goal.image,IMAGE)$\
	$(call flag,--goal.seed,SEED)$(call flag,--goal.frames,FRAMES)$(call flag,--goal.source,GOAL)$\
	$(call flag,--model.family,MODEL)$(call flag,--out,OUT)

# The same for `python -m genreward_jax score`.
SCORE_FLAGS = $(call flag,--task,TASK,metaworld_)$(call flag,--rewards,REWARDS)$(call flag,--episodes,EPISODES)$\
	$(call flag,--run,RUN)$(call flag,--data,DATA)$(call flag,--tasks,TASKS)$(call flag,--out,OUT)$\
	$(call flag,--goal.source,GOAL)$(call flag,--model.family,MODEL)$(call flag,--env.metaworld.reward,ENV_REWARD)$\
	$(call flag,--preset,PRESET)$(call flag,--seed,SEED)$(call flag,--across,ACROSS)

# The same for `python -m genreward_jax figures` and `reproduce`.
FIGURE_FLAGS = $(call flag,--figure,FIGURE)$(call flag,--preset,PRESET)$(call flag,--runs,RUNS)$(call flag,--out,OUT)

FINETUNE_FLAGS = $(call flag,--data,DATA)$(call flag,--model,MODEL)$(call flag,--out,OUT)$(call flag,--part,PART)

.DEFAULT_GOAL := help
.PHONY: help setup relabel train goal score eval finetune models models-eval study sweep figures reproduce report bench fetch-models test lint format doctor clean

help: ## list the targets
	@echo 'make TARGET [NAME=value ...]'
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  %-12s %s\n", $$1, $$2 }'

setup: ## set up .venv and stop: PYTHON=/path/to/python3.12 TORCH_INDEX=url AGAIN=1 (look at all again)
	@$(RUN_SETUP) $(if $(AGAIN),--again)

.PHONY: setup-if-needed
setup-if-needed:
	@$(RUN_SETUP) --if-needed

train: setup-if-needed ## train: TASK=shelf_place (or gym_CartPole-v1) STEPS= SEED= METHOD= ENV_REWARD= LOGDIR= PRESET= GOAL= MODEL= PROMPT= IMAGE= FLAGS='--any.flag 1'
	@exec $(VENV) -m genreward_jax train$(TRAIN_FLAGS) $(value FLAGS)

goal: setup-if-needed ## make a goal video and its key frame: TASK=shelf_place PROMPT='...' IMAGE=first.png MODEL= SEED= FRAMES= GOAL=file OUT=folder
	@exec $(VENV) -m genreward_jax goal$(GOAL_FLAGS) $(value FLAGS)

eval: .run-is-named setup-if-needed ## play a run and film it: RUN=runs/... EPISODES=10 DATA=folder (a LeRobot data set of them)
	@exec $(VENV) -m genreward_jax eval $(call quote,$(value RUN))$(call flag,--episodes,EPISODES)$(call flag,--data,DATA) $(value FLAGS)

.PHONY: .run-is-named
.run-is-named:
	@$(if $(value RUN),:,echo 'make eval needs a run directory: make eval RUN=runs/shelf_place/dense/genreward/seed0' >&2; exit 2)

score: setup-if-needed ## judge rewards before training with them: TASK=shelf_place REWARDS=video,fb_measure EPISODES=8 RUN=runs/... DATA=folder TASKS=none GOAL= MODEL= OUT=folder ACROSS=folder
	@exec $(VENV) -m genreward_jax score$(SCORE_FLAGS) $(value FLAGS)

relabel: .relabel-is-named setup-if-needed ## another goal, method or weights for a run's episodes: RUN=runs/... OUT=folder GOAL=file METHOD= MODEL= PROMPT= IMAGE= FLAGS='--reward.alpha 0.1'
	@exec $(VENV) -m genreward_jax relabel $(call quote,$(value RUN))$(call flag,--out,OUT)$(call flag,--method,METHOD)$\
		$(call flag,--goal.source,GOAL)$(call flag,--goal.prompt,PROMPT)$(call flag,--goal.image,IMAGE)$\
		$(call flag,--model.family,MODEL) $(value FLAGS)

.PHONY: .relabel-is-named
.relabel-is-named:
	@$(if $(and $(value RUN),$(value OUT)),:,echo "make relabel needs a run and a new folder: make relabel RUN=runs/shelf_place/dense/genreward/seed0 OUT=runs/again FLAGS='--reward.alpha 0.1'" >&2; exit 2)

models: setup-if-needed ## train the embedded models from nothing, data included; goes on when stopped: OUT=models PARTS='vae clip'
	@exec $(VENV) -m genreward_jax models$(call flag,--out,OUT)$(if $(value PARTS), --parts $(value PARTS)) $(value FLAGS)

models-eval: setup-if-needed ## judge models on episodes that none was trained on: MODEL='embedded embedded+experts' OUT=models-eval CARDS=1
	@exec $(VENV) -m genreward_jax models-eval$(if $(value MODEL), --model $(value MODEL))$(call flag,--out,OUT)$(if $(value CARDS), --cards) $(value FLAGS)

fetch-models: setup-if-needed ## get models from the hub ahead of time: MODEL=THUDM/CogVideoX-5b-I2V REVISION= GENERATION=0|1 DRY=1 (sizes only)
	@exec $(VENV) -m genreward_jax fetch-models$(FETCH_FLAGS) $(value FLAGS)

finetune: setup-if-needed ## fine-tune a family's video model: DATA=folder MODEL=embedded OUT=folder PART=transformer|vae FLAGS='--steps 600'
	@exec $(VENV) -m genreward_jax finetune$(FINETUNE_FLAGS) $(value FLAGS)

study: setup-if-needed ## train under several rewards and seeds, a CSV a run (hours; goes on when stopped): FLAGS='--seeds 0 --dry', or '--scores folder' to compare with make score
	@exec $(VENV) -m genreward_jax study $(value FLAGS)

sweep: .sweep-is-named setup-if-needed ## train tasks x methods x seeds x flags on Ray, here or on the cluster of RAY_ADDRESS; goes on when stopped: SWEEP=smoke (or a file) OUT=folder or URL FLAGS='--dry'
	@$(HAS_RAY) || $(WITH_EXTRA) '.[sweep]'
	@exec $(VENV) -m genreward_jax sweep $(call quote,$(value SWEEP))$(call flag,--out,OUT) $(value FLAGS)

HAS_RAY = $(VENV) -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("ray"))' >/dev/null 2>&1

# One more extra for a checkout that is set up, installed as the set-up does it.
WITH_EXTRA = $(VENV) -m pip --disable-pip-version-check --no-input install --quiet -c constraints.txt $\
	--no-build-isolation --config-settings editable_mode=compat -e

.PHONY: .sweep-is-named
.sweep-is-named:
	@$(if $(value SWEEP),:,echo 'make sweep needs a name under configs/sweeps or a file: make sweep SWEEP=smoke' >&2; exit 2)

figures: setup-if-needed ## draw the paper's figures from the runs that are there, and say what is missing: FIGURE=5 RUNS=dir OUT=dir PRESET=
	@exec $(VENV) -m genreward_jax figures$(FIGURE_FLAGS) $(value FLAGS)

reproduce: setup-if-needed ## train what a figure misses, on Ray, then draw it; goes on when stopped: FIGURE=9 PRESET=smoke|cpu|paper RUNS=dir OUT=dir FLAGS='--dry'
	@$(HAS_RAY) || $(WITH_EXTRA) '.[sweep]'
	@exec $(VENV) -m genreward_jax reproduce$(FIGURE_FLAGS) $(value FLAGS)

report: setup-if-needed ## one page of all runs in a folder, to open or to send: RUNS=dir OUT=report.html
	@exec $(VENV) -m genreward_jax report$(call flag,--runs,RUNS)$(call flag,--out,OUT) $(value FLAGS)

bench: setup-if-needed ## measure what the reward and the speed-ups cost and save: QUICK=1 (a smoke) FULL=1 (everything) ITEMS='1 3' OUT=bench FLAGS=
	@exec $(VENV) -m genreward_jax bench$(if $(value QUICK), --quick)$(if $(value FULL), --full)$(if $(value ITEMS), --items $(value ITEMS))$(call flag,--out,OUT) -- $(value FLAGS)

test: setup-if-needed ## run the tests: WORKERS=2 FLAGS='-k shaper'
	@exec $(VENV) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(value FLAGS)

lint: setup-if-needed ## look for mistakes and unformatted code
	@$(VENV) -m ruff check . && $(VENV) -m ruff format --check .

format: setup-if-needed ## format the code and mend what can be mended
	@$(VENV) -m ruff check --fix . && $(VENV) -m ruff format .

doctor: ## say what is installed, what renders, which device and models are used, and what mends each wrong
	@if $(VENV) -c '' 2>/dev/null; then p=$(VENV); else $(ANY_PYTHON); fi; exec "$$p" -m genreward_jax.cli.doctor$(call flag,--model.family,MODEL)

clean: ## remove .venv, caches and build folders; runs stay
	@rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
