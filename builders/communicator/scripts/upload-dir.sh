#!/bin/sh
# upload-dir DESTINATION
#
# Extracts the tar archive on standard input into DESTINATION, owned by root.
set -eu
mkdir -p -- "$1"
exec tar -xf - -C "$1" --no-same-owner --same-permissions --touch
