// Package model knows what a product is to show that loses nothing: it chooses,
// from a seed, what clients ask of it while parts of it are killed, keeps what
// was acknowledged to them, and compares that with what is found afterwards.
//
// A [Client] owns one workspace and one preference, which nobody else changes,
// so that what it was told last is what has to be there. What was asked for and
// never answered may have been done or not, but not in part: either is right,
// everything else is a fault. The package asks nobody itself and owns no state
// but the clients'.
package model

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"github.com/rockpool/rootvm/agent"
)

// Folder is where in a home directory a client's files are.
const Folder = "kept"

// Kind is what a client asks for.
type Kind string

// The kinds of operations.
const (
	Create     Kind = "create"
	Start      Kind = "start"
	Stop       Kind = "stop"
	Delete     Kind = "delete"
	AddPort    Kind = "add port"
	RemovePort Kind = "remove port"
	Write      Kind = "write" // files into the workspace, each on the disk before it is acknowledged
	Edit       Kind = "edit"  // the same with the preference's file
	Save       Kind = "save"  // the preference from the workspace
	Look       Kind = "look"  // nothing but the workspace's state
)

// File is a file below the home directory, and its one line.
type File struct{ Name, Content string }

// Operation is one thing that a client asks for.
type Operation struct {
	Kind  Kind
	Port  int    // of AddPort and RemovePort
	Sync  bool   // of Create: the preferences are synchronised
	Files []File // of Write and Edit, in order; each is acknowledged by itself
}

// String names the operation for people.
func (o Operation) String() string {
	switch o.Kind {
	case AddPort, RemovePort:
		return fmt.Sprintf("%s %d", o.Kind, o.Port)
	case Write, Edit:
		words := make([]string, len(o.Files))
		for i, f := range o.Files {
			words[i] = path.Base(f.Name) + "=" + f.Content
		}
		return fmt.Sprintf("%s %s", o.Kind, strings.Join(words, ", "))
	}
	return string(o.Kind)
}

// state is what was acknowledged.
type state struct {
	exists bool
	id     string
	runs   bool // where the workspace is, or is on its way to
	sync   bool
	ports  map[int]bool
	files  map[string]string // by name, below the home directory
	edited string            // content of the preference's file; "" when this home's was never edited
	stored string            // content of the stored preference; "" when there is none
	taken  []string          // contents that a stop may have stored since
}

func (s state) clone() state {
	s.ports, s.files, s.taken = maps.Clone(s.ports), maps.Clone(s.files), slices.Clone(s.taken)
	return s
}

// after is the state that an operation leads to, when it is done as a whole.
func (s state) after(o Operation) state {
	s = s.clone()
	switch o.Kind {
	case Create:
		s = state{exists: true, runs: true, sync: o.Sync, ports: map[int]bool{}, files: map[string]string{}, stored: s.stored, taken: s.taken}
	case Start:
		s.runs = true
	case Stop:
		s.runs, s.ports = false, map[int]bool{}
		if s.sync && s.edited != "" {
			s.taken = append(s.taken, s.edited)
		}
	case Delete:
		s = state{stored: s.stored, taken: s.taken}
	case AddPort:
		s.ports[o.Port] = true
	case RemovePort:
		delete(s.ports, o.Port)
	case Save:
		s.stored, s.taken = s.edited, nil
	case Write:
		for _, f := range o.Files {
			s.files[f.Name] = f.Content
		}
	case Edit:
		for _, f := range o.Files {
			s.edited = f.Content
		}
	}
	return s
}

// Client is one user of the product. Its methods are for one goroutine.
type Client struct {
	Name       string // of its workspace
	Preference string // what of the settings it edits and saves

	random  *rand.Rand
	count   int // of contents, none of which is there twice
	known   state
	open    *Operation // asked for, and never answered
	history []string   // every content of the preference
	said    []string   // what was acknowledged since the round began

	waitsIn agent.Status // state whose end it waits for; "" for none
	looks   int          // how many it still takes before it asks for something; negative: it only waits
}

// NewClient returns a client whose workspace is not there yet. What it chooses
// follows from the seed.
func NewClient(name, preference string) *Client {
	return &Client{Name: name, Preference: preference}
}

// Begin begins a round. What the client chooses in it follows from the seed, the
// number of the round and its name.
func (c *Client) Begin(seed uint64, round int) {
	salt := uint64(round) << 32
	for _, b := range []byte(c.Name) {
		salt = salt*31 + uint64(b)
	}
	c.random, c.said, c.waitsIn = rand.New(rand.NewPCG(seed, salt)), nil, ""
}

// Acknowledged lists what was acknowledged since the round began.
func (c *Client) Acknowledged() []string { return c.said }

