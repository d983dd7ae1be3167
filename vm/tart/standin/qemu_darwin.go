package standin

import "errors"

func (p program) startQEMU(options, string) (machine, error) {
	return nil, errors.New("a Mac has Tart itself: QEMU stands for it on Linux only")
}
