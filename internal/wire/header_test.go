package wire

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHeaderNamesAreCanonical(t *testing.T) {
	for _, h := range []string{HeaderAPIKey, HeaderPrefer, HeaderPreferenceApplied, HeaderWait,
		HeaderMark, HeaderVersion, HeaderStore, HeaderReason} {
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
}

func TestPreferLease(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, c := range []struct {
		values []string
		want   Preferences
	}{
		{[]string{"lease=60"}, Preferences{Lease: time.Minute}},
		{[]string{"LEASE = 60"}, Preferences{Lease: time.Minute}},
		{[]string{"wait=30, lease=60"}, Preferences{30 * time.Second, time.Minute}},
		{[]string{"lease=60,wait=30"}, Preferences{30 * time.Second, time.Minute}},
		{[]string{"lease=60", "wait=30"}, Preferences{30 * time.Second, time.Minute}},
		{[]string{`lease="1.5"; x=y`}, Preferences{Lease: 1500 * time.Millisecond}},
		{[]string{"lease=0.5"}, Preferences{Lease: 500 * time.Millisecond}},
		{[]string{"lease=1.0000004"}, Preferences{Lease: time.Second}},
		{[]string{"lease=31536000"}, Preferences{Lease: year}},
		{[]string{"lease=3, lease=4"}, Preferences{Lease: 3 * time.Second}},
		{[]string{"lease=x, lease=4, wait=1"}, Preferences{Wait: time.Second}},
		{[]string{"lease=0.499999999"}, Preferences{}},
		{[]string{"lease=31536000.1"}, Preferences{}},
		{[]string{"lease=99999999999999999999"}, Preferences{}},
		{[]string{"lease"}, Preferences{}},
		{[]string{"lease=."}, Preferences{}},
		{[]string{"lease=-5"}, Preferences{}},
		{[]string{"lease=+5"}, Preferences{}},
		{[]string{"lease=1e2"}, Preferences{}},
		{[]string{"lease=0x7"}, Preferences{}},
		{[]string{"lease=Inf"}, Preferences{}},
		{[]string{"lease=NaN"}, Preferences{}},
		{[]string{"lease=1.2.3"}, Preferences{}},
		{[]string{"lease=1_0"}, Preferences{}},
	} {
		require.Equal(t, c.want, ParsePrefer(c.values), "%q", c.values)
	}
}

func TestPreferencesInHeaders(t *testing.T) {
	for _, c := range []struct {
		p               Preferences
		prefer, applied string
	}{
		{Preferences{}, "", ""},
		{Preferences{Wait: 7 * time.Second}, "wait=7", "wait"},
		{Preferences{Lease: time.Minute}, "lease=60", "lease"},
		{Preferences{30 * time.Second, 1500 * time.Millisecond}, "wait=30, lease=1.5",
			"wait, lease"},
	} {
		require.Equal(t, c.prefer, c.p.String())
		require.Equal(t, c.applied, c.p.Applied())
	}
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
