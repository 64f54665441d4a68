# Two commands for a newcomer: make run, make test.
SHELL := /bin/bash
GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X github.com/rollcall-im/rollcall/internal/buildinfo.Version=$(VERSION)
FUZZTIME ?= 30s
BENCHTIME ?= 1s
ROUNDS ?= 3
KILLS ?= 50
FAULT_SEEDS ?= 2000

.PHONY: build run test test-client test-js demo tools-js test-faults test-hostile lint bench bench-go bench-once bench-query bench-shard bench-wheel bench-million bench-peers bench-protocols fuzz mutants smoke generate clean tools help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{printf "%-14s %s\n", $$1, $$2}'

build: ## bin/rollcall and bin/rollcall-bench
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

run: build ## build and start a server in dev mode on 127.0.0.1
	bin/rollcall serve --dev

# The race detector needs a C compiler; on Debian one is installed if it is missing.
tools:
	@command -v $(GO) >/dev/null || { echo "Go 1.26 or newer is needed: https://go.dev/dl/"; exit 1; }
	@command -v gcc >/dev/null || command -v cc >/dev/null || { \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq gcc libc6-dev >/dev/null; \
	  else echo "a C compiler is needed for go test -race: install gcc"; exit 1; fi; }

test: tools ## all tests with the race detector (wants a C compiler)
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./...
	@# The race detector makes pools forget, so tests of allocations are left out above.
	$(GO) test -run 'Alloc' ./engine ./internal/api ./internal/embedded ./internal/usersig ./internal/admission ./shard

test-faults: build ## kill the server KILLS times under load (SEED replays), cut the store's power FAULT_SEEDS times; nothing acknowledged may be lost
	@mkdir -p bench/results
	bin/rollcall-bench ledger --kills $(KILLS) $(if $(SEED),--seed $(SEED)) --json bench/results/ledger.json
	@# What keeps nothing must be found out, or the ledger proves nothing.
	bin/rollcall-bench ledger --kills 2 --durability memory --users 30 --acks 200 --settle-timeout 1s --expect-violations
	$(GO) test -count 1 -timeout 60m ./internal/store -run 'PowerLoss|Fault|Disk|Space' -crash.seeds $(FAULT_SEEDS)
	$(GO) test -count 1 -timeout 60m ./internal/embedded ./internal/webhook -run 'Crash|Fault|Disk|Restart|Killed'

test-hostile: build ## every row of the hostile suite in full size: bench/results/hostile.md and .json; HOSTILE="--small --lanes 4" for a quick one
	@mkdir -p bench/results
	bin/rollcall-bench hostile $(HOSTILE) --table bench/results/hostile.md --json bench/results/hostile.json

test-client: ## an unmodified public client of the cloud's REST API against ours (a module of its own; wants port 443 of a loopback address)
	@# With a go.mod of the moment, so that a newer requirement of the product need not be repeated there.
	@cd internal/api/clienttest && d=$$(mktemp -d) && trap 'rm -rf $$d' EXIT && cp go.mod go.sum $$d && \
	  if $(GO) mod download -modfile=$$d/go.mod github.com/dobyte/tencent-im >/dev/null 2>$$d/err; then $(GO) test -count=1 -mod=mod -modfile=$$d/go.mod ./...; \
	  else echo "test-client skipped, its client cannot be downloaded from here: $$(tail -1 $$d/err)"; fi

# Debian's node, npm and chromium are installed if they are missing. CHROMIUM names another browser. Debian 12 has node 18: there
# NODE20 of the npm registry, a binary of the same Node, comes beside it, in /usr/local.
NODE20 = node-linux-$(if $(filter aarch64,$(shell uname -m)),arm64,x64)@20.20.2
NODE_IS_NEW = node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'
tools-js:
	@if ! command -v node >/dev/null || ! command -v npm >/dev/null || ! command -v "$${CHROMIUM:-chromium}" >/dev/null; then \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq \
	    $$(command -v node >/dev/null || echo nodejs) $$(command -v npm >/dev/null || echo npm) $$(command -v chromium >/dev/null || echo chromium) >/dev/null; \
	  else echo "node 20, npm and chromium are needed"; exit 1; fi; fi
	@$(NODE_IS_NEW) || [ "$$(id -u)" != 0 ] || npm install -g --prefix /usr/local --no-audit --no-fund $(NODE20) >/dev/null
	@$(NODE_IS_NEW) || { echo "node 20 or newer is needed, this is $$(node --version)"; exit 1; }

