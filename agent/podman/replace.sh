# Gives a file its new content unless it was changed meanwhile; run by sh inside a
# workspace, as its user.
# usage: sh -c "$(cat replace.sh)" replace FILE NEW DIGEST
# NEW lies beside FILE and has the content; it is gone at the end, however that
# comes. DIGEST is the SHA-256 of what FILE held when it was looked at, or empty
# when it was not there.
# Exit codes: 75, FILE was changed; 126 or 127, a program is missing.
set -eu
file=$1 new=$2 digest=$3
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM

changed() {
	exit 75
}

[ ! -d "$file" ] || changed
if [ -z "$digest" ]; then
	if ! ln "$new" "$file" 2>/dev/null; then # a name that is taken is not replaced
		[ ! -e "$file" ] || changed
		ln "$new" "$file" # says why not
	fi
	exit 0
fi
[ -f "$file" ] || changed
now=$(sha256sum <"$file")
[ "${now%% *}" = "$digest" ] || changed
mv -f "$new" "$file"
