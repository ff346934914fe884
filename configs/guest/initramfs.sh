#!/bin/sh
# Makes FOLDER/initramfs.cpio: initramfs.sh FOLDER AGENT [MODULES]
#
#   /init            the agent
#   /modules/order   what it loads: the modules that reach its port and disk
#   /modules/nodes   devices that it makes nodes of: whoever opens one has its module loaded
#   /lib/modules     modules that the kernel asks /sbin/modprobe for when a program needs them
#   /warm.ext4       a file system with the agent as its shell, for a machine's first, idle run
#
# MODULES is the kernel's lib/modules/RELEASE; without it all of the kernel is built in.
set -eu

die() { printf 'guest: %s\n' "$*" >&2; exit 1; }

[ $# -ge 2 ] || die "usage: initramfs.sh FOLDER AGENT [MODULES]"
guest=$(cd "$1" && pwd)
agent=$2
modules=${3:-}

PATH=$PATH:/usr/sbin:/sbin
for tool in cpio gzip mke2fs busybox strip; do
  command -v "$tool" >/dev/null ||
    die "$tool is missing: install cpio, gzip, e2fsprogs, busybox-static, binutils"
done

# What the agent needs to hear from the host and to see its disk, and what nothing asks for by
# itself. ext4, crc32c, tmpfs and devtmpfs are built into the packaged kernel; a kernel where they
# are not has them as modules by these names, and those that are no file are skipped.
at_start="virtio_mmio virtio_blk virtio_console crc32c_generic ext4 ip_tables ip6_tables"
required="virtio_mmio virtio_blk virtio_console"

# What programs in container images use of a host's modules. A name may be a pattern.
on_demand="overlay fuse loop tun xfs vfat msdos isofs squashfs autofs4 configfs binfmt_misc
  nls_ascii nls_cp437 nls_utf8 nls_iso8859-1 dm-mod dm-crypt dm-snapshot dm-thin-pool
  veth bridge br_netfilter dummy macvlan ipvlan vxlan wireguard 8021q
  af_packet_diag inet_diag tcp_diag udp_diag raw_diag unix_diag netlink_diag
  tcp_bbr tls vsock vsock_loopback
  sch_htb sch_prio sch_sfq sch_tbf sch_netem sch_fq sch_fq_codel sch_ingress
  cls_u32 cls_fw cls_bpf cls_cgroup cls_matchall act_police act_gact act_mirred act_bpf
  nfnetlink nfnetlink_queue nfnetlink_log nf_conntrack nf_conntrack_netlink nf_nat
  nf_tables nft_* iptable_* ip6table_* ipt_* ip6t_* xt_* nf_log_syslog nf_reject_* ebtables
  ebtable_filter ebtable_nat nf_conntrack_bridge
  ip_set ip_set_hash_ip ip_set_hash_ipport ip_set_hash_ipportip ip_set_hash_ipportnet
  ip_set_hash_net ip_set_list_set
  af_alg algif_hash algif_skcipher algif_rng algif_aead aesni-intel cbc ctr ecb xts gcm ccm cmac
  ghash-clmulni-intel ghash-generic crypto_simd cryptd chacha20poly1305 chacha-x86_64 poly1305-x86_64
  chacha_generic poly1305_generic sha512_generic sha3_generic md4 md5 des_generic essiv ansi_cprng
  authenc seqiv echainiv"
nodes="10 200 0666 net/tun
10 229 0666 fuse
10 236 0600 mapper/control
10 237 0660 loop-control"

# Everything has the same time whenever it is made.
settle() { find "$@" -exec touch -h -d @0 {} +; }

tree=$guest/initramfs
rm -rf "$tree" && mkdir -p "$tree/modules" "$tree/dev" "$tree/proc" "$tree/sys" "$tree/mnt"
install -m 0755 "$agent" "$tree/init"
: > "$tree/modules/order"

# -- modules --------------------------------------------------------------------------------------

# A module's file may spell its name with - or _.
module_files() {
  find "$modules" -name "$(printf %s "$1" | sed 's/[-_]/[-_]/g').ko" | LC_ALL=C sort
}

needs_of() { tr '\0' '\n' < "$1" | grep -a '^depends=' | sed 's/^depends=//; s/,/ /g'; }

# Symbols for debuggers and signatures that nobody asks for are half of it.
copy_module() { strip --strip-debug -o "$2" "$1"; }

# Adds a module after everything that it depends on, as its own .modinfo section says.
add_at_start() {
  [ -e "$tree/modules/$1.ko" ] && return 0
  file=$(module_files "$1" | head -n 1)
  [ -n "$file" ] || return 1
  for needed in $(needs_of "$file"); do
    (add_at_start "$needed") || die "module $1 needs $needed, which $modules does not have"
  done
  copy_module "$(module_files "$1" | head -n 1)" "$tree/modules/$1.ko"
  echo "$1.ko" >> "$tree/modules/order"
}

# Packed, as few of them are ever needed: what is here costs memory in every template.
add_on_demand() {
  name=${1##*/}
  [ -e "$folder/$name.gz" ] && return 0
  copy_module "$1" "$folder/$name"
  gzip -9n "$folder/$name"
  for needed in $(needs_of "$1"); do
    for file in $(module_files "$needed"); do
      (add_on_demand "$file")
    done
  done
}

if [ -n "$modules" ]; then
  for module in $at_start; do
    add_at_start "$module" && continue
    case " $required " in *" $module "*) die "$modules has no module $module" ;; esac
  done
  printf '%s\n' "$nodes" > "$tree/modules/nodes"
  release=$(basename "$modules")
  folder=$tree/lib/modules/$release
  mkdir -p "$folder" "$tree/sbin"
  set -f
  for module in $on_demand; do
    for file in $(module_files "$module"); do
      add_on_demand "$file"
    done
  done
  set +f
  # Those that are loaded at the start are listed too: others depend on them.
  for file in "$tree"/modules/*.ko; do
    add_on_demand "$(module_files "$(basename "$file" .ko)" | head -n 1)"
  done
  busybox depmod -b "$tree" "$release" || die "busybox depmod could not list the modules"
  install -m 0755 "$(command -v busybox)" "$tree/sbin/modprobe"
fi

# -- a file system to warm up with ------------------------------------------------------------------

# The same features as an imported image's, so that the same code of the kernel runs.
warm=$guest/warm
rm -rf "$warm" && mkdir -p "$warm/bin" "$warm/etc"
install -m 0755 "$agent" "$warm/bin/sh"
settle "$warm"
SOURCE_DATE_EPOCH=0 E2FSPROGS_FAKE_TIME=1 mke2fs -q -t ext4 -b 4096 -m 0 -N 32 \
  -O ^has_journal,^resize_inode -U 00000000-0000-0000-0000-000000000001 \
  -E hash_seed=00000000-0000-0000-0000-000000000001,root_owner=0:0 \
  -d "$warm" "$tree/warm.ext4" 4M || die "mke2fs could not make the file system for warming up"
rm -rf "$warm"

# -- the archive ------------------------------------------------------------------------------------

# One newc entry for the console, by hand: making the node itself would need root.
console_entry() {
  printf '070701'
  #       ino mode  uid gid nlink mtime size major minor rmajor rminor namesize check
  printf '%08x' 1 8576 0 0 1 0 0 0 0 5 1 12 0
  printf 'dev/console\0\0\0'
}
settle "$tree"
(cd "$tree" && find . -mindepth 1 | LC_ALL=C sort |
  cpio --quiet -o -H newc -R 0:0 --reproducible) > "$guest/initramfs.new"
console_entry >> "$guest/initramfs.new"
mv "$guest/initramfs.new" "$guest/initramfs.cpio"
