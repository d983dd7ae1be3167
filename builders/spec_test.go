package builders_test

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/builders"
)

func TestSpec_FillDefaultsIsValid(t *testing.T) {
	s := builders.Spec{SourceDateEpoch: 1}
	s.FillDefaults()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if s.Name() != "rockpool-root-trixie-amd64" {
		t.Errorf("name = %q", s.Name())
	}
}

func TestSpec_ValidateReportsEveryFault(t *testing.T) {
	s := builders.Spec{Suite: "sid", Architecture: "m68k", Formats: []string{"vhd"}, DiskSize: 7}
	err := s.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"SUITE", "ARCH", "FORMATS", "DISK_SIZE", "SOURCE_DATE_EPOCH"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not name %s: %v", want, err)
		}
	}
}

func TestSpec_UUID(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]string{}
	for _, suite := range builders.Suites {
		for _, arch := range builders.Architectures {
			for _, role := range []string{"disk", "esp", "root"} {
				s := builders.Spec{Suite: suite, Architecture: arch}
				id := s.UUID(role)
				if !form.MatchString(id) {
					t.Errorf("%s is not a version 5 UUID", id)
				}
				if id != s.UUID(role) {
					t.Error("not stable")
				}
				key := fmt.Sprint(suite, arch, role)
				if other, ok := seen[id]; ok {
					t.Errorf("%s and %s share %s", key, other, id)
				}
				seen[id] = key
			}
		}
	}
}

func ExampleSpec_Validate() {
	s := builders.Spec{Suite: "trixie", Architecture: "amd64", DiskSize: 4 * builders.GiB, SourceDateEpoch: 1, Formats: []string{"vmdk"}}
	fmt.Println(s.Validate())
	// Output: FORMATS contains "vmdk": use a comma-separated list of qcow2, raw, tart
}

// TestSpec_ValidateTart: only arm64 is for a Mac, and the sentence says so.
func TestSpec_ValidateTart(t *testing.T) {
	s := builders.Spec{SourceDateEpoch: 1, Formats: []string{"qcow2", "tart"}}
	s.FillDefaults()
	if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "arm64 alone: set ARCH=arm64") {
		t.Errorf("amd64: error %v", err)
	}
	s.Architecture = "arm64"
	if err := s.Validate(); err != nil {
		t.Errorf("arm64: %v", err)
	}
}

// TestSpec_Digest: whatever a field says counts.
func TestSpec_Digest(t *testing.T) {
	var s builders.Spec
	digests := map[string]string{s.Digest(): "the zero value"}
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Int64:
			f.SetInt(1)
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{"x"}))
		default:
			t.Fatalf("the test does not know how to change %s", v.Type().Field(i).Name)
		}

		if other, ok := digests[s.Digest()]; ok {
			t.Errorf("a change of %s does not change the digest: it is that of %s", v.Type().Field(i).Name, other)
		}
		digests[s.Digest()] = v.Type().Field(i).Name
	}
}

// bound counts what Bind names.
type bound map[string]any

func (b bound) Text(env, _ string, value *string)    { b[env] = value }
func (b bound) Words(env, _ string, value *[]string) { b[env] = value }
func (b bound) Size(env, _ string, value *int64)     { b[env] = value }
func (b bound) Number(env, _ string, value *int64)   { b[env] = value }

// TestSpec_Bind: every field can be set.
func TestSpec_Bind(t *testing.T) {
	var s builders.Spec
	all := bound{}
	s.Bind(all)
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		field := v.Field(i).Addr().Interface()
		found := false
		for _, value := range all {
			found = found || value == field
		}
		if !found {
			t.Errorf("no setting is for %s", v.Type().Field(i).Name)
		}
	}
}
