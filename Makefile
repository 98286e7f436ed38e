# The two commands: make run, make test.

GO      ?= go
PKI     ?= pki
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# The version is set below; git may not let another owner look at the tree.
GOFLAGS += -trimpath -buildvcs=false
export GOFLAGS

.PHONY: build run test e2e bench fuzz deps clean install

build: bin/tmpki

# Keys in PKCS#11 tokens need cgo. "make build CGO_ENABLED=0" makes a static program
# without them.
bin/tmpki: FORCE
	@$(GO) build -ldflags '-s -w -X main.version=$(VERSION)' -o $@ ./cmd/tmpki

FORCE:

# Builds, makes a development PKI, signs the sample GuestOS config, verifies it.
run: build
	@scripts/demo bin/tmpki $(PKI)

# Everything that is quick: unit tests, second opinions, script tests, races. The
# scripts start the program hundreds of times, which takes many times longer with the
# race detector: of them it sees those that do many things at once.
test:
	@scripts/deps test
	@scripts/check-format
	$(GO) vet ./...
	$(GO) test -race -timeout 15m $$($(GO) list ./... | grep -v '/cmd/tmpki$$')
	$(GO) test -timeout 15m ./cmd/tmpki
	$(GO) test -race -timeout 15m -run 'TestScripts/(device|generate|hsm|postgres|sign_names|backup|crl|ceremony)$$' ./cmd/tmpki
	CGO_ENABLED=0 $(GO) test -run 'TestWithoutCgo|TestOpen' ./keys

# What takes longer: whole machines with UEFI firmware and Secure Boot, large images.
e2e:
	@scripts/deps e2e
	$(GO) test -count=1 -tags e2e -timeout 20m ./e2e/... # builds the program itself, which the cache does not see
	TMPKI_VERITY_MIB=1024 $(GO) test -timeout 10m -run TestLargeSameAsVeritysetup ./artifact/verity

bench:
	@scripts/bench

fuzz:
	@scripts/fuzz $(FUZZTIME)

deps:
	@scripts/deps test e2e

install: build
	install -D bin/tmpki $(DESTDIR)/usr/bin/tmpki

clean:
	rm -rf bin
