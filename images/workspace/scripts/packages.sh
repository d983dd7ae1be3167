#!/bin/bash
# packages.sh LISTS OFFLINE
#
# Installs the packages of the lists in the directory LISTS that the system
# lacks. OFFLINE, if not empty, says that it is our own base, which lacks none:
# then nothing is asked of any archive.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
lists=$1 offline=$2

if ! command -v dpkg-query >/dev/null; then
	echo "packages: BASE must be a Debian system: it has no dpkg" >&2
	exit 1
fi
# shellcheck source=/dev/null
. /etc/os-release
suite=${VERSION_CODENAME:-}
architecture=$(dpkg --print-architecture)

missing=()
for list in "$lists/workspace.txt" "$lists/workspace.$suite.txt" "$lists/workspace.$architecture.txt"; do
	[ -e "$list" ] || continue
	while read -r name; do
		status=$(dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null || true)
		[ "$status" = installed ] || missing+=("$name")
	done < <(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$list")
done
if [ ${#missing[@]} = 0 ]; then
	exit 0
fi
if [ -n "$offline" ]; then
	echo "packages: our own base lacks ${missing[*]}: make its lock again with \`go tool mage rootvm:lock\`" >&2
	exit 1
fi
echo "packages: the base lacks ${#missing[@]} packages: installing them from its archive"
apt-get update --quiet
apt-get install --quiet --yes --no-install-recommends "${missing[@]}"
apt-get clean
rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old
