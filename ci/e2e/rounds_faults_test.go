//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rockpool/rootvm/guest"
	"github.com/rockpool/rootvm/vm"
)

// The faults of rounds. Those in the guest are shell scripts that say what they
// struck.
var (
	killQEMU       = fault{name: "kill -9 of QEMU", strike: killProcess(func(s vm.State) vm.Process { return named(s, "qemu") })}
	killVirtiofsd  = fault{name: "kill -9 of virtiofsd", strike: killProcess(func(s vm.State) vm.Process { return named(s, "virtiofsd") })}
	killSupervisor = fault{name: "kill -9 of the supervisor", strike: killProcess(func(s vm.State) vm.Process { return s.Supervisor })}

	killAgent = fault{name: "kill -9 of the agent", strike: inGuest(`pid=$(systemctl show -P MainPID rockpool-agent)
		[ "$pid" != 0 ] && sudo kill -KILL "$pid" && echo "process $pid"`)}
	killPodman = fault{name: "kill -9 of Podman's service", strike: inGuest(`pid=$(rockpool systemctl --user show -P MainPID podman.service)
		if [ "$pid" = 0 ]; then echo "which slept"; else sudo kill -KILL "$pid" && echo "process $pid"; fi`)}
	killMonitor = fault{name: "kill -9 of conmon", ends: true, strike: func(ctx context.Context, r *round) string {
		return inGuest(fmt.Sprintf(`all=($(pgrep -u rockpool -x conmon)) || { echo "of which there is none"; exit; }
		pid=${all[%d %% ${#all[@]}]}
		what=$(tr '\0' ' ' </proc/$pid/cmdline | grep -o -e '-n [^ ]*' -e '--exec-attach' | tr '\n' ' ')
		sudo kill -KILL "$pid" && echo "process $pid $what"`, r.random.IntN(1000)))(ctx, r)
	}}

	// The guest takes the network away from itself, and brings it back: nobody
	// could tell it to.
	loseNetwork = fault{name: "no network", strike: func(ctx context.Context, r *round) string {
		seconds := 5 + r.random.IntN(20)
		return inGuest(fmt.Sprintf(`sudo systemd-run --quiet --collect --unit=e2e-network bash -ec '
			sleep 1; device=$(ip -o route show default | sed "s/.* dev \([^ ]*\).*/\1/;q"); ip link set "$device" down; sleep %[1]d; ip link set "$device" up'
			echo "for %[1]d s"`, seconds))(ctx, r)
	}}
	clockBack  = fault{name: "the clock a day back", strike: inGuest("sudo timedatectl set-ntp false; sudo date -s '-1 day'"), mend: rightClock}
	clockAhead = fault{name: "the clock a year ahead", strike: inGuest("sudo timedatectl set-ntp false; sudo date -s '+1 year'"), mend: rightClock}

	fillWorkspace = fault{name: "a workspace uses up its memory", ends: true, strike: fillAWorkspace}
	fillMachine   = fault{name: "the VM's memory is used up", ends: true, strike: inGuest(
		`sudo systemd-run --quiet --collect --unit=e2e-eater bash -c 'tail /dev/zero & tail /dev/zero; wait'; echo "by two programs outside of all workspaces"`),
		mend: func(ctx context.Context, r *round) error {
			_, err := r.i.trySh(ctx, "for n in $(seq 120); do systemctl is-active --quiet e2e-eater || exit 0; sleep 1; done; sudo systemctl stop e2e-eater; exit 1")
			return err
		}}
)

// state is what the instance's supervisor wrote last, without a word to it.
func (i *instance) state() (s vm.State, err error) {
	b, err := os.ReadFile(filepath.Join(i.dir(), "state.json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err
}

// named is a process of the machine, or none.
func named(s vm.State, name string) vm.Process {
	n := slices.IndexFunc(s.Processes, func(p vm.Process) bool { return p.Name == name })
	if n < 0 {
		return vm.Process{}
	}
	return s.Processes[n]
}

// killProcess kills a process of the instance on the host.
func killProcess(which func(vm.State) vm.Process) func(context.Context, *round) string {
	return func(_ context.Context, r *round) string {
		s, err := r.i.state()
		if err != nil {
			return err.Error()
		}
		p := which(s)
		if p.PID == 0 || !p.Alive() {
			return "which does not run"
		}
		if err := p.Signal(syscall.SIGKILL); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("process %d", p.PID)
	}
}

// strikeTime bounds a script in a guest that may be off, or without a network.
const strikeTime = 30 * time.Second

// inGuest runs a script in the guest, and says what that says.
func inGuest(script string) func(context.Context, *round) string {
	return func(ctx context.Context, r *round) string {
		ctx, cancel := context.WithTimeout(ctx, strikeTime)
		defer cancel()
		out, err := r.i.trySh(ctx, asRockpool+script)
		words := strings.Join(strings.Fields(out), " ")
		if err != nil {
			return fmt.Sprintf("did not come about (%v): %s", err, words)
		}
		return words
	}
}

// rightClock gives the guest the host's time again, by the way that a jump of the
// host's clock takes: what the agent may ask of root.
func rightClock(ctx context.Context, r *round) error {
	out, err := r.i.trySh(ctx, fmt.Sprintf(`answer=$(echo %d | sudo -u rockpool nc -N -U %s)
		sudo timedatectl set-ntp true
		echo "$answer $(($(date +%%s) - %d)) $(sudo journalctl -q --no-pager -o cat -n 1 -g 'the clock was set by the host')"`,
		time.Now().UnixNano(), guest.ClockSocket, time.Now().Unix()))
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var answer string
	var late int
	if _, err := fmt.Sscan(out, &answer, &late); err != nil || answer != "ok" || late < 0 || late > 60 || !strings.Contains(out, "by the host's, from ") {
		return fmt.Errorf("the clock does not follow the host's: %s", out)
	}
	return nil
}

// fillAWorkspace has a workspace that runs take all memory that it may have: half
// of the time that is less than the VM has, the other half more.
func fillAWorkspace(ctx context.Context, r *round) string {
	limit := "" // its own, of 4 GiB
	if r.random.IntN(2) == 0 {
		limit = "500M"
	}
	all, err := r.i.workspaces(ctx)
	if err != nil {
		return err.Error()
	}
	running := slices.DeleteFunc(all, func(w remote) bool { return w.Status != "running" })
	if len(running) == 0 {
		return "none runs"
	}
	w := running[r.random.IntN(len(running))]
	return w.Name + " " + inGuest(fmt.Sprintf(`c=rockpool-%s
		group=/sys/fs/cgroup$(rockpool podman inspect --format '{{.State.CgroupPath}}' $c) limit=%s
		own=$(cat $group/memory.max); echo "has ${limit:-$own}"
		[ -z "$limit" ] || echo "$limit" | sudo tee $group/memory.max >/dev/null
		timeout 25 sudo -u rockpool podman exec $c bash -c 'tail /dev/zero' || echo "ended with $?"
		[ ! -d "$group" ] || echo "$own" | sudo tee $group/memory.max >/dev/null`, w.ID, limit))(ctx, r)
}
