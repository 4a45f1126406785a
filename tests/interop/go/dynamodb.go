package main

import (
	"flag"

	backends "github.com/RichardKnop/machinery/v2/backends/iface"
	"github.com/RichardKnop/machinery/v2/config"
)

var dynamodbTables config.DynamoDBConfig

func init() {
	flag.StringVar(&dynamodbTables.TaskStatesTable, "task-states-table", "task_states", "DynamoDB's table of states")
	flag.StringVar(&dynamodbTables.GroupMetasTable, "group-metas-table", "group_metas", "DynamoDB's table of groups")
	backendMakers["dynamodb"] = func(cnf *config.Config, address string, _ options) (backends.Backend, error) {
		cnf.DynamoDB = &dynamodbTables
		return newDynamodb(cnf, address)
	}
}
