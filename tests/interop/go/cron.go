package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/robfig/cron/v3"
)

// cronQuestion is one line of input: which ticks follow an instant, by a schedule's text.
type cronQuestion struct {
	Spec  string    `json:"spec"`
	After time.Time `json:"after"`
	Count int       `json:"count"`
}

// cronAnswer has as many ticks as were asked for, or fewer where Go finds no more, or says why there are none.
type cronAnswer struct {
	Ticks []time.Time `json:"ticks"`
	Error string      `json:"error,omitempty"`
}

// answerCron answers each question with a line. Schedules without a zone go by the zone that TZ names.
func answerCron(input io.Reader, output io.Writer) error {
	decoder, encoder := json.NewDecoder(input), json.NewEncoder(output)
	for {
		var question cronQuestion
		if err := decoder.Decode(&question); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := encoder.Encode(tick(question)); err != nil {
			return err
		}
	}
}

func tick(question cronQuestion) (answer cronAnswer) {
	defer func() { // the parser panics over a time zone with nothing after it
		if reason := recover(); reason != nil {
			answer = cronAnswer{Error: fmt.Sprint(reason)}
		}
	}()
	schedule, err := cron.ParseStandard(question.Spec)
	if err != nil {
		return cronAnswer{Error: err.Error()}
	}
	answer.Ticks = []time.Time{}
	at := question.After.Local()
	for len(answer.Ticks) < question.Count {
		if at = schedule.Next(at); at.IsZero() {
			break
		}
		answer.Ticks = append(answer.Ticks, at.UTC())
	}
	return answer
}