// Lost reports whether an answer is missing. Such a client asks for nothing more
// until it was compared.
func (c *Client) Lost() bool { return c.open != nil }

// ID is that of the workspace, as far as it was told.
func (c *Client) ID() string { return c.known.id }

// Done notes that an operation was acknowledged as a whole. Of Create, id is
// that of the workspace. The error is that it could not have been.
func (c *Client) Done(o Operation, id string) error {
	if !c.known.exists && o.Kind != Create && o.Kind != Delete && o.Kind != Look {
		return fmt.Errorf("%s: %q was acknowledged of a workspace that is being deleted", c.Name, o)
	}
	c.known = c.known.after(o)
	if o.Kind == Create {
		c.known.id = id
	}
	if o.Kind != Write && o.Kind != Edit && o.Kind != Look { // those are noted file by file
		c.said = append(c.said, o.String())
	}
	return nil
}

// Written notes that the first file of an operation is on the disk, and returns
// what is left of the operation.
func (c *Client) Written(o Operation) Operation {
	first := o
	first.Files = o.Files[:1]
	c.known = c.known.after(first)
	c.said = append(c.said, first.String())
	o.Files = o.Files[1:]
	return o
}

// Unanswered notes that an operation may have been done, or not.
func (c *Client) Unanswered(o Operation) {
	if (o.Kind == Write || o.Kind == Edit) && len(o.Files) > 0 {
		o.Files = o.Files[:1] // the next is only asked for once this one is acknowledged
	}
	if o.Kind != Look {
		c.open = &o
	}
}

// Saved compares an acknowledged Save with what the client has edited.
func (c *Client) Saved(blob string) error {
	if blob != c.known.edited+"\n" {
		return fmt.Errorf("%s: saved %q, the file holds %q", c.Name, blob, c.known.edited)
	}
	return nil
}

// Found is what is found of a client's things once everything has settled.
type Found struct {
	Exists      bool
	ID          string
	Status      agent.Status
	Message     string
	Ports       []int
	Files       map[string]string // by name, below the home directory: those in Folder
	Preference  string            // content of the preference's file, "" for none
	StoredValue string            // of the preference, "" for none
}

// Compare returns what is found otherwise than it was acknowledged. Where an
// answer is missing, what is found decides whether it was done: the client goes
// on from there.
func (c *Client) Compare(f Found) []string {
	candidates := []state{c.known}
	if c.open != nil {
		candidates = append(candidates, c.known.after(*c.open))
	}

	var faults []string
	for _, s := range candidates {
		wrong := c.differences(s, f)
		if len(wrong) == 0 {
			c.adopt(s, f)
			return nil
		}
		if faults == nil {
			faults = wrong
		}
	}

	if c.open != nil {
		faults = append(faults, fmt.Sprintf("%s: nor is it as if %q, which was not answered, had been done", c.Name, c.open))
	}
	return faults
}

// differences are those between a state and what was found.
func (c *Client) differences(s state, f Found) (faults []string) {
	say := func(format string, args ...any) {
		faults = append(faults, c.Name+": "+fmt.Sprintf(format, args...))
	}
	if stored := append([]string{s.stored}, s.taken...); !slices.Contains(stored, f.StoredValue) {
		say("the stored %s is %q, not one of %q", c.Preference, f.StoredValue, stored)
	}
	if s.exists != f.Exists {
		say("the workspace exists: %t, want %t", f.Exists, s.exists)
		return faults
	}
	if !s.exists {
		return faults
	}

	want := agent.StatusStopped
	if s.runs {
		want = agent.StatusRunning
	}
	if f.Status != want {
		say("it is %s (%s), want %s", f.Status, f.Message, want)
	}
	if s.id != "" && f.ID != s.id {
		say("it is another workspace, %s instead of %s", f.ID, s.id)
	}
	if ports := slices.Sorted(maps.Keys(s.ports)); !slices.Equal(ports, f.Ports) {
		say("its ports are %v, want %v", f.Ports, ports)
	}
	if !maps.Equal(s.files, f.Files) {
		say("its files are %v, want %v", f.Files, s.files)
	}
	if s.edited != "" && f.Preference != s.edited {
		say("%s holds %q, the user wrote %q", agent.PreferencePath(c.Preference), f.Preference, s.edited)
	}
	if s.edited == "" && f.Preference != "" && !slices.Contains(c.history, f.Preference) {
		say("%s holds %q, which nobody ever wrote", agent.PreferencePath(c.Preference), f.Preference)
	}
	return faults
}

// adopt goes on from what was found to be right.
func (c *Client) adopt(s state, f Found) {
	s.id, s.stored, s.taken = f.ID, f.StoredValue, nil
	c.known, c.open = s, nil
}
