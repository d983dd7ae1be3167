package storage_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/storage"
)

// orderVariable has the test program be the process of one request, see [order].
const orderVariable = "ROCKPOOL_TEST_ORDER"

// order is a request for a process, which is killed after so many steps.
type order struct {
	Pool   storage.Pool
	Files  agent.Files
	Close  bool
	KillAt int // 0: never
}

// obey does what an order says and returns the exit code.
func obey(text string) int {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	steps := 0
	o.Pool.OnStep(func() {
		if steps++; steps == o.KillAt {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	})
	var err error
	if o.Close {
		err = o.Pool.Close(context.Background(), o.Files.ID)
	} else {
		_, err = o.Pool.Open(context.Background(), o.Files, nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// give has a process of its own obey an order, and returns what went wrong, unless
// it was to be killed.
func (o order) give() error {
	text, err := json.Marshal(&o)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), orderVariable+"="+string(text))
	out, err := c.CombinedOutput()
	if err != nil && o.KillAt == 0 {
		return fmt.Errorf("%+v: %w: %s", o, err, out)
	}
	return nil
}

// kernelLog is what the kernel says, as far as it remembers.
func kernelLog(t testing.TB) string {
	t.Helper()
	b := make([]byte, 1<<21)
	n, err := unix.Klogctl(3, b) // SYSLOG_ACTION_READ_ALL
	if err != nil {
		t.Skipf("the kernel's log cannot be read: %v", err)
	}
	return string(b[:n])
}

// TestPool_crashes opens and closes thirty times, three workspaces side by side, with
// processes that are killed at some step. No two overlays ever share a directory,
// and nothing stays mounted.
func TestPool_crashes(t *testing.T) {
	p, _ := newPool(t, 4*giga)
	const warning = "upperdir is in-use"
	before := strings.Count(kernelLog(t), warning)
	open(t, p, files(0, giga))

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var wg sync.WaitGroup
	for n := range 3 {
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		wg.Go(func() {
			o := order{Pool: *p, Files: files(n, giga)}
			for round := range 10 {
				o.Close, o.KillAt = random.IntN(2) == 0, random.IntN(5)
				if err := o.give(); err != nil {
					t.Error(err)
				}
				o.Close, o.KillAt = false, 0
				if err := o.give(); err != nil { // whatever was before
					t.Error(err)
				}
				home := p.Dir + "/open/" + o.Files.ID + "/home/"
				asRoot(n, func() { write(t, home+fmt.Sprint(round), "x") })
				if all, err := os.ReadDir(home); err != nil || len(all) != round+2 {
					t.Errorf("home has %d files after round %d: %v", len(all), round, err)
				}
			}
			o.Close = true
			if err := o.give(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if after := strings.Count(kernelLog(t), warning); after != before {
		t.Errorf("the kernel said %q %d times", warning, after-before)
	}
	if left := mountsBelow(t, p.Dir+"/open"); left != nil {
		t.Errorf("left mounted: %q", left)
	}
}
