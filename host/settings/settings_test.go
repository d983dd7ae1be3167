package settings_test

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/rockpool/rootvm/host/settings"
)

// values is one of each kind.
type values struct {
	text, choice, path string
	words              []string
	on                 bool
	number, port       int
	limit              time.Duration
	size               int64
}

func (v *values) list() settings.List {
	return settings.List{
		{Env: "TEXT", Flag: "text", Value: settings.Text(&v.text)},
		{Env: "CHOICE", Flag: "choice", Value: settings.Choice(&v.choice, "a", "b")},
		{Env: "WORDS", Flag: "words", Value: settings.Words(&v.words)},
		{Env: "ON", Flag: "on", Usage: "switch it on", Value: settings.Bool(&v.on)},
		{Env: "NUMBER", Flag: "number", Value: settings.Number(&v.number)},
		{Env: "PORT", Flag: "port", Value: settings.Port(&v.port, 2)},
		{Env: "LIMIT", Flag: "limit", Value: settings.Seconds(&v.limit)},
		{Env: "SIZE", Flag: "size", Value: settings.Size(&v.size)},
		{Env: "DIRECTORY", Flag: "directory", Value: settings.Path(&v.path, "/base")},
		{Env: "ONLY", Value: settings.Text(new(string))},
	}
}

func environment(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func TestList_FromEnv(t *testing.T) {
	v := values{choice: "a", number: 7}
	err := v.list().FromEnv(environment(map[string]string{
		"TEXT": "x y", "WORDS": "a,b c", "ON": "yes", "PORT": "65533", "LIMIT": "90", "SIZE": "1.5G", "DIRECTORY": "d/../e", "NUMBER": "",
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if v.text != "x y" || v.choice != "a" || strings.Join(v.words, "|") != "a|b|c" || !v.on || v.number != 7 || v.port != 65533 ||
		v.limit != 90*time.Second || v.size != 3<<29 || v.path != "/base/e" {
		t.Errorf("got %+v", v)
	}
}

func TestList_FromEnv_EveryFault(t *testing.T) {
	bad := map[string]string{"CHOICE": "c", "ON": "maybe", "NUMBER": "-1", "PORT": "65534", "LIMIT": "1.5", "SIZE": "lots"}
	v := values{choice: "a"}
	err := v.list().FromEnv(environment(bad), nil)
	if err == nil {
		t.Fatal("no error")
	}
	for name, text := range bad {
		if !strings.Contains(err.Error(), name+`="`+text+`": use `) {
			t.Errorf("error does not say what to do about %s:\n%v", name, err)
		}
	}
	if v.choice != "a" || v.number != 0 {
		t.Errorf("a fault changed a value: %+v", v)
	}
}

func TestValue_Faults(t *testing.T) {
	var v values
	for _, c := range []struct {
		value pflag.Value
		bad   []string
	}{
		{settings.Size(&v.size), []string{"", "0", "-1G", "8Q", "G", "NaN", "1e400"}},
		{settings.Number(&v.number), []string{"", "0", "x", "1.0", "99999999999999999999"}},
		{settings.Port(&v.port, 0), []string{"0", "65536", "http"}},
		{settings.Seconds(&v.limit), []string{"0", "9223372036854775807"}},
	} {
		for _, s := range c.bad {
			if err := c.value.Set(s); err == nil {
				t.Errorf("%s took %q", c.value.Type(), s)
			}
		}
	}

	if v.size != 0 || v.number != 0 || v.port != 0 || v.limit != 0 {
		t.Errorf("a fault changed a value: %+v", v)
	}
}

// TestList_FlagsWin also over a variable that is wrong.
func TestList_FlagsWin(t *testing.T) {
	var v values
	l := v.list()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	l.Bind(flags)
	if err := flags.Parse([]string{"--size", "4G", "--on", "--number=3"}); err != nil {
		t.Fatal(err)
	}
	if err := l.FromEnv(environment(map[string]string{"SIZE": "lots", "ON": "0", "PORT": "80"}), flags.Changed); err != nil {
		t.Fatal(err)
	}
	if v.size != 4<<30 || !v.on || v.number != 3 || v.port != 80 {
		t.Errorf("got %+v", v)
	}
	if err := flags.Parse([]string{"--size", "none"}); err == nil || !strings.Contains(err.Error(), "size") {
		t.Errorf("error %v", err)
	}
	if usage := flags.FlagUsages(); !strings.Contains(usage, "switch it on (ON)") || strings.Contains(usage, "ONLY") {
		t.Errorf("usage:\n%s", usage)
	}
}

func TestSize(t *testing.T) {
	const gib = int64(1) << 30
	for in, want := range map[string]int64{
		"8G": 8 * gib, "8g": 8 * gib, "8GiB": 8 * gib, "512M": gib / 2, "1.5G": 3 * gib / 2, "4096": 4096, "2T": 2048 * gib,
		"": -1, "G": -1, "-1G": -1, "8X": -1, "99999999999T": -1, "NaN": -1, "inf": -1,
	} {
		var got int64
		err := settings.Size(&got).Set(in)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("size %q is %d, %v; want %d", in, got, err, want)
		}
	}
}

func FuzzSize(f *testing.F) {
	f.Add("8G")
	f.Fuzz(func(t *testing.T, s string) {
		var n int64
		if err := settings.Size(&n).Set(s); err == nil && n <= 0 {
			t.Errorf("size %q is %d", s, n)
		}
	})
}

func TestSize_ShowsWhatWasSet(t *testing.T) {
	for _, s := range []string{"8G", "512M", "1.5T", "100"} {
		var n int64
		v := settings.Size(&n)
		if err := v.Set(s); err != nil || v.String() != s {
			t.Errorf("%s is shown as %q, %v", s, v, err)
		}
	}
}

func TestDirectory(t *testing.T) {
	home := func() (string, error) { return "/home/u", nil }
	for name, c := range map[string]struct {
		set  string
		xdg  string
		want string
	}{
		"default":      {"", "", "/home/u/.cache/rockpool-root-vm"},
		"XDG":          {"", "/var/c", "/var/c/rockpool-root-vm"},
		"relative XDG": {"", "c", "/home/u/.cache/rockpool-root-vm"},
		"set":          {"/set", "/var/c", "/set"},
	} {
		place := settings.Directory{Getenv: environment(map[string]string{"XDG_CACHE_HOME": c.xdg}), HomeDir: home}
		dir := c.set
		if err := place.Cache(&dir); err != nil || dir != c.want {
			t.Errorf("%s: %q, %v; want %q", name, dir, err, c.want)
		}
	}
}
