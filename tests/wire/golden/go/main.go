// Writes what Go's standard library makes of numbers, texts, times, base64 and signatures into the current folder, which
// should be the one above this: go run ./go/main.go
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/rand"
	"os"
	"strconv"
	"time"
)

// The message as protocol §1.1 lists it: the decoder's behaviour follows from the names, their order and the types.
type signature struct {
	UUID                        string
	Name                        string
	RoutingKey                  string
	ETA                         *time.Time
	GroupUUID                   string
	GroupTaskCount              int
	Args                        []argument
	Headers                     map[string]interface{}
	Priority                    uint8
	Immutable                   bool
	RetryCount                  int
	RetryTimeout                int
	OnSuccess                   []*signature
	OnError                     []*signature
	ChordCallback               *signature
	BrokerMessageGroupId        string
	SQSReceiptHandle            string
	StopTaskDeletionOnError     bool
	IgnoreWhenTaskNotRegistered bool
}

type argument struct {
	Name  string
	Type  string
	Value interface{}
}

func main() {
	write("floats.tsv", floats)
	write("strings.jsonl", texts)
	write("times.jsonl", times)
	write("base64.jsonl", encodings)
	write("integers.jsonl", integers)
	write("bodies.jsonl", bodies)
}

func write(name string, fill func(*bufio.Writer)) {
	file, err := os.Create(name)
	check(err)
	buffer := bufio.NewWriter(file)
	fill(buffer)
	check(buffer.Flush())
	check(file.Close())
}

// One number a line: its width, its bits in hexadecimal, and what Go writes.
func floats(out *bufio.Writer) {
	random := rand.New(rand.NewSource(1))
	var wide []float64
	for _, power := range []int{-324, -323, -308, -100, -10, -8, -7, -6, -5, -4, -1, 0, 1, 2, 5, 15, 16, 17, 20, 21, 22, 23, 100, 308} {
		number := math.Pow10(power)
		for _, factor := range []float64{1, 1.5, 3, 9.999999, 1.0000001, 1.2345678901234567} {
			wide = append(wide, number*factor, -number*factor)
		}
		wide = append(wide, math.Nextafter(number, 0), math.Nextafter(number, math.MaxFloat64))
	}
	for power := -1074; power < 1024; power += 13 {
		wide = append(wide, math.Ldexp(1, power))
	}
	wide = append(wide, 0, math.Copysign(0, -1), math.MaxFloat64, math.SmallestNonzeroFloat64, math.Pi, 1<<53, 1<<53+2, 0.1, 0.2, 0.3, 2.5e-9)
	for i := 0; i < 300; i++ {
		wide = append(wide, math.Float64frombits(random.Uint64()), random.NormFloat64()*1000)
	}
	for _, number := range wide {
		if math.IsNaN(number) || math.IsInf(number, 0) {
			continue
		}
		fmt.Fprintf(out, "64\t%016x\t%s\n", math.Float64bits(number), encoded(number))
	}

	narrow := []float32{0, float32(math.Copysign(0, -1)), math.MaxFloat32, math.SmallestNonzeroFloat32, 0.1, 0.2, 0.3, 1.0 / 3, 16777216, 16777218, 1e-6, 9.999999e-7, 1e21, 9.999999e20}
	for power := -149; power < 128; power++ {
		number := float32(math.Ldexp(1, power))
		narrow = append(narrow, number, math.Nextafter32(number, 0), math.Nextafter32(number, math.MaxFloat32))
	}
	for power := -45; power < 39; power++ {
		narrow = append(narrow, float32(math.Pow10(power)), -float32(1.2345678*math.Pow10(power)))
	}
	for i := 0; i < 300; i++ {
		narrow = append(narrow, math.Float32frombits(random.Uint32()), float32(random.NormFloat64()*1000))
	}
	for _, number := range narrow {
		if number != number || math.IsInf(float64(number), 0) {
			continue
		}
		fmt.Fprintf(out, "32\t%08x\t%s\n", math.Float32bits(number), encoded(number))
	}
}

// The JSON text of strings; the first is its UTF-8 in base64, the second what Go writes.
func texts(out *bufio.Writer) {
	for _, text := range []string{
		"", "plain", "<a href=\"x\">&amp;</a>", "\\ / \x7f", "\x00\x01\b\t\n\v\f\r\x1b\x1f", "é ß 漢 😀 \u2028 \u2029 \u2027 \ufeff \uffff",
		"\xff", "a\xc3", "\xe2\x82", "\xe2\x82x", "\xf0\x9f\x98", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80", "\xef\xbf\xbd",
	} {
		line(out, map[string]any{"bytes": []byte(text), "json": encoded(text)})
	}
}

