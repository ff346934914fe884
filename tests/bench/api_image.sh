# Sourced by api.sh: an image with a file of 1 GiB and python3's packages, and the same unpacked.

# blob FOLDER FILE TYPE: moves the file to its place in the layout; prints its descriptor.
blob() {
  local digest
  digest=$(sha256sum "$2" | cut -d' ' -f1)
  mv "$2" "$1/blobs/sha256/$digest"
  printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$3" "$digest" \
    "$(stat -c %s "$1/blobs/sha256/$digest")"
}

# import_python WORK: prints the image's id; what it holds is in WORK/root.
import_python() {
  local layout=$1/layout root=$1/root diff_id layer config manifest
  mkdir -p "$root/usr/lib" "$layout/blobs/sha256"
  cp -a /usr/lib/python3 "$root/usr/lib/"
  head -c 1G /dev/urandom >"$root/data/big"
  tar --create --file="$1/layer" --directory="$root" --sort=name --owner=0 --group=0 .
  diff_id=$(sha256sum "$1/layer" | cut -d' ' -f1)
  layer=$(blob "$layout" "$1/layer" application/vnd.oci.image.layer.v1.tar)
  jq -cn --arg id "sha256:$diff_id" '{architecture: "amd64", os: "linux", config: {},
    rootfs: {type: "layers", diff_ids: [$id]}}' >"$1/config"
  config=$(blob "$layout" "$1/config" application/vnd.oci.image.config.v1+json)
  jq -cn --argjson config "$config" --argjson layer "$layer" '{schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json", $config, layers: [$layer]}' \
    >"$1/manifest"
  manifest=$(blob "$layout" "$1/manifest" application/vnd.oci.image.manifest.v1+json)
  jq -cn --argjson manifest "$manifest" '{schemaVersion: 2, manifests: [$manifest]}' \
    >"$layout/index.json"
  echo '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
  "$build/coppice" import "oci:$layout" --tag bench:latest "--state-dir=$state" >/dev/null
  rm -r "$layout"
  call "$url/v1/images?tag=bench:latest" | jq -r '.images[0].uuid'
}
