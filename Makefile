# make check   what can be said without running it
# make test    every test, with the race detector, those against real peers too
# make bench   usher beside HAProxy, nginx, Caddy and sniproxy: one table. BENCH="-quick -rows h1" passes flags on
# make bench-diff  the Go benchmarks of this tree and of the commit before, compared. DIFF="-b Table HEAD~3 ./router" passes arguments on
# make bench-go    the Go benchmarks of the hot paths, with allocations
# make fuzz    every fuzz target for FUZZTIME (30s, or 10000x inputs), one after the other

GO       ?= go
FUZZTIME ?= 30s
PACKAGES  = ./...

.PHONY: build check test test-unit test-e2e fuzz bench bench-diff bench-go tools clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/usher ./cmd/usher

check:
	@unformatted="$$(gofmt -l $$(git ls-files '*.go'))"; [ -z "$$unformatted" ] || { echo "not gofmt-ed: $$unformatted"; exit 1; }
	$(GO) vet $(PACKAGES)
	$(GO) tool staticcheck $(PACKAGES)
	cd e2e && $(GO) vet ./...
	cd bench && $(GO) vet ./...
	staticcheck="$$($(GO) tool -n staticcheck)" && cd e2e && "$$staticcheck" ./... && cd ../bench && "$$staticcheck" ./...
	$(GO) test .

test: test-unit test-e2e

test-unit:
	$(GO) test -race $(PACKAGES)
	cd bench && $(GO) test -race ./...

# scripts/install-test-tools.sh installs the peers. -count=1: what is tested is a
# binary, of which the test cache knows nothing.
test-e2e:
	cd e2e && $(GO) test -race -count=1 -timeout 30m -parallel 4 ./...

bench:
	cd bench && $(GO) run . $(BENCH)

bench-diff:
	bench/diff.sh $(DIFF)

bench-go:
	$(GO) test -run '^$$' -bench . -benchmem $(PACKAGES)

fuzz:
	scripts/fuzz.sh $(FUZZTIME)

tools:
	scripts/install-test-tools.sh

clean:
	rm -rf bin
