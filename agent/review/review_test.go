package review_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/agent"
	"github.com/rockpool/rootvm/agent/review"
)

// TestReview_harmless: what people have in these files is stored at once.
func TestReview_harmless(t *testing.T) {
	for name, contents := range map[string][]string{
		agent.PreferenceGit: {
			"", " \n", "# a comment\n; another\n",
			"[user]\n\tname = Ümläut\n\temail = a@b.example # mine\n\tsigningkey = 0xABC\n[init]\n\tdefaultBranch = main\n",
			"[User]\r\n\tName = \"Quoted; #1\"\r\n[CORE]\r\n\tautocrlf = input\r\n",
			"[color]\n\tui = auto\n[color \"diff\"]\n\tmeta = yellow bold\n[pull]\n\trebase\n[push]\n\tautoSetupRemote = true\n",
			"[alias]\n\tst = status -sb\n\tlg = log --oneline --graph --all\n\tco = checkout\n\tundo = reset --soft HEAD~1\n",
			"[merge]\n\tconflictStyle = zdiff3\n[diff]\n\talgorithm = histogram\n[rerere]\n\tenabled = true\n[commit]\n\tgpgSign = true\n",
		},
		agent.PreferenceSettings: {
			"", "{}", "{\n  // a comment\n  \"editor.fontSize\": 17, /* and one */\n}\n",
			`{"terminal.integrated.fontSize": 13, "terminal.integrated.shellIntegration.enabled": true, "breadcrumbs.enabled": false}`,
			`{"[shellscript]": {"editor.tabSize": 2}, "files.exclude": {"**/.env": true, "bin/tools": true}, "files.associations": {"*.sh": "shellscript"}}`,
			`{"workbench.colorCustomizations": {"terminal.background": "#000"}, "window.title": "${activeEditorShort}${separator}${rootName}", "editor.rulers": [80, 120]}`,
		},
		agent.PreferenceKeybindings: {
			"", "// Place your key bindings here\n[]", "[\n  {\"key\": \"ctrl+d\", \"command\": \"editor.action.copyLinesDownAction\", \"when\": \"editorTextFocus\"},\n]",
			`[{"key": "a", "command": "cursorMove", "args": {"to": "up"}}, {"key": "b", "command": "-workbench.action.tasks.runTask"}, {"key": "c", "command": "workbench.action.toggleSidebarVisibility"}]`,
		},
	} {
		for _, content := range contents {
			if got := (review.Review{}).Programs(name, content); len(got) != 0 {
				t.Errorf("%s %q: %q", name, content, got)
			}
		}
	}
}

