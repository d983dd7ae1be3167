// Package vm runs Root VM instances on a host: it owns an instance's
// directory (disks, keys, state file, sockets, logs) and the use cases start,
// wait, stop, ssh, logs, status and destroy.
//
// The life of an instance, in order:
//
//  1. [Host.Start] takes the instance's operation lock, writes the keys and the
//     configuration disk, lets the [Driver] prepare ([Driver.Prepare]: every
//     check that can fail), and starts the supervisor process, detached.
//  2. The supervisor ([Supervise]) holds the supervisor lock as long as it
//     lives. It launches the machine ([Driver.Launch]), listens to the guest's
//     channel, to the driver's events and to the serial log, and records all
//     it learns in the state file, replaced in one step each time.
//  3. [Host.Stop] asks the supervisor, which goes down the stop ladder.
//
// Nothing depends on a clean end of any process. A supervisor that died leaves
// the machine running; the next command starts another that attaches to it
// ([Driver.Attach]). A machine that died is seen by its pid, start time and
// boot id, so that a reused pid is never taken for it. Locks are flock(2)
// locks, which the kernel drops with their holder.
//
// The supervisor is a separate small program, cmd/rockpool-vm, and not a
// re-executed caller: the caller is mage's compiled magefile, whose main
// function is generated, lives in a cache that `mage -clean` may empty at any
// time, and would need an init hook that runs before every target.
//
// The package imports only the contract, package guest. Drivers live in its
// subdirectories.
package vm
