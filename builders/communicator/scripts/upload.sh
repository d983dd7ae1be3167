#!/bin/sh
# upload DESTINATION MODE NAME
#
# Writes standard input to DESTINATION, or to NAME in it when it is a directory.
set -eu
destination=$1
case $destination in
*/) destination=$destination$3 ;;
*) if [ -d "$destination" ]; then destination=$destination/$3; fi ;;
esac
mkdir -p -- "$(dirname -- "$destination")"
temporary=$destination.upload
cat >"$temporary"
chmod -- "$2" "$temporary"
mv -fT -- "$temporary" "$destination"
