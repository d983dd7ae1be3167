package agent_test

import (
	"os"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/agent"
)

// TestStatesDocument: doc/states.md says of every state what the code allows,
// and each has a way out for its user.
func TestStatesDocument(t *testing.T) {
	b, err := os.ReadFile("../doc/states.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if strings.HasPrefix(line, "| `") {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows[strings.Trim(cells[0], "`")] = cells
		}
	}
	if len(rows) != len(agent.Statuses()) {
		t.Errorf("%d rows for %d states", len(rows), len(agent.Statuses()))
	}

	word := func(err error) string {
		if err != nil {
			return "–"
		}
		return "yes"
	}
	for _, s := range agent.Statuses() {
		row := rows[string(s)]
		if len(row) != 7 {
			t.Errorf("%s: its row has %d cells", s, len(row))
			continue
		}
		start, stop, del := agent.Transition(s, agent.StatusCreating), agent.Transition(s, agent.StatusStopping), s.Deletable()
		if want := []string{word(start), word(stop), word(del)}; strings.Join(row[3:6], " ") != strings.Join(want, " ") {
			t.Errorf("%s: start, stop, delete: the document says %q, the code %q", s, row[3:6], want)
		}
		if start != nil && stop != nil && del != nil {
			t.Errorf("%s cannot be left", s)
		}

		var by []string // what no request leads to
		for _, to := range agent.Statuses() {
			if to != agent.StatusCreating && to != agent.StatusStopping && agent.Transition(s, to) == nil {
				by = append(by, "`"+string(to)+"`")
			}
		}
		if want := strings.Join(by, ", "); row[6] != want && (want != "" || row[6] != "–") {
			t.Errorf("%s goes by itself to: the document says %q, the code %q", s, row[6], want)
		}
	}
}
