// Package vm runs Root VM instances on a host: it owns an instance's
// directory (disks, keys, state file, sockets, logs) and the use cases start,
// wait, stop, ssh, logs, status and destroy.
//
// The life of an instance, in order:
//
//  1. [Host.Start] takes the instance's operation lock, writes the keys and the
//     configuration disk, records the driver, lets it prepare
//     ([Driver.Prepare]: every check that can fail), keeps a copy of the
//     supervisor's program, and starts that copy, detached.
//  2. The supervisor ([Supervise]) holds the supervisor lock as long as it
//     lives. It launches the machine ([Driver.Launch]), forwards ports where
//     the driver does not ([Capabilities]), listens to the guest's channel, to
//     the machine's events and to the serial log, and records all it learns in
//     the state file, replaced in one step each time.
//  3. [Host.Stop] asks the supervisor, which goes down the stop ladder.
//  4. [Host.Destroy] has the driver that the instance remembers remove what it
//     made ([Driver.Destroy]), and then removes the directory.
//
// Nothing depends on a clean end of any process. A supervisor that died leaves
// the machine running; the next command starts another that attaches to it
// ([Driver.Attach]). A machine that died is seen by its pid, start time and
// boot id, so that a reused pid is never taken for it. Locks are flock(2)
// locks, which the kernel drops with their holder.
//
// The supervisor is the host program itself, run again as `rockpool supervise`.
// Start copies it into the instance's directory, because a machine may outlive
// the program that started it: a release is replaced or removed, a checkout's
// cache is emptied, and mage's own program is one that cannot be run again. So
// every verb can adopt a machine with nothing but its directory, and the code
// that wrote the plan and the state of a machine is the code that reads them.
// An instance of a release before this one has no copy: there the caller's
// program serves ([Host].Supervisor).
//
// A driver declares what it can do ([Capabilities]); nobody asks for its name.
// What differs between systems stands in files named after them: processes,
// orphans, inherited descriptors, ports' owners, memory, paths of sockets.
//
// The package imports only vm/watch and the contract, package guest. Drivers live in its
// subdirectories.
package vm
