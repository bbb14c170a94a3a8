package release

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// A Constraint is a set of versions: those that satisfy all of its conditions,
// each an operator (>= > <= < =) and a version, with blanks between conditions,
// such as ">=0.2.0 <1.0.0". Versions are in the order of semver.org, in which
// 0.2.0-rc.1 comes before 0.2.0. The zero value allows all versions.
type Constraint struct{ conditions []condition }

type condition struct{ operator, version string } // the version has a "v"

// holds says, for each operator, which results of comparing a version with that
// of a condition are right.
var holds = map[string][]int{">=": {0, 1}, ">": {1}, "<=": {-1, 0}, "<": {-1}, "=": {0}}

// ParseConstraint reads a constraint; "" allows all versions.
func ParseConstraint(text string) (Constraint, error) {
	var c Constraint
	for word := range strings.FieldsSeq(text) {
		version := strings.TrimLeft(word, "<>=")
		operator := strings.TrimSuffix(word, version)
		version = "v" + strings.TrimPrefix(version, "v")
		if holds[operator] == nil || !whole(version) {
			return Constraint{}, fmt.Errorf("read versions %q: %q is not an operator (>= > <= < =) and a version such as 0.2.0", text, word)
		}
		c.conditions = append(c.conditions, condition{operator, version})
	}
	if text != "" && len(c.conditions) == 0 {
		return Constraint{}, errors.New("read versions: there are only blanks")
	}
	return c, nil
}

// whole tells whether a version has all three numbers.
func whole(version string) bool {
	front, _, _ := strings.Cut(version, "-")
	front, _, _ = strings.Cut(front, "+")
	return semver.IsValid(version) && strings.Count(front, ".") == 2
}

// Allows tells whether a version is one of the set. One that is not in the form
// of semver.org is in no set but that of all versions.
func (c Constraint) Allows(version string) bool {
	version = "v" + strings.TrimPrefix(version, "v")
	for _, want := range c.conditions {
		if !semver.IsValid(version) || !slices.Contains(holds[want.operator], semver.Compare(version, want.version)) {
			return false
		}
	}
	return true
}

// String returns the constraint as it was read, with single blanks.
func (c Constraint) String() string {
	var words []string
	for _, want := range c.conditions {
		words = append(words, want.operator+want.version[1:])
	}
	return strings.Join(words, " ")
}
