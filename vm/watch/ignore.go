package watch

import (
	"bufio"
	"bytes"
	"path"
	"regexp"
	"strings"
)

// ignoreFiles are files of patterns as in gitignore(5), the ones that count for
// more last. Only directories are left out by them: a file that git ignores,
// such as .env, costs nothing where its directory is watched anyway. The second
// one is for what git should ignore and the guest should hear of (!dist/), and
// the other way round.
var ignoreFiles = []string{".gitignore", ".rockpoolignore"}

// maxIgnoreFile bounds how much of such a file is read, in bytes.
const maxIgnoreFile = 256 << 10

// alwaysIgnored are names of directories that are never watched: git's own, and
// packages, of which the guest has its own.
func alwaysIgnored(name string) bool { return name == ".git" || name == "node_modules" }

// pattern is one line of such a file.
type pattern struct {
	match  *regexp.Regexp // of the path relative to the file's directory, bytewise
	negate bool
}

// parseIgnore reads patterns. Those that cannot match a directory, or are not
// valid, are left out, as git does.
func parseIgnore(b []byte) []pattern {
	var list []pattern
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxIgnoreFile)
	for first := true; lines.Scan(); first = false {
		line := lines.Text()
		if first {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if p, ok := parsePattern(line); ok {
			list = append(list, p)
		}
	}
	return list
}

func parsePattern(line string) (pattern, bool) {
	line = trimSpaces(strings.TrimSuffix(line, "\r"))
	if line == "" || line[0] == '#' {
		return pattern{}, false
	}
	var p pattern
	if line[0] == '!' {
		p.negate, line = true, line[1:]
	}
	line = strings.TrimSuffix(line, "/")
	if line == "" {
		return pattern{}, false
	}

	anchored := strings.Contains(line, "/")
	expression, ok := translate(strings.TrimPrefix(line, "/"))
	if !ok {
		return pattern{}, false
	}
	if !anchored {
		expression = "(?:.*/)?" + expression
	}
	var err error
	p.match, err = regexp.Compile("(?s)^" + expression + "$")
	return p, err == nil
}

// trimSpaces takes off the spaces at the end that no backslash protects.
func trimSpaces(line string) string {
	end := len(line)
	for end > 0 && line[end-1] == ' ' {
		slashes := 0
		for i := end - 2; i >= 0 && line[i] == '\\'; i-- {
			slashes++
		}
		if slashes%2 == 1 {
			break
		}
		end--
	}
	return line[:end]
}

// translate turns a pattern into a regular expression.
func translate(glob string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(glob); {
		rest := glob[i:]
		start := i == 0 || glob[i-1] == '/'
		switch c := glob[i]; {
		case start && strings.HasPrefix(rest, "**/"):
			b.WriteString("(?:.*/)?")
			i += 3
		case start && rest == "**":
			b.WriteString(".+")
			i += 2
		case c == '*':
			b.WriteString("[^/]*")
			i++
		case c == '?':
			b.WriteString("[^/]")
			i++
		case c == '[':
			class, n := translateClass(rest)
			if n == 0 {
				return "", false
			}
			b.WriteString(class)
			i += n
		case c == '\\':
			if i+1 == len(glob) {
				return "", false
			}
			b.WriteString(regexp.QuoteMeta(bytewise(glob[i+1 : i+2])))
			i += 2
		default:
			b.WriteString(regexp.QuoteMeta(bytewise(rest[:1])))
			i++
		}
	}
	return b.String(), true
}

// bytewise has a character for each byte, since git's patterns match bytes.
func bytewise(s string) string {
	characters := make([]rune, len(s))
	for i := range len(s) {
		characters[i] = rune(s[i])
	}
	return string(characters)
}

// translateClass translates a bracket expression, and returns its length, 0 for
// one without an end.
func translateClass(s string) (string, int) {
	var b strings.Builder
	b.WriteByte('[')
	i := 1
	if i < len(s) && (s[i] == '!' || s[i] == '^') {
		b.WriteString("^/")
		i++
	}
	for first := true; i < len(s); first = false {
		switch c := s[i]; {
		case c == ']' && !first:
			b.WriteByte(']')
			return b.String(), i + 1
		case strings.HasPrefix(s[i:], "[:"):
			end := strings.Index(s[i:], ":]")
			if end < 0 {
				return "", 0
			}
			b.WriteString(s[i : i+end+2])
			i += end + 2
			continue
		case c == '\\' && i+1 < len(s):
			i++
			fallthrough
		case c == '[' || c == ']' || c == '^' || c == '\\':
			b.WriteByte('\\')
		}
		b.WriteString(bytewise(s[i : i+1]))
		i++
	}
	return "", 0
}

// ignoredBy returns whether the patterns of one directory leave out the
// directory at rel below it, and whether any of them speaks of it.
func ignoredBy(patterns []pattern, rel string) (ignored, known bool) {
	rel = bytewise(rel)
	for _, p := range patterns {
		if p.match.MatchString(rel) {
			ignored, known = !p.negate, true
		}
	}
	return ignored, known
}

// ignored reports whether a directory is left out. What is above it is not.
func (w *Watcher) ignored(dir, name string) bool {
	if alwaysIgnored(name) {
		return true
	}
	full := path.Join(dir, name)
	for at := dir; ; at = path.Dir(at) { // the nearest file that speaks of it decides
		if f := w.folders[at]; f != nil && len(f.ignore) > 0 {
			rel := full
			if at != "." {
				rel = strings.TrimPrefix(full, at+"/")
			}
			if ignored, known := ignoredBy(f.ignore, rel); known {
				return ignored
			}
		}
		if at == "." {
			return false
		}
	}
}
