//go:build remote

package podman

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/rockpool/rootvm/agent"
)

// cloneEnv is the environment of git in a clone. Nobody is there to be asked,
// only protocols of the network are for users to name, the words that git says
// are those that [gitReasons] knows, and a server that is silent for two
// minutes is given up: one that works sends a sign of life every five seconds
// (uploadpack.keepAlive of git-config(1)).
var cloneEnv = []string{
	"GIT_TERMINAL_PROMPT=0", "GIT_PROTOCOL_FROM_USER=0", "LC_ALL=C.UTF-8",
	"GIT_HTTP_LOW_SPEED_LIMIT=1", "GIT_HTTP_LOW_SPEED_TIME=120",
}

// gitReason is a way in which git says why it failed, and what that means.
type gitReason struct {
	says  *regexp.Regexp // a whole line of git's own
	means string         // the end of a sentence about the repository
	final bool           // trying again cannot help
}

// gitReasons are looked through in this order. The words are those of git's
// remote-curl.c, http.c and credential.c, and of libcurl with either of its
// TLS libraries.
var gitReasons = []gitReason{
	{regexp.MustCompile(`^fatal: (unable to access '.*': The requested URL returned error: 40[34]|repository '.*' not found)$`), "it does not exist, or needs a token that may read it", true},
	{regexp.MustCompile(`^fatal: could not read (Username|Password) for '.*': `), "its server asks for authentication: give a token that may read it", true},
	{regexp.MustCompile(`^fatal: (Authentication failed for '|unable to access '.*': The requested URL returned error: 401$)`), "its server did not accept the authentication: check the token", true},
	{regexp.MustCompile(`^(fatal: unable to access '.*'|error: RPC failed; curl \d+): (SSL certificate problem|server certificate verification failed|SSL: (no alternative certificate subject name|certificate subject name))`), "the certificate of its server is not trusted", true},
	{regexp.MustCompile(`^fatal: (transport '.*' not allowed|protocol '.*' is not supported|unable to access '.*': Protocol .* not supported)`), "this kind of address is not supported", true},
	{regexp.MustCompile(`^fatal: unable to access '.*': Could not resolve host: `), "its host is not known. Check the name, and the network of the VM", false},
	{regexp.MustCompile(`^fatal: unable to access '.*': .*(Network is unreachable|No route to host)`), "the network that leads to its server is unreachable", false},
	{regexp.MustCompile(`^fatal: unable to access '.*': (Failed|Couldn't) (to )?connect .*`), "its server cannot be reached: nothing accepts the connection", false},
	{regexp.MustCompile(`^(fatal: unable to access '.*'|error: RPC failed; curl 28):? (Operation too slow|.*[Tt]imed? ?out|Timeout was reached)`), "its server does not answer", false},
	{regexp.MustCompile(`^fatal: unable to access '.*': The requested URL returned error: (429|5\d\d)$`), "its server is busy or broken at the moment", false},
	{regexp.MustCompile(`^(error: RPC failed|fatal: early EOF|fatal: the remote end hung up|fatal: fetch-pack: |fatal: unable to access '.*': (Empty reply from server|.*[Cc]onnection (was )?reset))`), "the connection to its server broke off", false},
}

// full matches the end of a program's line when a file system, or what a
// workspace may take of it, is full.
var full = regexp.MustCompile(`(?i): (no space left on device|disk quota exceeded)$`)

// cloneResult says what an exit code of clone.sh means to the user. What the
// server said, in lines that git marks as "remote:", decides nothing.
func cloneResult(code int, output string, c agent.Clone) error {
	var lines []string
	for line := range strings.Lines(withoutSecrets(output, c.Token)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "remote:") {
			lines = append(lines, line)
		}
	}
	switch {
	case code == 0:
		return nil
	case code == exitNoGit:
		return agent.Errorf(agent.CodeValidation, "The image has no git, so the repository cannot be cloned")
	case code == exitTaken:
		return agent.Errorf(agent.CodeConflict, "The folder %s holds something else. Move it away, or create a workspace without a repository.", c.Folder)
	case slices.ContainsFunc(lines, full.MatchString):
		return agent.Errorf(agent.CodeNoSpace, "The repository was not cloned: the disk is full. Delete workspaces or files, or give the VM a larger data disk.")
	case code != exitFailed:
		return fmt.Errorf("clone.sh ended with code %d: %.500s", code, strings.Join(lines, " "))
	}

	url := withoutSecrets(c.URL, c.Token)
	for _, r := range gitReasons {
		i := slices.IndexFunc(lines, r.says.MatchString)
		if i < 0 {
			continue
		}
		kind := agent.CodeInternal
		if r.final {
			kind = agent.CodeValidation
		}
		return fmt.Errorf("%w (git: %.500s)", agent.Errorf(kind, "The repository %s was not cloned: %s.", url, r.means), lines[i])
	}
	return agent.Errorf(agent.CodeInternal, "The repository %s was not cloned. Git says: %s", url, lastWords(lines))
}

// maxWords bounds what of git's own words a user is shown, in characters.
const maxWords = 300

// lastWords is the last line with which git gave up.
func lastWords(lines []string) string {
	for _, line := range slices.Backward(lines) {
		if words, ok := strings.CutPrefix(line, "fatal: "); ok {
			if r := []rune(words); len(r) > maxWords {
				words = string(r[:maxWords]) + "…"
			}
			return words
		}
	}
	return "nothing. The agent's log may have more."
}

var (
	userinfo = regexp.MustCompile(`://[^/\s'"@]*@`)
	query    = regexp.MustCompile(`(://[^\s'"?]*)\?[^\s'"]*`)
)

// withoutSecrets removes from a text the token, what addresses say of users,
// the queries of addresses, which may hold either, and control characters.
func withoutSecrets(text, token string) string {
	if token != "" {
		text = strings.ReplaceAll(text, token, "…")
	}
	text = query.ReplaceAllString(userinfo.ReplaceAllString(text, "://"), "$1")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return -1
		}
		return r
	}, text)
}
