package builders

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// NextData finds the first part of a file, at or after start and before end, that
// is data: what lies before it is a hole, which reads as zeros. Without one, both
// are end. File systems without holes answer that all is data.
func NextData(f *os.File, start, end int64) (from, to int64, err error) {
	from, err = f.Seek(start, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return end, end, nil
	case errors.Is(err, unix.EINVAL):
		return start, end, nil
	case err != nil:
		return 0, 0, err
	case from >= end:
		return end, end, nil
	}
	to, err = f.Seek(from, unix.SEEK_HOLE)
	return from, min(to, end), err
}
