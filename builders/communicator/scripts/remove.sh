#!/bin/bash
# remove ROOT
#
# Removes the NUL-terminated paths on standard input, relative to ROOT.
set -euo pipefail
cd -- "$1"
exec xargs -0 --no-run-if-empty rm -rf --one-file-system --
