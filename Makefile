# What people and CI call. `make help` lists it.
SHELL := /bin/bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X github.com/syscollective/saltpeter/internal/buildinfo.version=$(VERSION)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)"
GOLANGCI_VERSION := v2.15.0
GREMLINS_VERSION := v0.6.0
STATICCHECK_VERSION := v0.8.2
GOBIN := $(shell go env GOPATH)/bin
TESTFLAGS ?=
BENCHFLAGS ?=

.PHONY: help build salt-states test race fuzz bench bench-all lint fmt tools demo crashpoints torture planted sim sim-twice salt-up salt-down integration integration-all clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## build saltpeter, spctl and sp_wrapper into bin/ (sp_wrapper also for arm64)
	@mkdir -p bin
	$(GOBUILD) -o bin/saltpeter ./cmd/saltpeter
	$(GOBUILD) -o bin/spctl ./cmd/spctl
	$(GOBUILD) -o bin/sp_wrapper ./cmd/sp_wrapper
	GOARCH=arm64 $(GOBUILD) -o bin/sp_wrapper-linux-arm64 ./cmd/sp_wrapper

salt-states: build ## gather in dist/salt what a Salt master serves: states, execution module, sp_wrapper for amd64 and arm64
	@rm -rf dist/salt && mkdir -p dist/salt/saltpeter/files
	@cp -r deploy/salt/_modules deploy/salt/saltpeter dist/salt/
	@install -m 0755 bin/sp_wrapper dist/salt/saltpeter/files/sp_wrapper-linux-$(shell go env GOARCH)
	@[ -e dist/salt/saltpeter/files/sp_wrapper-linux-amd64 ] || GOARCH=amd64 $(GOBUILD) -o dist/salt/saltpeter/files/sp_wrapper-linux-amd64 ./cmd/sp_wrapper
	@install -m 0755 bin/sp_wrapper-linux-arm64 dist/salt/saltpeter/files/
	@echo "dist/salt is ready: copy it into the master's file_roots (/srv/salt)"

test: build ## all tests, with a minute of crash points (as root it installs what they need of the system)
	@.ci/needs
	go test -timeout 6m $(TESTFLAGS) ./...

race: ## all tests under the race detector
	go test -race -timeout 20m ./...

fuzz: ## every fuzz target for 20 s
	@for p in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do \
	    echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime 20s -fuzzminimizetime 10x $$p || exit 1; \
	  done; done

bench: ## all benchmarks once
	go test -run '^$$' -bench . -benchtime 200ms ./...

bench-all: build ## measure nodes against their budgets, each beside its limit (docs/performance.md); 15 minutes, bench-ticks and others alone
	go run ./bench $(BENCHFLAGS) all

bench-%: build
	go run ./bench $(BENCHFLAGS) $(if $(N),-n $(N)) $*

tools: ## install the linters
	@test -x $(GOBIN)/golangci-lint || go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@test -x $(GOBIN)/staticcheck || go install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)

lint: tools ## golangci-lint and staticcheck
	$(GOBIN)/golangci-lint run ./...
	$(GOBIN)/staticcheck ./...

mutate: ## change a seeded sample of 300 places of fsm and scheduler: are the tests red? (about 30 minutes)
	@test -x $(GOBIN)/gremlins || go install github.com/go-gremlins/gremlins/cmd/gremlins@$(GREMLINS_VERSION)
	PATH="$(GOBIN):$$PATH" go run ./integration/mutate -n $(or $(N),300) -seed $(or $(SEED),1)

fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

demo: build ## three nodes with local machines and a sample configuration, in a temporary directory
	@deploy/demo/run

crashpoints: ## kill and stop nodes and wrappers at every named point, judge by ledgers (SECONDS=60: a sample)
	go run ./integration/crash/crashpoints $(if $(SECONDS),-seconds $(SECONDS))

torture: build ## hurt three nodes for SECONDS (600): killed, stopped, cut off, disks frozen, full and failing; needs root (SEED=n: the same plan)
	go build -o bin/torture ./integration/torture
	bin/torture -seconds $(or $(SECONDS),600) $(if $(SEED),-seed $(SEED)) $(if $(JOBS),-jobs $(JOBS))

outage: ## kill one node, and three, for five minutes while forty commands run; stop wrappers for 90 s after their grant (8 minutes)
	SP_OUTAGE=300 SP_WRAPPER_STOP=90 go test -count=1 -timeout 30m -v -run 'Outage|StoppedWrapper' ./integration/crash

planted: ## plant each known bug in a copy of the tree: does the test that it names notice? (BUG=name: one)
	PLANTED=$(or $(BUG),all) go test -count=1 -timeout 20m -v -run TestPlanted ./integration/planted

salt-up: ## start real Salt on loopback: two masters, six minions (ARGS="--version 3008 --minions 3 ..."); prints what it started
	@integration/salt/needs
	@integration/salt/rig.py up $(ARGS)

salt-down: ## stop what salt-up started and delete its state
	@integration/salt/rig.py down $(ARGS)

integration: ## the tests that need real Salt; installs it once per version below ~/.cache (VERSION_SALT=3008, RUN=name)
	@integration/salt/needs
	SALT_RIG=1 SALT_VERSION=$(VERSION_SALT) go test -count=1 -p 1 -timeout 30m -v $(if $(RUN),-run '$(RUN)') ./integration/salt/...

integration-all: ## the same with every supported line of Salt
	for v in 3006 3007 3008; do $(MAKE) integration VERSION_SALT=$$v || exit 1; done

sim: ## simulate whole nodes from SEEDS (2000) seeds from FROM (1) on, or play SEED alone with its history
	set -o pipefail; SIM_SEEDS=$(or $(SEEDS),2000) SIM_FROM=$(or $(FROM),1) $(if $(SEED),SIM_SEED=$(SEED) SIM_LOG=1) go test -count=1 -timeout 4h -v -run TestSim ./integration/sim | grep -vE '^=== |^ *--- PASS: TestSim/'

sim-twice: ## play SEEDS (10) seeds from FROM (1) on twice, with a runtime that leaves nothing to chance: are they the same runs?
	SIM_TWICE=$(or $(SEEDS),10) SIM_FROM=$(or $(FROM),1) go test -count=1 -timeout 1h -v -run TestSameSeedSameRun ./integration/sim

clean: ## remove what was built
	rm -rf bin dist
