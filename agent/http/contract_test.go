package http_test

import (
	"net"
	"testing"

	"github.com/rockpool/rootvm/agent/runtimetest"
	"github.com/rockpool/rootvm/agent/stub"
)

// TestRuntimeAPI_Contract runs the contract of [agent.Runtime] over HTTP: the
// client's calls, the handlers and the stub behind them.
func TestRuntimeAPI_Contract(t *testing.T) {
	rt := stub.New(stub.Options{})
	t.Cleanup(rt.Close)
	s := server(fakeDB{})
	s.Runtime = rt
	c, _ := live(t, s)
	runtimetest.Run(t, runtimetest.Subject{
		Runtime: c.Runtime(), Files: rt, Inventory: rt, Observer: rt, Memory: rt, Terminator: rt, Health: rt,
		Ports: [2]int{port(t), port(t)}, Slots: [2]int{0, 1},
		Repository: "https://git.example/me/x.git",
	})
}

func port(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
