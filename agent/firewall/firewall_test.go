package firewall_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rockpool/rootvm/agent/firewall"
	"github.com/rockpool/rootvm/guest"
)

// machine is a guest in a directory, whose nft takes note of what it was given
// and does not like scripts with the word "wrong".
type machine struct {
	t      *testing.T
	filter firewall.Filter
	log    bytes.Buffer
	loaded []string
	refuse bool // whatever is to be loaded
}

const rules = "table inet rockpool_workspaces { }\n"

func newMachine(t *testing.T) *machine {
	m := &machine{t: t}
	m.filter = firewall.Filter{Root: t.TempDir(), Log: slog.New(slog.NewTextHandler(&m.log, nil)), Nft: m.nft}
	m.write(guest.FirewallFile, rules)
	m.write(guest.FirewallSource, rules+"# of the image\n")
	return m
}

func (m *machine) nft(_ context.Context, script []byte, args ...string) error {
	if bytes.Contains(script, []byte("wrong")) {
		return errors.New("nft: exit status 1: wrong")
	}
	if args[0] == "-c" {
		return nil
	}
	if m.refuse {
		return errors.New("nft: exit status 1: no")
	}
	m.loaded = append(m.loaded, string(script))
	return nil
}

func (m *machine) write(path, content string) {
	m.t.Helper()
	full := filepath.Join(m.filter.Root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// load loads, and returns what nft was given and what the log got.
func (m *machine) load() (script, said string) {
	m.t.Helper()
	m.loaded = nil
	m.log.Reset()
	if err := m.filter.Load(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	if len(m.loaded) != 1 {
		m.t.Fatalf("%d transactions", len(m.loaded))
	}
	return m.loaded[0], m.log.String()
}

// answer tells a list of networks and returns the answer.
func (m *machine) answer(request string) string {
	m.t.Helper()
	var out strings.Builder
	_ = m.filter.Answer(m.t.Context(), strings.NewReader(request), &out)
	return out.String()
}

func TestFilter_Load(t *testing.T) {
	m := newMachine(t)
	m.filter.Boot = []string{"203.0.113.0/24", "2001:db8::/64"}
	script, said := m.load()
	for _, want := range []string{rules, "host4 { 203.0.113.0/24 }", "host6 { 2001:db8::/64 }"} {
		if !strings.Contains(script, want) {
			t.Errorf("no %q in\n%s", want, script)
		}
	}
	if said != "" {
		t.Errorf("it said %s", said)
	}
}

// TestFilter_Load_exceptions: a file that is not valid takes nothing down: what
// it was before stays, and the others count.
func TestFilter_Load_exceptions(t *testing.T) {
	m := newMachine(t)
	m.write(guest.ExceptionsDir+"/a.nft", "add element a")
	m.write(guest.ExceptionsDir+"/b.nft", "add element b")
	script, said := m.load()
	if !strings.Contains(script, "add element a\n") || !strings.Contains(script, "add element b\n") || said != "" {
		t.Fatalf("%s\n%s", script, said)
	}

	m.write(guest.ExceptionsDir+"/a.nft", "wrong")
	m.write(guest.ExceptionsDir+"/c.nft", "wrong from the begin")
	script, said = m.load()
	if !strings.Contains(script, "add element a\n") || !strings.Contains(script, "add element b\n") || strings.Contains(script, "wrong") {
		t.Errorf("loaded:\n%s", script)
	}
	if strings.Count(said, "\n") != 2 || !strings.Contains(said, "what was valid last is taken instead\" file="+m.filter.Root+guest.ExceptionsDir+"/a.nft") || !strings.Contains(said, "it is left out\" file="+m.filter.Root+guest.ExceptionsDir+"/c.nft") {
		t.Errorf("said:\n%s", said)
	}

	if err := os.Remove(filepath.Join(m.filter.Root, guest.ExceptionsDir, "a.nft")); err != nil {
		t.Fatal(err)
	}
	if script, _ = m.load(); strings.Contains(script, "add element a\n") {
		t.Errorf("an exception that was removed is still there:\n%s", script)
	}
}

// TestFilter_Load_rules: the image's own take the place of edited ones that are
// not valid, or that are something else.
func TestFilter_Load_rules(t *testing.T) {
	for name, edit := range map[string]string{"wrong": "wrong", "another table": "table inet mine { }", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.write(guest.FirewallFile, edit)
			script, said := m.load()
			if !strings.Contains(script, "# of the image") || strings.Count(said, "\n") != 1 || !strings.Contains(said, guest.FirewallFile+" is not valid") {
				t.Errorf("%s\n%s", script, said)
			}
		})
	}
}

func TestFilter_Answer(t *testing.T) {
	m := newMachine(t)
	m.filter.Boot = []string{"203.0.113.0/24"}
	if got := m.answer("198.51.100.0/24\n2001:db8::/64\n\n"); got != "ok\n" {
		t.Fatalf("answer %q", got)
	}
	for _, want := range []string{"host4 { 198.51.100.0/24 }", "host4 { 203.0.113.0/24 }", "host6 { 2001:db8::/64 }", "flush set inet rockpool_workspaces host4"} {
		if !strings.Contains(m.loaded[0], want) {
			t.Errorf("no %q in\n%s", want, m.loaded[0])
		}
	}
	if strings.Contains(m.loaded[0], "table inet rockpool_workspaces {") || strings.Contains(m.loaded[0], "allowed") {
		t.Errorf("more than the networks was touched:\n%s", m.loaded[0])
	}
	if script, _ := m.load(); !strings.Contains(script, "host4 { 198.51.100.0/24 }") {
		t.Errorf("a reload forgets what the agent told:\n%s", script)
	}
	if got := m.answer("\n"); got != "ok\n" {
		t.Fatalf("answer %q", got)
	}
	if script, _ := m.load(); strings.Contains(script, "198.51.100.0/24") || !strings.Contains(script, "203.0.113.0/24") {
		t.Errorf("the configuration disk's networks alone are left:\n%s", script)
	}
}

// TestFilter_Answer_refuses what is no list of networks, and changes nothing.
func TestFilter_Answer_refuses(t *testing.T) {
	for name, request := range map[string]string{
		"nothing":    "",
		"no end":     "203.0.113.0/24\n",
		"everything": "0.0.0.0/0\n\n",
		"a command":  "1.2.3.4/32 }; flush ruleset\n\n",
		"a second":   "203.0.113.0/24\nx\n\n",
		"too many":   strings.Repeat("203.0.113.0/24\n", guest.MaxHostNetworks+1) + "\n",
		"too long":   strings.Repeat("x", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			if got := m.answer(request); !strings.HasPrefix(got, "error: ") || strings.Count(got, "\n") != 1 {
				t.Errorf("answer %q", got)
			}
			if m.loaded != nil {
				t.Errorf("loaded %q", m.loaded)
			}
			if _, err := os.Stat(filepath.Join(m.filter.Root, guest.NetworksFile)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is remembered: %v", err)
			}
		})
	}
}

