package tart

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rockpool/rootvm/vm"
)

// Program is Tart.
type Program struct {
	Argv []string `json:"argv"`          // tart; its arguments are appended
	Home string   `json:"home"`          // its home directory, absolute: TART_HOME
	Env  []string `json:"env,omitempty"` // added to its environment
}

// Detect finds Tart on this host. home is TART_HOME; empty is Tart's default,
// below the user's home directory.
func Detect(home, userHome string) (Program, error) {
	path, err := exec.LookPath("tart")
	if err != nil {
		return Program{}, errors.New("Tart is missing: install it with `brew install openai/tools/tart`, or see https://tart.run")
	}
	if home == "" {
		home = filepath.Join(userHome, ".tart")
	}
	if home, err = filepath.Abs(home); err != nil {
		return Program{}, fmt.Errorf("Tart's home: %w", err)
	}
	return Program{Argv: []string{path}, Home: home}, nil
}

// dir is where Tart keeps the VM of a name.
func (p Program) dir(name string) string { return filepath.Join(p.Home, "vms", name) }

// environment is that of all of Tart's processes.
func (p Program) environment() []string {
	return append(append(os.Environ(), "TART_HOME="+p.Home), p.Env...)
}

// run runs Tart to its end and returns what it printed.
func (p Program) run(ctx context.Context, args ...string) ([]byte, error) {
	if len(p.Argv) == 0 {
		return nil, errors.New("Tart is missing: install it")
	}
	cmd := exec.CommandContext(ctx, p.Argv[0], append(p.Argv[1:len(p.Argv):len(p.Argv)], args...)...)
	cmd.Env = p.environment()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("tart %s: %w: %s", args[0], err, lastLine(errs.Bytes()))
	}
	return out.Bytes(), nil
}

// lastLine is what Tart says it failed by.
func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// minVersion has SIGUSR2 for the power button.
var minVersion = vm.Version{2, 12}

// Version asks Tart for its version, and fails for one that is too old.
func (p Program) Version(ctx context.Context) (vm.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := p.run(ctx, "--version")
	if err != nil {
		return vm.Version{}, err
	}
	v, found := vm.ParseVersion(string(out))
	if !found {
		return v, fmt.Errorf("the version of Tart is not understood: %q", strings.TrimSpace(string(out)))
	}
	if v.Less(minVersion) {
		return v, fmt.Errorf("Tart is %s, and before %s it has no power button: update it with `brew upgrade tart`", v, minVersion)
	}
	return v, nil
}

// running reports whether a VM runs, whoever started it.
func (p Program) running(ctx context.Context, name string) (bool, error) {
	out, err := p.run(ctx, "get", name, "--format", "json")
	if err != nil {
		return false, err
	}
	var state struct{ State string }
	if err := json.Unmarshal(out, &state); err != nil {
		return false, fmt.Errorf("tart get %s: %w", name, err)
	}
	return state.State == "running", nil
}

// set gives a VM processors and memory, in MB of 1024 × 1024 bytes.
func (p Program) set(ctx context.Context, name string, cpus int, megabytes int64) error {
	_, err := p.run(ctx, "set", name, "--cpu", strconv.Itoa(cpus), "--memory", strconv.FormatInt(megabytes, 10))
	return err
}

func (p Program) remove(ctx context.Context, name string) error {
	_, err := p.run(ctx, "delete", name)
	return err
}

// address is the guest's on Tart's NAT, as the lease of its MAC address has it.
func (p Program) address(ctx context.Context, name string) (string, error) {
	out, err := p.run(ctx, "ip", name)
	if err != nil {
		return "", err
	}
	ip := strings.TrimSpace(string(out))
	if net.ParseIP(ip) == nil {
		return "", fmt.Errorf("tart ip %s: %q is no address", name, ip)
	}
	return ip, nil
}
