# Puts a repository into a folder; run by sh inside a workspace, as its user.
# usage: sh -c "$(cat clone.sh)" clone URL FOLDER <TOKEN
# The token, a line that may be empty, is read from standard input by the
# credential helper that git itself starts. So it is in no argument, no
# environment and no file.
set -eu
url=$1 folder=$2
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
# Standard input is not git's: the helper finds it as file 3.
exec 3<&0 </dev/null
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
set -- -c credential.helper=
[ -z "$scheme" ] || set -- "$@" -c "credential.$scheme://$host.helper=$helper"
if ! git "$@" clone --quiet -- "$url" "$temporary"; then
	rm -rf "$temporary"
	exit 74
fi
mv -T "$temporary" "$folder"