# Fetches the compiler of sdk/js; where its registry cannot be reached an earlier download does.
NPM_CI = cd sdk/js && { npm ci --no-audit --no-fund >/dev/null || [ -x node_modules/.bin/tsc ]; }

test-js: build tools-js ## the TypeScript client: in virtual time, against the built server, and in headless Chromium (wants node 20, npm, chromium)
	$(NPM_CI) && npm test

demo: tools-js ## renew the demo page's copy of sdk/js (wants node 20, npm, chromium)
	$(NPM_CI) && npm run demo

lint: ## gofmt, vet, staticcheck, tidy, govulncheck where its database can be reached
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt would change: $$out"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) mod tidy -diff
	@$(GO) run $(GOVULNCHECK) ./... >.govulncheck.out 2>&1; status=$$?; \
	  if grep -qiE 'no such host|dial tcp|connection refused|fetching vulnerabilities|403 Forbidden|i/o timeout' .govulncheck.out; then echo "govulncheck: its database cannot be reached from here, skipped"; status=0; \
	  else cat .govulncheck.out; fi; rm -f .govulncheck.out; exit $$status

bench: build ## every load scenario for some seconds against a server of its own: bench/results/*.json and report.html
	bench/short

bench-million: ## LINKS (1000000, or max) links in one process, in a guest where files are capped; takes an hour or two
	bench/million

bench-peers: build ## idle links and logins beside mosquitto, nats-server and mochi-mqtt, one table (wants mosquitto)
	bench/peers/run

bench-protocols: build ## a link's memory and a login's CPU in each protocol, plain and over TLS, beside mosquitto (LOW, HIGH, ROUNDS)
	bench/protocols

bench-go: ## the Go benchmarks, BENCHTIME each
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

SHARD_USERS ?= 1000000 10000000
bench-shard: ## the presence table beside its peers: a process per table, size and GOMAXPROCS
	@$(GO) test -c -o bin/shard.test ./shard
	@for u in $(SHARD_USERS); do for p in 1 2; do for t in chase shard shard-offline xsync haxmap rwmutex sync.Map; do \
	  GOMAXPROCS=$$p bin/shard.test -test.run '^TestCompare$$' -test.timeout 60m -compare $$t -compare.users $$u | grep users; done; done; done

bench-once: ## every benchmark once
	$(GO) test -run '^$$' -bench . -benchtime 1x ./...

bench-query: ## querystate over real sockets beside a static answer and Redis, ROUNDS times (wants wrk and redis-server)
	@command -v wrk >/dev/null || { echo "install wrk and redis-server (both are Debian packages)"; exit 1; }
	@$(GO) test -run '^$$' -bench '^BenchmarkQuerySockets$$' -benchtime $(ROUNDS)x ./internal/api

bench-wheel: ## the timing wheel beside its targets and other timers, ROUNDS rounds
	GOMAXPROCS=1 $(GO) test -count 1 -run '^TestPeers$$' -v -timeout 60m ./internal/wheel -peers $(ROUNDS)

fuzz: ## every fuzz target, FUZZTIME each, FUZZJOBS of them side by side
	FUZZTIME=$(FUZZTIME) testdata/fuzz/run

mutants: ## apply each planted bug to a copy of the tree and show that the tests catch it
	MUTANT_JOBS=$${MUTANT_JOBS:-$$(nproc)} testdata/mutants/run

smoke: build ## run every bench scenario against the built server for some seconds, SECONDS_EACH=60 for a minute each
	bench/smoke

generate: ## regenerate codec/rollcallpb (needs protoc and protoc-gen-go)
	$(GO) generate ./codec/...

clean:
	rm -rf bin bench/results sdk/js/dist sdk/js/build sdk/js/node_modules
