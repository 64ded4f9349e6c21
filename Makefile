# make demo   build, start everything on loopback, run the main job
# make segad-pkcs11  build segad with keys of CAs in HSMs (PKCS#11)
# make man    write the manual pages of sega into man/
# make test   install what the tests need where that is possible, and run them all

GOFLAGS := -trimpath
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
# What sega inherits is kept before Go starts (cmd/sega/inherited).
ENTRY := $(if $(filter linux/amd64 linux/arm64,$(shell go env GOOS GOARCH | paste -sd/)),-E sega/cmd/sega/inherited.entry)
# A laptop's program is to stay small: what runs once for a command, draws on a terminal or waits for the network need not be inlined.
LEAN := $(foreach p,sega github.com golang.org filippo.io net/http,-gcflags=$(p)/...=-l)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.8.0
GOTEST ?= go test
TESTFLAGS ?=
TESTPACKAGES ?= ./...
ONLY ?=

BIN ?= bin

.PHONY: build sega segad-pkcs11 man demo test soak bench lint fuzz cross

build: sega
	CGO_ENABLED=0 go build $(GOFLAGS) -ldflags "$(LDFLAGS)" -o $(BIN)/segad ./cmd/segad

sega:
	CGO_ENABLED=0 go build $(GOFLAGS) $(LEAN) -ldflags "$(LDFLAGS) -funcalign=16 $(ENTRY)" -o $(BIN)/sega ./cmd/sega

# segad with keys in HSMs: the one build that needs cgo, a C compiler and at run time the HSM's module
segad-pkcs11:
	CGO_ENABLED=1 go build $(GOFLAGS) -tags pkcs11 -ldflags "$(LDFLAGS)" -o $(BIN)/segad ./cmd/segad

man:
	rm -rf man
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) CGO_ENABLED=0 go run $(GOFLAGS) -tags man -ldflags "$(LDFLAGS)" ./cmd/sega man man

demo:
	scripts/deps demo
	$(MAKE) --no-print-directory build
	scripts/demo

test:
	scripts/deps test
	$(GOTEST) $(TESTFLAGS) -timeout 25m $(TESTPACKAGES)
	CGO_ENABLED=1 go test $(TESTFLAGS) -tags pkcs11 -run 'SoftHSM' ./sshca/signer ./cmd/segad/dev/attack

soak:
	scripts/deps test
	SEGA_SOAK=1 go test $(TESTFLAGS) -timeout 120m -count=1 ./cmd/segad/dev/... ./audit/... ./broker/...

bench:
	scripts/deps test
	go run ./cmd/segad/dev/bench -only "$(ONLY)"

# sega for macOS, Windows and the other architectures
cross:
	scripts/cross

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...
	scripts/vulncheck $(GOVULNCHECK)

# Every fuzz target for FUZZTIME each.
FUZZTIME ?= 10s
fuzz:
	scripts/fuzz $(FUZZTIME)
