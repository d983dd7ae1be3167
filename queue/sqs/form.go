package sqs

import (
	"encoding"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// node is a member of a form: "Entry.1.Id=a" is member Id of member 1 of member
// Entry.
type node struct {
	value   string
	members map[string]*node
}

// decodeForm decodes a form of the query protocol into a shape.
func decodeForm(form url.Values, into any) error {
	var root node
	for name := range form {
		n := &root
		for _, part := range strings.Split(name, ".") {
			if n.members == nil {
				n.members = map[string]*node{}
			}
			if n.members[part] == nil {
				n.members[part] = &node{}
			}
			n = n.members[part]
		}
		n.value = form.Get(name)
	}
	if err := root.decode(reflect.ValueOf(into).Elem()); err != nil {
		return malformed(err)
	}
	return nil
}

// decode sets a value of a shape.
func (n *node) decode(v reflect.Value) error {
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return text.UnmarshalText([]byte(n.value))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.value)
	case reflect.Int:
		i, err := strconv.Atoi(n.value)
		if err != nil {
			return fmt.Errorf("%q is no number", n.value)
		}
		v.SetInt(int64(i))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return n.decode(v.Elem())
	case reflect.Struct:
		return n.decodeStruct(v)
	case reflect.Map:
		return n.decodeMap(v)
	case reflect.Slice:
		return n.decodeList(v)
	default:
		panic("no shape has a " + v.Kind().String())
	}
	return nil
}

func (n *node) decodeStruct(v reflect.Value) error {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Anonymous {
			if err := n.decodeStruct(v.Field(i)); err != nil {
				return err
			}
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("xml"), ",")
		if name == "" {
			name = field.Name
		}
		if member := n.members[name]; member != nil {
			if err := member.decode(v.Field(i)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// decodeMap decodes numbered members that have a name or key, and a value.
func (n *node) decodeMap(v reflect.Value) error {
	v.Set(reflect.MakeMap(v.Type()))
	for _, entry := range n.numbered() {
		name := entry.members["Name"]
		if name == nil {
			name = entry.members["Key"]
		}
		if name == nil || entry.members["Value"] == nil {
			return fmt.Errorf("an entry lacks its name or its value")
		}
		value := reflect.New(v.Type().Elem()).Elem()
		if err := entry.members["Value"].decode(value); err != nil {
			return fmt.Errorf("%s: %w", name.value, err)
		}
		v.SetMapIndex(reflect.ValueOf(name.value), value)
	}
	return nil
}

func (n *node) decodeList(v reflect.Value) error {
	for _, entry := range n.numbered() {
		value := reflect.New(v.Type().Elem()).Elem()
		if err := entry.decode(value); err != nil {
			return err
		}
		v.Set(reflect.Append(v, value))
	}
	return nil
}

// numbered are the members of a list, in the order of their numbers. Some clients
// number the members of a member "member".
func (n *node) numbered() []*node {
	if inner := n.members["member"]; inner != nil {
		n = inner
	}
	var numbers []int
	for name := range n.members {
		if i, err := strconv.Atoi(name); err == nil && strconv.Itoa(i) == name {
			numbers = append(numbers, i)
		}
	}
	slices.Sort(numbers)
	var entries []*node
	for _, i := range numbers {
		entries = append(entries, n.members[strconv.Itoa(i)])
	}
	return entries
}
