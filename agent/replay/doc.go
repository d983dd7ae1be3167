// Package replay raises in the guest the events of what the host changed in
// the shared directory, of which the guest's kernel does not know: the guest's
// end of the stream of file events, as package guest describes it.
//
// It never writes, makes or removes a file, and never sets a time to another
// value. It needs to own the files, or be allowed as if it did, and to hear what
// programs in the guest write, whose events are not raised again; both are
// root's. So [Serve] is run by a helper behind a socket, rockpool-replay.socket,
// and [Client] is the agent's end of that. It imports agent and guest.
package replay
