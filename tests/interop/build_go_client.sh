#!/bin/bash
# Usage: build_go_client.sh OUTPUT SOURCE.go... FILE.proto
#
# Generates the stubs in Go and builds the client with Debian's compiler and libraries: no network, no module files, and
# nothing written but OUTPUT.
set -euo pipefail
export PATH=/usr/bin:/bin

# Of golang/protobuf Debian has two packages for one folder, and gRPC's takes the older one where none is installed. Its
# code cannot read what today's generator writes: a client built with it ends at its first message.
if [[ -e /usr/share/gocode/src/github.com/golang/protobuf/proto/table_unmarshal.go ]]; then
  echo "golang-github-golang-protobuf-1-3-dev is installed: install golang-github-golang-protobuf-1-5-dev instead" >&2
  exit 1
fi

output=$1
proto=${*: -1}
sources=("${@:2:$#-2}")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/src/interop"
# The path below which the .proto names itself.
protoc -I "${proto%/weightstream/v1/*}" --go_out="$work/src" --go-grpc_out="$work/src" "$proto"
cp "${sources[@]}" "$work/src/interop"

export HOME=$work GOCACHE=$work/cache GOPATH=$work:/usr/share/gocode GO111MODULE=off GOFLAGS=-p=2 CGO_ENABLED=0
unformatted=$(gofmt -l "$work/src/interop")
if [[ -n "$unformatted" ]]; then
  echo "not in gofmt's format: ${unformatted//$work\/src\/interop\//tests/interop/go/}; run gofmt -w on them" >&2
  exit 1
fi
go vet interop
go build -trimpath -o "$output" interop
