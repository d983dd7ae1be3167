package ci

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

var namedTest = regexp.MustCompile("`(Test[A-Za-z0-9_]+)(?:/([A-Za-z0-9]+))?`")

// TestSecurity_tests: every test that doc/security.md names is there.
func TestSecurity_tests(t *testing.T) {
	text, err := os.ReadFile("../doc/security.md")
	if err != nil {
		t.Fatal(err)
	}
	names := namedTest.FindAllStringSubmatch(string(text), -1)
	if len(names) < 30 {
		t.Fatalf("%d tests are named: the pattern has grown old", len(names))
	}
	out, err := exec.Command("git", "-C", "..", "grep", "-hE", `^func Test|t\.Run\("`, "--", "*_test.go").Output()
	if err != nil {
		t.Fatalf("list the tests: %v", err)
	}
	for _, name := range names {
		if !strings.Contains(string(out), "func "+name[1]+"(") {
			t.Errorf("there is no %s", name[1])
		}
		if name[2] != "" && !strings.Contains(string(out), `t.Run("`+name[2]+`"`) {
			t.Errorf("there is no %s in %s", name[2], name[1])
		}
	}
}