// TestReview_programs: what can run a program is told, setting by setting.
func TestReview_programs(t *testing.T) {
	for name, contents := range map[string]map[string]string{
		agent.PreferenceGit: {
			"[core]\n\tfsmonitor = /tmp/x\n":                         `core.fsmonitor = "/tmp/x"`,
			"[core]\n\tsshCommand = sh -c id\n":                      `core.sshcommand = "sh -c id"`,
			"[core] editor=vi\n":                                     "cannot be read",
			"[CORE]\n\tPager = less\n":                               `core.pager = "less"`,
			"[core]\n\thooksPath = ~/h\n":                            `core.hookspath = "~/h"`,
			"[user]\n\tname = a\n[credential]\n\thelper = store\n":   `credential.helper = "store"`,
			"[credential \"https://x\"]\n\thelper = !id\n":           `credential.https://x.helper = "!id"`,
			"[alias]\n\tx = !id\n":                                   `alias.x = "!id"`,
			"[alias]\n\tx = -c core.pager=id log\n":                  `alias.x = "-c core.pager=id log"`,
			"[alias]\n\tx = rebase --exe id\n":                       `alias.x = "rebase --exe id"`,
			"[alias]\n\tx = merge -s theirs\n":                       `alias.x = "merge -s theirs"`,
			"[alias]\n\tx = fetch ext::id\n":                         `alias.x = "fetch ext::id"`,
			"[alias]\n\tx = submodule foreach id\n":                  `alias.x = "submodule foreach id"`,
			"[include]\n\tpath = ~/other\n":                          `include.path = "~/other"`,
			"[includeIf \"gitdir:~/\"]\n\tpath = x\n":                `includeif.gitdir:~/.path = "x"`,
			"[url \"ext::sh\"]\n\tinsteadOf = https://x\n":           `url.ext::sh.insteadof = "https://x"`,
			"[filter \"x\"]\n\tsmudge = id\n":                        `filter.x.smudge = "id"`,
			"[diff \"x\"]\n\ttextconv = id\n":                        `diff.x.textconv = "id"`,
			"[diff]\n\texternal = id\n":                              `diff.external = "id"`,
			"[merge \"x\"]\n\tdriver = id\n":                         `merge.x.driver = "id"`,
			"[gpg]\n\tprogram = id\n":                                `gpg.program = "id"`,
			"[init]\n\ttemplateDir = x\n":                            `init.templatedir = "x"`,
			"[safe]\n\tdirectory = *\n":                              `safe.directory = "*"`,
			"[user \"x\"]\n\tname = a\n":                             `user.x.name = "a"`,
			"[user]\n\tname = a \\\n[core]\n\tfsmonitor = id\n":      "cannot be read",
			"[user]\n\tname = a\r[core]\n\tfsmonitor = id\n":         "cannot be read",
			"\ufeff[user]\n\tname = a\n":                             "cannot be read",
			"[user]\n\tname = \xff\n":                                "cannot be read",
			"[user\n\tname = a\n":                                    "cannot be read",
			"mine":                                                   "cannot be read",
			"[user]\n\tname = \"a\n[core]\n\tfsmonitor = id\n\t\"\n": "cannot be read",
		},
		agent.PreferenceSettings: {
			`{"terminal.integrated.profiles.linux": {"x": {"path": "sh", "args": ["-c", "id"]}}}`: `terminal.integrated.profiles.linux.x.path = "sh"`,
			`{"terminal": {"integrated": {"env": {"linux": {"PATH": "x"}}}}}`:                     `terminal.integrated.env.linux.PATH = "x"`,
			`{"terminal.integrated.automationProfile.linux": {"path": "x"}}`:                      `terminal.integrated.automationProfile.linux.path = "x"`,
			`{"terminal.integrated.defaultProfile.linux": "x"}`:                                   `terminal.integrated.defaultProfile.linux = "x"`,
			`{"tasks": {"tasks": [{"label": "x"}]}}`:                                              `tasks.tasks.label = "x"`,
			`{"task.allowAutomaticTasks": "on"}`:                                                  `task.allowAutomaticTasks = "on"`,
			`{"security.workspace.trust.enabled": false}`:                                         `security.workspace.trust.enabled = false`,
			`{"git.path": "git2"}`:                                                                `git.path = "git2"`,
			`{"typescript.tsdk": "x"}`:                                                            `typescript.tsdk = "x"`,
			`{"go.alternateTools": {"go": "x"}}`:                                                  `go.alternateTools.go = "x"`,
			`{"[go]": {"x.executablePath": "y"}}`:                                                 `[go].x.executablePath = "y"`,
			`{"some.thing": "/opt/x"}`:                                                            `some.thing = "/opt/x"`,
			`{"some.thing": ["${workspaceFolder}/x"]}`:                                            `some.thing = "${workspaceFolder}/x"`,
			`{"editor.fontSize": 1, "\u0067it.path": "x"}`:                                        `git.path = "x"`,
			`{"git.path": "x", "git.path": null}`:                                                 `git.path = "x"`,
			`{"x.PHPPath": "y"}`:                                                                  `x.PHPPath = "y"`,
			`{"extensions.supportUntrustedWorkspaces": {"x": {"supported": true}}}`:               `extensions.supportUntrustedWorkspaces.x.supported = true`,
			`{"editor.fontSize": 1`:                                                               "cannot be read",
			`[]`:                                                                                  "cannot be read",
		},
		agent.PreferenceKeybindings: {
			`[{"key": "a", "command": "workbench.action.terminal.sendSequence", "args": {"text": "id"}}]`: "binding = ",
			`[{"key": "a", "command": "runCommands", "args": {"commands": ["x"]}}]`:                       "binding = ",
			`[{"key": "a", "command": "workbench.action.tasks.runTask"}]`:                                 "binding = ",
			`[{"key": "a", "command": "x.y", "args": 1}]`:                                                 "binding = ",
			`[{"key": "a", "command": "editor.x", "command": "runCommands"}]`:                             "binding = ",
			`[{"key": "a", "command": ["x"]}]`:                                                            "binding = ",
			`[7]`:                                                                                         "binding = 7",
			`{}`:                                                                                          "cannot be read",
		},
		"Bashrc": {"x": "cannot be read"},
	} {
		for content, want := range contents {
			got := (review.Review{}).Programs(name, content)
			if !slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, want) }) {
				t.Errorf("%s %q: %q, want %q", name, content, got, want)
			}
		}
	}
}

// TestReview_unreadable: other content is another line, so that seeing one is
// not seeing the other.
func TestReview_unreadable(t *testing.T) {
	one, other := (review.Review{}).Programs(agent.PreferenceGit, "mine"), (review.Review{}).Programs(agent.PreferenceGit, "yours")
	if len(one) != 1 || len(other) != 1 || one[0] == other[0] {
		t.Errorf("%q and %q", one, other)
	}
}

// FuzzReview: whatever is written in a line of its own below [core] is told or
// makes the content unreadable, whatever stands above it.
func FuzzReview(f *testing.F) {
	for _, s := range []string{"[user]\nname = a", "[user] \"", "# \\", "[alias]\nx = \"log", "[a \"b\\\"", "\x00", "[user]\nname = a ; b \\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, above string) {
		got := (review.Review{}).Programs(agent.PreferenceGit, above+"\n[core]\nfsmonitor = x\n")
		told := slices.ContainsFunc(got, func(l string) bool {
			return l == `core.fsmonitor = "x"` || strings.HasPrefix(l, "cannot be read")
		})
		if !told {
			t.Errorf("%q: %q", above, got)
		}

		quoted, err := json.Marshal(above)
		if err != nil {
			t.Fatal(err)
		}
		got = (review.Review{}).Programs(agent.PreferenceSettings, `{`+string(quoted)+`: 1, "git.path": "x"}`)
		if !slices.ContainsFunc(got, func(l string) bool { return l == `git.path = "x"` || strings.HasPrefix(l, "cannot be read") }) {
			t.Errorf("%q: %q", above, got)
		}
	})
}
