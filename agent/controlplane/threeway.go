package controlplane

import "github.com/rockpool/rootvm/agent"

// verdict is what becomes of a preference whose copies differ.
type verdict int

// The verdicts.
const (
	leave    verdict = iota // nothing changes
	settle                  // both are the same: that is remembered as the base
	apply                   // the content goes over: pushed, or taken
	conflict                // both were changed: the user's file stays and the user is asked
)

// syncPolicy decides what becomes of a preference, from what is stored, what
// the stored preference and the workspace's file had in common last, and what
// the workspace's file is.
type syncPolicy interface {
	push(stored, base, found agent.File) verdict
	take(stored, base, found agent.File) verdict
}

// threeWay lets nothing replace content that only it replaces: a file is pushed
// over only while it is the base, a stored preference only while it is.
type threeWay struct{}

func (threeWay) push(stored, base, found agent.File) verdict {
	switch {
	case !stored.Exists:
		return leave
	case found == stored:
		return settle
	case found == base: // also: neither exists
		return apply
	case stored == base:
		return leave // only the file was changed, or deleted
	}
	return conflict
}

func (threeWay) take(stored, base, found agent.File) verdict {
	switch {
	case !found.Exists, found == base:
		return leave
	case found == stored:
		return settle
	case !stored.Exists, stored == base:
		return apply
	}
	return conflict
}
