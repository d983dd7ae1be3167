package model

import (
	"fmt"
	"maps"
	"slices"

	"github.com/rockpool/rootvm/agent"
)

// choice is an operation and how often it is chosen, of all that a state allows.
type choice struct {
	kind   Kind
	weight int
}

// choices are those of each state of a workspace; "" is that it is not there.
// What the product refuses in a state is in the list too, where it is told apart
// from what it allows by a conflict.
var choices = map[agent.Status][]choice{
	"":                   {{Create, 1}},
	agent.StatusCreating: {{Stop, 2}, {Delete, 2}, {AddPort, 1}},
	agent.StatusRunning:  {{Write, 12}, {Edit, 4}, {Save, 4}, {AddPort, 3}, {RemovePort, 2}, {Stop, 3}, {Start, 1}, {Delete, 1}},
	agent.StatusStopping: {{Delete, 1}, {Start, 1}},
	agent.StatusStopped:  {{Start, 8}, {Delete, 2}, {Stop, 1}},
	agent.StatusError:    {{Look, 1}},
}

// leaving are the choices while a workspace is on its way out.
var leaving = []choice{{Delete, 1}, {Start, 1}}

// onItsWay is that of a workspace on its way out, beside the product's own states
// in which a workspace does not stay.
const onItsWay agent.Status = "leaving"

// Most of the time a client waits for a state in which a workspace stays, however
// long that takes; else only for some looks, at most maxLooks, and then it asks
// for what the state allows.
const (
	impatient = 4 // one time in so many
	maxLooks  = 12
)

// The ranges that the generator chooses from: few names, so that what is there
// is replaced as often as it is added to.
const (
	fileNames = 4
	maxFiles  = 8 // of one Write
	firstPort = 3000
	portRange = 7 // more than a workspace may register
)

// Next chooses what the client asks for next, of a workspace in a state.
func (c *Client) Next(status agent.Status) Operation {
	list := choices[status]
	if status != "" && !c.known.exists {
		list, status = leaving, onItsWay
	}
	if c.waits(status) {
		return Operation{Kind: Look}
	}
	sum := 0
	for _, ch := range list {
		sum += ch.weight
	}
	pick := c.random.IntN(sum)
	i := 0
	for ; pick >= list[i].weight; i++ {
		pick -= list[i].weight
	}
	return c.fill(Operation{Kind: list[i].kind})
}

// waits reports whether the client waits for another state of the workspace.
func (c *Client) waits(status agent.Status) bool {
	switch status {
	case agent.StatusCreating, agent.StatusStopping, onItsWay:
	default:
		c.waitsIn = ""
		return false
	}

	if c.waitsIn != status {
		c.waitsIn, c.looks = status, -1
		if c.random.IntN(impatient) == 0 {
			c.looks = c.random.IntN(maxLooks)
		}
	}
	if c.looks == 0 {
		c.waitsIn = "" // whatever comes of it is another wait
		return false
	}
	c.looks--
	return true
}

// fill chooses the rest of an operation.
func (c *Client) fill(o Operation) Operation {
	switch o.Kind {
	case Create:
		o.Sync = c.random.IntN(2) == 0
	case AddPort:
		o.Port = firstPort + c.random.IntN(portRange)
	case RemovePort:
		o.Port = firstPort + c.random.IntN(portRange)
		if there := slices.Sorted(maps.Keys(c.known.ports)); len(there) > 0 {
			o.Port = there[c.random.IntN(len(there))]
		}
	case Write:
		for range 1 + c.random.IntN(maxFiles) {
			c.count++
			name := fmt.Sprintf("%s/f%d", Folder, c.random.IntN(fileNames))
			o.Files = append(o.Files, File{name, fmt.Sprintf("%s-%d", c.Name, c.count)})
		}
	case Save:
		if c.known.edited == "" {
			return c.fill(Operation{Kind: Edit})
		}
	case Edit:
		c.count++
		content := preferenceContent(c.Preference, c.count)
		c.history = append(c.history, content)
		o.Files = []File{{agent.PreferencePath(c.Preference), content}}
	}
	return o
}

// preferenceContent is a preference that is harmless, and like no other.
func preferenceContent(name string, n int) string {
	switch name {
	case agent.PreferenceGit:
		return fmt.Sprintf("# n%d", n)
	case agent.PreferenceKeybindings:
		return fmt.Sprintf("[] // n%d", n)
	}
	return fmt.Sprintf(`{"editor.fontSize": %d}`, n)
}
