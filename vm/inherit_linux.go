package vm

import (
	"math"

	"golang.org/x/sys/unix"
)

// keepDescriptors keeps what this process inherited, such as the descriptor of
// a flock(1) that it runs under, from the programs it starts. Everything that
// Go opens is marked so already. It is a best effort: Linux 5.11 is needed.
func keepDescriptors() { unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) }
