package settings

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The syntax is that of systemd's EnvironmentFile.
func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"A=x":                        "x",
		"A=x\n":                      "x",
		"A=x\r\n":                    "x",
		"  A = x y  \n":              "x y",
		"A=":                         "",
		"# A=y\n; A=y\nA=x":          "x",
		"# y \\\nA=x":                "x",
		"A=x # no comment":           "x # no comment",
		"A=x\nnonsense\nA=z":         "z",
		"A='x y '":                   "x y ",
		`A='$x "y" \'`:               `$x "y" \`,
		`A="a\"b\\c\$d\` + "`" + `"`: `a"b\c$d` + "`",
		`A="\a"`:                     `\a`,
		"A=\"x\ny\"":                 "x\ny",
		"A=\"x\\\ny\"":               "xy",
		"A=x\\\ny":                   "xy",
		`A=a\ \#b\\`:                 `a #b\`,
		`A="a" 'b'c`:                 "abc",
		`A=x"y"`:                     `x"y"`,
		"A=a=b":                      "a=b",
		"B='\nA=y'\nA=x":             "x",
		"":                           "(none)",
		"# export A=x":               "(none)",
	} {
		assignments, err := parse(text)
		require.NoError(t, err, text)
		got := "(none)"
		for _, a := range assignments {
			if a.name == "A" {
				got = a.value
			}
		}
		require.Equal(t, want, got, "%q", text)
	}
	_, err := parse("\n\nexport A=x")
	require.EqualError(t, err, "line 3: write A=… without export")
	_, err = parse("A='x\n\n")
	require.EqualError(t, err, "line 1: the quote is not closed")
}

// What is written is read again, by a shell too.
func TestQuoted(t *testing.T) {
	for _, value := range []string{"plain", "http://[::1]:3000/x?y", "a b", " a ", `"`, "'", `\`, "$HOME",
		"#", "ü", "`'`", `'\"$`, "x='y'"} {
		assignments, err := parse("A=" + quoted(value) + "\n")
		require.NoError(t, err, value)
		require.Equal(t, value, assignments[0].value)
		out, err := exec.Command("sh", "-c", "A="+quoted(value)+"\nprintf %s \"$A\"").Output()
		require.NoError(t, err)
		require.Equal(t, value, string(out))
	}
}

func TestSetInFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relukko", "client.env")
	set := []Assignment{{BaseURL, "http://new"}, {APIKey, "a b"}, {APIKeyFile, ""}}
	require.NoError(t, SetInFile(path, set...))
	const wrote = "RELUKKO_BASE_URL=http://new\nRELUKKO_API_KEY='a b'\n"
	read := func() string {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(content)
	}
	require.Equal(t, wrote, read())

	const others = "# mine\nHTTP_PROXY=x \\\n  y\nstrange\n\nLAST=1"
	require.NoError(t, os.WriteFile(path,
		[]byte("RELUKKO_API_KEY_FILE='\n'\nRELUKKO_API_KEY=old\\\nest\n"+others), 0o644))
	require.NoError(t, SetInFile(path, set...))
	require.Equal(t, others+"\n"+wrote, read())
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())

	require.NoError(t, os.WriteFile(path, []byte("A='"), 0o600))
	require.ErrorContains(t, SetInFile(path, set...), "client.env: line 1")
	require.Equal(t, "A='", read())
}

func FuzzParse(f *testing.F) {
	f.Add("A=x\n# c\nB='y' \"z\\\"\"\\\n")
	f.Fuzz(func(t *testing.T, text string) {
		assignments, err := parse(text)
		if err != nil {
			return
		}
		end := 0
		for _, a := range assignments {
			require.LessOrEqual(t, end, a.start)
			require.Less(t, a.start, a.end)
			end = a.end
		}
		require.LessOrEqual(t, end, len(text))
	})
}
