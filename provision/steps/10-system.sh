#!/bin/bash
# system: users, names, network, journal, kernel settings, initramfs.
# usage: 10-system.sh FILES SUITE ROOT_UUID
#   FILES      the uploaded directory files/system
#   SUITE      Debian suite
#   ROOT_UUID  UUID of the root file system, for /etc/fstab
set -euo pipefail
files=$1 suite=$2 root_uuid=$3
umask 022

install_files() {
	cp -R --no-preserve=mode,ownership,timestamps "$files/." /
	chmod 755 /etc/initramfs-tools/hooks/zz-rockpool /etc/initramfs-tools/rockpool-init
	chmod 440 /etc/sudoers.d/rockpool
	rm -rf "$files"
}

# free_id ID: gives the system user and group that were installed with ID, one
# of those that packages draw from the top, another id.
free_id() {
	local id=$1 new user group
	new=$(awk -F: '{ used[$3] } END { for (i = 899; i in used; i--); print i }' /etc/passwd /etc/group)
	user=$(getent passwd "$id" | cut -d: -f1) || true
	group=$(getent group "$id" | cut -d: -f1) || true
	if [ -n "$user" ]; then
		usermod --uid "$new" "$user"
		find /etc /home /opt /srv /usr /var -xdev -uid "$id" -exec chown -h "$new" {} +
	fi
	if [ -n "$group" ]; then
		groupmod --gid "$new" "$group"
		find /etc /home /opt /srv /usr /var -xdev -gid "$id" -exec chgrp -h "$new" {} +
	fi
}

# Fixed ids: files on the data disk belong to them over every rebuilt image.
make_users() {
	free_id 990
	groupadd --gid 990 rockpool
	useradd --uid 990 --gid 990 --home-dir /home/rockpool --create-home \
		--shell /bin/bash --comment 'Rockpool services' rockpool
	groupadd --gid 1000 admin
	useradd --uid 1000 --gid 1000 --home-dir /home/admin --create-home \
		--groups sudo,systemd-journal --shell /bin/bash --comment 'Rockpool admin' admin
	# No password is right: neither a login nor su works with one.
	usermod --password '*' root
	usermod --password '*' admin
	usermod --password '*' rockpool
	# For rockpool one range for its image store and 256 for workspaces, as
	# package agent counts them.
	printf 'rockpool:100000:%d\nadmin:20000000:65536\n' $((257 * 65536)) >/etc/subuid
	cp /etc/subuid /etc/subgid
	# admin's home can be passed through, so that "sudo -u rockpool" may
	# start there; what is in it stays admin's.
	chmod 711 /home/admin
	chmod 750 /home/rockpool
	install -d -o admin -g admin -m 700 /home/admin/.ssh
	# PM2's home is on the data disk: rockpool-setup makes it.
	ln -s /var/lib/rockpool/ecosystem/pm2 /home/admin/.pm2
	chown -h admin:admin /home/admin/.pm2
	install -d -o rockpool -g rockpool -m 700 /home/rockpool/.config /home/rockpool/.local \
		/home/rockpool/.local/share /home/rockpool/.local/share/containers
	# The user's manager runs from boot on, without a login.
	install -d /var/lib/systemd/linger
	: >/var/lib/systemd/linger/rockpool
}

write_fstab() {
	cat >/etc/fstab <<-END
		# rockpool-setup and rockpool-share mount the rest, rockpool-grow grows this one.
		UUID=$root_uuid / ext4 defaults 0 0
	END
}

# Debian's own addresses, as its package manager documents them: what the image
# was built from is a local directory or the builder's mirror.
write_apt_sources() {
	local examples=/usr/share/doc/apt/examples
	rm -rf /etc/apt/sources.list /etc/apt/sources.list.d
	mkdir /etc/apt/sources.list.d
	if [ -e "$examples/debian.sources" ]; then
		sed -e '/^#/d' -e 's/^Components:.*/Components: main/' "$examples/debian.sources" \
			>/etc/apt/sources.list.d/debian.sources
	else
		sed -n 's/^\(deb .* main\) .*/\1/p' "$examples/sources.list" >/etc/apt/sources.list
	fi
	grep -qr "\b$suite\b" /etc/apt/sources.list*
}

write_locale() {
	printf 'LANG=C.UTF-8\n' >/etc/default/locale
	ln -sfn /usr/share/zoneinfo/Etc/UTC /etc/localtime
	printf 'Etc/UTC\n' >/etc/timezone
}

# The bootstrap left it out. The times in it are those of the build, but for this
# cap.
make_initramfs() {
	local version
	SOURCE_DATE_EPOCH=1 update-initramfs -c -k all
	for version in $(linux-version list); do
		linux-update-symlinks install "$version" "/boot/vmlinuz-$version"
	done
}

install_files
make_users
write_fstab
write_apt_sources
write_locale
make_initramfs
