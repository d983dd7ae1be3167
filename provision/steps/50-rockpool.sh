#!/bin/bash
# rockpool: the agent, and the units and configuration of package templates.
# It is the step that changes most, so it comes last but for the seal.
# usage: 50-rockpool.sh AGENT TREE
#   AGENT  the uploaded program rockpool-agent
#   TREE   the uploaded directory that templates.Write made
set -euo pipefail
agent=$1 tree=$2
umask 022

install -m 755 -o root -g root "$agent" /usr/local/bin/rockpool-agent
rm "$agent"
cp -R --no-preserve=mode,ownership,timestamps "$tree/." /
chmod 755 /usr/local/lib/rockpool/*
rm -rf "$tree"
sed -n 's/^enable //p' /etc/systemd/system-preset/50-rockpool.preset | xargs systemctl enable
install -d -o rockpool -g rockpool -m 750 /opt/rockpool /opt/rockpool/.logs
install -d -m 755 /mnt/rockpool /var/lib/rockpool
