package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const otherID = "11111111-2222-3333-4444-555555555555"

var broadcasts = []struct {
	name, message string
	want          []Event
}{
	{"true", `{"deleted":true}`, []Event{{Kind: EventDeleted}}},
	{"a number", `{"deleted":1}`, []Event{{Kind: EventDeleted}}},
	{"an id", `{"deleted":"` + testID + `"}`, []Event{{Kind: EventDeleted, ID: testID}}},
	{"an id in capitals", `{"deleted":"` + strings.ToUpper(testID) + `"}`,
		[]Event{{Kind: EventDeleted, ID: testID}}},
	{"some text, which may be a name or not", `{"deleted":"robot-arm-1"}`,
		[]Event{{Kind: EventDeleted}}},
	{"a lock", `{"deleted":` + testLock + `}`,
		[]Event{{Kind: EventDeleted, ID: testID, Name: testName, Lock: new(theLock())}}},
	{"a part of a lock", `{"deleted":{"id":"` + testID + `","x":1}}`,
		[]Event{{Kind: EventDeleted, ID: testID}}},
	{"another part", `{"deleted":{"lock_name":"a\u00e4","id":7}}`,
		[]Event{{Kind: EventDeleted, Name: "aä"}}},
	{"an object of other things", `{"deleted":{"count":3}}`, []Event{{Kind: EventDeleted}}},
	{"a list of ids", `{"deleted":["` + testID + `","` + otherID + `"]}`,
		[]Event{{Kind: EventDeleted, ID: testID}, {Kind: EventDeleted, ID: otherID}}},
	{"a list of anything", `{"deleted":[null,` + testLock + `,["` + testID + `"],{"id":"` +
		otherID + `"},0]}`, []Event{
		{Kind: EventDeleted}, {Kind: EventDeleted, ID: testID, Name: testName,
			Lock: new(theLock())}, {Kind: EventDeleted},
		{Kind: EventDeleted, ID: otherID}, {Kind: EventDeleted}}},
	{"other members beside it", `{"id":"` + otherID + `","deleted":true,"lock_name":"x"}`,
		[]Event{{Kind: EventDeleted}}},
	{"created", `{"created":` + testLock + `}`,
		[]Event{{Kind: EventCreated, ID: testID, Name: testName, Lock: new(theLock())}}},
	{"updated", ` {"updated" : ` + testLock + ` } `,
		[]Event{{Kind: EventUpdated, ID: testID, Name: testName, Lock: new(theLock())}}},
	{"created of something", `{"created":true}`, []Event{{Kind: EventCreated}}},
	{"two things", `{"created":"` + otherID + `","deleted":"` + testID + `"}`,
		[]Event{{Kind: EventDeleted, ID: testID}, {Kind: EventCreated, ID: otherID}}},
	{"false", `{"deleted":false}`, []Event{{Kind: EventOther}}},
	{"null", `{"deleted":null}`, []Event{{Kind: EventOther}}},
	{"zero", `{"deleted":0.0}`, []Event{{Kind: EventOther}}},
	{"no text", `{"deleted":""}`, []Event{{Kind: EventOther}}},
	{"no list", `{"deleted":[ ]}`, []Event{{Kind: EventOther}}},
	{"no object", `{"deleted":{}}`, []Event{{Kind: EventOther}}},
	{"another case", `{"Deleted":true}`, []Event{{Kind: EventOther}}},
	{"escaped", `{"\u0064eleted":true}`, []Event{{Kind: EventDeleted}}},
	{"the last counts", `{"deleted":true,"deleted":false}`, []Event{{Kind: EventOther}}},
	{"other things", `{"hello":"world"}`, []Event{{Kind: EventOther}}},
	{"nothing", `{}`, []Event{{Kind: EventOther}}},
	{"no object at all", `["deleted"]`, nil},
	{"text", `"deleted"`, nil},
	{"no JSON", `deleted`, nil},
	{"two objects", `{"deleted":true}{"deleted":true}`, nil},
	{"empty", ``, nil},
}

func TestShapesOfBroadcasts(t *testing.T) {
	for _, tt := range broadcasts {
		t.Run(tt.name, func(t *testing.T) {
			var got []Event
			DecodeBroadcast([]byte(tt.message), func(e Event) { got = append(got, e) })
			require.Equal(t, tt.want, got)
		})
	}
}

func TestTruth(t *testing.T) {
	for raw, want := range map[string]bool{
		"true": true, "false": false, "null": false, "": false,
		"0": false, "-0": false, "0.0": false, "0e10": false, "1": true, "-1": true, "0.1": true,
		"1e999": true, "1e-999": false,
		`""`: false, `" "`: true, `"0"`: true, `"false"`: true,
		"[]": false, "[ ]": false, "[0]": true, "[[]]": true, "{}": false, "{\n}": false,
		`{"":0}`: true,
	} {
		require.Equal(t, want, truthy([]byte(raw)), raw)
	}
}
