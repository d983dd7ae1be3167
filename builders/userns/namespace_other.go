//go:build !linux

package userns

import (
	"errors"
	"syscall"
)

// New fails: only Linux has the namespaces.
func New() (*Namespace, error) {
	return nil, errors.New("images are built on Linux only: build in a Linux machine, such as the Root VM itself, or take an image that was built elsewhere")
}

// tied is for commands that [New] does not let anybody make.
func tied() *syscall.SysProcAttr { return nil }
