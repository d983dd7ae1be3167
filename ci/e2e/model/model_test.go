package model

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/review"
)

// product is one that keeps its promises, of one client's things.
type product struct {
	Found
	stored string
	lives  int
}

func newProduct() *product { return &product{Found: Found{Files: map[string]string{}}} }

// do does an operation, or refuses it.
func (p *product) do(c *Client, o Operation) (done bool) {
	running := p.Exists && p.Status == agent.StatusRunning
	switch o.Kind {
	case Look:
	case Create:
		if p.Exists {
			return false
		}
		p.lives++
		p.Found = Found{Exists: true, ID: fmt.Sprint("id", p.lives), Status: agent.StatusRunning, Files: map[string]string{}, Preference: p.stored}
	case Start:
		if !p.Exists || running {
			return false
		}
		p.Status = agent.StatusRunning
	case Stop:
		if !running {
			return false
		}
		p.Status, p.Ports = agent.StatusStopped, nil
	case Delete:
		if running {
			return false
		}
		p.Found = Found{Files: map[string]string{}}
	case AddPort:
		if !running || slices.Contains(p.Ports, o.Port) || len(p.Ports) >= agent.MaxPorts {
			return false
		}
		p.Ports = append(p.Ports, o.Port)
		slices.Sort(p.Ports)
	case RemovePort:
		if !running || !slices.Contains(p.Ports, o.Port) {
			return false
		}
		p.Ports = slices.DeleteFunc(p.Ports, func(n int) bool { return n == o.Port })
	case Save:
		p.stored = p.Preference
	case Write:
		p.Files[o.Files[0].Name] = o.Files[0].Content
	case Edit:
		p.Preference = o.Files[0].Content
	}
	return true
}

func (p *product) status() agent.Status {
	if !p.Exists {
		return ""
	}
	return p.Status
}

func (p *product) found() Found {
	f := p.Found
	f.StoredValue = p.stored
	return f
}

// step has a client ask for one thing. Of those that are not answered, some are
// done all the same.
func step(t *testing.T, c *Client, p *product, random *rand.Rand) {
	t.Helper()
	o := c.Next(p.status())
	for {
		silent := random.IntN(20) == 0
		if silent && random.IntN(2) == 0 {
			c.Unanswered(o)
			return
		}
		done := p.do(c, o)
		if silent {
			c.Unanswered(o)
			return
		}
		if !done {
			return
		}

		if o.Kind == Write || o.Kind == Edit {
			if o = c.Written(o); len(o.Files) > 0 {
				continue
			}
			return
		}
		if err := c.Done(o, p.ID); err != nil {
			t.Error(err)
		}
		if o.Kind == Save {
			if err := c.Saved(p.stored + "\n"); err != nil {
				t.Error(err)
			}
		}
		return
	}
}

// rounds takes a client through rounds with a product that keeps its promises.
func rounds(t *testing.T, seed uint64, n int, after func(c *Client, p *product)) {
	t.Helper()
	c, p := NewClient("one", agent.PreferenceGit), newProduct()
	random := rand.New(rand.NewPCG(seed, 1))
	for round := range n {
		c.Begin(seed, round)
		for range random.IntN(30) {
			if !c.Lost() {
				step(t, c, p, random)
			}
		}
		if faults := c.Compare(p.found()); faults != nil {
			t.Fatalf("seed %d, round %d: %q", seed, round, faults)
		}
		if after != nil {
			after(c, p)
		}
	}
}

