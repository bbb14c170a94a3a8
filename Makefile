# Every line here is a line of go or a script under hack/. "make" prints the targets.
ARCH    ?= $(shell go env GOARCH)
OUTPUT  ?= dist
RECIPE  ?= images/edge.yaml
N       ?= 300
BOOT    ?= 0
START   ?= 0

.PHONY: help deps build image images run test test-vm bench powercut lint generate

help: ## print the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

deps: ## install what this machine lacks, through apt
	@hack/deps.sh

build: deps ## build the host program bin/kedge
	@mkdir -p bin
	go build -trimpath -o bin/kedge ./cmd/kedge

image: build ## build the image for ARCH (amd64 or arm64) into dist/
	bin/kedge build $(RECIPE) --arch $(ARCH) --output $(OUTPUT) --fresh-lock-if-gone

images: build ## build the images for both architectures
	$(MAKE) image ARCH=amd64
	$(MAKE) image ARCH=arm64

run: image ## build the image, boot it in QEMU to a Ready node and show it
	bin/kedge run $(OUTPUT)/kedge-$(ARCH).iso --network isolated --wait ready --exec "$$(cat hack/demo.sh)"

test: images ## run all tests but the long virtual-machine stories
	hack/test.sh core

test-vm: images ## run every virtual-machine story
	@hack/deps.sh vm
	hack/test.sh vm

bench: images ## print the figures: name, value, unit
	hack/bench.sh

powercut: build ## cut the power of recorded machines N times (RECORD=1 records them first, START=n starts Kubernetes on n of the disks, BOOT=n starts n machines)
	$(if $(RECORD),go run ./hack/powercut record)
	go run ./hack/powercut -again -n $(N) -start $(START) -boot $(BOOT)

lint: deps ## gofmt, go vet, staticcheck, generated files
	hack/lint.sh

generate: deps ## write generated files again
	go generate ./...
