package wire

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHeaderNamesAreCanonical(t *testing.T) {
	for _, h := range []string{HeaderAPIKey, HeaderPrefer, HeaderPreferenceApplied, HeaderWait,
		HeaderCallOff, HeaderMark, HeaderVersion, HeaderStore, HeaderReason} {
		require.Equal(t, http.CanonicalHeaderKey(h), h)
	}
}

func TestReason(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "the bench is broken": "the bench is broken", "ü, ☃\n\x1b[m": "ü, ☃ [m",
		"100 %": "100 %", "a+b/c": "a+b/c",
	} {
		sent := FormatReason(in)
		require.Regexp(t, `^[!-~]*$`, sent)
		require.Equal(t, want, ParseReason(sent), in)
	}
	require.Equal(t, "100 %", ParseReason("100 %"))
}

func TestPrefer(t *testing.T) {
	for _, c := range []struct {
		values []string
		want   time.Duration
	}{
		{nil, 0},
		{[]string{"wait=7"}, 7 * time.Second},
		{[]string{"WAIT = 7"}, 7 * time.Second},
		{[]string{"wait=31"}, 30 * time.Second},
		{[]string{"wait=99999999999999999999"}, 30 * time.Second},
		{[]string{`wait="7"; x=y`}, 7 * time.Second},
		{[]string{`a="wait=3, wait=4", wait=5`}, 5 * time.Second},
		{[]string{"respond-async", "wait=3"}, 3 * time.Second},
		{[]string{"wait=3", "wait=4"}, 3 * time.Second},
		{[]string{"wait=x, wait=4"}, 0},
		{[]string{"wait"}, 0},
		{[]string{"wait=-1"}, 0},
		{[]string{"wait=1.5"}, 0},
	} {
		require.Equal(t, Preferences{Wait: c.want}, ParsePrefer(c.values), "%q", c.values)
	}
	require.Equal(t, "wait=7", Preferences{Wait: 7 * time.Second}.String())
	require.Equal(t, "wait", Preferences{Wait: 7 * time.Second}.Applied())
	require.Empty(t, Preferences{}.String())
	require.Empty(t, Preferences{}.Applied())
}

func TestOfferedWait(t *testing.T) {
	require.Equal(t, "30", FormatWait(MaxWait))
	for s, want := range map[string]time.Duration{
		"30": MaxWait, "7": 7 * time.Second, "31": MaxWait, "99999": 0, "": 0, "-1": 0, "x": 0,
		"1.5": 0,
	} {
		require.Equal(t, want, ParseWait(s), s)
	}
}
