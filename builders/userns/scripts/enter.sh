#!/bin/bash
# enter ROOT PROGRAM [ARGUMENT...]
#
# Runs PROGRAM in the root file system ROOT. The caller has already put this
# process into its own mount, PID and UTS namespace as PID 1, so every mount
# made here ends with it, and so does every process PROGRAM leaves behind.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
umask 022

cd -- "$1"
shift

for dir in dev proc run sys; do
  if [ -L "$dir" ]; then
    echo "enter: /$dir of the root file system is a symbolic link" >&2
    exit 125
  fi
  mkdir -p -- "$dir"
done

mount -t proc -o nosuid,nodev,noexec proc proc
# Where sysfs cannot be mounted, bind the host's.
if ! mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys 2>/dev/null &&
  mount --rbind /sys sys 2>/dev/null; then
  mount -o remount,bind,ro sys 2>/dev/null || true
fi

mount -t tmpfs -o nosuid,mode=0755 dev dev
for node in null zero full random urandom tty; do
  [ -e "/dev/$node" ] || continue
  : >"dev/$node"
  mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr

mount -t tmpfs -o nosuid,nodev,mode=0755 run run
mkdir -m 1777 run/lock

hostname localhost 2>/dev/null || true

made=()
# shellcheck disable=SC2317 # called by the trap
cleanup() {
  if [ "${#made[@]}" -gt 0 ]; then rm -f -- "${made[@]}"; fi
}
trap cleanup EXIT

# No package may start its service here: invoke-rc.d(8) asks this file.
if [ -d usr/sbin ] && [ ! -e usr/sbin/policy-rc.d ]; then
  made+=(usr/sbin/policy-rc.d)
  printf '#!/bin/sh\nexit 101\n' >usr/sbin/policy-rc.d
  chmod 0755 usr/sbin/policy-rc.d
fi

# bash's own remark on a killed command goes nowhere; the command's stderr is 3.
exec 3>&2 2>/dev/null
status=0
chroot . "$@" 2>&3 3>&- || status=$?
exit "$status"
