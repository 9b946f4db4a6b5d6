package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestLs(t *testing.T) {
	t.Parallel()
	s, ids := locked(t, "robot-arm-1", "dongle")
	require.True(t, s.ExpireIn("dongle", -10*time.Second))

	out := strings.Split(succeeds(t, s, "ls"), "\n")
	require.Len(t, out, 4)
	require.Regexp(t, `^NAME         HOLDER       IP         AGE  EXPIRES +WAITERS  ID {36}REASON$`,
		out[0])
	require.Regexp(t, `^dongle       Ada@bench/7  127.0.0.1  \ds   expired 1\ds ago  -        `+
		ids["dongle"]+`  -$`, out[1])
	require.Regexp(t, `^robot-arm-1  Ada@bench/7  127.0.0.1  \ds   in 9m\d\ds +-        `+
		ids["robot-arm-1"]+`  -$`, out[2])

	var locks []api.Lock
	require.NoError(t, json.Unmarshal([]byte(succeeds(t, s, "ls", "--json")), &locks))
	require.Len(t, locks, 2)
	require.Equal(t, ids["dongle"], locks[0].ID)
	require.Equal(t, "Ada@bench/7 #k3v9x2m4q7ab", locks[0].Creator)
	require.NotZero(t, locks[0].FencingToken)
}

func TestLsOfNone(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	status, stdout, stderr := run(t, of(s), "ls")
	require.Zero(t, status)
	require.Empty(t, stdout)
	require.Equal(t, "relukko: nobody holds a lock at "+s.URL+"\n", stderr)
	require.Equal(t, "[]\n", succeeds(t, s, "ls", "--json"))
}

