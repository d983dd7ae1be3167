package guest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/guest"
)

const bcryptHash = "$2a$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234"

func TestDecodeConfig(t *testing.T) {
	for name, tt := range map[string]struct {
		json string
		err  string // "" is success
	}{
		"least":         {`{"version":1}`, ""},
		"full":          {`{"version":1,"hostname":"rockpool-root","uid":1000,"gid":1000,"share":"rockpool","ports":{"ssh":2222,"dashboard":8080,"ide":8081,"preview":8082},"credentials":{"username":"admin","passwordHash":"` + bcryptHash + `"}}`, ""},
		"unknown key":   {`{"version":1,"later":{"a":[1]}}`, ""},
		"empty":         {``, "not what this image understands"},
		"array":         {`[]`, "not what this image understands"},
		"two values":    {`{"version":1}{}`, "not what this image understands"},
		"no version":    {`{}`, "version 0"},
		"newer":         {`{"version":2}`, "version 2, this image understands version 1"},
		"port":          {`{"version":1,"ports":{"ssh":70000}}`, "ports.ssh"},
		"hostname":      {`{"version":1,"hostname":"a b"}`, "hostname"},
		"long hostname": {`{"version":1,"hostname":"` + strings.Repeat("a", 64) + `"}`, "hostname"},
		"share":         {`{"version":1,"share":"a,b"}`, "share"},
		"username":      {`{"version":1,"credentials":{"username":"a'b"}}`, "username"},
		"hash":          {`{"version":1,"credentials":{"passwordHash":"secret"}}`, "not a bcrypt hash"},
		"slow hash":     {`{"version":1,"credentials":{"passwordHash":"` + strings.Replace(bcryptHash, "$10$", "$31$", 1) + `"}}`, "not a bcrypt hash"},
		"negative uid":  {`{"version":1,"uid":-1}`, "uid"},
		"no uid":        {`{"version":1,"uid":4294967295}`, "uid and gid must be below"},
		"not UTF-8":     {"{\"version\":1,\"x\":\"\xff\"}", "UTF-8"},
		"huge":          {`{"version":1,"x":"` + strings.Repeat("a", guest.MaxConfigSize) + `"}`, "larger"},
		"every fault":   {`{"version":1,"hostname":"A","share":"/"}`, "share"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := guest.DecodeConfig(strings.NewReader(tt.json))
			if tt.err == "" {
				if err != nil || c.Ports.Preview != 8082 || c.Hostname != "rockpool-root" || c.Credentials.Username != "admin" {
					t.Errorf("got %+v, %v", c, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want one with %q", err, tt.err)
			}
			if strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %q", err)
			}
		})
	}
}

func FuzzDecodeConfig(f *testing.F) {
	f.Add(`{"version":1}`)
	f.Add(`{"version":1,"hostname":"x","uid":1,"credentials":{"username":"a","passwordHash":"` + bcryptHash + `"}}`)
	f.Fuzz(func(t *testing.T, s string) {
		c, err := guest.DecodeConfig(strings.NewReader(s))
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("decoded what is not valid: %v", err)
		}
		for _, v := range []string{c.Hostname, c.Share, c.Credentials.Username, c.Credentials.PasswordHash} {
			if strings.ContainsAny(v, "'\"\n\\ ,/") && v != c.Credentials.PasswordHash || strings.ContainsAny(v, "'\n") {
				t.Errorf("%q would need quoting", v)
			}
		}
	})
}

func ExampleDecodeConfig() {
	c, err := guest.DecodeConfig(strings.NewReader(`{"version":1,"hostname":"box"}`))
	fmt.Println(c.Hostname, c.Ports.Dashboard, err)
	// Output: box 8080 <nil>
}

// TestDecodeConfigOver: what config.json names wins, what it does not stays, and
// a version that is not said is none.
func TestDecodeConfigOver(t *testing.T) {
	base := guest.Config{Version: 1, Hostname: "base", Credentials: guest.Credentials{Username: "me", PasswordHash: "$2a$08$" + strings.Repeat("a", 53)}}
	c, err := guest.DecodeConfigOver(base, strings.NewReader(`{"version":1,"credentials":{"username":"you"}}`))
	if err != nil || c.Hostname != "base" || c.Credentials.Username != "you" || c.Credentials.PasswordHash != base.Credentials.PasswordHash || c.Ports.SSH != 2222 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := guest.DecodeConfigOver(base, strings.NewReader(`{}`)); err == nil || !strings.Contains(err.Error(), "version 0") {
		t.Errorf("without a version: %v", err)
	}
}

func TestCheckPassword(t *testing.T) {
	for password, ok := range map[string]bool{
		"": false, "1234567": false, "12345678": true, "with space, quote ' and ü": true, strings.Repeat("x", 72): true,
		strings.Repeat("x", 73): false, "12345678\n": false, "12345678\x00": false, "12345678\xff": false,
	} {
		if err := guest.CheckPassword(password); (err == nil) != ok || err != nil && password != "" && strings.Contains(err.Error(), password) {
			t.Errorf("%q: %v", password, err)
		}
	}
}
