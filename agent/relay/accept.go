package relay

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Accepting goes on after these pauses, each twice the one before.
const (
	acceptPause    = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// acceptNext takes the next connection. A fault that passes, such as too many
// open files, is said once and outlasted; any other is returned.
func acceptNext(l *net.UnixListener, say func(error)) (*net.UnixConn, error) {
	for pause := acceptPause; ; pause = min(2*pause, maxAcceptPause) {
		c, err := l.AcceptUnix()
		if err == nil || !passes(err) {
			return c, err
		}
		if pause == acceptPause {
			say(err)
		}
		time.Sleep(pause) // nothing tells when files are free again
	}
}

// passes reports whether accepting may succeed later, as accept(2) has it.
func passes(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
