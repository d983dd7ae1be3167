#!/bin/bash
# build.sh NODE VSCODE ARCHITECTURE OUT
#
# Lays Node.js, npm, n and code-server out below OUT as they are to lie in the
# image, and builds code-server's native modules. NODE and VSCODE are the
# node_modules directories of the two lock files, ARCHITECTURE is amd64 or arm64.
set -euo pipefail
node=$1 vscode=$2 architecture=$3 out=$4
umask 022
export LC_ALL=C HOME=/tmp/build-home JOBS=max PYTHONDONTWRITEBYTECODE=1

case $architecture in
amd64) platform=linux-x64 ;;
arm64) platform=linux-arm64 ;;
*)
	echo "build: no Node.js for architecture $architecture" >&2
	exit 1
	;;
esac
if [ ! -e "$node/node-$platform/bin/node" ]; then
	echo "build: npm's tree lacks node-$platform" >&2
	exit 1
fi
local=$out/usr/local
server=$out/opt/code-server/node_modules
code=$server/code-server/lib/vscode

# The layout of Node's own archives, so that "npm install -g" and node-gyp find
# what they expect: bin/node, include/node, lib/node_modules/npm.
install_node() {
	mkdir -p "$HOME" "$local/bin" "$local/include" "$local/lib/node_modules"
	install -m 755 "$node/node-$platform/bin/node" "$local/bin/node"
	cp -R "$node/node-$platform/include/node" "$local/include/node"
	cp -R "$node/npm" "$local/lib/node_modules/npm"
	install -m 755 "$node/n/bin/n" "$local/bin/n"
	ln -s ../lib/node_modules/npm/bin/npm-cli.js "$local/bin/npm"
	ln -s ../lib/node_modules/npm/bin/npx-cli.js "$local/bin/npx"
	# nodedir: native modules are built against the headers at hand.
	printf 'update-notifier=false\nfund=false\nnodedir=/usr/local\n' >"$local/lib/node_modules/npm/npmrc"
}

install_code_server() {
	mkdir -p "$server"
	tar -C "$node" --exclude=./.bin --exclude=./.package-lock.json --exclude='./node-linux-*' \
		--exclude=./npm --exclude=./n --create . | tar -C "$server" --extract --no-same-owner
	mkdir -p "$code/node_modules" "$code/extensions/node_modules"
	tar -C "$vscode" --exclude=./.bin --exclude=./.package-lock.json --create . |
		tar -C "$code/node_modules" --extract --no-same-owner
	mv "$code/node_modules/typescript" "$code/extensions/node_modules/typescript"
	# What code-server's own installation links.
	ln -sfn code-linux.sh "$code/bin/remote-cli/code-server"
	ln -sfn browser-linux.sh "$code/bin/helpers/browser.sh"
}

# Everything with a binding.gyp but @parcel/watcher, which has a package of
# binaries for each platform, and @vscode/fs-copyfile, which on Linux is
# JavaScript.
build_native() {
	local modules module
	mapfile -t modules < <(find "$code/node_modules" -name binding.gyp -not -path '*/@parcel/watcher/*' -not -path '*/@vscode/fs-copyfile/*' -printf '%h\n' | sort)
	for module in "${modules[@]}"; do
		echo "build: native module ${module#"$code/node_modules/"}"
		(cd "$module" && PATH=$local/bin:$PATH npm_config_nodedir=$local \
			node "$local/lib/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js" rebuild --silent >/tmp/build.log 2>&1) ||
			{ tail -50 /tmp/build.log >&2; exit 1; }
	done
}

# keep_built leaves of a native module what is loaded at run time.
keep_built() {
	local build=$1
	find "$build" -depth -mindepth 1 \( -type f -o -type l \) -not -name '*.node' -delete
	find "$build" -path '*/obj.target/*' -name '*.node' -delete
	find "$build" -depth -type d -empty -delete
	find "$build" -name '*.node' -exec strip --strip-unneeded {} +
}

prune() {
	local dir
	# Of prebuilt binaries, only those of this platform.
	for dir in "$server/argon2/prebuilds" "$code/node_modules/@vscode/ripgrep-universal/bin"; do
		find "$dir" -mindepth 1 -maxdepth 1 -not -name "$platform" -exec rm -rf {} +
	done
	rm -f "$server/argon2/prebuilds/$platform"/*musl*
	find "$code/node_modules/@parcel" -mindepth 1 -maxdepth 1 -not -name watcher -not -name "watcher-$platform-glibc" -exec rm -rf {} +
	while read -r dir; do keep_built "$dir"; done < <(find "$code/node_modules" -type d -path '*/build/Release' -prune -printf '%h\n')
	rm -rf "$code"/node_modules/node-pty/{prebuilds,third_party,deps,src,scripts,node-addon-api} \
		"$code"/node_modules/@vscode/spdlog/{deps,src} \
		"$code"/node_modules/node-addon-api "$code"/node_modules/@vscode/*/node_modules/node-addon-api
	# Needs an account and a proprietary agent that is not in the image.
	rm -rf "$code/extensions/copilot"
	# TypeScript's command line; the language server is what the editor uses.
	rm -f "$code"/extensions/node_modules/typescript/lib/{tsc,_tsc}.js
	find "$out/opt" -name '*.map' -type f -delete
	find "$server" \( -name '*.pdb' -o -name '*.tsbuildinfo' -o -name '*.gypi' \) -type f -delete
}

# code-server's two processes give each other ten seconds to start, and the
# browser gives the extensions a minute, which a busy machine without KVM does
# not keep: then the workspace ends, or its extensions are missing until the
# page is loaded again.
be_patient() {
	local wrapper=$server/code-server/out/node/wrapper.js workbench=$code/out/vs/code/browser/workbench/workbench.js
	sed -i 's/^const timeoutInterval = 10000;/const timeoutInterval = 120000;/' "$wrapper"
	grep -q '^const timeoutInterval = 120000;' "$wrapper"
	sed -i 's/took longer than 60s to send its ready message\.")},6e4)/took longer than 300s to send its ready message.")},3e5)/' "$workbench"
	grep -q 'longer than 300s to send its ready message\.")},3e5)' "$workbench"
}

# code-server's --disable-telemetry counts for its server only: the editor in
# the browser, and with it every extension, goes by what the product says.
be_discreet() {
	local product=$code/product.json
	sed -i 's/^  "enableTelemetry": true,$/  "enableTelemetry": false,/' "$product"
	grep -q '^  "enableTelemetry": false,$' "$product"
}

install_node
install_code_server
build_native
prune
be_patient
be_discreet
chown -R root:root "$out"
chmod -R u=rwX,go=rX "$out"
"$local/bin/node" --version
