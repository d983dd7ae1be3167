package tartcheck

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goodConfig is a config.json as Tart writes one, with a key that is not read.
const goodConfig = `{"version":1,"os":"linux","arch":"arm64","cpuCount":4,"cpuCountMin":4,"memorySize":4294967296,"memorySizeMin":4294967296,` +
	`"macAddress":"7a:65:e4:3f:b2:0d","display":{"width":1024,"height":768},"diskFormat":"raw","more":true}`

// TestDirectory_Faults: every fault of a directory is named, all at once.
func TestDirectory_Faults(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string // instead of the right ones; "-" is no file
		want  error
		says  string
	}{
		"a file more":   {map[string]string{"overlay.asif": ""}, ErrFiles, "overlay.asif"},
		"no disk":       {map[string]string{"disk.img": "-"}, os.ErrNotExist, "disk.img"},
		"an odd disk":   {map[string]string{"disk.img": "x"}, ErrSize, "1 bytes"},
		"an empty disk": {map[string]string{"disk.img": ""}, ErrSize, "0 bytes"},
		"unknown nvram": {map[string]string{"nvram.bin": "x"}, ErrNVRAM, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"},
		"no JSON":       {map[string]string{"config.json": "{"}, ErrConfig, "unexpected end"},
		"an empty one":  {map[string]string{"config.json": "{}"}, ErrConfig, "its os is not linux, its arch is not arm64"},
		"a wrong mode":  {nil, ErrFiles, "nvram.bin -rw-r--r--"},
	} {
		dir := t.TempDir()
		files := map[string]string{"config.json": goodConfig, "disk.img": strings.Repeat("\x00", 512), "nvram.bin": ""}
		for file, content := range c.files {
			files[file] = content
		}
		for file, content := range files {
			if content == "-" {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := Directory(dir); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want %v and %q", name, err, c.want, c.says)
		}
	}
}

func TestCheckConfig(t *testing.T) {
	if err := checkConfig([]byte(goodConfig)); err != nil {
		t.Error(err)
	}
	for old, changed := range map[string]string{
		`"version":1`: `"version":2`, `"linux"`: `"darwin"`, `"arm64"`: `"amd64"`, `"cpuCount":4`: `"cpuCount":3`, `"raw"`: `"asif"`,
		`"7a:65`: `"7b:65`, `"7a:`: `"78:`, `7a:65:e4:3f:b2:0d`: `7a-65-e4-3f-b2-0d`, `:0d"`: `"`, `"width":1024`: `"width":0`,
		`"memorySize":4294967296`: `"memorySize":1`,
	} {
		if err := checkConfig([]byte(strings.Replace(goodConfig, old, changed, 1))); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: error %v", changed, err)
		}
	}
}
