# A home behind a test interface of the VM: a network namespace with the
# addresses of a host, of neighbours and of the internet, where everything
# answers. As root. usage: bash -s up HOME VM ECHO | down
# HOME and VM are lists of prefixes, of the home's end and of the VM's; ECHO is
# the server's script.
set -euo pipefail
verb=$1
unit=rockpool-e2e-home

if [ "$verb" = down ]; then
	systemctl stop $unit 2>/dev/null || true
	ip netns del home 2>/dev/null || true
	ip link del home0 2>/dev/null || true
	exit 0
fi

home=$2 vm=$3 echo=$4
ip netns add home
ip link add home0 type veth peer name home1 netns home
ip link set home0 up
ip -n home link set lo up
ip -n home link set home1 up
for a in $vm; do
	case $a in
	*:*) ip addr add "$a" dev home0 nodad ;;
	*) ip addr add "$a" dev home0 ;;
	esac
done
for a in $home; do
	case $a in
	*:*) ip -n home addr add "$a" dev home1 nodad ;;
	*) ip -n home addr add "$a" dev home1 ;;
	esac
done
if [ -d /run/systemd/system ]; then
	systemd-run --quiet --unit=$unit ip netns exec home "$(command -v node)" "$echo"
else
	ip netns exec home node "$echo" >/dev/null 2>&1 &
fi
for _ in $(seq 100); do
	if ip netns exec home bash -c 'exec 3<>/dev/tcp/127.0.0.1/7777' 2>/dev/null; then exit 0; fi
	sleep 0.3
done
echo 'the home does not answer' >&2
exit 1
