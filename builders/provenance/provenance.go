// Package provenance says what an image was made from and by what, as an in-toto
// statement with the predicate of SLSA's provenance, version 1 of both. It imports
// the builders package, owns no state, and tells no time and no machine: builds
// that make the same files make the same statement.
package provenance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/rockpool/rootvm/builders"
)

// Format is that of a statement's file in a manifest, Suffix follows the image's
// name.
const (
	Format = "provenance"
	Suffix = ".provenance.json"
)

// Names of dependencies that a manifest has too.
const (
	PackageLock = "package lock"
	Inputs      = "inputs" // everything the image was made from, as one digest
)

// predicateType is SLSA's.
const predicateType = "https://slsa.dev/provenance/v1"

// Build is what a manifest does not say of how an image came to be.
type Build struct {
	Source       string // where the sources are kept, an address
	Commit       string // full name; empty: none is known
	Changed      bool   // the checkout was not as the commit has it
	Version      string // of what built it
	Spec         builders.Spec
	Dependencies []Dependency
}

// Dependency is something that an image was made from.
type Dependency struct {
	Name   string // such as "package lock"
	SHA256 string
}

// New writes the statement on an image whose manifest has all files but the
// statement itself.
func New(m builders.Manifest, b Build) ([]byte, error) {
	predicate, err := b.predicate(m)
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	statement := &intoto.Statement{
		Type: intoto.StatementTypeUri, Subject: subjects(m), PredicateType: predicateType, Predicate: predicate,
	}
	if err := statement.Validate(); err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	content, err := marshal(statement)
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	return content, nil
}

// subjects are the image's files.
func subjects(m builders.Manifest) []*intoto.ResourceDescriptor {
	var all []*intoto.ResourceDescriptor
	for _, a := range m.Artifacts {
		if a.Format != Format {
			all = append(all, described(a.File, a.SHA256))
		}
	}
	return all
}

func described(name, sha256 string) *intoto.ResourceDescriptor {
	return &intoto.ResourceDescriptor{Name: name, Digest: map[string]string{"sha256": sha256}}
}

// predicate is SLSA's, of all that decides what is built.
func (b Build) predicate(m builders.Manifest) (*structpb.Struct, error) {
	parameters, err := structOf(map[string]any{"spec": b.Spec})
	if err != nil {
		return nil, err
	}
	source := &intoto.ResourceDescriptor{Name: "source", Uri: "git+" + b.Source}
	if b.Commit != "" {
		source.Digest = map[string]string{"gitCommit": b.Commit}
	}
	if source.Annotations, err = structOf(map[string]any{"changed": b.Changed}); err != nil {
		return nil, err
	}
	dependencies := []*intoto.ResourceDescriptor{source}
	for _, d := range b.Dependencies {
		dependencies = append(dependencies, described(d.Name, d.SHA256))
	}
	versions := map[string]string{"rockpool": b.Version}
	maps.Copy(versions, m.Tools)

	p := &slsa.Provenance{
		BuildDefinition: &slsa.BuildDefinition{
			BuildType: b.Source + "/rootvm:build/v1", ExternalParameters: parameters, ResolvedDependencies: dependencies,
		},
		RunDetails: &slsa.RunDetails{Builder: &slsa.Builder{Id: b.Source + "/builders/pipeline", Version: versions}},
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	content, err := protojson.Marshal(p)
	if err != nil {
		return nil, err
	}
	predicate := &structpb.Struct{}
	return predicate, protojson.Unmarshal(content, predicate)
}

// structOf makes of a value what JSON makes of it.
func structOf(value any) (*structpb.Struct, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	s := &structpb.Struct{}
	return s, protojson.Unmarshal(content, s)
}

// marshal writes JSON of one form: protojson's spaces differ from one program to
// the next, on purpose.
func marshal(m proto.Message) ([]byte, error) {
	content, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, content, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// Check compares the statement in a file with the manifest of its image, and
// says everything in which they differ.
func Check(path string, m builders.Manifest) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("provenance: %w", err)
	}
	statement := &intoto.Statement{}
	if err := protojson.Unmarshal(content, statement); err != nil {
		return fmt.Errorf("provenance: it is no statement of in-toto: %w", err)
	}
	if err := statement.Validate(); err != nil {
		return fmt.Errorf("provenance: %w", err)
	}
	if statement.PredicateType != predicateType {
		return fmt.Errorf("provenance: its predicate is %s instead of %s", statement.PredicateType, predicateType)
	}

	claimed := map[string]string{}
	for _, s := range statement.Subject {
		claimed[s.Name] = s.Digest["sha256"]
	}
	var faults []error
	for _, s := range subjects(m) {
		switch got, ok := claimed[s.Name]; {
		case !ok:
			faults = append(faults, fmt.Errorf("provenance: it says nothing of %s", s.Name))
		case got != s.Digest["sha256"]:
			faults = append(faults, fmt.Errorf("provenance: it is of another %s, with the SHA-256 %s", s.Name, got))
		}
		delete(claimed, s.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(claimed)) {
		faults = append(faults, fmt.Errorf("provenance: it is also of %s, which the manifest does not name", name))
	}
	faults = append(faults, checkPredicate(statement.Predicate, m))
	return errors.Join(faults...)
}

// checkPredicate compares what both the statement and the manifest say of the
// build.
func checkPredicate(predicate *structpb.Struct, m builders.Manifest) error {
	content, err := protojson.Marshal(predicate)
	if err != nil {
		return err
	}
	p := &slsa.Provenance{}
	if err := protojson.Unmarshal(content, p); err != nil {
		return fmt.Errorf("provenance: %w", err)
	}
	if err := p.Validate(); err != nil {
		return fmt.Errorf("provenance: %w", err)
	}

	var faults []error
	want := map[string]string{PackageLock: m.LockDigest, Inputs: m.InputDigest}
	for _, d := range p.BuildDefinition.ResolvedDependencies {
		if sum, ok := want[d.Name]; ok && d.Digest["sha256"] != sum {
			faults = append(faults, fmt.Errorf("provenance: its %s is %s, the manifest's is %s", d.Name, d.Digest["sha256"], sum))
		}
		delete(want, d.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		faults = append(faults, fmt.Errorf("provenance: it does not name the %s", name))
	}
	return errors.Join(faults...)
}
