# Tries everything at once: a line "KIND ADDRESS PORT" on standard input becomes
# "open KIND ADDRESS PORT" or "shut KIND ADDRESS PORT".
attempt() {
	case $1 in
	tcp) timeout 20 bash -c 'exec 3<>"/dev/tcp/$1/$2"' bash "$2" "$3" ;;
	udp)
		timeout 20 bash -c 'exec 3<>"/dev/udp/$1/$2" || exit 1
			for n in 1 2 3 4; do
				echo x >&3 || exit 1
				read -r -n 1 -t 3 _ <&3 && exit 0 # one octet: the rest of a datagram is lost
			done
			exit 1' bash "$2" "$3"
		;;
	icmp) ping -n -q -c 3 -i 0.5 -w 12 "$2" ;;
	esac
}
while read -r kind address port; do
	{
		if attempt "$kind" "$address" "$port" >/dev/null 2>&1 </dev/null; then
			echo "open $kind $address $port"
		else
			echo "shut $kind $address $port"
		fi
	} &
done
wait