func TestGet(t *testing.T) {
	t.Parallel()
	s, ids := locked(t, "arm")
	for _, by := range []string{"arm", ids["arm"], ids["arm"][:4],
		strings.ToUpper(ids["arm"][:13])} {
		var lock api.Lock
		require.NoError(t, json.Unmarshal([]byte(succeeds(t, s, "get", by, "--json")), &lock), by)
		require.Equal(t, ids["arm"], lock.ID, by)
	}
	out := succeeds(t, s, "get", "arm")
	for _, line := range []string{`name +arm`, `id +` + ids["arm"],
		`creator +Ada@bench/7 #k3v9x2m4q7ab`, `ip +127.0.0.1`,
		`created +20\d\d-.*, \ds ago`, `expires +20\d\d-.*, in 9m\d\ds`, `fencing token +\d+`} {
		require.Regexp(t, `(?m)^`+line+`$`, out)
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	locks := []api.Lock{
		{Name: "arm", ID: "950daa20-a814-451e-9407-ec496cf9c136"},
		{Name: "17ac", ID: "950dbb20-a814-451e-9407-ec496cf9c136"},
		{Name: "dongle", ID: "17ac7777-a814-451e-9407-ec496cf9c136"},
		{Name: "950daa20-a814-451e-9407-ec496cf9c136", ID: "44444444-a814-451e-9407-ec496cf9c136"},
	}
	for arg, want := range map[string]string{
		"arm":   "arm",
		"950da": "arm",
		"17ac":  "17ac", // the name goes before a part of an id
		"17ac7": "dongle",
		// but no other lock's name before an id
		"950daa20-a814-451e-9407-ec496cf9c136": "arm",
		"950DAA20-a814-451e-9407-ec496cf9c136": "arm",
		"44444444-a814-451e-9407-ec496cf9c136": "950daa20-a814-451e-9407-ec496cf9c136",
		"950d": "2 locks have an id that begins with \"950d\":\n" +
			"  950daa20-a814-451e-9407-ec496cf9c136  arm\n" +
			"  950dbb20-a814-451e-9407-ec496cf9c136  17ac\nGive more of it.",
		"17a":      `there is no lock "17a". Of an id, give at least 4 characters`,
		"":         `there is no lock "", and none whose id begins with that`,
		"a814-451": `there is no lock "a814-451", and none whose id begins with that`,
	} {
		lock, err := match(locks, arg)
		if err != nil {
			require.Equal(t, want, err.Error(), arg)
		} else {
			require.Equal(t, want, lock.Name, arg)
		}
	}
}

func TestRm(t *testing.T) {
	t.Parallel()
	s, ids := locked(t, "a", "b", "c", "d")
	require.Equal(t, "deleted a ("+ids["a"]+"), held by Ada@bench/7\n", succeeds(t, s, "rm", "a"))

	status, stdout, stderr := run(t, of(s), "rm", "b", "nothing", ids["c"])
	require.Equal(t, 1, status)
	require.Equal(t, "relukko: there is no lock \"nothing\", and none whose id begins with that\n",
		stderr)
	require.Contains(t, stdout, "deleted b")
	require.Contains(t, stdout, "deleted c")
	require.Len(t, s.Locks(), 1)

	// One that is named twice is deleted once.
	require.Equal(t, 1, strings.Count(succeeds(t, s, "rm", "d", ids["d"], "d"), "\n"))
	_, err := s.Client().Create(t.Context(), "d", "Ada")
	require.NoError(t, err)

	// An answer that is lost does not make a deletion a failure.
	s.CutNext(1, relukkotest.On("DELETE", "/v1/locks/"))
	require.Contains(t, succeeds(t, s, "rm", "d"), "deleted d")
}

func TestExtend(t *testing.T) {
	t.Parallel()
	s, _ := locked(t, "arm")
	succeeds(t, s, "extend", "arm", "--for", "30m")
	require.WithinDuration(t, time.Now().Add(30*time.Minute), lockOf(t, s, "arm").ExpiresAt,
		patience)
	succeeds(t, s, "extend", "arm", "--add", "2d")
	require.WithinDuration(t, time.Now().Add(48*time.Hour+30*time.Minute),
		lockOf(t, s, "arm").ExpiresAt, patience)

	// Adding is not retried, so its outcome can be unknown.
	before := lockOf(t, s, "arm").ExpiresAt
	s.CutNext(1, relukkotest.On("PUT", "/v1/locks/{id}/add_to_expire_at"))
	status, _, stderr := run(t, of(s), "extend", "arm", "--add", "1h")
	require.Equal(t, 69, status)
	require.Contains(t, stderr,
		"The lock may have been extended nevertheless: see relukko get "+lockOf(t, s, "arm").ID)
	require.Equal(t, before.Add(time.Hour), lockOf(t, s, "arm").ExpiresAt, "once")
}

// Output that cannot be written is a failure of every command.
func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	s, _ := locked(t, "arm")
	for _, args := range [][]string{
		{"ls"}, {"ls", "--json"}, {"get", "arm"}, {"get", "arm", "--json"},
		{"extend", "arm", "--for", "1h"}, {"version"}, {"completion", "bash"},
	} {
		var stderr bytes.Buffer
		status := Run(Invocation{Args: args, Env: of(s), Stdout: fullDisk{}, Stderr: &stderr})
		require.Equal(t, 1, status, args)
		require.Contains(t, stderr.String(), "relukko: the output could not be written", args)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestSet(t *testing.T) {
	t.Parallel()
	s, _ := locked(t, "arm")
	out := succeeds(t, s, "set", "arm", "--creator", "Bob", "--expires-at",
		"2099-12-31T12:34:56+02:00")
	require.Regexp(t, `creator +Bob`, out)
	lock := lockOf(t, s, "arm")
	require.Equal(t, "Bob", *lock.Creator)
	require.Equal(t, time.Date(2099, 12, 31, 10, 34, 56, 0, time.UTC), lock.ExpiresAt)

	succeeds(t, s, "set", "arm", "--creator", "")
	require.Equal(t, "", *lockOf(t, s, "arm").Creator)
	require.Equal(t, lock.ExpiresAt, lockOf(t, s, "arm").ExpiresAt)
}

// Nothing is known of a lock where its backend was not even asked.
func TestReleaseAtAWrongPath(t *testing.T) {
	t.Parallel()
	s, ids := locked(t, "arm")
	status, _, stderr := run(t, of(s), "release", ids["arm"], "--url", s.URL+"/v1")
	require.Equal(t, statusUnavailable, status, stderr)
	require.Contains(t, stderr, "is not a Relukko backend")
	require.Len(t, s.Locks(), 1)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	status, stdout, stderr := run(t, nil, "health", s.URL)
	require.Zero(t, status, stderr)
	require.Equal(t, s.URL+" is up\n", stdout)
	status, stdout, _ = run(t, []string{"RELUKKO_BASE_URL=" + s.URL}, "health")
	require.Zero(t, status)
	require.Equal(t, s.URL+" is up\n", stdout)

	s.Stop()
	status, _, stderr = run(t, nil, "health", "--timeout", "1s", s.URL)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "connection refused")
	s.Start(true)
	s.FailNext(-1, 503)
	status, _, stderr = run(t, nil, "health", "--timeout", "2s", s.URL)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, s.URL+" could not pass the health check (503 Service Unavailable")
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	file := writeFile(t, "keys", "\n"+s.APIKey+"\r\nold\n")
	status, _, stderr := run(t, []string{"RELUKKO_BASE_URL=" + s.URL, "RELUKKO_API_KEY=wrong"},
		"ls", "--api-key-file", file)
	require.Zero(t, status, stderr)
	require.NoError(t, os.WriteFile(file, []byte(" \n,\n"), 0o600))
	status, _, stderr = run(t, []string{"RELUKKO_BASE_URL=" + s.URL}, "ls", "--api-key-file", file)
	require.Equal(t, 64, status)
	require.Contains(t, stderr, "there is no key in "+file)
}

// One environment file serves a server, which accepts both keys, and its clients.
func TestTheFirstOfSeveralKeys(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	for key, want := range map[string]int{
		s.APIKey + ",old": 0, " " + s.APIKey + " , old": 0, s.APIKey + "\n": 0,
		"new," + s.APIKey: statusUnavailable, ",": statusUsage,
	} {
		status, _, stderr := run(t, []string{envURL + "=" + s.URL, envKey + "=" + key}, "ls")
		require.Equal(t, want, status, "%q: %s", key, stderr)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"version", "--version"} {
		status, stdout, _ := run(t, nil, arg)
		require.Zero(t, status)
		require.Regexp(t, `^relukko .*, go1\.\S+ \w+/\w+\n$`, stdout)
	}
}

// What other people named their locks does nothing to a terminal.
func TestNamesAreHarmless(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a\ufffd[2Jb", printable("a\x1b[2Jb"))
	require.Equal(t, "Ü 猫", printable("Ü 猫"))
}
