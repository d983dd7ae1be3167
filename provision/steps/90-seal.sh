#!/bin/bash
# seal: takes out what must not be in an image (keys, identity) and what is not
# the same in two builds (caches, logs, backups, times of accounts).
# usage: 90-seal.sh
set -euo pipefail

remove_identity() {
	rm -f /etc/ssh/ssh_host_* /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
	rm -f /var/lib/dbus/machine-id /root/.bash_history /home/*/.bash_history
	rm -f /home/*/.ssh/* /root/.ssh/*
	: >/etc/machine-id
	chmod 444 /etc/machine-id
}

remove_caches() {
	rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /var/cache/apt/*.bin
	mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial
	rm -rf /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old /var/cache/man/*
	rm -rf /root/.npm /root/.cache /root/.node-gyp /home/*/.npm /home/*/.cache
	find /var/log -type f -delete
	# A journal that is kept needs its directory.
	install -d -m 2755 -o root -g systemd-journal /var/log/journal
	find /usr /opt /root -xdev -name __pycache__ -type d -prune -exec rm -rf {} +
	find /tmp /var/tmp /run -xdev -mindepth 1 -maxdepth 1 ! -name systemd -exec rm -rf {} + 2>/dev/null || true
}

remove_backups() {
	rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-
	rm -f /etc/.pwd.lock /etc/.resolv.conf.systemd-resolved.bak
	rm -f /var/lib/dpkg/*-old /var/lib/dpkg/triggers/Lock /var/lib/dpkg/lock* /var/backups/*
	find /etc \( -name '*.dpkg-*' -o -name '*.ucf-*' \) -delete
	rm -f /initrd.img.old /vmlinuz.old
}

# The day of the last password change is the day of the build; nobody has a
# password, so nothing ages.
freeze_accounts() {
	sed -i -E 's/^([^:]*):([^:]*):[^:]*:/\1:\2::/' /etc/shadow
	chown root:shadow /etc/shadow
	chmod 640 /etc/shadow
}

# Nothing in /etc or /var has to be made again from /usr at the first boot.
mark_up_to_date() {
	touch /etc/.updated /var/.updated
}

remove_identity
remove_caches
remove_backups
freeze_accounts
mark_up_to_date
