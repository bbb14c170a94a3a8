package config

import "strings"

// normal makes the spellings of one name equal: case, underscores, dashes,
// blanks and a plural s do not count.
func normal(name string) string {
	n := strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToLower(name))
	if strings.HasSuffix(n, "s") && !strings.HasSuffix(n, "ss") {
		n = n[:len(n)-1]
	}
	return n
}

// nearest returns the full name of the key that name in block was probably
// meant to be, and that key; "" and nil when nothing comes close. A key that
// exists under this very name elsewhere comes before one that only looks alike.
func nearest(block *key, name string) (string, *key) {
	if k := elsewhere(block, name); k != nil {
		return k.path, k
	}
	var best *key
	least := len(name)/4 + 2 // distance that is too far
	n := normal(name)
	for _, c := range block.keys {
		for _, known := range append([]string{c.name}, c.aliases...) {
			if d := distance(n, normal(known)); d < least {
				best, least = c, d
			}
		}
	}
	if best == nil {
		return "", nil
	}
	return best.name, best
}

// elsewhere finds name in the root or kedge block, whichever block is not.
func elsewhere(block *key, name string) *key {
	for _, other := range []*key{schema, schema.find("kedge"), schema.find("kedge").find("install")} {
		if other == block {
			continue
		}
		if k := other.find(name); k != nil {
			return k
		}
	}
	return nil
}

// distance is the number of single letter edits, a swap of neighbours being
// one, that make b of a.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
