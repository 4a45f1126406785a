package main

import (
	"fmt"
	"time"

	machinery "github.com/RichardKnop/machinery/v2"
	"github.com/RichardKnop/machinery/v2/tasks"
)

// sendEach sends tasks one by one.
func sendEach(server *machinery.Server, given arguments) told {
	return measured(func() {
		for number := range given.Count {
			send(server, signature(number))
		}
	})
}

// roundTrips sends a task and waits for its result, one after the other; the first one is not counted.
func roundTrips(server *machinery.Server, given arguments) told {
	taken := make([]float64, given.Count)
	call(server, -1)
	for number := range taken {
		start := time.Now()
		if result := call(server, number); result != int64(number)+1 {
			panic(fmt.Sprintf("the result of task %d is %d", number, result))
		}
		taken[number] = time.Since(start).Seconds() * 1000
	}
	return told{"milliseconds": taken}
}

// sendPaced sends so many tasks in a second, whatever becomes of them.
func sendPaced(server *machinery.Server, given arguments) told {
	call(server, -1)
	sent := make([]int64, given.Count)
	start := time.Now()
	for number := range sent {
		due := start.Add(time.Duration(float64(number) / given.Rate * float64(time.Second)))
		if ahead := time.Until(due); ahead > time.Millisecond {
			time.Sleep(ahead)
		}
		sent[number] = monotonic()
		send(server, signature(number))
	}
	return told{"sent": sent}
}

// runChord runs a chord and waits for its result.
func runChord(server *machinery.Server, given arguments) told {
	call(server, -1)
	var result int64
	told := measured(func() {
		members := make([]*tasks.Signature, given.Count)
		for number := range members {
			members[number] = signature(number)
		}
		group, err := tasks.NewGroup(members...)
		check(err)
		chord, err := tasks.NewChord(group, &tasks.Signature{Name: "total"})
		check(err)
		sent, err := server.SendChord(chord, sending)
		check(err)
		values, err := sent.GetWithTimeout(patience, lookingAfter)
		check(err)
		result = values[0].Int()
	})
	told["result"] = result
	return told
}

func send(server *machinery.Server, what *tasks.Signature) {
	_, err := server.SendTask(what)
	check(err)
}

// call sends one task and waits for its result.
func call(server *machinery.Server, number int) int64 {
	sent, err := server.SendTask(signature(number))
	check(err)
	values, err := sent.GetWithTimeout(patience, looking)
	check(err)
	return values[0].Int()
}

// measured tells how many seconds, and seconds of CPU, it took.
func measured(do func()) told {
	cpu, start := cpuTime(), time.Now()
	do()
	return told{"seconds": time.Since(start).Seconds(), "cpu": float64(cpuTime()-cpu) / 1e9}
}
