package standin

import "errors"

func (p program) startQEMU(options, string) (machine, error) { return nil, errors.New("no QEMU") }