// TestClient_Compare: a product that keeps its promises has no faults, whatever
// was not answered, and each way to break one is seen.
func TestClient_Compare(t *testing.T) {
	t.Run("Right", func(t *testing.T) {
		for seed := range uint64(20) {
			rounds(t, seed, 50, nil)
		}
	})

	for name, break_ := range map[string]func(*Found) bool{
		"a lost workspace": func(f *Found) bool {
			was := f.Exists
			*f = Found{StoredValue: f.StoredValue}
			return was
		},
		"a workspace that is back": func(f *Found) bool {
			if f.Exists {
				return false
			}
			*f = Found{Exists: true, ID: "back", Status: agent.StatusStopped, StoredValue: f.StoredValue}
			return true
		},
		"another workspace":     func(f *Found) bool { f.ID += "2"; return f.Exists },
		"a workspace in error":  func(f *Found) bool { f.Status = agent.StatusError; return f.Exists },
		"a workspace that hung": func(f *Found) bool { f.Status = agent.StatusCreating; return f.Exists },
		"a lost port": func(f *Found) bool {
			if len(f.Ports) == 0 {
				return false
			}
			f.Ports = f.Ports[1:]
			return true
		},
		"a port too many": func(f *Found) bool { f.Ports = append(slices.Clone(f.Ports), 9000); return f.Exists },
		"a lost file": func(f *Found) bool {
			was := len(f.Files) > 0
			f.Files = nil
			return was
		},
		"a file of a former workspace": func(f *Found) bool {
			files := map[string]string{Folder + "/f9": "old"}
			for n, content := range f.Files {
				files[n] = content
			}
			f.Files = files
			return f.Exists
		},
		"half a file": func(f *Found) bool {
			files := map[string]string{}
			for n, content := range f.Files {
				files[n] = content[:1]
			}
			f.Files = files
			return len(files) > 0
		},
		"a lost edit":               func(f *Found) bool { was := f.Preference != ""; f.Preference = "lost"; return was },
		"a lost stored preference":  func(f *Found) bool { was := f.StoredValue != ""; f.StoredValue = ""; return was },
		"another stored preference": func(f *Found) bool { f.StoredValue += "x"; return true },
		"stopped instead of running": func(f *Found) bool {
			was := f.Status == agent.StatusRunning
			f.Status = agent.StatusStopped
			return was
		},
	} {
		t.Run(name, func(t *testing.T) {
			broken := 0
			rounds(t, 7, 300, func(c *Client, p *product) {
				f := p.found()
				if !break_(&f) {
					return
				}
				broken++
				before := c.known
				if faults := c.Compare(f); faults == nil {
					t.Errorf("not seen in %+v", f)
					c.known = before
				}
			})
			if broken == 0 {
				t.Error("the rounds never came to what was to be broken")
			}
		})
	}
}

// TestClient_Next: the same seed asks for the same, every kind is asked for, and
// no preference is one that has to be confirmed.
func TestClient_Next(t *testing.T) {
	asked := func(seed uint64, name, preference string) (list []string, kinds map[Kind]bool) {
		c := NewClient(name, preference)
		kinds = map[Kind]bool{}
		for round := range 10 {
			c.Begin(seed, round)
			for _, status := range append([]agent.Status{""}, agent.Statuses()...) {
				for range 20 {
					o := c.Next(status)
					kinds[o.Kind] = true
					list = append(list, o.String())
					if lines := programs(o, preference); lines != nil {
						t.Errorf("%s would have to be confirmed: %q", o, lines)
					}
					if o.Kind == Create || o.Kind == Edit {
						c.known = c.known.after(o)
					}
				}
			}
		}
		return list, kinds
	}

	for _, preference := range agent.PreferenceNames() {
		first, kinds := asked(1, "one", preference)
		again, _ := asked(1, "one", preference)
		if !slices.Equal(first, again) {
			t.Error("the same seed asked for something else")
		}
		if other, _ := asked(2, "one", preference); slices.Equal(first, other) {
			t.Error("another seed asked for the same")
		}
		if neighbour, _ := asked(1, "two", preference); slices.Equal(first, neighbour) {
			t.Error("another client asked for the same")
		}
		if len(kinds) != 10 {
			t.Errorf("only %v were asked for", kinds)
		}
	}
}

func programs(o Operation, preference string) []string {
	if o.Kind != Edit {
		return nil
	}
	return review.Review{}.Programs(preference, o.Files[0].Content+"\n")
}

// TestClient_Done: what is being deleted cannot be started.
func TestClient_Done(t *testing.T) {
	c := NewClient("one", agent.PreferenceGit)
	for _, o := range []Operation{{Kind: Create}, {Kind: Stop}, {Kind: Delete}, {Kind: Delete}} {
		if err := c.Done(o, "id"); err != nil {
			t.Errorf("%s: %v", o, err)
		}
	}
	if err := c.Done(Operation{Kind: Start}, ""); err == nil || !strings.Contains(err.Error(), "being deleted") {
		t.Errorf("error %v", err)
	}
}
