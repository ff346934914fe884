#!/bin/bash
# Serves a real image from a real registry for a test.
#
#   registry.sh start FOLDER   makes debian:python, starts the packaged registry on a free port of
#                              loopback, pushes; FOLDER/address says HOST:PORT
#   registry.sh stop FOLDER
set -euo pipefail

verb=$1
folder=$2

stop() {
  if [ -f "$folder/pid" ]; then
    kill "$(cat "$folder/pid")" 2>/dev/null || true
  fi
}

# The root file system takes a minute to make: kept beside the build for the next run.
root_tar() {
  local cache=${COPPICE_TEST_CACHE:-$folder}
  if [ ! -s "$cache/debian-python.tar" ]; then
    mkdir -p "$cache"
    echo "registry: making a Debian root file system with python3 from packages" >&2
    mmdebstrap --quiet --format=tar --variant=minbase --include=python3-minimal,libpython3-stdlib,ca-certificates \
      bookworm "$cache/debian-python.tar.part" </dev/null
    mv "$cache/debian-python.tar.part" "$cache/debian-python.tar"
  fi
  echo "$cache/debian-python.tar"
}

digest() {
  sha256sum "$1" | cut -d' ' -f1
}

# blob FILE: moves it into the layout and prints its digest and size.
blob() {
  local d
  d=$(digest "$1")
  local size
  size=$(stat -c %s "$1")
  mv "$1" "$folder/layout/blobs/sha256/$d"
  echo "sha256:$d $size"
}

make_layout() {
  mkdir -p "$folder/layout/blobs/sha256"
  local tar diff layer config manifest
  tar=$(root_tar)
  diff=sha256:$(digest "$tar")
  gzip -1 -n <"$tar" >"$folder/layer.gz"
  read -r layer layer_size < <(blob "$folder/layer.gz")
  printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin","LANG=C.UTF-8"],"WorkingDir":"/root"},"rootfs":{"type":"layers","diff_ids":["%s"]}}' \
    "$diff" >"$folder/config"
  read -r config config_size < <(blob "$folder/config")
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"%s","size":%s}]}' \
    "$config" "$config_size" "$layer" "$layer_size" >"$folder/manifest"
  read -r manifest manifest_size < <(blob "$folder/manifest")
  printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%s,"annotations":{"org.opencontainers.image.ref.name":"python"}}]}' \
    "$manifest" "$manifest_size" >"$folder/layout/index.json"
  printf '{"imageLayoutVersion":"1.0.0"}' >"$folder/layout/oci-layout"
}

start() {
  mkdir -p "$folder"
  make_layout
  local port
  for port in $(shuf -i 20000-60000 -n 20); do
    cat >"$folder/config.yml" <<YML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $folder/registry}}
http: {addr: "127.0.0.1:$port"}
YML
    setsid docker-registry serve "$folder/config.yml" >"$folder/registry.log" 2>&1 </dev/null &
    echo $! >"$folder/pid"
    for _ in $(seq 100); do
      if curl -fsS "http://127.0.0.1:$port/v2/" >/dev/null 2>&1; then
        skopeo --insecure-policy copy --quiet --dest-tls-verify=false \
          "oci:$folder/layout:python" "docker://127.0.0.1:$port/debian:python"
        echo "127.0.0.1:$port" >"$folder/address"
        return
      fi
      kill -0 "$(cat "$folder/pid")" 2>/dev/null || break # the port was taken: the next one
      sleep 0.1
    done
    stop
  done
  echo "registry: no port to listen on; $(cat "$folder/registry.log")" >&2
  exit 1
}

"$verb"
