#!/bin/bash
# system.sh FILES
#
# Makes the workspace's user and lays the tree FILES over the system.
set -euo pipefail
files=$1
umask 022
export LC_ALL=C

# A base may have a user with these ids already, such as Ubuntu's "ubuntu" or
# Node's "node": that one becomes ours, with what its home directory holds.
group=$(getent group 1000 | cut -d: -f1) || true
if [ -z "$group" ]; then
	groupadd --gid 1000 admin
elif [ "$group" != admin ]; then
	groupmod --new-name admin "$group"
fi
user=$(getent passwd 1000 | cut -d: -f1) || true
if [ -z "$user" ]; then
	useradd --uid 1000 --gid 1000 --home-dir /home/admin --create-home --shell /bin/bash --comment 'Rockpool workspace' admin
elif [ "$user" != admin ]; then
	usermod --login admin --gid 1000 --home /home/admin --move-home --shell /bin/bash --comment 'Rockpool workspace' "$user"
	install -d -o admin -g admin /home/admin # it need not have had one
fi
# No time of the build's in /etc/shadow, and no copies of what was before.
chage --lastday -1 admin
rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- /etc/.pwd.lock

# ping needs no privilege in a workspace. The one that its file grants is not
# given to workspaces, and so would keep it from being run at all: the copy has
# none.
if [ -e /usr/bin/ping ]; then
	cp --no-preserve=all /usr/bin/ping /usr/bin/ping~
	chmod 0755 /usr/bin/ping~
	mv /usr/bin/ping~ /usr/bin/ping
fi

# Files of LFS come with a clone.
if command -v git-lfs >/dev/null; then
	git lfs install --system --skip-repo
fi

tar -C "$files" --create . | tar -C / --extract --no-same-owner --no-overwrite-dir
chmod 0440 /etc/sudoers.d/admin
chmod 0755 /usr/local/bin/rockpool-workspace /usr/local/bin/code-server
# A shell that is no login shell, such as the editor's terminal, reads this one.
line='. /etc/profile.d/rockpool.sh'
grep -qxF "$line" /etc/bash.bashrc || echo "$line" >>/etc/bash.bashrc
