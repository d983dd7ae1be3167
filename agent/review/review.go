// Package review tells what in a user's preferences can run a program. A
// preference goes from one workspace into all: what a script of one workspace
// writes into it would run in every other one.
//
// What is not known to be harmless counts as able to run something, content
// that cannot be read included. The package keeps no state and imports only the
// domain; formats are read by libraries.
package review

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

// Review implements [agent.PreferenceReview].
type Review struct{}

var _ agent.PreferenceReview = Review{}

// Programs implements [agent.PreferenceReview]. The lines are sorted, each once.
func (Review) Programs(name, content string) []string {
	if strings.TrimSpace(content) == "" {
		return nil
	}
	var lines []string
	var err error
	switch name {
	case agent.PreferenceGit:
		lines, err = gitPrograms(content)
	case agent.PreferenceSettings:
		lines, err = settingsPrograms(content)
	case agent.PreferenceKeybindings:
		lines, err = keybindingPrograms(content)
	default:
		err = fmt.Errorf("nothing is known of %s", name)
	}
	if err != nil {
		return []string{fmt.Sprintf("cannot be read (%v), content %x", err, sha256.Sum256([]byte(content)))}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}
