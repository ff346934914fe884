# Sourced by what needs an image of its own: OCI layouts of one layer.

# make_layout LAYER FOLDER: an uncompressed tar as the only layer of an image.
make_layout() {
  local layer=$1 layout=$2 diff config manifest
  # blob FILE: moves it to where its digest says; prints digest and size.
  blob() {
    local digest
    digest=$(sha256sum "$1" | cut -d ' ' -f 1)
    mv "$1" "$layout/blobs/sha256/$digest"
    echo "sha256:$digest $(stat -c %s "$layout/blobs/sha256/$digest")"
  }
  mkdir -p "$layout/blobs/sha256"
  cp --reflink=auto "$layer" "$layout/layer"
  read -r -a diff < <(blob "$layout/layer")
  printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},"rootfs":{"type":"layers","diff_ids":["%s"]}}' \
    "${diff[0]}" >"$layout/config"
  read -r -a config < <(blob "$layout/config")
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"%s","size":%s}]}' \
    "${config[@]}" "${diff[@]}" >"$layout/manifest"
  read -r -a manifest < <(blob "$layout/manifest")
  printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%s}]}' \
    "${manifest[@]}" >"$layout/index.json"
  printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
}
