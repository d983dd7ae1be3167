#!/bin/bash
# system.sh FILES
#
# Makes the workspace's user and lays the tree FILES over the system.
set -euo pipefail
files=$1
umask 022
export LC_ALL=C

groupadd --gid 1000 admin
useradd --uid 1000 --gid 1000 --home-dir /home/admin --create-home --shell /bin/bash --comment 'Rockpool workspace' admin
# No time of the build's in /etc/shadow, and no copies of what was before.
chage --lastday -1 admin
rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- /etc/.pwd.lock

tar -C "$files" --create . | tar -C / --extract --no-same-owner --no-overwrite-dir
chmod 0440 /etc/sudoers.d/admin
chmod 0755 /usr/local/bin/rockpool-workspace /usr/local/bin/code-server
# A shell that is no login shell, such as the editor's terminal, reads this one.
echo '. /etc/profile.d/rockpool.sh' >>/etc/bash.bashrc
