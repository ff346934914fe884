#!/bin/sh
# Builds busybox:latest, the base image that needs no registry, as an OCI image layout.
#
#   configs/base-image/build.sh OUT_DIR
#
# OUT_DIR must not exist or be empty. The content is Debian's static busybox with its applets as
# symbolic links, and the few files that programs expect. The same busybox gives the same bytes,
# hence the same digest, each time. Needs no privilege. `coppice import oci:OUT_DIR` takes it.
set -eu

out=${1:?usage: configs/base-image/build.sh OUT_DIR}
busybox=/bin/busybox
[ -x "$busybox" ] || { echo "base-image: $busybox is missing: apt-get install busybox-static" >&2; exit 1; }
if [ -e "$out" ] && [ -n "$(ls -A "$out")" ]; then
  echo "base-image: $out is not empty" >&2
  exit 1
fi

umask 022
export LC_ALL=C TZ=UTC
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

# -- content ---------------------------------------------------------------------------------------
for dir in bin dev etc home mnt opt proc root run sbin srv sys tmp usr/bin usr/sbin usr/lib \
  usr/share var/log var/tmp; do
  mkdir -p "$root/$dir"
done
chmod 1777 "$root/tmp" "$root/var/tmp"
chmod 0700 "$root/root"
ln -s ../run "$root/var/run"
cp "$busybox" "$root/bin/busybox"
chmod 0755 "$root/bin/busybox"

# Relative links: they mean the same whatever the image is mounted as.
"$busybox" --list-full | sort -u >"$work/applets"
for dir in bin sbin usr/bin usr/sbin; do
  case $dir in
    bin) target=busybox ;;
    sbin) target=../bin/busybox ;;
    *) target=../../bin/busybox ;;
  esac
  sed -n "s|^$dir/\([^/]*\)\$|\1|p" "$work/applets" | grep -vx busybox >"$work/names" || true
  while IFS= read -r name; do printf '%s\0%s\0' "$target" "$name"; done <"$work/names" |
    (cd "$root/$dir" && xargs -0 -r -n 2 -P 2 "$busybox" ln -s --)
done

cat >"$root/etc/passwd" <<'EOF'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
EOF
cat >"$root/etc/group" <<'EOF'
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
wheel:x:10:root
www-data:x:33:
users:x:100:
nogroup:x:65534:
EOF
printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
version=$("$busybox" | sed -n '1s/^BusyBox v\([0-9.]*\).*/\1/p')
cat >"$root/etc/os-release" <<EOF
NAME="BusyBox"
ID=busybox
VERSION_ID=$version
PRETTY_NAME="BusyBox $version (Coppice base image)"
EOF

# -- layout ----------------------------------------------------------------------------------------
blobs=$work/layout/blobs/sha256
mkdir -p "$blobs"

# Moves a file to where its digest says and prints the digest.
add_blob() {
  digest=$(sha256sum "$1" | cut -d' ' -f1)
  mv "$1" "$blobs/$digest"
  printf '%s' "$digest"
}
size_of() {
  stat -c %s "$blobs/$1"
}

tar --create --file="$work/layer.tar" --directory="$root" --format=gnu --sort=name \
  --owner=0 --group=0 --numeric-owner --mtime=@0 .
diff_id=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
gzip -n -6 "$work/layer.tar"
layer=$(add_blob "$work/layer.tar.gz")

path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
printf '{"architecture":"amd64","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Env":["PATH=%s"],"Cmd":["sh"],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
  "$path" "$diff_id" >"$work/config.json"
config=$(add_blob "$work/config.json")

printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:%s","size":%s}]}' \
  "$config" "$(size_of "$config")" "$layer" "$(size_of "$layer")" >"$work/manifest.json"
manifest=$(add_blob "$work/manifest.json")

printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s,"platform":{"os":"linux","architecture":"amd64"},"annotations":{"org.opencontainers.image.ref.name":"busybox:latest"}}]}' \
  "$manifest" "$(size_of "$manifest")" >"$work/layout/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$work/layout/oci-layout"

mkdir -p "$out"
cp -R "$work/layout/." "$out/"
echo "base-image: busybox $version, sha256:$manifest, in $out"
