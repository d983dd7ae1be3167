package templates_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/templates"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestRender_Golden(t *testing.T) {
	files, err := templates.Render(templates.Defaults())
	if err != nil {
		t.Fatal(err)
	}

	for _, f := range files {
		golden := filepath.Join("testdata", "golden", strings.TrimPrefix(f.Path, "/"))
		if *update {
			if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(golden, f.Content, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}

		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if string(f.Content) != string(want) {
			t.Errorf("%s differs from %s: go test ./templates -update shows how\n%s", f.Path, golden, f.Content)
		}
	}
}
