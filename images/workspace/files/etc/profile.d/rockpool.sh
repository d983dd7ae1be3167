# Programs that "n" and "npm install --global --prefix ~/.local" bring come
# before the image's own.
case ":$PATH:" in
*":$HOME/.local/bin:"*) ;;
*) PATH=$HOME/.local/bin:$PATH ;;
esac
export N_PREFIX="${N_PREFIX:-$HOME/.local}"
