package main

import (
	"bufio"
	"io"
	"strconv"

	machinery "github.com/RichardKnop/machinery/v2"
	"github.com/RichardKnop/machinery/v2/tasks"
)

// printGroup prints the members' records in the order of the group, and whether all of them have ended.
func printGroup(server *machinery.Server, uuid, count string) error {
	size, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var states []*tasks.TaskState
	completed, err := server.GetBackend().GroupCompleted(uuid, size)
	if err == nil {
		states, err = server.GetBackend().GroupTaskStates(uuid, size)
	}
	return printLine(object{"states": states, "completed": completed, "error": textOf(err)})
}

// triggerChords asks for the right to send a chord's callback, as a worker does after its last member. Each line of
// input is a group's id, each line of output says whether this program was the one.
func triggerChords(server *machinery.Server, input io.Reader) error {
	lines := bufio.NewScanner(input)
	for lines.Scan() {
		triggered, err := server.GetBackend().TriggerChord(lines.Text())
		if err := printLine(object{"triggered": triggered, "error": textOf(err)}); err != nil {
			return err
		}
	}
	return lines.Err()
}
