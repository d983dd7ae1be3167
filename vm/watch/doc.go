// Package watch tells the guest what changes in the directory that the host
// shares with it: the host's end of the stream of file events, as package guest
// describes it. It owns a snapshot of the directory, in memory, and imports
// only guest.
//
// A [Watcher] keeps the snapshot: what the guest has been told, or will be. Its
// kernel, or looking again and again, tells it where something may have
// happened; it looks there itself, and only what differs from the snapshot is a
// change. So the echo of the guest's replay, which changes nothing, is none,
// and what the kernel dropped is found by looking at everything once more.
//
// A [Stream] holds what is to be told, one change for each path, until the
// guest has answered it.
package watch
