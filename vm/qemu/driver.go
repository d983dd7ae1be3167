package qemu

import (
	"context"
	"errors"

	"github.com/rockpool/rootvm/vm"
)

// Driver is the [vm.Driver] for QEMU. Its exported fields are its settings and
// survive a trip through JSON.
type Driver struct {
	Programs Programs `json:"programs"`
	Cache    string   `json:"cache"` // directory for the verdict on acceleration
}

var _ vm.Driver = (*Driver)(nil)

// Name implements [vm.Driver].
func (d *Driver) Name() string { return "qemu" }

// Prepare implements [vm.Driver].
func (d *Driver) Prepare(ctx context.Context, inst vm.Instance) (vm.Plan, error) {
	return vm.Plan{}, errors.ErrUnsupported
}

// Launch implements [vm.Driver].
func (d *Driver) Launch(ctx context.Context, inst vm.Instance, plan vm.Plan, started func(vm.Process)) (vm.Machine, error) {
	return nil, errors.ErrUnsupported
}

// Attach implements [vm.Driver].
func (d *Driver) Attach(ctx context.Context, inst vm.Instance, plan vm.Plan, state vm.State) (vm.Machine, error) {
	return nil, errors.ErrUnsupported
}
