#!/bin/bash
# queue: the SQS-compatible queue of the development stack.
# usage: 40-queue.sh BINARY
#   BINARY  the uploaded program rockpool-queue
set -euo pipefail
install -m 755 -o root -g root "$1" /usr/local/bin/rockpool-queue
rm "$1"
