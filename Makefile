PYTHON ?= python3
ADVKIT = $(PYTHON) -m advkit
WEIGHTS = advkit/weights

.PHONY: check format lint types test cover demo docs weights ci

check: format lint types test  ## everything that must be green

format:
	$(PYTHON) -m ruff format --check .

lint:
	$(PYTHON) -m ruff check .

# mypy does not see that attacks/ and defenses/ are installed inside advkit: a tree of links gives them their real paths.
types:
	mkdir -p .types/advkit
	find .types/advkit -xtype l -delete
	cd .types/advkit && ln -sfn ../../advkit/* ../../attacks ../../defenses .
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest

cover:  ## the loops and the vocabulary are tested line by line
	$(PYTHON) -m pytest --cov
	$(PYTHON) -m coverage report --include='advkit/core/*,advkit/engine/*' --fail-under=95

demo:
	$(ADVKIT) attack --model resnet --eps 8/255

docs:  ## the generated parts of README.md and docs/
	$(PYTHON) scripts/docs.py

weights:  ## the weights that ship in the package, each by its exact command
	$(ADVKIT) train --model resnet --data signs --epochs 12 --out $(WEIGHTS)/resnet20-signs-standard.safetensors
	$(ADVKIT) train --model resnet --data signs --epochs 8 --defense pgd-at --eps 8/255 --set steps=4 --set step_size=0.4 --variant adversarial \
		--out $(WEIGHTS)/resnet20-signs-adversarial.safetensors
	$(ADVKIT) train --model lenet --data signs --epochs 12 --learning-rate 0.02 --out $(WEIGHTS)/lenet-signs-standard.safetensors
	$(ADVKIT) train --model cnn --data signs --epochs 12 --out $(WEIGHTS)/cnn-signs-standard.safetensors
	$(ADVKIT) train --model resnet --data signs --epochs 6 --defense trades --eps 8/255 --set steps=4 --set step_size=0.4 \
		--out $(WEIGHTS)/resnet20-signs-trades.safetensors
	$(ADVKIT) train --model resnet --data signs --epochs 10 --defense gaussian --set sigma=0.25 \
		--out $(WEIGHTS)/resnet20-signs-gaussian.safetensors
	$(ADVKIT) train-denoiser --denoiser dncnn --set sigma=0.25 --epochs 10 --out $(WEIGHTS)/denoiser-dncnn-signs.safetensors
	$(ADVKIT) train-denoiser --samples 8000 --denoiser-set width=16 --set sigma=0.1 --set sigma_least=0 --epochs 8 \
		--out $(WEIGHTS)/denoiser-dae-signs.safetensors
	$(ADVKIT) train-denoiser --samples 8000 --denoiser-set width=16 --denoiser diffusion --set latest=0.2 --epochs 8 \
		--out $(WEIGHTS)/denoiser-diffusion-signs.safetensors
	$(ADVKIT) train-denoiser --samples 2000 --held-out-samples 100 --denoiser-set width=16 --defense logit-guided --eps 8/255 \
		--set steps=1 --set step_size=1 --epochs 2 --batch-size 32 --learning-rate 0.001 \
		--start $(WEIGHTS)/denoiser-dae-signs.safetensors --out $(WEIGHTS)/denoiser-hgd-signs.safetensors

ci:
	bash .ci/run
