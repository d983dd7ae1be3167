package qemu_test

import (
	"testing"

	"github.com/rockpool/rootvm/vm/vmtest"
)

func TestDriver_Contract(t *testing.T) {
	vmtest.Run(t, func(t *testing.T) vmtest.Subject {
		f := newFixture(t, "")
		return vmtest.Subject{Host: f.host, Config: f.cfg, Machine: "qemu", Speaks: true, Off: true, KeptFile: "data.raw"}
	})
}
