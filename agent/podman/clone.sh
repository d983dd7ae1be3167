# Puts a repository into a folder; run by sh inside a workspace, as its user.
# usage: sh -c "$(cat clone.sh)" clone URL FOLDER LOG <TOKEN
# The token, a line that may be empty, is read from standard input and handed
# through a pipe to the credential helper that git itself starts. So it is in no
# argument, no environment and no file. LOG is where a sentence for the user goes
# about what is not fatal.
set -eu
url=$1 folder=$2 log=$3
temporary=$(dirname "$folder")/.$(basename "$folder").rockpool-clone

command -v git >/dev/null || exit 69
if [ -e "$folder/.git" ] && [ "$(git -C "$folder" config --get remote.origin.url)" = "$url" ]; then
	exit 0
fi
mkdir -p "$(dirname "$folder")"
# An empty folder is nobody's.
if [ -d "$folder" ]; then
	rmdir "$folder" 2>/dev/null || exit 73
elif [ -e "$folder" ] || [ -L "$folder" ]; then
	exit 73
fi
rm -rf "$temporary"
IFS= read -r token || true
# The helper finds the token as file 3: a line for each time that it is asked.
feed() {
	while printf '%s\n' "$token" 2>/dev/null; do :; done
}
# shellcheck disable=SC2016 # git's shell expands it
helper='!f() { if [ "$1" = get ] && IFS= read -r token <&3 && [ -n "$token" ]; then printf "username=x-access-token\npassword=%s\n" "$token"; fi; }; f'
# The token is for the repository's own origin: bound to it, the helper is not
# asked for another host, port or scheme that a redirect leads to. An address
# whose host needs more than these characters gets no token.
case $url in
http://*) scheme=http ;;
https://*) scheme=https ;;
*) scheme= ;;
esac
host=${url#*://}
host=${host%%[/?#]*}
host=${host##*@}
case $host in
'' | *[!A-Za-z0-9.:_[\]-]*) scheme= ;;
esac
# An empty helper first: none of the user's own may keep what ours says.
set -- -c credential.helper= -c maintenance.auto=false
[ -z "$scheme" ] || set -- "$@" -c "credential.$scheme://$host.helper=$helper"
if ! feed | git "$@" clone --quiet -- "$url" "$temporary" 3<&0 </dev/null; then
	rm -rf "$temporary"
	exit 74
fi
# Submodules get the token where they are of the repository's own origin. Without
# one the repository is of use still, and a folder of a submodule is empty.
if [ -e "$temporary/.gitmodules" ] &&
	! feed | git "$@" -C "$temporary" submodule --quiet update --init --recursive 3<&0 </dev/null; then
	printf 'rockpool: not all submodules of %s could be cloned. Try again in %s: git submodule update --init --recursive\n' "$url" "$folder" 2>/dev/null >>"$log" || true
fi
mv -T "$temporary" "$folder"
