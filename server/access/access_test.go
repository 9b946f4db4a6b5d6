package access_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/access"
)

func hashOf(key string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(key))) }

func TestParse(t *testing.T) {
	keys, err := access.Parse(strings.NewReader("# who may use the benches\n\n" +
		"ada\tuser " + hashOf("1") + "  bench-*  lab-2 # until May\r\n" +
		"  ada admin " + strings.Replace(strings.ToUpper(hashOf("2")), "SHA", "sha", 1) + "\n" +
		"a.b_c-d@e+f/9 viewer " + hashOf("3") + "#no-comment-but-wrong"))
	require.ErrorContains(t, err, "line 5: the third word must be sha256: and 64 hexadecimal")
	require.Nil(t, keys)
	keys, err = access.Parse(strings.NewReader("# who may use the benches\n\n" +
		"ada\tuser " + hashOf("1") + "  bench-*  lab-2 # until May\r\n" +
		"  ada admin " + strings.Replace(strings.ToUpper(hashOf("2")), "SHA", "sha", 1) + "\n" +
		"a.b_c-d@e+f/9 viewer " + hashOf("3")))
	require.NoError(t, err)
	require.Equal(t, []access.Key{
		{Name: "ada", Role: access.User, Patterns: []string{"bench-*", "lab-2"},
			Hash: sha256.Sum256([]byte("1"))},
		{Name: "ada", Role: access.Admin, Patterns: []string{}, Hash: sha256.Sum256([]byte("2"))},
		{Name: "a.b_c-d@e+f/9", Patterns: []string{}, Hash: sha256.Sum256([]byte("3"))},
	}, keys)
	for i := range keys { // what is written is read again
		again, err := access.Parse(strings.NewReader(keys[i].String()))
		require.NoError(t, err)
		require.Equal(t, keys[i:i+1], again)
	}
}

// strayKey is a key itself, in a file that should have hashes only.
var strayKey = strings.Repeat("9a3f", 16)

func TestFaultyFiles(t *testing.T) {
	good := "ada user " + hashOf("secret") + "\n"
	for name, row := range map[string]struct{ text, says string }{
		"empty":            {"", "there is no key in it"},
		"comments only":    {"# ada user\n\n", "there is no key in it"},
		"cut short":        {good + good[:20], "line 2: the third word must be sha256:"},
		"cut after a word": {good + "bob user", "line 2: a key has a name, a role and a hash"},
		"no hash":          {good + "bob user # later", "line 2: a key has a name"},
		"a key itself":     {"bob user 9a3f\n", "line 1: the third word must be sha256:"},
		"no hexadecimal":   {"bob user sha256:" + strings.Repeat("x", 64), "line 1: the third"},
		"half a hash":      {"bob user sha256:" + strings.Repeat("a", 63), "line 1: the third"},
		"another role":     {"\nbob root " + hashOf("x"), `line 2: "root" is no role`},
		"role in capitals": {"bob Admin " + hashOf("x"), `line 1: "Admin" is no role`},
		"a name with an umlaut": {"jörg user " + hashOf("x"),
			`line 1: "jörg" is no name of a key`},
		"a long name": {strings.Repeat("a", 65) + " user " + hashOf("x"),
			"is no name of a key"},
		"a key for a role": {"ada " + strayKey + " user\n",
			"line 1: a word of 64 bytes is no role"},
		"a key in a name": {"KEY=" + strayKey + " user " + hashOf("x"),
			"line 1: a word of 68 bytes is no name of a key"},
		"a viewer with a pattern": {"eve viewer " + hashOf("x") + " *",
			"line 1: a viewer has no patterns"},
		"a key twice": {good + "# and\nbob admin " + hashOf("secret"),
			"line 3: the key of line 1"},
		"a line too long": {good + strings.Repeat("x ", 40_000),
			"line 2: it is longer than 64 KiB"},
		"zeros": {strings.Repeat("\x00", 100_000), "line 1: it is longer than 64 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := access.Parse(strings.NewReader(row.text))
			require.ErrorContains(t, err, row.says)
			require.Nil(t, keys)
			require.NotContains(t, err.Error(), hashOf("secret")[7:20])
			require.NotContains(t, err.Error(), strayKey)
		})
	}
}

