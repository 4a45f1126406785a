package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	machinery "github.com/RichardKnop/machinery/v2"
	"github.com/RichardKnop/machinery/v2/tasks"
)

// sending is one line of input: a signature in its wire form, or one of the three workflows. A group or a chord is
// published by so many at once as Concurrency says; 0 is no limit.
type sending struct {
	tasks.Signature
	Chain       []*tasks.Signature
	Group       []*tasks.Signature
	Chord       *chordSending
	Concurrency int
}

type chordSending struct {
	Group    []*tasks.Signature
	Callback *tasks.Signature
}

// send reads one sending after the other and answers each with a line of the ids it was given.
func send(server *machinery.Server, input io.Reader, raw bool) error {
	decoder := json.NewDecoder(input)
	decoder.UseNumber()
	for {
		var next sending
		if err := decoder.Decode(&next); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if !raw {
			if err := next.makeGoValues(); err != nil {
				return err
			}
		}
		answer, err := sendOne(server, &next)
		if err != nil {
			return err
		}
		if err := printLine(answer); err != nil {
			return err
		}
	}
}

func sendOne(server *machinery.Server, next *sending) (object, error) {
	switch {
	case next.Chain != nil:
		return sendChain(server, next.Chain)
	case next.Group != nil:
		return sendGroup(server, next.Group, next.Concurrency)
	case next.Chord != nil:
		return sendChord(server, next.Chord, next.Concurrency)
	default:
		return sendTask(server, &next.Signature)
	}
}

// sendTask tries again where the state was not stored, since nothing was published by then: Go's client for Memcached gives a busy
// server a tenth of a second.
func sendTask(server *machinery.Server, signature *tasks.Signature) (object, error) {
	result, err := server.SendTask(signature)
	for tries := 1; err != nil && strings.HasPrefix(err.Error(), "Set state pending error") && tries < 5; tries++ {
		result, err = server.SendTask(signature)
	}
	if err != nil {
		return nil, err
	}
	return object{"uuid": result.Signature.UUID}, nil
}

func sendChain(server *machinery.Server, signatures []*tasks.Signature) (object, error) {
	chain, err := tasks.NewChain(signatures...)
	if err != nil {
		return nil, err
	}
	if _, err := server.SendChain(chain); err != nil {
		return nil, err
	}
	return object{"uuids": ids(signatures)}, nil
}

func sendGroup(server *machinery.Server, signatures []*tasks.Signature, concurrency int) (object, error) {
	group, err := tasks.NewGroup(signatures...)
	if err != nil {
		return nil, err
	}
	if _, err := server.SendGroup(group, concurrency); err != nil {
		return nil, err
	}
	return object{"group": group.GroupUUID, "uuids": ids(signatures)}, nil
}

func sendChord(server *machinery.Server, next *chordSending, concurrency int) (object, error) {
	group, err := tasks.NewGroup(next.Group...)
	if err != nil {
		return nil, err
	}
	chord, err := tasks.NewChord(group, next.Callback)
	if err != nil {
		return nil, err
	}
	if _, err := server.SendChord(chord, concurrency); err != nil {
		return nil, err
	}
	return object{"group": group.GroupUUID, "uuids": ids(next.Group), "callback": next.Callback.UUID}, nil
}

func ids(signatures []*tasks.Signature) []string {
	all := make([]string, len(signatures))
	for i, signature := range signatures {
		all[i] = signature.UUID
	}
	return all
}

// makeGoValues turns the decoded JSON into the values a Go program would have put there, so that Go encodes
// them its own way: bytes as base64, floats in its shortest form.
func (s *sending) makeGoValues() error {
	all := append(append([]*tasks.Signature{&s.Signature}, s.Chain...), s.Group...)
	if s.Chord != nil {
		all = append(append(all, s.Chord.Group...), s.Chord.Callback)
	}
	return makeGoValues(all)
}

func makeGoValues(signatures []*tasks.Signature) error {
	for _, signature := range signatures {
		if signature == nil {
			continue
		}
		for i, arg := range signature.Args {
			value, err := tasks.ReflectValue(arg.Type, arg.Value)
			if err != nil {
				return fmt.Errorf("argument %d of %s: %w", i, signature.Name, err)
			}
			signature.Args[i].Value = value.Interface()
		}
		for name, value := range signature.Headers {
			if number, isNumber := value.(json.Number); isNumber {
				if whole, err := number.Int64(); err == nil {
					signature.Headers[name] = whole
				}
			}
		}
		nested := append(append([]*tasks.Signature{signature.ChordCallback}, signature.OnSuccess...), signature.OnError...)
		if err := makeGoValues(nested); err != nil {
			return err
		}
	}
	return nil
}
