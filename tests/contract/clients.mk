# Official clients, each in an environment of its own under .venvs/; google-genai 3.4.0 lives in $(VENV) itself.
# Included by the Makefile, which defines PYTHON, VENV and BIN. `make clients` is a no-op once the stamps exist.
CLIENTS := .venvs
GENAI_VERSIONS := 2.8.0 1.75.0
GENAI_JS_VERSION := 3.1.0
GENAI_STAMPS := $(GENAI_VERSIONS:%=$(CLIENTS)/genai-%/.done)
GENAI_JS_STAMP := $(CLIENTS)/node/.done-$(GENAI_JS_VERSION)

.PHONY: clients
clients: $(GENAI_STAMPS) $(GENAI_JS_STAMP)

$(GENAI_STAMPS): $(CLIENTS)/genai-%/.done:
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check google-genai==$*
	touch $@

$(GENAI_JS_STAMP): | $(VENV)/.dev
	rm -rf $(@D)
	mkdir -p $(@D)
	echo '{"private": true}' > $(@D)/package.json
	$(BIN)/npm install --prefix $(@D) --ignore-scripts --no-audit --no-fund --no-package-lock --loglevel=error \
		@google/genai@$(GENAI_JS_VERSION)
	touch $@