// TestClient talks to [firewall.Filter.Answer] as through systemd's socket, and
// goes on until it was heard.
func TestClient(t *testing.T) {
	m := newMachine(t)
	m.refuse = true
	socket := filepath.Join(t.TempDir(), "s")
	c := firewall.Client{Socket: socket}
	if err := c.Refuse(t.Context(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answered := make(chan int)
	go func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			m.refuse = n < 2
			_ = m.filter.Answer(t.Context(), conn, conn)
			_ = conn.Close()
			answered <- n
		}
	}()

	list := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	refused := make(chan error, 1)
	go func() { refused <- c.Refuse(t.Context(), list) }()
	<-answered
	if err := <-refused; err == nil || !strings.Contains(err.Error(), "load the host's networks: nft: exit status 1: no") {
		t.Errorf("refused: %v", err)
	}
	lists := make(chan []netip.Prefix, 1)
	lists <- list
	go c.Keep(t.Context(), lists, time.Millisecond, slog.New(slog.DiscardHandler))
	for n := range answered {
		if n == 2 {
			break
		}
	}
	if len(m.loaded) != 1 || !strings.Contains(m.loaded[0], "203.0.113.0/24") {
		t.Errorf("loaded %q", m.loaded)
	}
}

// TestNft gives the image's rules to the real nft, in a network namespace.
func TestNft(t *testing.T) {
	if _, err := os.Stat("/usr/sbin/nft"); err != nil {
		t.Skip("nft is not installed: apt install nftables")
	}
	if out, err := exec.Command("unshare", "-rn", "/usr/sbin/nft", "add", "table", "inet", "probe").CombinedOutput(); err != nil {
		t.Skipf("this machine lets nobody use nft in a namespace of their own: %s", out)
	}
	source, err := os.ReadFile("../../templates/testdata/golden" + guest.FirewallFile)
	if err != nil {
		t.Fatal(err)
	}
	// The control group is the guest's.
	own := bytes.Replace(source, []byte("socket cgroupv2 level 1 \"system.slice\" return\n"), nil, 1)
	if len(own) == len(source) {
		t.Fatal("the rules do not let the agent and Caddy through")
	}

	m := newMachine(t)
	m.write(guest.FirewallFile, string(own))
	m.write(guest.FirewallSource, string(own)+"# of the image\n")
	m.write(guest.ExceptionsDir+"/a.nft", "add element inet rockpool_workspaces allowed4 { 192.168.1.10 . 3000 }")
	m.write(guest.ExceptionsDir+"/b.nft", "add element inet rockpool_workspaces allowed4 { 192.168.1.10 }") // no port
	m.filter.Boot = []string{"203.0.113.0/24", "203.0.113.9/32", "2001:db8::/64"}
	var listed string
	m.filter.Nft = func(ctx context.Context, script []byte, args ...string) error {
		// Twice, as with a reload, and then what the kernel has.
		cmd := exec.CommandContext(ctx, "unshare", "-rn", "sh", "-c", `nft=/usr/sbin/nft
			f=$(mktemp) && cat >$f && $nft "$@" <$f && { [ "$1" = -c ] || { $nft "$@" <$f && $nft list ruleset; }; }; rc=$?; rm $f; exit $rc`, "sh")
		cmd.Args = append(cmd.Args, args...)
		cmd.Stdin = bytes.NewReader(script)
		out, err := cmd.CombinedOutput()
		if args[0] != "-c" {
			listed = string(out)
		}
		if err != nil {
			return errors.New(string(out))
		}
		return nil
	}
	if err := m.filter.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if said := m.log.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "/b.nft") {
		t.Errorf("said %s", said)
	}
	for _, want := range []string{"203.0.113.0/24", "2001:db8::/64", "192.168.1.10 . 3000", "@host4 reject", "@host6 reject"} {
		if !strings.Contains(listed, want) {
			t.Errorf("no %q in\n%s", want, listed)
		}
	}
	if strings.Contains(listed, "198.18.") {
		t.Errorf("the range from which routers answer every name is refused:\n%s", listed)
	}

	// Valid alone, but not for the host's networks.
	m.log.Reset()
	m.write(guest.FirewallFile, strings.Replace(string(own), "set host4 {\n\t\ttype ipv4_addr\n\t\tflags interval", "set host4 {\n\t\ttype inet_service", 1))
	if err := m.filter.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if said := m.log.String(); !strings.Contains(said, guest.FirewallFile+" is not valid") || !strings.Contains(listed, "203.0.113.0/24") {
		t.Errorf("rules with another kind of set: said %s\n%s", said, listed)
	}

	if got := m.answer("198.51.100.0/24\n\n"); got != "ok\n" { // before the first load
		t.Errorf("answer %q", got)
	}
	if !strings.Contains(listed, "198.51.100.0/24") {
		t.Errorf("the agent's networks:\n%s", listed)
	}
}

// TestFilter_Answer_bootUnknown: a list does not drop the networks of the start
// that cannot be read any more, and the answer says why.
func TestFilter_Answer_bootUnknown(t *testing.T) {
	m := newMachine(t)
	m.filter.BootFault = errors.New("config.json is not valid")
	m.filter.Nft = func(context.Context, []byte, ...string) error {
		t.Error("the filter was changed")
		return nil
	}
	if got := m.answer("198.51.100.0/24\n\n"); !strings.HasPrefix(got, "error: ") || !strings.Contains(got, "config.json is not valid") {
		t.Errorf("answer %q", got)
	}
}
