#!/bin/bash
# rootfs REPOSITORY ROOT SUITE ARCHITECTURE INCLUDE
#
# Bootstraps the empty directory ROOT from the flat repository REPOSITORY. Runs
# as root of a mount namespace of its own: the mounts made here end with it.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
umask 022

repository=$1 root=$2 suite=$3 architecture=$4 include=$5

# Fixed paths, so that no path of the host needs quoting in a sources.list.
mount -t tmpfs -o mode=0755 rockpool /mnt
mkdir /mnt/repository /mnt/root
mount --bind "$repository" /mnt/repository
mount --bind "$root" /mnt/root
chmod 0755 /mnt/root

# mmdebstrap writes the sources of an ordinary system of the suite. They are
# put aside while the packages come from REPOSITORY, whose index pins each by
# its hash, and put back as deb822 with the archive's keys.
cat >/mnt/sources-aside <<'HOOK'
#!/bin/sh
set -eu
mv "$1/etc/apt/sources.list" /mnt/sources.list
echo 'deb [trusted=yes] file:///mnt/repository ./' >"$1/etc/apt/sources.list"
mkdir -p "$1/mnt/repository"
mount -o bind,ro /mnt/repository "$1/mnt/repository"
HOOK
cat >/mnt/finish <<'HOOK'
#!/bin/sh
set -eu
umount "$1/mnt/repository"
rmdir "$1/mnt/repository"
rm "$1/etc/apt/sources.list"
sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) \([^ ]*\) \(.*\)$/Types: deb\nURIs: \2\nSuites: \3\nComponents: \4\nSigned-By: \/usr\/share\/keyrings\/debian-archive-keyring.gpg\n/p' \
  /mnt/sources.list >"$1/etc/apt/sources.list.d/debian.sources"
# What mmdebstrap copied from this host, and what is no two times alike.
rm -f "$1/etc/hostname" "$1"/etc/ssh/ssh_host_*
rm -rf "$1"/var/cache/man/* "$1"/var/cache/ldconfig/aux-cache "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old
if [ ! -L "$1/etc/resolv.conf" ]; then rm -f "$1/etc/resolv.conf"; fi
HOOK
chmod 0755 /mnt/sources-aside /mnt/finish

# That the kernel runs programs of ARCHITECTURE is known; mmdebstrap would want
# another package to ask.
# Nor is an initramfs made yet: whoever provisions the system makes it, when all
# that goes into it is there.
# shellcheck disable=SC2016 # the hooks' own shell expands $1
INITRD=No mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
  --architectures="$architecture" --include="$include" --skip=check/qemu \
  --aptopt='APT::Install-Recommends "false"' \
  --setup-hook='/mnt/sources-aside "$1"' \
  --customize-hook='/mnt/finish "$1"' \
  "$suite" /mnt/root

# As real root, mmdebstrap makes device files and removes them again; otherwise
# it does not. Neither may show.
touch --date="@$SOURCE_DATE_EPOCH" /mnt/root/dev
