#!/bin/bash
# npm NODEJS COMMAND [ARGUMENT...]
#
# Runs COMMAND where Debian's Node.js looks for its modules: it is compiled to
# find them at /usr/share/nodejs, and the tools tree has them at NODEJS. The
# caller's mount namespace is its own, so nothing of this shows on the host.
set -euo pipefail
umask 022 # npm gives files the modes that it leaves
nodejs=$1
shift
mount -t tmpfs -o nosuid,nodev share /usr/share
mkdir /usr/share/nodejs
mount --bind -- "$nodejs" /usr/share/nodejs
exec "$@"
