package host

import (
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		writeFile(t, path, got)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
	}
}

func TestAutostart_Rendered(t *testing.T) {
	config := vm.Config{
		Memory: 8 * vm.GiB, CPUs: 4, DataSize: 40 * vm.GiB, Boot: vm.BootKernel, Accel: vm.Auto, Share: vm.ShareNone,
		Ports: guest.Ports{SSH: 2222, Dashboard: 8080, IDE: 8081, Preview: 8082},
	}
	plain := autostartOf("/usr/local/bin/rockpool", "rockpool-root", config)
	odd := autostartOf(`/home/a b/100%/$x/"q"/<&>/rockpool`, "other", vm.Config{Ports: guest.Ports{SSH: 3333}})
	for name, unit := range map[string]autostart{"plain": plain, "odd": odd} {
		golden(t, "autostart-"+name+".service", systemdUnit(unit))
		golden(t, "autostart-"+name+".plist", launchdAgent(unit))
	}
}

// TestAutostart_PlistIsXML reads the arguments back.
func TestAutostart_PlistIsXML(t *testing.T) {
	unit := autostart{Instance: "x", Start: []string{"/a <b>&\"c\"", "--d"}}
	var list struct {
		Arguments []string `xml:"dict>array>string"`
	}
	if err := xml.Unmarshal([]byte(launchdAgent(unit)), &list); err != nil || len(list.Arguments) != 2 || list.Arguments[0] != unit.Start[0] {
		t.Errorf("read %q, %v", list.Arguments, err)
	}
}

func TestApp_Autostart(t *testing.T) {
	s, out := around(t, "", nil)
	a := NewApp(Standalone(), s)
	if err := a.Load(s, nil); err != nil {
		t.Fatal(err)
	}
	stoppedInstance(t, a, `{"name":"rockpool-root","memory":1073741824,"cpus":2,"ports":{"ssh":2222,"dashboard":8080}}`)
	var ran []string
	var fault error
	a.Packages.Run = func(_ context.Context, argv []string, out io.Writer) error {
		ran = append(ran, strings.Join(argv, " "))
		fmt.Fprintln(out, "words of the manager")
		return fault
	}
	path := filepath.Join(s.Dir, ".config/systemd/user/rockpool-rockpool-root.service")

	if err := a.Autostart(t.Context(), s, true); err != nil {
		t.Fatal(err)
	}
	unit, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(unit), " vm start --name rockpool-root --memory 1073741824 --cpus 2 --ssh-port 2222 --web-port 8080\n") {
		t.Errorf("unit %q, %v", unit, err)
	}
	want := "systemctl --user daemon-reload|systemctl --user enable rockpool-rockpool-root.service|loginctl enable-linger"
	if strings.Join(ran, "|") != want {
		t.Errorf("ran %q, want %q", ran, want)
	}

	ran, fault = nil, errors.New("exit status 1")
	if err := a.Autostart(t.Context(), s, false); err == nil || !strings.Contains(err.Error(), "words of the manager") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the unit went though it could not be disabled: %v", err)
	}

	fault = nil
	if err := a.Autostart(t.Context(), s, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil || ran[len(ran)-1] != "systemctl --user disable rockpool-rockpool-root.service" {
		t.Errorf("ran %q; the unit: %v", ran, err)
	}
	if err := a.Autostart(t.Context(), s, false); err != nil || !strings.Contains(out.String(), "does not start with this host") {
		t.Errorf("again: %v\n%s", err, out)
	}
}