// Which texts are times in JSON, and how Go writes them again.
func times(out *bufio.Writer) {
	for _, text := range []string{
		"2024-03-01T12:30:45Z", "2024-03-01T12:30:45.1Z", "2024-03-01T12:30:45.120Z", "2024-03-01T12:30:45.123456Z",
		"2024-03-01T12:30:45.123456789Z", "2024-03-01T12:30:45.000000001Z", "2024-03-01T12:30:45.1234567899Z",
		"2024-03-01T12:30:45.000Z", "2024-03-01T12:30:45+00:00", "2024-03-01T12:30:45-00:00", "2024-03-01T12:30:45+05:30",
		"2024-03-01T12:30:45.5-11:00", "2024-03-01T12:30:45.000001+23:59", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z",
		"2024-02-29T00:00:00Z", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z", "2024-00-01T00:00:00Z", "2024-01-32T00:00:00Z",
		"2024-03-01T24:00:00Z", "2024-03-01T23:60:00Z", "2024-03-01T23:59:60Z", "2024-03-01T12:30:45", "2024-03-01T12:30:45+0000",
		"2024-03-01T12:30:45+00", "2024-03-01t12:30:45Z", "2024-03-01T12:30:45z", "2024-03-01 12:30:45Z", "2024-03-01T12:30Z",
		"2024-03-01T1:30:45Z", "2024-03-01T12:30:45.Z", "2024-03-01T12:30:45,5Z", "2024-W09-5T12:30:45Z", "20240301T123045Z",
		"2024-03-01", "", "now", "2024-03-01T12:30:45+24:00", "2024-03-01T12:30:45+05:60", "2024-03-01T12:30:45Z ", "+2024-03-01T12:30:45Z",
		"２024-03-01T12:30:45Z",
	} {
		var moment time.Time
		again := ""
		err := json.Unmarshal([]byte(encoded(text)), &moment)
		if err == nil {
			if written, err := moment.MarshalText(); err == nil { // Go reads an offset of 24 hours that it cannot write
				again = string(written)
			}
		}
		line(out, map[string]any{"text": text, "accepted": err == nil, "again": again})
	}
}

// What standard base64 decodes to, or the error's text.
func encodings(out *bufio.Writer) {
	texts := []string{
		"", "aGk=", "aGkh", "aA==", "aB==", "aGk", "aG", "a", "aA=", "aA=x", "aA==x", "aGk=x", "====", "=", "a===", "aGk==", "aGk=\n", "a\nGk=",
		"aA=\n=", "aA=\n", "aA\r\n==", "aGkh\r\n", "aG k=", "aGk*", "-_-_", "aGkhaG", "aGkhaGk=aGkh", "é", "aé==", "aGkhé", "\n", "aA=\nx", "aA==\nx", "aG\n",
		"aGkh\na", "aGkha\n",
	}
	random := rand.New(rand.NewSource(2))
	for i := 0; i < 200; i++ {
		text := make([]byte, random.Intn(10))
		for j := range text {
			text[j] = "aZ9+/==\n*"[random.Intn(9)]
		}
		texts = append(texts, string(text))
	}
	for _, text := range texts {
		decoded, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			line(out, map[string]any{"text": text, "error": err.Error()})
		} else {
			line(out, map[string]any{"text": text, "bytes": decoded})
		}
	}
}

// What integer literals say as a signed and as an unsigned 64-bit number, or the error's text.
func integers(out *bufio.Writer) {
	for _, text := range []string{
		"0", "-0", "1", "-1", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
		"18446744073709551615", "18446744073709551616", "1.0", "1e3", "-0.0", "1.5", "1E400",
	} {
		row := map[string]any{"literal": text}
		if signed, err := strconv.ParseInt(text, 10, 64); err != nil {
			row["signedError"] = err.Error()
		} else {
			row["signed"] = signed
		}
		if unsigned, err := strconv.ParseUint(text, 10, 64); err != nil {
			row["unsignedError"] = err.Error()
		} else {
			row["unsigned"] = unsigned
		}
		line(out, row)
	}
}

