package vm

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// keepDescriptors keeps what this process inherited, such as the descriptor of
// a lock that it runs under, from the programs it starts. Everything that Go
// opens is marked so already.
func keepDescriptors() {
	descriptors, err := os.ReadDir("/dev/fd")
	if err != nil {
		return // a best effort
	}
	for _, d := range descriptors {
		if fd, err := strconv.Atoi(d.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd) // the directory's own is closed by now, which does no harm
		}
	}
}
