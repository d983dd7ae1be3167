# Programs that "n" and "npm install --global --prefix ~/.local" bring come
# before the image's own.
case ":$PATH:" in
*":$HOME/.local/bin:"*) ;;
*) PATH=$HOME/.local/bin:$PATH ;;
esac
# Where gpg asks for a passphrase.
if [ -t 0 ]; then
	GPG_TTY=$(tty)
	export GPG_TTY
fi
export N_PREFIX="${N_PREFIX:-$HOME/.local}"