func TestPatterns(t *testing.T) {
	for pattern, names := range map[string]struct{ in, out []string }{
		"bench-1": {[]string{"bench-1"}, []string{"bench-10", "Bench-1", "xbench-1", "", "bench-"}},
		"bench-*": {[]string{"bench-", "bench-1", "bench-ä b/c", "bench-*"},
			[]string{"bench", "Bench-1", "a bench-1"}},
		"*":      {[]string{"", "x", "ä\n"}, nil},
		"*-1":    {[]string{"-1", "bench-1"}, []string{"bench-11", "1"}},
		"a*b*c":  {[]string{"abc", "aXbYc", "abcbc", "abbcc"}, []string{"ab", "ac", "acb", "abcd"}},
		"a**b":   {[]string{"ab", "axb"}, []string{"a", "b"}},
		"ab*ba":  {[]string{"abba", "ab-ba"}, []string{"aba", "ab", "ba"}},
		"[a-z]?": {[]string{"[a-z]?"}, []string{"b1", "b"}},
	} {
		key := access.Key{Name: "ada", Role: access.User, Patterns: []string{"nothing", pattern}}
		for _, name := range names.in {
			require.NoError(t, key.May(access.Create, name, ""), "%s: %q", pattern, name)
		}
		for _, name := range names.out {
			require.Error(t, key.May(access.Create, name, ""), "%s: %q", pattern, name)
		}
	}
}

// A name that is made to be slow is not.
func TestPatternsAreFast(t *testing.T) {
	key := access.Key{Name: "ada", Role: access.User,
		Patterns: []string{strings.Repeat("a*", 30_000) + "b"}}
	require.Error(t, key.May(access.Create, strings.Repeat("a", 60_000), ""))
}

// A refusal says what is missing and whose lock it is.
func TestRefusals(t *testing.T) {
	viewer := access.Key{Name: "eve"}
	user := access.Key{Name: "ada", Role: access.User}
	narrow := access.Key{Name: "ada", Role: access.Admin, Patterns: []string{"a", "b", "c*"}}
	wide := access.Key{Name: "ada", Role: access.Admin,
		Patterns: []string{"1", "2", "3", "4", "5", "6", "7"}}
	unknown := access.Key{Name: "x", Role: 7}
	for want, err := range map[string]error{
		`lock "arm": the key "eve" has the role viewer, which may only read: ` +
			`this needs the role user or admin`: viewer.May(access.Create, "arm", ""),
		`lock "arm" of the key "bob": the key "eve" has the role viewer, which may only read: ` +
			`this needs the role admin`: viewer.May(access.Delete, "arm", "bob"),
		`lock "arm" of the key "eve": the key "eve" has the role viewer, which may only read: ` +
			`this needs the role user or admin`: viewer.May(access.Renew, "arm", "eve"),
		`cancel: the key "eve" has the role viewer, which may only read: ` +
			`this needs the role user or admin`: viewer.May(access.Cancel, "", ""),
		`lock "arm" of the key "bob": the key "ada" has the role user, which may change only its ` +
			`own locks: this needs the role admin`: user.May(access.Update, "arm", "bob"),
		`lock "arm": the key "ada" may create and change only locks whose names match ` +
			`a or b or c*`: narrow.May(access.Create, "arm", ""),
		`lock "arm" of the key "bob": the key "ada" may create and change only locks whose names ` +
			`match 1, 2, 3, 4, 5 or 2 others`: wide.May(access.Delete, "arm", "bob"),
		`lock "arm": the key "x" has the role Role(7), which may only read: ` +
			`this needs the role user or admin`: unknown.May(access.Create, "arm", ""),
	} {
		require.EqualError(t, err, "relukko: "+want)
	}
	require.NoError(t, narrow.May(access.Cancel, "", ""), "a mark has no name")
	require.NoError(t, narrow.May(access.Delete, "cup", "bob"))
	require.NoError(t, user.May(access.Delete, "arm", "ada"))
	require.False(t, narrow.Unlimited())
	require.False(t, user.Unlimited())
	admin := access.Admins("", "key")[0]
	require.True(t, admin.Unlimited())
}

func FuzzParse(f *testing.F) {
	f.Add("ada user " + hashOf("1") + " bench-* # x\n")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := access.Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		for i := range keys {
			again, err := access.Parse(strings.NewReader(keys[i].String()))
			require.NoError(t, err)
			require.Equal(t, keys[i:i+1], again)
		}
	})
}