// Message bodies in every bad shape: whether Go's decoder takes them, and how it writes them again.
func bodies(out *bufio.Writer) {
	for _, body := range []string{
		`{}`, `{"uuid":"a","NAME":"b","routingkey":"c"}`, `{"UUID":"a","Unknown":{"x":[1,2,{"y":null}]}}`, ` {"UUID":"a"}`, "\t\r\n{\"UUID\":\"a\"}",
		`{"UUID":"a"}trailing`, `{"UUID":"a"}}`, `{"UUID":"a"}{"UUID":"b"}`, `{"UUID":"a","UUID":"b"}`, `{"uuid":"a","UUID":"b"}`, `{"UUID":"a","uuid":"b"}`,
		`{"UUID":null,"Name":null,"RoutingKey":null,"ETA":null,"GroupUUID":null,"GroupTaskCount":null,"Args":null,"Headers":null,"Priority":null,"Immutable":null,"RetryCount":null,"RetryTimeout":null,"OnSuccess":null,"OnError":null,"ChordCallback":null,"BrokerMessageGroupId":null,"SQSReceiptHandle":null,"StopTaskDeletionOnError":null,"IgnoreWhenTaskNotRegistered":null}`,
		`{"UUID":5}`, `{"UUID":true}`, `{"UUID":["a"]}`, `{"Name":{}}`, `{"RetryCount":"3"}`, `{"RetryCount":1.0}`, `{"RetryCount":1e0}`, `{"RetryCount":-1}`, `{"RetryCount":-0}`,
		`{"RetryCount":true}`, `{"RetryCount":9223372036854775807}`, `{"RetryCount":9223372036854775808}`, `{"GroupTaskCount":-9223372036854775808}`, `{"GroupTaskCount":-9223372036854775809}`,
		`{"Priority":0}`, `{"Priority":255}`, `{"Priority":256}`, `{"Priority":-1}`, `{"Priority":"1"}`, `{"Immutable":1}`, `{"Immutable":"true"}`, `{"Immutable":true}`,
		`{"ETA":"2024-03-01T12:30:45.120Z"}`, `{"ETA":"2024-03-01 12:30:45Z"}`, `{"ETA":""}`, `{"ETA":5}`, `{"ETA":"2024-03-01T12:30:45+02:00"}`,
		`{"Args":{}}`, `{"Args":"x"}`, `{"Args":[]}`, `{"Args":[null]}`, `{"Args":[5]}`, `{"Args":[{}]}`, `{"Args":[{"Type":5}]}`, `{"Args":[{"Name":5}]}`,
		`{"Args":[{"type":"int64","value":1,"more":2}]}`, `{"Args":[{"Type":"float64","Value":1.50}]}`, `{"Args":[{"Type":"float64","Value":1E400},{"Type":"float64","Value":-0},{"Type":"float64","Value":-0.0}]}`,
		`{"Args":[{"Type":"json","Value":{"a":1.10,"b":[null,true,"x",{}]}}]}`, `{"Args":[{"Type":"int64","Value":123456789012345678901234567890}]}`,
		`{"Headers":{}}`, `{"Headers":[]}`, `{"Headers":"x"}`, `{"Headers":{"n":1.50,"z":null,"a":[1.0,2],"é":"é","😀":1,"\uffff":2}}`, `{"Headers":{"<":"&"}}`,
		`{"OnSuccess":[{"UUID":"b","OnError":[{"UUID":"c"}]}],"ChordCallback":{"UUID":"d"}}`, `{"OnSuccess":[{"UUID":5}]}`, `{"OnSuccess":{}}`, `{"OnSuccess":[5]}`, `{"OnSuccess":[[]]}`, `{"ChordCallback":[]}`, `{"ChordCallback":"x"}`,
		`{"ChordCallback":{"Priority":256}}`, `{"OnSuccess":[{"ChordCallback":{"OnError":[{"RetryCount":"x"}]}}]}`,
		"{\"UUID\":\"a\xffb\"}", "{\"UUID\":\"\xe2\x82\"}", "{\"\xff\":1}", `{"UUID":"\ud800"}`, `{"UUID":"\ud800x"}`, `{"UUID":"\ud83d\ude00"}`, `{"UUID":"\uD83D\uDE00"}`, `{"UUID":"\ude00\ud83d"}`,
		`{"UUID":"\ud800\ud83d\ude00"}`, `{"UUID":"\\ud800"}`, `{"Headers":{"\ud800":"\udfff"}}`, `{"UUID":"\u00zz"}`, `{"UUID":"\x41"}`, `{"UUID":"\/\b\f\n\r\t"}`, "{\"UUID\":\"a\nb\"}", "{\"UUID\":\"\x7f\"}",
		"", " ", "\xff", "\xef\xbb\xbf{}", `null`, `5`, `"x"`, `[]`, `[{}]`, `true`, `nul`, `{`, `{"UUID"`, `{"UUID":`, `{"UUID":"a`, `{"UUID":"a",}`, `{,}`, `{UUID:"a"}`, `{'UUID':'a'}`, `{"UUID":"a" "Name":"b"}`,
		`{"Args":[1,]}`, `{"RetryCount":01}`, `{"RetryCount":+1}`, `{"RetryCount":.5}`, `{"RetryCount":1.}`, `{"RetryCount":-}`, `{"RetryCount":0x1}`, `{"RetryCount":NaN}`, `{"x":NaN}`, `{"x":Infinity}`, `{"x":-Infinity}`, `{"x":1e}`, `{"x":tru}`, `{"x":1 2}`,
		`{"Unknown":5,"unknown":"x"}`, `{"ſQSReceiptHandle":"long s","BroKerMessageGroupId":"kelvin"}`, `{"OnSucceß":[]}`, "{\"UUID\":\"a\"\v}", "{\"UUID\":\"a\"\u00a0}",
	} {
		var decoded signature
		decoder := json.NewDecoder(bytes.NewReader([]byte(body)))
		decoder.UseNumber()
		err := decoder.Decode(&decoded)
		row := map[string]any{"body": []byte(body), "accepted": err == nil}
		if err == nil {
			row["again"] = encoded(decoded)
		}
		line(out, row)
	}
}

func line(out *bufio.Writer, row map[string]any) {
	fmt.Fprintln(out, encoded(row))
}

func encoded(value any) string {
	text, err := json.Marshal(value)
	check(err)
	return string(text)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
