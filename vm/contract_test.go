//go:build !e2e

package vm_test

import (
	"testing"

	"github.com/rockpool/rootvm/vm"
	"github.com/rockpool/rootvm/vm/vmtest"
)

// TestFake_Contract holds the fake of this package's tests to what it stands
// for. Its guest neither speaks nor feels the power button.
func TestFake_Contract(t *testing.T) {
	vmtest.Run(t, func(t *testing.T) vmtest.Subject {
		t.Parallel()
		host, config := vm.FakeHost(t, vmtest.Ports(t))
		return vmtest.Subject{Host: host, Config: config, Machine: "sleep", Port: vmtest.Echo}
	})
}
