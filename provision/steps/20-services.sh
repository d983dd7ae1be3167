#!/bin/bash
# services: what starts at boot, and what does not.
# usage: 20-services.sh
set -euo pipefail
umask 022

# No password is right on any console, so a login prompt there helps nobody;
# it costs processes at every boot. These come back with "systemctl unmask".
masked=(
	# Debian's unit for Caddy: rockpool-caddy.service runs it.
	caddy.service
	console-getty.service getty@.service serial-getty@.service
	# The root's journal is replayed by the kernel; scrubbing needs LVM.
	e2scrub_all.timer e2scrub_reap.service
	# Host keys are made by rockpool-setup.
	sshd-keygen.service
	# Rootless containers only; root's Podman has no service of its own.
	netavark-dhcp-proxy.service netavark-dhcp-proxy.socket
	netavark-firewalld-reload.service
	podman.service podman.socket podman-restart.service podman-clean-transient.service
	podman-auto-update.service podman-auto-update.timer
	# A disposable machine with pinned packages does not update itself.
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
	# Hardware that is not there.
	systemd-pstore.service systemd-rfkill.socket systemd-rfkill.service
	systemd-backlight@.service modprobe@drm.service
	systemd-tpm2-setup-early.service systemd-tpm2-setup.service
	systemd-pcrmachine.service systemd-pcrphase.service systemd-pcrphase-sysinit.service
	systemd-hibernate-clear.service
	# Nothing asks at the console, no LVM, no quota, no binfmt, no swap.
	systemd-ask-password-console.path systemd-ask-password-wall.path
	systemd-binfmt.service proc-sys-fs-binfmt_misc.automount
	sys-kernel-config.mount sys-fs-fuse-connections.mount
	modprobe@configfs.service modprobe@fuse.service modprobe@efi_pstore.service
	dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount
	systemd-update-utmp.service systemd-update-utmp-runlevel.service
	systemd-firstboot.service systemd-homed-firstboot.service
	# rockpool-grow does this later; the generator of random numbers is seeded
	# by virtio-rng; nothing is configured on the kernel's command line.
	systemd-repart.service systemd-growfs-root.service systemd-random-seed.service
	systemd-network-generator.service systemd-networkd-persistent-storage.service
	systemd-udev-load-credentials.service
	# The catalogue and the hardware database are made when packages change.
	systemd-journal-catalog-update.service systemd-hwdb-update.service
	ldconfig.service systemd-sysusers.service systemd-update-done.service
)

# Each generator is a program started before anything else can start.
generators=(
	podman-system-generator systemd-cryptsetup-generator systemd-getty-generator
	systemd-gpt-auto-generator systemd-hibernate-resume-generator
	systemd-integritysetup-generator systemd-rc-local-generator
	systemd-ssh-generator systemd-system-update-generator systemd-sysv-generator
	systemd-tpm2-generator systemd-veritysetup-generator
)

# Rules for hardware that a VM has not.
udev_rules=(
	60-autosuspend 60-drm 60-fido-id 60-infiniband 60-persistent-alsa
	60-persistent-storage-mtd 60-persistent-storage-tape 60-persistent-v4l
	60-sensor 64-btrfs 70-camera 70-joystick 70-memory 70-mouse 70-touchpad
	75-probe_mtd 78-sound-card 90-iocost 96-e2scrub
)

mask_units() {
	local unit
	for unit in "${masked[@]}"; do
		ln -sfn /dev/null "/etc/systemd/system/$unit"
	done
	# Links of units that are masked only make noise.
	find /etc/systemd/system -mindepth 2 -type l | while read -r link; do
		unit=${link##*/}
		if [ "$(readlink "/etc/systemd/system/$unit")" = /dev/null ]; then
			rm "$link"
		fi
	done
	find /etc/systemd/system -mindepth 1 -type d -empty -delete
	install -d /etc/systemd/system-generators /etc/systemd/user-generators
	for unit in "${generators[@]}"; do
		ln -sfn /dev/null "/etc/systemd/system-generators/$unit"
	done
	for unit in "${udev_rules[@]}"; do
		ln -sfn /dev/null "/etc/udev/rules.d/$unit.rules"
	done
}

enable_units() {
	systemctl enable systemd-networkd.service ssh.service fstrim.timer
	# These are started when the stack serves: see rockpool-late.target. The
	# links under their bus names stay, so that asking for them starts them.
	rm -f /etc/systemd/system/sysinit.target.wants/systemd-resolved.service \
		/etc/systemd/system/sysinit.target.wants/systemd-timesyncd.service
	# Sockets of agents for keys that nobody types a passphrase for.
	rm -rf /etc/systemd/user/sockets.target.wants
	# A job waits for the network by ordering itself after
	# network-online.target; booting does not.
	systemctl set-default multi-user.target
}

# The API of rootless Podman, for user rockpool alone.
enable_podman_socket() {
	local dir=/home/rockpool/.config/systemd/user/sockets.target.wants
	install -d -o rockpool -g rockpool "${dir%/*/*}" "${dir%/*}" "$dir"
	ln -sfn /usr/lib/systemd/user/podman.socket "$dir/podman.socket"
}

mask_units
enable_units
enable_podman_socket
