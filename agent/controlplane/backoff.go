package controlplane

import (
	"encoding/binary"
	"io"
	"time"
)

// backoff says how long to wait before something that failed is tried again.
type backoff struct {
	first, most time.Duration
	random      io.Reader
}

// after is the time before the next attempt after n of them: doubled each
// time, up to a limit, and between half and all of that, so that jobs that
// failed together do not come back together.
func (b backoff) after(n int) time.Duration {
	d := b.first
	for ; n > 1 && d < b.most; n-- {
		d *= 2
	}
	d = max(min(d, b.most), 2*time.Millisecond)

	var bits [8]byte
	if _, err := io.ReadFull(b.random, bits[:]); err != nil {
		return d
	}
	return d/2 + time.Duration(binary.NativeEndian.Uint64(bits[:])%uint64(d/2))
}
